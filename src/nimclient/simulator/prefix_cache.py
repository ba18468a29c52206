"""The prefix cache: how many tokens of a prompt were in an earlier one, in whole blocks as in vLLM."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

BLOCK: Final = 16  # vLLM's block size


class PrefixCache:
    """The blocks of tokens seen so far; the oldest are evicted first. `salt` separates callers (`cache_salt`).

    `size` is how many tokens it holds.
    """

    def __init__(self, size: int) -> None:
        self._max_blocks = size // BLOCK
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def take(self, tokens: Sequence[str], salt: str = "") -> int:
        """The number of cached tokens at the start of a prompt; adds the whole prompt to the cache.

        The last token is always computed, so the last block of a fully cached prompt counts as new.
        """
        known, chain, unbroken = 0, hash(salt), True
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            chain = hash((chain, *tokens[start : start + BLOCK]))
            unbroken = unbroken and chain in self._blocks and start + BLOCK < len(tokens)
            known += BLOCK * unbroken
            self._blocks[chain] = None
            self._blocks.move_to_end(chain)
        while len(self._blocks) > self._max_blocks:
            self._blocks.popitem(last=False)
        return known

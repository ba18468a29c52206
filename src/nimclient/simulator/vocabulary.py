"""Numbers for token pieces, for `/tokenize`, `/detokenize` and prompts given as token ids.

A piece's number is its CRC-32, the same everywhere; the way back is remembered, so only numbers that this simulator
has handed out can be turned into text.
"""

import zlib
from collections.abc import Iterable
from typing import Any, cast

from .chat import read_messages
from .fields import Fields
from .rejections import bad_field
from .text import pieces


class Vocabulary:
    """The pieces this simulator has numbered."""

    def __init__(self) -> None:
        self._pieces: dict[int, str] = {}

    def ids_of(self, tokens: Iterable[str]) -> list[int]:
        """The numbers of some pieces, which are remembered."""
        numbered = [(zlib.crc32(token.encode()), token) for token in tokens]
        self._pieces.update(numbered)
        return [number for number, _ in numbered]

    def text_of(self, ids: Iterable[int]) -> str:
        """The text of some numbers; Rejection (400) for one that was never handed out."""
        try:
            return "".join(self._pieces[number] for number in ids)
        except KeyError as error:
            raise bad_field("tokens", f"the token id {error.args[0]} was not handed out by this simulator.") from None

    def words_of(self, ids: Iterable[int]) -> str:
        """The text of some numbers, where a number of somebody else's vocabulary is a word of its own."""
        return "".join(self._pieces.get(number, f" token{number}") for number in ids)


def tokenize(fields: Fields, vocabulary: Vocabulary, max_model_len: int) -> dict[str, Any]:
    """The body of `/tokenize` for a prompt or for messages, whose texts stand one after another."""
    prompt = fields.text("prompt")
    if prompt is None:
        prompt = "\n".join(message.text for message in read_messages(fields))
    tokens = pieces(prompt)
    return {
        "count": len(tokens),
        "max_model_len": max_model_len,
        "tokens": vocabulary.ids_of(tokens),
        "token_strs": tokens if fields.flag("return_token_strs") else None,
    }


def detokenize(fields: Fields, vocabulary: Vocabulary) -> dict[str, Any]:
    """The body of `/detokenize`."""
    ids = fields.array("tokens")
    if ids is None:
        raise fields.missing("tokens")
    if not all(isinstance(number, int) for number in ids):
        raise bad_field("tokens", "must be a list of integers.")
    return {"prompt": vocabulary.text_of(cast("list[int]", ids))}

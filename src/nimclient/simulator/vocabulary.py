"""Token ids for token pieces, for `/tokenize`, `/detokenize` and prompts given as token ids.

A piece's id is its CRC-32; the inverse is stored, so only ids that this simulator
has returned can be decoded.
"""

import zlib
from collections.abc import Iterable
from typing import Any, cast

from .chat import read_messages
from .fields import Fields
from .rejections import bad_field
from .text import pieces


class Vocabulary:
    """The pieces whose ids this simulator has returned."""

    def __init__(self) -> None:
        self._pieces: dict[int, str] = {}

    def ids_of(self, tokens: Iterable[str]) -> list[int]:
        """The ids of pieces, which are stored."""
        numbered = [(zlib.crc32(token.encode()), token) for token in tokens]
        self._pieces.update(numbered)
        return [number for number, _ in numbered]

    def text_of(self, ids: Iterable[int]) -> str:
        """The text of ids; Rejection (400) for an unknown one."""
        try:
            return "".join(self._pieces[number] for number in ids)
        except KeyError as error:
            raise bad_field("tokens", f"the token id {error.args[0]} was not handed out by this simulator.") from None

    def words_of(self, ids: Iterable[int]) -> str:
        """The text of ids, where an unknown id becomes a separate word."""
        return "".join(self._pieces.get(number, f" token{number}") for number in ids)


def tokenize(fields: Fields, vocabulary: Vocabulary, max_model_len: int) -> dict[str, Any]:
    """The body of `/tokenize` for a prompt or for messages, whose texts are joined."""
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

"""Token ids for token pieces, for `/tokenize`, `/detokenize`, prompts given as token ids and `return_token_ids`.

A piece's id is its CRC-32; the inverse is stored for all simulators of a process, as models of one kind have one
vocabulary. Only ids that one of them has returned can be decoded.
"""

import zlib
from collections.abc import Iterable
from typing import Any, Final, cast

from .chat import read_messages
from .fields import Fields
from .rejections import bad_field
from .text import pieces

_PIECES: Final[dict[int, str]] = {}


class Vocabulary:
    """The pieces whose ids were returned."""

    def ids_of(self, tokens: Iterable[str]) -> list[int]:
        """The ids of pieces, which are stored."""
        numbered = [(zlib.crc32(token.encode()), token) for token in tokens]
        _PIECES.update(numbered)
        return [number for number, _ in numbered]

    def pieces_of(self, ids: Iterable[int]) -> list[str]:
        """The pieces of ids; Rejection (400) for an unknown one."""
        try:
            return [_PIECES[number] for number in ids]
        except KeyError as error:
            raise bad_field("tokens", f"the token id {error.args[0]} was not handed out by this simulator.") from None

    def words_of(self, ids: Iterable[int]) -> str:
        """The text of ids, where an unknown id becomes a separate word."""
        return "".join(_PIECES.get(number, f" token{number}") for number in ids)


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
    return {"prompt": "".join(vocabulary.pieces_of(cast("list[int]", ids)))}

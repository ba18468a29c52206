"""Plausible log probabilities without meaning: a hash of the token and its position, between -2 and 0."""

import zlib
from collections.abc import Sequence
from typing import Any, Final

_OTHERS: Final = (" the", " a", ",", ".", " of", " and", " to", " in", " is", " that", " for", " it", " with", " as",
                  " on", " by", " at", " from", " or", " an", "\n", " this")  # fmt: skip
_STEP: Final = 0.5


def logprob_of(token: str, position: int) -> float:
    """The log probability of a token at its position (counted from 0)."""
    return -(zlib.crc32(token.encode(), position) % 2000) / 1000.0


def likeliest(token: str, position: int, count: int) -> list[tuple[str, float]]:
    """The `count` most likely tokens at a position, best first; the token itself is always the best."""
    own = logprob_of(token, position)
    shift = zlib.crc32(token.encode()) % len(_OTHERS)
    others = [other for other in (*_OTHERS[shift:], *_OTHERS[:shift]) if other != token]
    return [(token, own), *((other, own - _STEP * rank) for rank, other in enumerate(others, 1))][:count]


def chat_entry(token: str, position: int, top: int) -> dict[str, Any]:
    """One entry of `logprobs.content` in a chat answer."""
    return {
        "token": token,
        "logprob": logprob_of(token, position),
        "bytes": list(token.encode()),
        "top_logprobs": [
            {"token": other, "logprob": value, "bytes": list(other.encode())}
            for other, value in likeliest(token, position, top)
        ],
    }


def completion_logprobs(tokens: Sequence[str], start: int, offset: int, top: int, *, echoed: bool) -> dict[str, Any]:
    """The `logprobs` of a completion, column by column.

    `start` is the position of the first token and `offset` its position in the text, in characters. With `echoed` the
    first token is the prompt's first, which has no predecessor: its values are null.
    """
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    values: list[float | None] = [logprob_of(token, start + at) for at, token in enumerate(tokens)]
    tops: list[dict[str, float] | None] = [
        dict(likeliest(token, start + at, max(top, 1))) for at, token in enumerate(tokens)
    ]
    if echoed and values:
        values[0] = tops[0] = None
    return {"text_offset": offsets, "token_logprobs": values, "tokens": list(tokens), "top_logprobs": tops}

"""Encoded answers: JSON bodies and server-sent events, and when they are due. No HTTP."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

DONE: Final = b"data: [DONE]\n\n"


class Frame(NamedTuple):
    """Bytes of a stream, due with the token of number `step` (from 0). `tokens`: how many tokens are in them."""

    step: int
    data: bytes
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """The tokens of one request, with `cached_tokens` of the prompt from the cache, and why each choice ended."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reasons: tuple[str, ...] = ()
    cached_tokens: int = 0


NOTHING_USED: Final = TokenCounts()


@dataclass(frozen=True, slots=True)
class PlainResponse:
    """One body; `tokens` is the number of tokens of the longest choice, which determines when it is due."""

    body: dict[str, Any] | list[dict[str, Any]]
    tokens: int = 0
    usage: TokenCounts = NOTHING_USED


@dataclass(frozen=True, slots=True)
class StreamedResponse:
    """A stream of server-sent events."""

    frames: Iterator[Frame]
    usage: TokenCounts = NOTHING_USED


@dataclass(frozen=True, slots=True)
class BytesResponse:
    """A body of bytes (application/octet-stream), sent in these chunks without its length, and headers with it."""

    chunks: Sequence[bytes]
    headers: Mapping[str, str]
    tokens: int = 0
    usage: TokenCounts = NOTHING_USED


Response = PlainResponse | StreamedResponse | BytesResponse


def encoded(body: Any) -> bytes:
    """A body as JSON."""
    return orjson.dumps(body)


def event(chunk: dict[str, Any], name: str = "") -> bytes:
    """A chunk as one server-sent event, which may have a name."""
    head = f"event: {name}\n".encode() if name else b""
    return b"%bdata: %b\n\n" % (head, orjson.dumps(chunk))

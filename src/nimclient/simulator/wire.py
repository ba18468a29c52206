"""Answers on their way out: JSON bodies and server-sent events, and when they are due. No HTTP here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

DONE: Final = b"data: [DONE]\n\n"


class Frame(NamedTuple):
    """Bytes of a stream, due with the token of number `step` (from 0)."""

    step: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PlainResponse:
    """One body; `tokens` is how many tokens the longest choice took, each of which is waited for."""

    body: dict[str, Any] | list[dict[str, Any]]
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class StreamedResponse:
    """A stream of server-sent events."""

    frames: Iterator[Frame]


Response = PlainResponse | StreamedResponse


def encoded(body: Any) -> bytes:
    """A body as JSON."""
    return orjson.dumps(body)


def event(chunk: dict[str, Any]) -> bytes:
    """A chunk as one server-sent event."""
    return b"data: %b\n\n" % orjson.dumps(chunk)

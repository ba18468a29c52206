"""chat.parse_stream for blocking code: the values are made in the reading thread, not on the loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Self, TypeVar, cast

from nimclient._base.types import Closing, unpicklable
from nimclient._base.values import ResponseMeta
from nimclient._resources.parse_stream import ParseStream
from nimclient._schema.partial_json import UNKNOWN
from nimclient._sync.stream import SyncChatStream
from nimclient.records.answers import Parsed
from nimclient.records.chat import ChatCompletion

T = TypeVar("T")


class SyncParseStream(Iterator[T], Closing, Generic[T]):
    """Structured output that is being written, not opened yet: enter it with `with`, or iterate over it. Like ParseStream."""

    __reduce__ = unpicklable

    def __init__(self, stream: ParseStream[T]) -> None:
        self._stream = SyncChatStream(stream._stream)
        self._growing = stream._growing

    def __enter__(self) -> Self:
        self._stream.__enter__()
        return self

    def __iter__(self) -> Self:
        iter(self._stream)
        return self

    def __next__(self) -> T:
        growing = self._growing
        while (chunk := next(self._stream, None)) is not None:
            if chunk.text and (value := growing.feed(chunk.text)) is not UNKNOWN:
                return cast(T, value)
        if growing.parsed is not None:
            raise StopIteration
        return self.final().value

    def final(self) -> Parsed[T]:
        """Read the rest and return the whole answer, as `parse` would have.

        Raises OutputInvalidError, OutputTruncatedError or OutputRefusedError, and what reading the stream raises.
        """
        return self._growing.end(self._stream.final())

    @property
    def meta(self) -> ResponseMeta | None:
        """The exchange with its timings so far; None before the stream is open."""
        return self._stream.meta

    @property
    def partial(self) -> ChatCompletion | None:
        """The answer as it was received so far."""
        return self._stream.partial

    def close(self) -> None:
        """Close the stream. Idempotent; may be called from another thread."""
        self._stream.close()

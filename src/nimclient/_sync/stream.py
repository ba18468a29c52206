"""Streams for blocking code. The thread boundary is crossed once per network read, not per token."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

from nimclient._base.types import Closing, Json, unpicklable
from nimclient._base.values import ResponseMeta
from nimclient._streams.event_stream import EventStream
from nimclient._streams.stream import AnswerStream
from nimclient._sync.portal import PORTAL
from nimclient.records._chunks import AnswerChunk
from nimclient.records.chat import ChatChunk, ChatCompletion
from nimclient.records.completions import Completion, CompletionChunk

C = TypeVar("C", bound=AnswerChunk)
A = TypeVar("A")


class SyncAnswerStream(Iterator[C], Closing, Generic[C, A]):
    """A streamed answer, not opened yet: enter it with `with`, or iterate over it directly. Otherwise like AnswerStream."""

    __reduce__ = unpicklable

    def __init__(self, stream: AnswerStream[C, A], begin: Callable[[], None] | None = None) -> None:
        self._async = stream
        self._begin = begin  # called before it is opened, in the caller's thread, until it succeeds once
        self._ready: deque[C] = deque()  # the reader's queue once the stream is open

    def __enter__(self) -> Self:
        self._start()
        PORTAL.run(self._async.__aenter__)
        return self

    def _start(self) -> None:
        if self._begin is not None:
            self._begin()
            self._begin = None

    def __iter__(self) -> Self:
        aiter(self._async)
        return self

    def __next__(self) -> C:
        if not self._ready or self._async.is_late:
            self._start()
            if not PORTAL.run(self._async.wait):
                raise StopIteration
            self._ready = self._async.ready
        return self._ready.popleft()

    @property
    def text_stream(self) -> Iterator[str]:
        """The text of the first choice, piece by piece."""
        return (chunk.text for chunk in self if chunk.text)

    @property
    def meta(self) -> ResponseMeta | None:
        """The exchange with its timings so far; None before the stream is open."""
        return self._async.meta

    @property
    def partial(self) -> A | None:
        """What was received so far."""
        return self._async.partial

    def final(self) -> A:
        """Read the rest and return the whole answer, as `create` would have."""
        self._start()
        return PORTAL.run(self._async.final)

    def close(self) -> None:
        """Close the stream. Idempotent; may be called from another thread."""
        PORTAL.run(self._async.aclose)


class SyncChatStream(SyncAnswerStream[ChatChunk, ChatCompletion]):
    """A streamed chat answer, not opened yet: enter it with `with`, or iterate over it directly. Like ChatStream."""


class SyncCompletionStream(SyncAnswerStream[CompletionChunk, Completion]):
    """A streamed text completion; used like a SyncChatStream."""


class SyncEventStream(Iterator[Json], Closing):
    """An open stream of events: iterate over it, or enter it with `with`. Like EventStream."""

    __reduce__ = unpicklable

    def __init__(self, stream: EventStream) -> None:
        self._async = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Json:
        ready = self._async.ready
        if not ready and not PORTAL.run(self._async.wait):
            raise StopIteration
        return ready.popleft()

    @property
    def meta(self) -> ResponseMeta:
        """The exchange with its timings so far."""
        return self._async.meta

    def close(self) -> None:
        """Close the stream. Idempotent; may be called from another thread."""
        PORTAL.run(self._async.aclose)

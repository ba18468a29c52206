"""Streamed answers of chat and text completions. All data of a read is decoded at once and its chunks are returned one by
one, so that many tokens in a read cost one await. A class, not a generator, so that any task can close it.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from functools import partial
from typing import Any, Generic, Self, TypeVar

from nimclient._base.callbacks import run_callback
from nimclient._base.types import AsyncClosing, unpicklable
from nimclient._base.values import ResponseMeta
from nimclient._http.tasks import LoopRef
from nimclient._streams.accumulate import ChatAccumulator
from nimclient._streams.reader import A, AnswerReader
from nimclient._streams.response import Response
from nimclient.errors import StreamInterruptedError
from nimclient.records._chunks import AnswerChunk
from nimclient.records.chat import ChatChunk, ChatCompletion

C = TypeVar("C", bound=AnswerChunk)


class AnswerStream(AsyncIterator[C], AsyncClosing, Generic[C, A]):
    """A streamed answer, not opened yet: `await` it, enter it with `async with`, or iterate over it directly.

    Opening includes the first event: until one with content arrives, a failure is retried like that of a plain call.
    Every error of an open stream carries `.partial`. The stream closes itself at its end, on an error and on cancellation.

    `on_end` is called with the answer when it is complete, or with None if the stream ends before.
    """

    __reduce__ = unpicklable

    def __init__(
        self, open: Callable[[], Awaitable[AnswerReader[C, A]]], on_end: Callable[[A | None], None] | None = None
    ) -> None:
        self._open = open
        self._on_end = on_end
        self._reader: AnswerReader[C, A] | None = None
        self._opening: Callable[[], None] | None = None  # cancels it, from any loop
        self._reading = False
        self._closed = False

    # opening ---------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def _opened(self) -> AnswerReader[C, A]:
        """The reader; opens the stream if it is not open."""
        if self._reader is not None:
            return self._reader
        if self._closed:
            raise StreamInterruptedError("the stream was closed before it was opened")
        if self._opening is not None:
            raise RuntimeError("the stream is being opened by another task")
        from anyio import CancelScope

        reader: AnswerReader[C, A] | None = None
        try:
            loop = LoopRef()  # says what to do without one
            with CancelScope() as scope:  # for aclose() from another task
                self._opening = partial(loop.soon, scope.cancel)
                reader = await self._open()
            if reader is None:
                raise StreamInterruptedError("the stream was closed while it was being opened")
        except BaseException:
            if self._on_end is not None:  # kept: the stream may be opened again
                run_callback(self._on_end, None)
            raise
        finally:
            self._opening = None
        self._reader = reader
        del self._open  # with the messages
        if self._closed:  # from another task, while it was opening
            await reader.close()
        return reader

    # reading ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        if self._reader is not None and self._reader.exhausted:
            raise RuntimeError("the stream was read to its end; await final() returns the whole answer")
        return self

    async def __anext__(self) -> C:
        reader = self._reader
        if reader is not None and reader.ready and reader.clock() < reader.next_check:
            return reader.ready.popleft()
        if await self.wait():
            assert self._reader is not None
            return self._reader.ready.popleft()
        raise StopAsyncIteration

    async def wait(self) -> bool:
        """Read until there are chunks in `ready`, True, or until the end, False. Avoids an await per chunk."""
        reader = self._reader or await self._opened()
        if reader.exhausted:
            return False
        if self._reading:
            raise RuntimeError("the stream is being read by another task")
        self._reading = True
        try:
            await reader.refill()
        except BaseException:
            self._finish(None)
            raise
        finally:
            self._reading = False
        if reader.ended and not reader.ready:
            reader.exhausted = True
            self._finish(None if self._on_end is None else reader.partial())
        return not reader.exhausted

    @property
    def ready(self) -> deque[C]:
        """The chunks that were read but not yet returned; always the same queue once the stream is open."""
        return self._reader.ready if self._reader is not None else deque()

    @property
    def is_late(self) -> bool:
        """Whether the call's deadline has passed: `wait` then raises, even if chunks are `ready`."""
        return self._reader is not None and self._reader.is_late

    @property
    def text_stream(self) -> TextStream:
        """The text of the first choice, piece by piece."""
        return TextStream(self)

    async def final(self) -> A:
        """Read the rest and return the whole answer, as `create` would have."""
        reader = await self._opened()
        reader.ready.clear()
        while await self.wait():
            reader.ready.clear()
        return reader.completed()

    def _finish(self, answer: A | None) -> None:
        """Call `on_end`, once."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            run_callback(on_end, answer)

    # state -----------------------------------------------------------------------------------------------------

    @property
    def meta(self) -> ResponseMeta | None:
        """The exchange with its timings so far; None before the stream is open."""
        return self._reader.meta() if self._reader is not None else None

    @property
    def partial(self) -> A | None:
        """What was received so far."""
        return self._reader.partial() if self._reader is not None else None

    async def aclose(self) -> None:
        """Close the stream, from any task; a waiting reader gets StreamInterruptedError. Idempotent."""
        self._closed = True
        if self._opening is not None:
            self._opening()
            return
        if self._reader is not None:
            await self._reader.close()
        self._finish(None)

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        reader = getattr(self, "_reader", None)
        if reader is not None and not reader.ended:
            _warn(f"a stream from {reader.url} was not closed", ResourceWarning, source=self)
            reader.abandon()


class ChatStream(AnswerStream[ChatChunk, ChatCompletion]):
    """A streamed chat answer, not opened yet: `await` it, enter it with `async with`, or iterate over it directly.

    Opening includes the first event: until one with content arrives, a failure is retried like that of a plain call.
    Every error of an open stream carries `.partial`. The stream closes itself at its end, on an error and on cancellation.
    """


async def read_chat(response: Response, choices: int = 1) -> AnswerReader[ChatChunk, ChatCompletion]:
    """The reader of a chat stream, after its first event with content. `choices`: the expected number of choices."""
    reader = AnswerReader(response, ChatAccumulator(), ChatChunk, choices)
    await reader.read_first()
    return reader


class TextStream(AsyncIterator[str]):
    """The text of a stream's first choice; events without text are skipped."""

    __slots__ = ("_stream",)

    def __init__(self, stream: AnswerStream[Any, Any]) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        aiter(self._stream)
        return self

    async def __anext__(self) -> str:
        while True:
            text: str = (await anext(self._stream)).text
            if text:
                return text

"""An answer as it arrives, of chat or of text completion. Reads whatever the network has, turns it into chunks at once and
hands them out one by one, so that many tokens in a read cost one await. A class, not a generator: it can be closed from
any task.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from functools import partial
from typing import Any, Generic, Self

from nimclient._base.types import AsyncClosing, unpicklable
from nimclient._base.values import ResponseMeta
from nimclient._http.tasks import LoopRef
from nimclient._streams.accumulate import ChatAccumulator
from nimclient._streams.completion_accumulator import CompletionAccumulator
from nimclient._streams.reader import A, C, Reader
from nimclient._streams.response import Response
from nimclient.errors import StreamInterruptedError
from nimclient.records.chat import ChatChunk, ChatCompletion
from nimclient.records.completions import Completion, CompletionChunk


class AnswerStream(AsyncIterator[C], AsyncClosing, Generic[C, A]):
    """A streamed answer, not opened yet: `await` it, enter it with `async with`, or just iterate over it.

    Opening includes the first event: until one with content has arrived, a failure is retried like that of a plain call.
    Every error of an open stream carries `.partial`. The stream closes itself at its end, on an error and on cancellation.
    """

    __reduce__ = unpicklable

    def __init__(self, open: Callable[[], Awaitable[Reader[C, A]]]) -> None:
        self._open = open
        self._state: Reader[C, A] | None = None
        self._opening: Callable[[], None] | None = None  # cancels it, from any loop
        self._reading = False
        self._closed = False

    # opening ---------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def _opened(self) -> Reader[C, A]:
        """The reader; opens the stream if nobody did."""
        if self._state is None:
            if self._closed:
                raise StreamInterruptedError("the stream was closed before it was opened")
            if self._opening is not None:
                raise RuntimeError("the stream is being opened by another task")
            from anyio import CancelScope

            with CancelScope() as scope:  # for aclose() from another task
                self._opening = partial(LoopRef().soon, scope.cancel)
                try:
                    self._state = await self._open()
                finally:
                    self._opening = None
            if self._state is None:
                raise StreamInterruptedError("the stream was closed while it was being opened")
            if self._closed:  # from another task, as it was opened
                await self._state.close()
        return self._state

    # reading ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        if self._state is not None and self._state.exhausted:
            raise RuntimeError("the stream has been read to its end; await final() gives the whole answer")
        return self

    async def __anext__(self) -> C:
        state = self._state
        if state is not None and state.ready:
            return state.ready.popleft()
        if await self.wait():
            return self.ready.popleft()
        raise StopAsyncIteration

    async def wait(self) -> bool:
        """Read until there are chunks in `ready`, True, or until the end, False. For callers to whom each await is dear."""
        state = await self._opened()
        if not state.ready:
            await self._refill(state)
        state.exhausted = state.ended and not state.ready
        return not state.exhausted

    @property
    def ready(self) -> deque[C]:
        """The chunks that have been read and not handed out; always the same queue once the stream is open."""
        return self._state.ready if self._state is not None else deque()

    async def _refill(self, state: Reader[C, A]) -> None:
        if self._reading:
            raise RuntimeError("the stream is being read by another task")
        self._reading = True
        try:
            await state.refill()
        finally:
            self._reading = False

    @property
    def text_stream(self) -> TextStream:
        """Only the text of the first choice, piece by piece."""
        return TextStream(self)

    async def final(self) -> A:
        """Read the rest and return the whole answer, as `create` would have."""
        state = await self._opened()
        while True:
            state.ready.clear()
            if state.exhausted or (state.ended and not state.failed):
                break
            await self._refill(state)
        state.exhausted = True
        return state.completed()

    # state -----------------------------------------------------------------------------------------------------

    @property
    def meta(self) -> ResponseMeta | None:
        """The exchange with its timings so far; None before the stream is open."""
        return self._state.meta() if self._state is not None else None

    @property
    def partial(self) -> A | None:
        """What has arrived so far."""
        return self._state.partial() if self._state is not None else None

    async def aclose(self) -> None:
        """Close the stream, from any task; a waiting reader ends with StreamInterruptedError. May be called again."""
        self._closed = True
        if self._state is not None:
            await self._state.close()
        elif self._opening is not None:
            self._opening()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        state = getattr(self, "_state", None)
        if state is not None and not state.ended:
            _warn(f"a stream from {state.url} was not closed", ResourceWarning, source=self)
            state.abandon()


class ChatStream(AnswerStream[ChatChunk, ChatCompletion]):
    """A streamed chat answer, not opened yet: `await` it, enter it with `async with`, or just iterate over it.

    Opening includes the first event: until one with content has arrived, a failure is retried like that of a plain call.
    Every error of an open stream carries `.partial`. The stream closes itself at its end, on an error and on cancellation.
    """


class CompletionStream(AnswerStream[CompletionChunk, Completion]):
    """A streamed text completion; used like a ChatStream. `.partial` of its errors is a Completion."""


async def read_chat(response: Response) -> Reader[ChatChunk, ChatCompletion]:
    """The reader of a streamed chat answer, when its first event with content has arrived."""
    reader = Reader(response, response.limits.max_event, ChatAccumulator(), ChatChunk)
    await reader.read_first()
    return reader


async def read_completion(response: Response) -> Reader[CompletionChunk, Completion]:
    """The same of a text completion."""
    reader = Reader(response, response.limits.max_event, CompletionAccumulator(), CompletionChunk)
    await reader.read_first()
    return reader


class TextStream(AsyncIterator[str]):
    """The text of a stream's first choice, without the events that add none."""

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

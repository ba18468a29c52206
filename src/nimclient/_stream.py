"""An answer as it arrives, of chat or of text completion. Reads whatever the network has, turns it into chunks at once and
hands them out one by one, so that many tokens in a read cost one await. A class, not a generator: it can be closed from
any task.
"""

from __future__ import annotations

import warnings
from array import array
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, cast

from nimclient._protocol.accumulate import ChatAccumulator
from nimclient._protocol.completions import CompletionAccumulator
from nimclient._protocol.events import DONE, Accumulator, decode_events, is_plain, plain_answer
from nimclient._protocol.faults import is_fault_event, stream_fault
from nimclient._protocol.sse import Event, SSEDecoder
from nimclient._types import JsonDict
from nimclient._wire import ResponseMeta
from nimclient.errors import (
    BodyTooLargeError,
    ConnectionLostError,
    NimError,
    RequestTimeoutError,
    StreamInterruptedError,
    TransportError,
)
from nimclient.records.chat import ChatChunk, ChatCompletion
from nimclient.records.completions import Completion, CompletionChunk

if TYPE_CHECKING:
    from anyio import CancelScope

    from nimclient._engine import Exchange, Receive


class Chunk(Protocol):
    """An event of a stream."""

    @property
    def text(self) -> str:
        """What it adds to the text of the first choice."""
        ...


C = TypeVar("C", bound=Chunk)
A = TypeVar("A")


class AnswerStream(AsyncIterator[C], Generic[C, A]):
    """A streamed answer, not opened yet: `await` it, enter it with `async with`, or just iterate over it.

    Opening includes the first event: until one with content has arrived, a failure is retried like that of a plain call.
    Every error of an open stream carries `.partial`. The stream closes itself at its end, on an error and on cancellation.
    """

    def __init__(self, start: Callable[[Receive[None]], Awaitable[None]], max_event: int | None) -> None:
        self._start = start
        self._max_event = max_event
        self._state: _Reader[C, A] | None = None
        self._opening: CancelScope | None = None
        self._reading = False
        self._closed = False

    # opening ---------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Self]:
        return self._opened().__await__()

    async def __aenter__(self) -> Self:
        return await self._opened()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _opened(self) -> Self:
        if self._state is None:
            if self._closed:
                raise StreamInterruptedError("the stream was closed before it was opened")
            if self._opening is not None:
                raise RuntimeError("the stream is being opened by another task")
            from anyio import CancelScope

            with CancelScope() as scope:  # for aclose() from another task
                self._opening = scope
                try:
                    await self._start(self._receive)
                finally:
                    self._opening = None
            if self._state is None:
                raise StreamInterruptedError("the stream was closed while it was being opened")
        return self

    async def _receive(self, exchange: Exchange) -> None:
        """One attempt: read until there is content."""
        reader = self._new_reader(exchange)
        await reader.read_first()
        self._state = reader
        if self._closed:  # closed from another task while it was opening
            await reader.close()

    def _new_reader(self, exchange: Exchange) -> _Reader[C, A]:
        raise NotImplementedError

    # reading ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        if self._state is not None and self._state.exhausted:
            raise RuntimeError("the stream has been read to its end; await final() gives the whole answer")
        return self

    async def __anext__(self) -> C:
        state = self._state
        if state is not None and state.ready:
            return state.ready.popleft()
        if state is None:
            state = await self._reader()
        if not state.ready:
            await self._refill(state)
        if state.ready:
            return state.ready.popleft()
        state.exhausted = True
        raise StopAsyncIteration

    async def next_chunks(self) -> list[C]:
        """All chunks that are ready, at least one; none at the end. For callers to whom each await is dear."""
        try:
            chunks = [await anext(self)]
        except StopAsyncIteration:
            return []
        state = await self._reader()
        chunks.extend(state.ready)
        state.ready.clear()
        return chunks

    async def _reader(self) -> _Reader[C, A]:
        await self._opened()
        if self._state is None:  # pragma: no cover - _opened sets it or raises
            raise StreamInterruptedError("the stream was not opened")
        return self._state

    async def _refill(self, state: _Reader[C, A]) -> None:
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
        state = await self._reader()
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
            self._opening.cancel()

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

    def _new_reader(self, exchange: Exchange) -> _Reader[ChatChunk, ChatCompletion]:
        return _Reader(exchange, self._max_event, ChatAccumulator(), ChatChunk)


class CompletionStream(AnswerStream[CompletionChunk, Completion]):
    """A streamed text completion; used like a ChatStream. `.partial` of its errors is a Completion."""

    def _new_reader(self, exchange: Exchange) -> _Reader[CompletionChunk, Completion]:
        return _Reader(exchange, self._max_event, CompletionAccumulator(), CompletionChunk)


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


class _Reader(Generic[C, A]):
    """An open stream: its body, and what has been made of it."""

    __slots__ = (
        "_accumulator",
        "_body",
        "_broken",
        "_chunk",
        "_clock",
        "_closed",
        "_counts",
        "_exchange",
        "_failure",
        "_head",
        "_max_event",
        "_plain",
        "_sse",
        "_times",
        "ended",
        "exhausted",
        "ready",
    )

    def __init__(
        self,
        exchange: Exchange,
        max_event: int | None,
        accumulator: Accumulator[A],
        chunk: Callable[[JsonDict, str, ResponseMeta], C],
    ) -> None:
        self._exchange = exchange
        self._clock = exchange.clock
        self._head = exchange.meta()
        self._body = exchange.body
        self._max_event = max_event
        self._plain: bytearray | None = None  # the body of a server that ignores `stream` …
        self._sse: SSEDecoder | None = None  # … or what is made of one that does not; neither before the first byte
        self._accumulator = accumulator
        self._chunk = chunk
        self._times = array("d")  # when a read brought content …
        self._counts = array("L")  # … and how many events with content
        self._closed = False
        self._broken = False  # closed or cancelled before the answer was complete
        self._failure: BaseException | None = None
        self.ready: deque[C] = deque()
        self.ended = False
        self.exhausted = False

    @property
    def failed(self) -> bool:
        """Whether an error waits to be raised."""
        return self._broken or self._failure is not None

    @property
    def url(self) -> str:
        """Where the stream comes from."""
        return self._head.url

    async def read_first(self) -> None:
        """Read until there is content, or the end. Raises what a retry may mend."""
        limit = self._exchange.timeouts.first_event
        deadline = None if limit is None else self._clock() + limit
        try:
            while not self._times and not self.ended:
                await self._read("first_event", deadline)
        except BaseException as error:
            self._fail(error)
            raise

    async def refill(self) -> None:
        """Read until there is a chunk, or the end. An error waits until the chunks that came before it are handed out."""
        if self._failure is not None:
            raise self._failure
        if self._broken:
            raise StreamInterruptedError(
                "the stream was closed before the answer was complete", partial=cast(Any, self.partial())
            )
        limit = self._exchange.timeouts.idle
        deadline = None if limit is None else self._clock() + limit
        try:
            while not self.ready and not self.ended:
                await self._read("idle", deadline)
        except NimError as error:
            self._fail(error)
            self._failure = error
            if not self.ready:
                raise
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        """Close the connection; the error carries what has arrived."""
        self._give_up()
        if isinstance(error, TransportError):
            error.attempts = self._head.attempts
        if isinstance(error, NimError):
            error.partial = cast(Any, self.partial())
            self._exchange.redact(error)

    def _give_up(self) -> None:
        """Close the connection; an answer that is not complete must not look so."""
        self._broken = self._broken or not (self.ended or self._accumulator.finished)
        self.ended = True
        self._body.abort()

    async def _read(self, phase: Any, deadline: float | None) -> None:
        try:
            data = await self._body.read(phase, deadline)
        except RequestTimeoutError:
            raise
        except TransportError as error:
            raise self._interrupted(error) from error
        if self._sse is None:
            if data.isspace():  # before the answer begins
                return
            if self._plain is not None or is_plain(data):
                await self._read_plain(data)
                return
            self._sse = SSEDecoder(self._max_event)
        done = self._take(self._sse.feed(data) if data else self._sse.flush())
        if done:
            await self._finish()
        elif not data:
            self._end_without_done()

    async def _read_plain(self, data: bytes) -> None:
        """Collect a body that is one JSON object; at its end make the chunks of it."""
        self._plain = self._plain or bytearray()
        self._plain += data
        if self._max_event is not None and len(self._plain) > self._max_event:
            problem = f"the answer, in one piece, exceeds {self._max_event} bytes (Limits.max_event)"
            raise BodyTooLargeError(problem, limit=self._max_event)
        if not data:
            self._add(self._accumulator.adopt(plain_answer(bytes(self._plain))))
            await self._finish()

    def _interrupted(self, error: TransportError) -> NimError:
        if self._closed:
            return StreamInterruptedError("the stream was closed while it was being read")
        if not self._times and isinstance(error, ConnectionLostError):
            return error  # nothing was handed out yet: the retry loop decides
        return StreamInterruptedError(f"the stream broke off: {error}")

    def _end_without_done(self) -> None:
        """Complete with a finish_reason for every choice; else a truncated answer, which must not look complete."""
        self.ended = True
        self._body.abort()
        if not self._accumulator.finished:
            raise StreamInterruptedError(
                "the stream ended before the answer was complete (no finish_reason, no [DONE])"
            )

    async def _finish(self) -> None:
        self.ended = True
        await self._body.finish()

    def _take(self, events: list[bytes | Event]) -> bool:
        """Make chunks of events; returns whether the stream says that it is done."""
        if not events:
            return False
        done = False
        if DONE in events:
            events = events[: events.index(DONE)]
            done = True
        return self._add(decode_events(events)) or done

    def _add(self, events: Iterable[JsonDict | None]) -> bool:
        """Make chunks of decoded events, also of those before a broken one; returns whether [DONE] was among them."""
        done = False
        content = 0
        add, make, meta = self._accumulator.add, self._chunk, self._head
        append = self.ready.append
        try:
            for data in events:
                if data is None:
                    done = True
                    break
                if ("choices" not in data or "error" in data) and is_fault_event(data):
                    raise stream_fault(data)
                if "choices" in data:  # else an annotation: nothing of the answer
                    text, has_content = add(data)
                    content += has_content
                    append(make(data, text, meta))
        finally:
            if content:
                self._times.append(self._clock())
                self._counts.append(content)
        return done

    # results -----------------------------------------------------------------------------------------------------

    def meta(self) -> ResponseMeta:
        """The exchange with its timings so far."""
        ttft = self._times[0] - self._exchange.sent if self._times else None
        return self._exchange.meta(ttft, self._gaps())

    def _gaps(self) -> array[float]:
        """Seconds between events with content: those that one read brought have none between them."""
        gaps = array("d")
        previous: float | None = None
        for moment, count in zip(self._times, self._counts, strict=True):
            if previous is not None:
                gaps.append(moment - previous)
            gaps.extend([0.0] * (count - 1))
            previous = moment
        return gaps

    def partial(self) -> A | None:
        """What has arrived so far."""
        return self._accumulator.completion(self.meta())

    def completed(self) -> A:
        """The whole answer."""
        completion = self.partial()
        if completion is None:
            raise StreamInterruptedError("the stream ended without an answer in it")
        return completion

    async def close(self) -> None:
        """Give the connection up."""
        self._closed = True
        self._give_up()

    def abandon(self) -> None:
        """`close` for finalizers."""
        self._body.abandon()

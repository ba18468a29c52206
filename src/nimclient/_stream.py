"""A chat answer as it arrives. Reads whatever the network has, turns it into chunks at once and hands them out one by one,
so that many tokens in a read cost one await. A class, not a generator: it can be closed from any task.
"""

from __future__ import annotations

import warnings
from array import array
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from nimclient import _json
from nimclient._protocol.accumulate import ChatAccumulator
from nimclient._protocol.faults import is_fault_event, stream_fault
from nimclient._protocol.sse import Event, SSEDecoder
from nimclient._types import JsonDict
from nimclient._wire import ResponseMeta
from nimclient.errors import (
    ConnectionLostError,
    DecodeError,
    NimError,
    RequestTimeoutError,
    StreamInterruptedError,
    TransportError,
)
from nimclient.records._decode import object_or_empty
from nimclient.records.chat import ChatChunk, ChatCompletion

if TYPE_CHECKING:
    from anyio import CancelScope

    from nimclient._engine import Exchange, Receive

_DONE = b"[DONE]"


class ChatStream(AsyncIterator[ChatChunk]):
    """A streamed chat answer, not opened yet: `await` it, enter it with `async with`, or just iterate over it.

    Opening includes the first event: until one with content has arrived, a failure is retried like that of a plain call.
    Every error of an open stream carries `.partial`. The stream closes itself at its end, on an error and on cancellation.
    """

    def __init__(self, start: Callable[[Receive[None]], Awaitable[None]], max_event: int | None) -> None:
        self._start = start
        self._max_event = max_event
        self._state: _Reader | None = None
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
        reader = _Reader(exchange, self._max_event)
        await reader.read_first()
        self._state = reader
        if self._closed:  # closed from another task while it was opening
            await reader.close()

    # reading ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        if self._state is not None and self._state.exhausted:
            raise RuntimeError("the stream has been read to its end; await final() gives the whole answer")
        return self

    async def __anext__(self) -> ChatChunk:
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

    async def next_chunks(self) -> list[ChatChunk]:
        """All chunks that are ready, at least one; none at the end. For callers to whom each await is dear."""
        try:
            chunks = [await anext(self)]
        except StopAsyncIteration:
            return []
        state = await self._reader()
        chunks.extend(state.ready)
        state.ready.clear()
        return chunks

    async def _reader(self) -> _Reader:
        await self._opened()
        if self._state is None:  # pragma: no cover - _opened sets it or raises
            raise StreamInterruptedError("the stream was not opened")
        return self._state

    async def _refill(self, state: _Reader) -> None:
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

    async def final(self) -> ChatCompletion:
        """Read the rest and return the whole answer, as `chat.create` would have."""
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
    def partial(self) -> ChatCompletion | None:
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
            _warn(f"a chat stream from {state.url} was not closed", ResourceWarning, source=self)
            state.abandon()


class TextStream(AsyncIterator[str]):
    """The text of a chat stream's first choice, without the events that add none."""

    __slots__ = ("_stream",)

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        aiter(self._stream)
        return self

    async def __anext__(self) -> str:
        while True:
            chunk = await anext(self._stream)
            if chunk.text:
                return chunk.text


class _Reader:
    """An open stream: its body, and what has been made of it."""

    __slots__ = (
        "_accumulator",
        "_body",
        "_broken",
        "_clock",
        "_closed",
        "_counts",
        "_exchange",
        "_failure",
        "_head",
        "_sse",
        "_times",
        "ended",
        "exhausted",
        "ready",
    )

    def __init__(self, exchange: Exchange, max_event: int | None) -> None:
        self._exchange = exchange
        self._clock = exchange.clock
        self._head = exchange.meta()
        self._body = exchange.body
        self._sse = SSEDecoder(max_event)
        self._accumulator = ChatAccumulator()
        self._times = array("d")  # when a read brought content …
        self._counts = array("L")  # … and how many events with content
        self._closed = False
        self._broken = False  # closed or cancelled before the answer was complete
        self._failure: BaseException | None = None
        self.ready: deque[ChatChunk] = deque()
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
            raise StreamInterruptedError("the stream was closed before the answer was complete", partial=self.partial())
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
            error.partial = self.partial()
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
        events = self._sse.feed(data) if data else self._sse.flush()
        done = self._take(events)
        if done:
            await self._finish()
        elif not data:
            self._end_without_done()

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
        if _DONE in events:
            events = events[: events.index(_DONE)]
            done = True
        content = 0
        add, meta = self._accumulator.add, self._head
        append = self.ready.append
        fault: NimError | None = None
        for data in _decode_events(events):
            if data is None:
                done = True
                break
            if ("choices" not in data or "error" in data) and is_fault_event(data):
                fault = stream_fault(data)
                break
            if "choices" in data:  # else an annotation: nothing of the answer
                text, has_content = add(data)
                content += has_content
                append(ChatChunk(data, text, meta))
        if content:
            self._times.append(self._clock())
            self._counts.append(content)
        if fault is not None:
            raise fault
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

    def partial(self) -> ChatCompletion | None:
        """What has arrived so far."""
        return self._accumulator.completion(self.meta())

    def completed(self) -> ChatCompletion:
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


def _decode_events(events: list[bytes | Event]) -> list[JsonDict | None]:
    """The JSON objects of events; None stands for a [DONE] in an unusual spelling.

    Events that one read brought are parsed together, which halves the cost. The zeros between them make sure that what
    is broken in one event cannot be mended by the next.
    """
    if len(events) > 1 and (values := _decode_together(events)) is not None:
        return values
    return [data for event in events if (data := _decode_event(event)) != {}]


def _decode_together(events: list[bytes | Event]) -> list[JsonDict | None] | None:
    try:
        values: list[Any] = _json.loads(b"[" + b",0,".join(cast(list[bytes], events)) + b"]")
    except (TypeError, DecodeError):  # one of them is more than data, or not JSON
        return None
    objects = values[::2]
    if len(values) != 2 * len(events) - 1 or any(values[1::2]) or set(map(type, objects)) != {dict}:
        return None
    return objects


def _decode_event(event: bytes | Event) -> JsonDict | None:
    payload = event if isinstance(event, bytes) else event.data
    if payload.strip() == _DONE:
        return None
    name, comment = ("", "") if isinstance(event, bytes) else (event.name, event.comment)
    value = _json.loads(payload, "an event of the stream") if payload.strip() else None
    if name == "error":
        raise stream_fault(value, comment)
    if value is not None and not isinstance(value, dict):
        raise DecodeError("an event of the stream is not a JSON object", excerpt=_json.excerpt(payload))
    return object_or_empty(value)

"""An open stream: its body, and what has been made of it. One read's bytes become events, the events chunks in a queue."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar, cast

from nimclient._base.types import JsonDict
from nimclient._base.values import ResponseMeta
from nimclient._retry.faults import is_fault_event, stream_fault
from nimclient._streams.events import DONE, Accumulator, decode_events, is_plain, plain_answer
from nimclient._streams.response import Response
from nimclient._streams.sse import Event, SSEDecoder
from nimclient.errors import (
    BodyTooLargeError,
    ConnectionLostError,
    NimError,
    RequestTimeoutError,
    StreamInterruptedError,
    TransportError,
)


class Chunk(Protocol):
    """An event of a stream."""

    @property
    def text(self) -> str:
        """What it adds to the text of the first choice."""
        ...


C = TypeVar("C", bound=Chunk)
A = TypeVar("A")


class Reader(Generic[C, A]):
    """An open stream: its body, and what has been made of it."""

    __slots__ = (
        "_accumulator",
        "_body",
        "_broken",
        "_chunk",
        "_clock",
        "_closed",
        "_counts",
        "_failure",
        "_head",
        "_max_event",
        "_plain",
        "_response",
        "_sse",
        "_times",
        "ended",
        "exhausted",
        "ready",
    )

    def __init__(
        self,
        response: Response,
        max_event: int | None,
        accumulator: Accumulator[A],
        chunk: Callable[[JsonDict, str, ResponseMeta], C],
    ) -> None:
        self._response = response
        self._clock = response.clock
        self._head = response.meta()
        self._body = response.body
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
        limit = self._response.timeouts.first_event
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
        limit = self._response.timeouts.idle
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
        if isinstance(error, NimError):
            error.partial = cast(Any, self.partial())
            self._response.annotate(error)

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
        ttft = self._times[0] - self._response.sent if self._times else None
        return self._response.meta(ttft, self._gaps())

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

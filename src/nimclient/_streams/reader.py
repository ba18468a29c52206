"""Readers of open streams: the bytes of one read become events, and the events chunks in a queue.

The reader enforces the time limits of the call even if each read returns at once or only comments arrive.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Generic, Literal, TypeVar, cast

from attrs import evolve

from nimclient._base import observers
from nimclient._base.observers import Observation
from nimclient._base.types import JsonDict
from nimclient._base.values import ResponseMeta
from nimclient._http.tasks import LoopRef
from nimclient._streams.accumulate import Accumulator
from nimclient._streams.events import (
    BOM,
    begins_with_event,
    decode_events,
    is_event_stream,
    is_plain,
    not_an_answer,
    plain_answer,
    stray_words,
)
from nimclient._streams.response import Response, timed_out
from nimclient._streams.sse import ENDS, EventBuffer, LineBuffer
from nimclient._streams.surrogates import SurrogateJoiner
from nimclient.errors import (
    BodyTooLargeError,
    ConnectionLostError,
    DecodeError,
    NimError,
    RequestTimeoutError,
    StreamInterruptedError,
    TransportError,
)
from nimclient.records._chunks import AnswerChunk, chunk_alike
from nimclient.records._templates import EventTemplate

GRACE = 1.0
"""Seconds to wait for usage and [DONE] after a complete answer: some servers send neither and keep the socket open."""
TURN = 0.01
"""Seconds after which a stream that never has to wait yields to other tasks."""
_QUICK = 2**12
"""Bytes: a read that took longer than a millisecond is taken to have waited, unless it returned more than this."""
_PART = 12_000
"""Bytes of events that are tried together; if one is of another form a quarter of them, and so on …"""
_SMALL = 500
"""… down to so many."""
_SAMPLE = 400
_LARGE = 2**12  # bytes of a request
_NEVER = float("inf")


C = TypeVar("C")
K = TypeVar("K", bound=AnswerChunk)
A = TypeVar("A")


class Reader(Generic[C]):
    """The base of readers. `ready` holds the chunks that were decoded but not yet returned.

    `next_check`, in the time of `clock`, is when the consumer has to call `refill` even if chunks are ready.
    """

    __slots__ = (
        "_arrived",
        "_body",
        "_broken",
        "_buffer",
        "_closed",
        "_deadline",
        "_failure",
        "_grace",
        "_loop",
        "_max_event",
        "_observations",
        "_response",
        "_whole",
        "clock",
        "ended",
        "exhausted",
        "has_content",
        "is_complete",
        "next_check",
        "ready",
        "url",
    )

    def __init__(self, response: Response) -> None:
        if len(response.request.body or b"") > _LARGE:  # it was sent: thousands of streams need not keep their prompts
            response.request = evolve(response.request, body=None)
        self._response = response
        self._body = response.body
        self._max_event = response.limits.max_event
        self._buffer: EventBuffer | None = None  # for an event stream …
        self._whole: bytearray | None = None  # … or the bytes of one JSON value; neither for anything else
        self._grace = GRACE  # seconds left of it: heartbeats spend it, content restores it
        self._closed = False
        self._broken = False  # closed or cancelled before the answer was complete
        self._failure: NimError | None = None
        self._observations: Sequence[Observation] = ()  # that wait for the end
        self.url = response.url
        self.clock = response.clock
        total = response.timeouts.total
        self._deadline = _NEVER if total is None else response.started + total
        self._arrived = self.clock()  # the last data
        self.next_check = min(self._arrived + TURN, self._deadline)
        self.ready: deque[C] = deque()
        self.has_content = False
        self.is_complete = False  # the answer is complete: no further events are required
        self.ended = False
        self.exhausted = False

    # hooks of subclasses -------------------------------------------------------------------------------------------

    @abstractmethod
    def _begin(self, data: bytes) -> bytes:
        """Detect the form of the body from the first bytes. Returns the bytes to process."""

    @abstractmethod
    def _take(self, block: bytes) -> bool:
        """Decode a block of events into chunks; returns whether it contains the end of the stream."""

    @abstractmethod
    def _take_whole(self, data: bytes) -> None:
        """Decode a body that is one JSON value into chunks."""

    @abstractmethod
    def _end(self) -> None:
        """Handle a body that ended without an end marker. Raises if the answer is incomplete."""

    def _annotate(self, error: NimError) -> None:
        """Add the partial answer and the history to an error."""
        self._response.annotate(error)

    @property
    def is_late(self) -> bool:
        """Whether the call's deadline passed before the end of the stream."""
        return not self.ended and self.clock() >= self._deadline

    # reading -------------------------------------------------------------------------------------------------------

    async def read_first(self) -> None:
        """Read until there is content, or the end. Errors raised here may be retried."""
        await self.refill()
        if self._failure is not None:
            raise self._failure

    async def refill(self) -> None:
        """Read until there is a chunk, the first time until there is content, or until the end.

        Yields to other tasks. An error is raised after the chunks before it were returned.
        """
        if not self.ready and self._failure is not None:
            raise self._failure
        phase: Literal["first_event", "idle"] = "idle" if self.has_content else "first_event"
        seconds: float | None = getattr(self._response.timeouts, phase)
        now = self.clock()
        until = limit = _NEVER if seconds is None else now + seconds
        try:
            while True:
                if now >= self.next_check:
                    await self._give_turn(now)
                if self.ended or (self.ready and (phase == "idle" or self.has_content)):
                    break
                if now >= limit:
                    raise timed_out(phase, seconds)
                if self.is_complete:
                    until = min(limit, now + self._grace)
                try:
                    data = await self._body.read(phase, None if until == _NEVER else until)
                except TransportError as error:
                    self._lost(error)
                    break
                before, now = now, self.clock()
                self._arrived = now
                if self.is_complete:
                    self._grace -= now - before
                try:
                    done = self._receive(data)
                except DecodeError as error:
                    if not self.is_complete:
                        if not data and self._buffer is not None:  # it may be the beginning of an event
                            raise self._incomplete(f"; it ends within an event: {error.excerpt[:80]!r}") from error
                        raise
                    self._stop()  # what follows a complete answer, such as a usage event cut in two, takes nothing from it
                    break
                if done:
                    self.ended = True
                    await self._body.finish()
                elif not data:
                    self._stop()
                    self._end()
                elif now >= until < limit:
                    self._stop()
                if now - before > 0.001 and len(data) < _QUICK:
                    self.next_check = min(now + TURN, self._deadline)
        except NimError as error:
            self._fail(error)
            data, self._failure = b"", error  # the data may repeat a key
            if isinstance(error, RequestTimeoutError) and error.phase == "total":
                self.ready.clear()
            if not self.ready:
                raise
        except BaseException as error:
            self._fail(error)
            raise
        if self.ended and self._observations:
            self._tell_end()
        if not self.ready and self._broken:  # closed, now or before
            raise self._closed_early()

    async def _give_turn(self, now: float) -> None:
        """Yield to other tasks, unless the call's deadline has passed."""
        if now >= self._deadline and not self.ended:
            raise timed_out("total", self._response.timeouts.total)
        from anyio.lowlevel import checkpoint

        await checkpoint()
        self.next_check = min(self.clock() + TURN, _NEVER if self.ended else self._deadline)

    def _lost(self, error: TransportError) -> None:
        """Nothing more can be read: the end of a complete answer, else raise what it means."""
        if self.is_complete and not self._closed:
            self._stop()
        elif isinstance(error, (RequestTimeoutError, BodyTooLargeError)):
            raise error
        else:
            raise self._interrupted(error) from error

    def _receive(self, data: bytes) -> bool:
        """Process the data of one read, b"" at the end of the body; returns whether the stream is done."""
        if self._buffer is None and self._whole is None:
            data = self._begin(data)
        if self._whole is not None:
            self._whole += data
            if b"\n" in data and begins_with_event(self._whole, data):
                lines, self._whole = bytes(self._whole), None
                self._buffer = LineBuffer(self._max_event)
                return self._receive(lines)
            if self._max_event is not None and len(self._whole) > self._max_event:
                problem = f"the response, sent in one piece, exceeds {self._max_event} bytes (Limits.max_event)"
                raise BodyTooLargeError(problem, limit=self._max_event)
            if data or not self._whole:
                return False
            self._take_whole(bytes(self._whole))
            return True
        if self._buffer is None:
            return False
        buffer = self._buffer
        block = buffer.feed(data) if data else buffer.flush()
        if buffer.held and buffer.is_at_end():
            block += b"\n\n" + buffer.flush()
        return block != b"" and self._take(block)

    # ending --------------------------------------------------------------------------------------------------------

    def _interrupted(self, error: TransportError) -> NimError:
        if self._closed:
            return StreamInterruptedError("the stream was closed while it was being read")
        if not self.has_content and isinstance(error, ConnectionLostError):
            return error  # no chunk was returned yet: the retry loop decides
        return StreamInterruptedError(f"stream interrupted: {error}{self.last_words()}")

    def last_words(self) -> str:
        """What a gateway wrote at the end, beside events, in words. StreamFaultError if it is an error object."""
        return ""

    def _closed_early(self) -> StreamInterruptedError:
        return StreamInterruptedError("the stream was closed before the answer was complete")

    def _incomplete(self, last: str) -> StreamInterruptedError:
        """The error for a stream that ended too early; `last` is what it ended with, in words."""
        return StreamInterruptedError(
            f"the stream ended before the answer was complete (no finish_reason, no [DONE]){last}"
        )

    @property
    def failed(self) -> bool:
        """Whether there is an error that was not raised yet."""
        return self._broken or self._failure is not None

    def _fail(self, error: BaseException) -> None:
        self._give_up()
        if isinstance(error, NimError):
            self._annotate(error)
        if self._observations:
            self._tell_end(error)

    def _give_up(self) -> None:
        """Close the connection; an incomplete answer must not look complete."""
        self._broken = self._broken or not (self.ended or self.is_complete)
        self._stop()

    def _stop(self) -> None:
        self.ended = True
        self._body.abort()

    async def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._give_up()
        if self._observations:
            self._tell_end()

    def abandon(self) -> None:
        """`close` for finalizers."""
        self._body.abandon()
        if self._observations and self._loop.is_closed:
            self._tell_end()
        elif self._observations:  # not here: whatever was interrupted by this may hold a lock of theirs
            self._loop.soon(self._tell_end)

    # whoever observes the call ---------------------------------------------------------------------------------------

    def observe(self, observations: Sequence[Observation]) -> None:
        """Report the end of the stream to these observations."""
        self._observations = observations
        self._loop = LoopRef()
        if self.ended:
            self._tell_end()

    def _tell_end(self, error: BaseException | None = None) -> None:
        observations, self._observations = self._observations, ()
        observers.ended(observations, self._so_far(), error)

    def _so_far(self) -> object:
        """The result so far."""
        return None

    def meta(self) -> ResponseMeta:
        """The metadata of the response, with the timings so far."""
        return self._response.meta()


class AnswerReader(Reader[K], Generic[K, A]):
    """Reads a chat or text completion stream. `choices`: the expected number of choices."""

    __slots__ = ("_accumulator", "_choices", "_chunk", "_counts", "_head", "_joiner", "_last", "_sample", "_times")

    def __init__(
        self,
        response: Response,
        accumulator: Accumulator[A],
        chunk: type[K],
        choices: int = 1,
    ) -> None:
        super().__init__(response)
        self._head = response.meta()
        self._accumulator = accumulator
        accumulator.is_one = choices == 1
        self._chunk = chunk
        self._choices = choices
        self._joiner = SurrogateJoiner()
        self._sample = b""  # the first bytes, until the form is detected
        self._last = b""  # the last events that were read one by one
        self._times = array("d")  # times of reads with content …
        self._counts = array("I")  # … and their numbers of events with content

    def _begin(self, data: bytes) -> bytes:
        """Detect a stream, or the JSON body of a server that ignores `stream`; white space is undecided."""
        begun = self._sample + data
        if data and (begun.isspace() or BOM.startswith(begun)):
            self._sample = begun[-_SAMPLE:]
            return b""
        if is_plain(begun):
            self._whole = bytearray()
        else:
            self._buffer = EventBuffer(self._max_event)
        self._sample = begun[:_SAMPLE]
        return begun if self._whole is None else begun.removeprefix(BOM).lstrip()

    def _take_whole(self, data: bytes) -> None:
        self._add(self._accumulator.adopt(plain_answer(data, self._head)))

    def _take(self, block: bytes) -> bool:
        """Decode a block in parts: those whose events are all alike, which are found by trying, and the others one by one."""
        accumulator = self._accumulator
        start, size = 0, _PART
        while True:
            end = block.find(b"\n\n", start if accumulator.single else start + size)
            part = block[start:] if end < 0 else block[start:end]
            if (alike := accumulator.add_alike(part)) is not None:
                self._show(*alike)
            elif accumulator.knows and size and len(part) > _SMALL:
                size = min(size, len(part)) // 4
                continue
            elif self._add(decode_events(part, self._joiner), part):
                if not accumulator.choices:
                    raise StreamInterruptedError(f"the stream ended without an answer{self.last_words()}")
                return True
            if end < 0:
                return False
            start, size = end + 2, _PART

    def _show(self, template: EventTemplate, texts: list[str]) -> None:
        """Make chunks of events that differ in these texts."""
        chunk, head, append, is_text = self._chunk, self._head, self.ready.append, template.is_text
        for text in texts:
            append(chunk_alike(chunk, template, text if is_text else "", head, text))
        self._last = b""
        self._note(len(texts))

    def _add(self, events: Iterable[JsonDict | None], block: bytes = b"") -> bool:
        """Decode events into chunks, including those before an invalid one; returns whether [DONE] was among them."""
        content = 0
        if not block.startswith(ENDS):
            self._last = block
        accumulator, make, head, append = self._accumulator, self._chunk, self._head, self.ready.append
        event: JsonDict | None = None
        try:
            for event in events:
                if event is None:
                    return True
                if (added := accumulator.add(event)) is not None:  # else not part of the answer
                    text, has_content = added
                    content += has_content
                    append(make(event, text, head))
        finally:
            if content:
                self._note(content)
            self.is_complete = accumulator.finished and len(accumulator.choices) >= self._choices
        if event is not None and not self._joiner.halves:
            accumulator.learn(block[block.rfind(b"\n\n") + 1 :].lstrip(b"\n"), event)
        return False

    def _note(self, content: int) -> None:
        """Note the time of so many events with content; those of one read have the same."""
        self.has_content = True
        self._grace = GRACE
        if self._times and self._times[-1] == self._arrived:
            self._counts[-1] += content
        else:
            self._times.append(self._arrived)
            self._counts.append(content)

    def _end(self) -> None:
        """Complete if every choice has a finish_reason; otherwise the answer is truncated, which is an error."""
        if self._accumulator.finished:
            return
        if not self._accumulator.choices and self._sample.strip() and not is_event_stream(self._sample):
            raise not_an_answer(self._head, self._sample)
        raise self._incomplete(self.last_words())

    def last_words(self) -> str:
        words = stray_words(bytes(self._buffer.held) or self._last) if self._buffer is not None else ""
        return f"; it ends with {words[:200]!r}" if words else ""

    def _annotate(self, error: NimError) -> None:
        error.partial = cast(Any, self.partial())
        super()._annotate(error)

    def _closed_early(self) -> StreamInterruptedError:
        error = super()._closed_early()
        error.partial = cast(Any, self.partial())
        return error

    # results -----------------------------------------------------------------------------------------------------

    def _so_far(self) -> A | None:
        return self.partial()

    def meta(self) -> ResponseMeta:
        """The metadata of the response, with the timings so far."""
        ttft = self._times[0] - self._response.sent if self._times else None
        return self._response.meta(ttft, self._gaps())

    def _gaps(self) -> array[float]:
        """Seconds between events with content: 0 between those of one read."""
        gaps = array("d")
        previous: float | None = None
        for moment, count in zip(self._times, self._counts, strict=True):
            if previous is not None:
                gaps.append(moment - previous)
            gaps.extend([0.0] * (count - 1))
            previous = moment
        return gaps

    def partial(self) -> A | None:
        """What was received so far."""
        return self._accumulator.completion(self.meta())

    def completed(self) -> A:
        """The whole answer."""
        completion = self.partial()
        if completion is None:
            raise StreamInterruptedError(f"the stream ended without an answer{self.last_words()}")
        return completion

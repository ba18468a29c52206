"""For tests of programs that use nimclient: a transport with scripted responses, and the simulator of a NIM.

With pytest the fixtures `nim_simulator` and `nim_simulator_url` (its address) are available.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from attrs import field, frozen

from nimclient._base.config import Timeouts
from nimclient._base.json import dumps, loads
from nimclient._base.types import Json
from nimclient._base.values import BodyPhase, Headers, HttpHead, HttpRequest
from nimclient._http.base import Body, Transport
from nimclient.errors import BodyTooLargeError, ClientClosedError, ConnectionLostError, NimError

if TYPE_CHECKING:
    from nimclient.simulator import RequestRecord, Simulator, SimulatorThread

__all__ = [
    "Body",
    "FakeRequest",
    "FakeTransport",
    "Headers",
    "HttpHead",
    "HttpRequest",
    "RequestRecord",
    "Simulator",
    "SimulatorThread",
    "Transport",
]
_DONE = "[DONE]"

FakeBody: TypeAlias = "Mapping[str, Any] | Sequence[str | Mapping[str, Any] | BaseException] | bytes | None"
"""JSON; the events of a stream; the bytes themselves; nothing."""

FakeAnswer: TypeAlias = "FakeBody | int | BaseException | tuple[int, Mapping[str, str], FakeBody]"
"""A response of FakeTransport."""


@frozen
class FakeRequest:
    """A request as passed to the transport. `headers` is a case-insensitive mapping."""

    method: str
    url: str
    headers: Headers = field(repr=False)
    body: bytes | None = field(default=None, repr=False)

    @property
    def json(self) -> Json:
        """The decoded body; None without one."""
        return None if self.body is None else loads(self.body)


class FakeTransport:
    """Answers without a socket, from a list in order, or from a function of the request (which may be async):

        transport = FakeTransport([429, {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}])
        client = AsyncClient(base_url="http://fake", model="m", transport=transport)

    An answer is a dict (200 with that JSON), an int (that status, no body), bytes (200 with that body), a list of events
    of a stream (dicts; strs unchanged; an exception interrupts the stream; [DONE] is added at the end), a tuple
    (status, headers, body) of these, or an exception, which is raised. `requests` are those received. A request
    after the end of the list raises AssertionError. It has no time limits: raise RequestTimeoutError instead.
    """

    def __init__(
        self,
        answers: Iterable[FakeAnswer] | Callable[[FakeRequest], FakeAnswer | Awaitable[FakeAnswer]],
    ) -> None:
        self.requests: list[FakeRequest] = []
        self.closed = False
        self._function = answers if callable(answers) else None
        self._answers: Iterator[FakeAnswer] = iter(()) if callable(answers) else iter(answers)

    async def open(self, request: HttpRequest, timeouts: Timeouts, total: float | None) -> tuple[HttpHead, Body]:
        """See Transport."""
        if self.closed:
            raise ClientClosedError("the client is closed")
        seen = FakeRequest(request.method, request.url, _headers_of(request), request.body)
        self.requests.append(seen)
        try:
            status, fields, pieces = _response(await self._answer(seen))
        except BaseException:
            if request.on_end is not None:
                request.on_end()
            raise
        raw = [(name.encode(), value.encode()) for name, value in fields.items()]
        return HttpHead(status, Headers(raw), 0.0, None, reused=False), _FakeBody(pieces, request.on_end)

    async def aclose(self) -> None:
        """See Transport."""
        self.closed = True

    async def _answer(self, request: FakeRequest) -> FakeAnswer:
        if self._function is None:
            try:
                return next(self._answers)
            except StopIteration:
                where = f"{request.method} {request.url}"
                raise AssertionError(
                    f"FakeTransport has no answer left for request {len(self.requests)}: {where}"
                ) from None
        answer = self._function(request)
        return await answer if isawaitable(answer) else answer


class _FakeBody:
    """See Body."""

    def __init__(self, pieces: Sequence[bytes | BaseException], on_end: Callable[[], object] | None) -> None:
        self._pieces = iter(pieces)
        self._on_end = on_end
        self._aborted = False

    async def read(self, phase: BodyPhase, deadline: float | None) -> bytes:
        if self._aborted:
            raise ConnectionLostError("the connection was closed", phase="body")
        piece = next(self._pieces, b"")
        if isinstance(piece, BaseException):
            self.abort()
            raise piece
        return piece

    async def read_all(self, max_bytes: int | None) -> bytes:
        data = b""
        while piece := await self.read("body", None):
            data += piece
            if max_bytes is not None and len(data) > max_bytes:
                self.abort()
                raise BodyTooLargeError(f"the response exceeds {max_bytes} bytes (Limits.max_body)", limit=max_bytes)
        self._end()
        return data

    async def read_some(self, max_bytes: int, seconds: float) -> bytes:
        try:
            return (await self.read_all(None))[:max_bytes]
        except NimError:
            return b""

    async def finish(self) -> None:
        self._end()

    def abort(self) -> None:
        self._aborted = True
        self._end()

    def abandon(self) -> None:
        self.abort()

    def _end(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()


def _headers_of(request: HttpRequest) -> Headers:
    """The headers with the key: in no variable of a frame that an exception passes."""
    return Headers([(name.encode(), str(value).encode()) for name, value in request.headers.items()])


def _response(answer: FakeAnswer) -> tuple[int, Mapping[str, str], list[bytes | BaseException]]:
    """Status, headers and the pieces of the body."""
    if isinstance(answer, BaseException):
        raise answer
    if isinstance(answer, int):
        return answer, {}, []
    if not isinstance(answer, tuple):
        kind, pieces = _body(answer)
        return 200, kind, pieces
    status, headers, body = cast("tuple[int, Mapping[str, str], FakeBody]", answer)
    kind, pieces = _body(body)
    return status, {**kind, **headers}, pieces


def _body(body: FakeBody) -> tuple[dict[str, str], list[bytes | BaseException]]:
    """The Content-Type of a body, and its pieces."""
    if body is None:
        return {}, []
    if isinstance(body, bytes):
        return {}, [body]
    if isinstance(body, Mapping):
        return {"Content-Type": "application/json"}, [dumps(body)]
    events = [*body, *(() if _ends(body) else (_DONE,))]
    return {"Content-Type": "text/event-stream"}, [_event(event) for event in events]


def _ends(events: Sequence[Any]) -> bool:
    """Whether a stream already has an end."""
    return bool(events) and (events[-1] == _DONE or isinstance(events[-1], BaseException))


def _event(event: str | Mapping[str, Any] | BaseException) -> bytes | BaseException:
    if isinstance(event, BaseException):
        return event
    data = event.encode() if isinstance(event, str) else dumps(event)
    return b"data: " + data + b"\n\n"


def __getattr__(name: str) -> Any:
    """Loads the simulator on first use: it needs aiohttp."""
    if name in ("RequestRecord", "Simulator", "SimulatorThread"):
        import nimclient.simulator

        return getattr(nimclient.simulator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

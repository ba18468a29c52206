"""How a request gets onto a connection: what we change about aiohttp's connector, request, protocol and socket.

`ATTEMPT` is the attempt that the running task is making; the connector tells it what becomes of its connection. Nothing
here outlives a request but the connection itself.
"""

from __future__ import annotations

import contextlib
import socket
import time
import weakref
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_writer import StreamWriter
from yarl import URL

from nimclient._base.config import Timeouts
from nimclient._http.forks import close_transport, detach_inherited, forget_socket
from nimclient.errors import Phase

IDLE_CONNECTION = 4.0  # seconds; uvicorn and vLLM close theirs after 5, and a POST on a closed one is lost
SEND_PIECE = 2**18
RECEIVE_SIZE = 2**20  # bytes at once: an answer of some hundred kilobytes in one piece costs a tenth less than in two


class Attempt(Protocol):
    """What the connector wants of an attempt."""

    timeouts: Timeouts
    reused: bool
    connect: float | None

    def enter(self, phase: Phase, seconds: float | None) -> None:
        """Begin a phase and its time limit."""
        ...


ATTEMPT: ContextVar[weakref.ref[Attempt]] = ContextVar("nimclient_attempt")


def _attempt() -> Attempt:
    """The attempt under way. Weak: a connection keeps the context in which it was made, and must not keep a pool with it."""
    attempt = ATTEMPT.get()()
    assert attempt is not None
    return attempt


class _Protocol(ResponseHandler):
    """Tells the reader of a body about a malformed chunk in it and when the session is closed under it: aiohttp leaves it
    waiting for ever in both cases.
    """

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        super().set_exception(exc, *(() if exc_cause is None else (exc_cause,)))
        _break_off(self._payload, exc)

    def close(self) -> None:
        """Close at once: nothing is flushed to a peer that may not read, no TLS farewell is waited for."""
        self.abort()

    def abort(self) -> None:
        payload = self._payload
        super().abort()
        _break_off(payload, aiohttp.ClientConnectionError("the session was closed"))


def _break_off(payload: Any, cause: BaseException) -> None:
    """End a body that is still being read."""
    if payload is not None and not payload.is_eof() and payload.exception() is None:
        error = aiohttp.ClientPayloadError(str(cause))
        error.__cause__ = cause
        payload.set_exception(error)


class Connector(aiohttp.TCPConnector):
    """Tells the attempt when its connection is there, and whether it is a new one. (A TraceConfig would cost 50 µs.)"""

    def __init__(self, loop: Any, ssl: Any) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # an address is a bare tuple there
            limit=0, ssl=ssl, keepalive_timeout=IDLE_CONNECTION, socket_factory=self._new_socket, loop=loop
        )
        self._factory: Any = partial(_Protocol, loop=loop)
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        connection = await super().connect(req, traces, timeout)
        attempt = _attempt()
        attempt.enter("headers", attempt.timeouts.headers)
        return connection

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:
        attempt = _attempt()
        attempt.reused = False
        attempt.enter("connect", attempt.timeouts.connect)
        began = time.monotonic()
        protocol = await super()._create_connection(req, traces, timeout)
        attempt.connect = time.monotonic() - began
        transport: Any = protocol.transport
        with contextlib.suppress(AttributeError):  # asyncio's own; uvloop has a buffer that it keeps
            transport.max_size = RECEIVE_SIZE
        return protocol

    def _new_socket(self, address: Any) -> socket.socket:
        made = _socket_with_keepalive(address)
        self._sockets.add(made)
        return made

    def close_without_loop(self) -> None:
        """Close the sockets; the loop is closed already. May be called again."""
        for transport in self._give_up():
            close_transport(transport)

    def reset_after_fork(self) -> None:
        """Give up a forked child's copies of the sockets; the parent goes on using them."""
        detach_inherited(list(self._sockets))
        for transport in self._give_up():
            forget_socket(transport)

    def _give_up(self) -> list[Any]:
        """Forget all connections without closing them; returns their transports."""
        protocols = [*(protocol for idle in self._conns.values() for protocol, _ in idle), *self._acquired]
        self._closed = True
        self._conns.clear()
        self._acquired.clear()
        return [protocol.transport for protocol in protocols if protocol.transport is not None]


class Request(aiohttp.ClientRequest):
    """Writes a small body in one piece with the head, in this turn of the loop; aiohttp starts a task for it before 3.12.

    Its headers are complete when it is made, and it has no cookies, no credentials in its URL, no expectations: what
    looks for these is left out. Together that is a quarter of what a small request costs.
    """

    _small: bytes | None = None

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        if type(body) is bytes:
            self._small = body
            self.headers["Content-Length"] = str(len(body))
        else:
            super().update_body_from_data(body, _stacklevel)

    def update_auto_headers(self, skip_auto_headers: Any) -> None: ...

    def update_cookies(self, cookies: Any) -> None: ...

    def update_auth(self, auth: Any, trust_env: bool = False) -> None: ...

    def update_expect_continue(self, expect: bool = False) -> None: ...

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        protocol = conn.protocol
        if self._small is None or self.proxy or protocol.writing_paused:
            if self._small is not None:
                super().update_body_from_data(self._small)
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write_eof(self._small)
        return self.response_class(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )


class LargeBody(aiohttp.BytesPayload):
    """A body written in pieces, so that a large one does not hold up the loop, and without a copy."""

    def __init__(self, value: bytes) -> None:
        super().__init__(b"", content_type="application/json")
        self._value = value
        self._size = len(value)

    async def write(self, writer: Any) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        view = memoryview(self._value)[:content_length]
        for start in range(0, len(view), SEND_PIECE):
            await writer.write(view[start : start + SEND_PIECE])


@lru_cache(maxsize=512)
def url_of(text: str) -> URL:
    return URL(text, encoded=True)


def acknowledge_at_once(response: aiohttp.ClientResponse) -> None:
    """Send the kernel's acknowledgement of the head now, not 40 ms later.

    A server that leaves Nagle's algorithm on (Dynamo's frontend) holds its first event back until the head is
    acknowledged; on a connection that was used before, the kernel delays that.
    """
    connection, option = response.connection, getattr(socket, "TCP_QUICKACK", None)
    if option is not None and connection is not None and connection.transport is not None:
        with contextlib.suppress(OSError, AttributeError):  # not every loop shows its socket; a closed one needs none
            connection.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, 1)


def _socket_with_keepalive(address: Any) -> socket.socket:
    """A TCP socket that notices a dead peer: a probe after 60 s, then every 15 s; gone after five, or 30 s of silence."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 5, "TCP_USER_TIMEOUT": 30_000}
    for name, value in wanted.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has every option
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made

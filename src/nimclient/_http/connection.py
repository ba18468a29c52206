"""Connections: aiohttp's connector and protocol with additions."""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler

from nimclient._http.forks import close_transport, detach_inherited, forget_socket

if TYPE_CHECKING:
    from nimclient._http.chunks import Content

IDLE_CONNECTION = 4.0  # seconds; uvicorn and vLLM close idle connections after 5, and a POST on a closed one is lost
RECEIVE_SIZE = 2**20  # bytes per read: a response of some hundred kilobytes in one piece costs a tenth less than in two


class Protocol(ResponseHandler):
    """Raises in the reader of a body when a chunk is malformed or the connection is closed locally: aiohttp would leave it
    waiting forever in both cases.
    """

    def __init__(self, loop: Any, known: WeakSet[Protocol]) -> None:
        super().__init__(loop)
        self.is_new = True
        self._known = known
        self._body: Content | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._known.add(self)
        with contextlib.suppress(AttributeError):  # asyncio only; uvloop's buffer is fixed
            transport.max_size = RECEIVE_SIZE

    def watch(self, body: Content) -> None:
        """Start reading this body; errors since its head arrived are set on it."""
        self._body = body
        if (error := self.exception()) is not None:
            self._break_off(error)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        super().set_exception(exc, *(() if exc_cause is None else (exc_cause,)))
        self._break_off(exc)

    def close(self) -> None:
        """Close at once, without flushing to a peer that may not read and without a TLS shutdown."""
        self.abort()

    def abort(self) -> None:
        super().abort()
        self._break_off(aiohttp.ClientConnectionError("the connection was closed"))

    def _break_off(self, cause: BaseException) -> None:
        """Interrupt a body that is being read."""
        body, self._body = self._body, None
        if body is not None and not body.is_eof() and body.exception() is None:
            error = aiohttp.ClientPayloadError(str(cause))
            error.__cause__ = cause
            body.set_exception(error)


class Connector(aiohttp.TCPConnector):
    """Creates connections of `Protocol` with keepalive, and can close them without their loop."""

    def __init__(self, loop: Any) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # an address is a bare tuple there
            limit=0, keepalive_timeout=IDLE_CONNECTION, socket_factory=self._new_socket, loop=loop
        )
        self._protocols: WeakSet[Protocol] = WeakSet()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._factory: Any = partial(Protocol, loop, self._protocols)

    def transports(self) -> list[Any]:
        """The transports of all open connections, idle and in use."""
        return [protocol.transport for protocol in self._protocols if protocol.transport is not None]

    def close_without_loop(self) -> None:
        """Close the sockets of a closed loop. Idempotent."""
        self._closed = True
        for transport in self.transports():
            close_transport(transport)

    def reset_after_fork(self) -> None:
        """Release a forked child's copies of the sockets, which the parent continues to use."""
        self._closed = True
        detach_inherited(list(self._sockets))
        for transport in self.transports():
            forget_socket(transport)

    def _new_socket(self, address: Any) -> socket.socket:
        """A TCP socket with keepalive: probes after 60 s, then every 15 s; lost after five, or 30 s unacknowledged."""
        family, kind, protocol = address[:3]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        wanted = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 5, "TCP_USER_TIMEOUT": 30_000}
        for name, value in wanted.items():
            if (option := getattr(socket, name, None)) is not None:  # options differ between systems
                made.setsockopt(socket.IPPROTO_TCP, option, value)
        self._sockets.add(made)
        return made


def acknowledge_at_once(transport: Any) -> None:
    """Send the kernel's acknowledgement of the head now, not 40 ms later.

    A server that leaves Nagle's algorithm on (Dynamo's frontend) delays its first event until the head is
    acknowledged; on a reused connection the kernel delays the acknowledgement.
    """
    option = getattr(socket, "TCP_QUICKACK", None)
    if option is not None and transport is not None:
        with contextlib.suppress(
            OSError, AttributeError
        ):  # some loops hide the socket; a closed one needs no acknowledgement
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, 1)

"""Connections: aiohttp's connector and protocol with what they lack. Nothing here outlives a request but the connection."""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler

from nimclient._http.forks import close_transport, detach_inherited, forget_socket

IDLE_CONNECTION = 4.0  # seconds; uvicorn and vLLM close theirs after 5, and a POST on a closed one is lost
RECEIVE_SIZE = 2**20  # bytes at once: an answer of some hundred kilobytes in one piece costs a tenth less than in two


class Protocol(ResponseHandler):
    """Tells the reader of a body when a chunk of it is malformed, and when the connection is closed under it: aiohttp leaves
    it waiting for ever in both cases.
    """

    def __init__(self, loop: Any, known: WeakSet[Protocol]) -> None:
        super().__init__(loop)
        self.is_new = True
        self._known = known
        self._body: aiohttp.StreamReader | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._known.add(self)
        with contextlib.suppress(AttributeError):  # asyncio's own; uvloop has a buffer that it keeps
            transport.max_size = RECEIVE_SIZE

    def watch(self, body: aiohttp.StreamReader) -> None:
        """This body is read from now on; what has gone wrong since its head came is told to it, too."""
        self._body = body
        if (error := self.exception()) is not None:
            self._break_off(error)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        super().set_exception(exc, *(() if exc_cause is None else (exc_cause,)))
        self._break_off(exc)

    def close(self) -> None:
        """Close at once: nothing is flushed to a peer that may not read, no TLS farewell is waited for."""
        self.abort()

    def abort(self) -> None:
        super().abort()
        self._break_off(aiohttp.ClientConnectionError("the connection was closed"))

    def _break_off(self, cause: BaseException) -> None:
        """End a body that is still being read."""
        body, self._body = self._body, None
        if body is not None and not body.is_eof() and body.exception() is None:
            error = aiohttp.ClientPayloadError(str(cause))
            error.__cause__ = cause
            body.set_exception(error)


class Connector(aiohttp.TCPConnector):
    """Makes connections of `Protocol` with keepalive, and can let go of them without their loop."""

    def __init__(self, loop: Any, ssl: Any) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # an address is a bare tuple there
            limit=0, ssl=ssl, keepalive_timeout=IDLE_CONNECTION, socket_factory=self._new_socket, loop=loop
        )
        self._protocols: WeakSet[Protocol] = WeakSet()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._factory: Any = partial(Protocol, loop, self._protocols)

    def transports(self) -> list[Any]:
        """Those of all open connections, idle and in use."""
        return [protocol.transport for protocol in self._protocols if protocol.transport is not None]

    def close_without_loop(self) -> None:
        """Close the sockets; the loop is closed already. May be called again."""
        self._closed = True
        for transport in self.transports():
            close_transport(transport)

    def reset_after_fork(self) -> None:
        """Give up a forked child's copies of the sockets; the parent goes on using them."""
        self._closed = True
        detach_inherited(list(self._sockets))
        for transport in self.transports():
            forget_socket(transport)

    def _new_socket(self, address: Any) -> socket.socket:
        """A TCP socket that notices a dead peer: a probe after 60 s, then every 15 s; gone after five, or 30 s of silence."""
        family, kind, protocol = address[:3]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        wanted = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 5, "TCP_USER_TIMEOUT": 30_000}
        for name, value in wanted.items():
            if (option := getattr(socket, name, None)) is not None:  # not every system has every option
                made.setsockopt(socket.IPPROTO_TCP, option, value)
        self._sockets.add(made)
        return made


def acknowledge_at_once(transport: Any) -> None:
    """Send the kernel's acknowledgement of the head now, not 40 ms later.

    A server that leaves Nagle's algorithm on (Dynamo's frontend) holds its first event back until the head is
    acknowledged; on a connection that was used before, the kernel delays that.
    """
    option = getattr(socket, "TCP_QUICKACK", None)
    if option is not None and transport is not None:
        with contextlib.suppress(OSError, AttributeError):  # not every loop shows its socket; a closed one needs none
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, 1)

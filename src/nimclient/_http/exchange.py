"""One request in flight: its slot, its connection, its time limits; then the body of its response."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

import aiohttp
from aiohttp.http import StreamWriter

from nimclient._base.config import Timeouts
from nimclient._base.values import BodyPhase, Headers, HttpHead, HttpRequest
from nimclient._http.connection import Protocol, acknowledge_at_once
from nimclient._http.errors import closed_during_the_call, translate
from nimclient._http.watchdog import Watchdog
from nimclient.errors import (
    BodyTooLargeError,
    ClientClosedError,
    ConnectionLostError,
    Phase,
    TransportError,
)

if TYPE_CHECKING:
    from nimclient._http.chunks import ChunkedBody, Content
    from nimclient._http.head import Prepared
    from nimclient._http.pool import Pool

DRAIN_SECONDS = 0.05
DRAIN_BYTES = 64 * 1024
HELD_BACK = 2**16  # bytes of body with the head above which Nagle's algorithm did not delay the server
READ_BUFFER = 2**18
SEND_PIECE = 2**18
MAX_RATIO = 100  # of a compressed body; JSON of numbers has 3, the most repetitive answers have 30
RATIO_FROM = 2**24  # bytes: below, the size alone does no harm
_SWITCHING = 101
_NO_LIMITS = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class Exchange:
    """Sends one request and implements the Body of its response. `total` is the deadline of the call."""

    __slots__ = (
        *("_connection", "_content", "_has_slot", "_on_end", "_over", "_pool", "_protocol", "_reused", "_timeouts"),
        *("_upload", "watchdog", "__weakref__"),
    )

    def __init__(
        self, pool: Pool, timeouts: Timeouts, total: float | None, on_end: Callable[[], object] | None
    ) -> None:
        self._pool = pool
        self._timeouts = timeouts
        self._on_end = on_end
        self.watchdog = Watchdog(pool.alarm, inf if total is None else total, timeouts.total)
        self._reused = self._has_slot = self._over = False
        self._connection: aiohttp.connector.Connection | None = None
        self._content: Content
        self._upload: asyncio.Task[None] | None = None

    # the request -------------------------------------------------------------------------------------------------

    async def open(self, request: HttpRequest) -> tuple[HttpHead, Self]:
        """Send the request; returns the head of the response and its body."""
        pool = self._pool
        pool.exchanges.add(self)
        try:
            queue = 0.0 if pool.slots.take(bulk=request.bulk) else await self._wait_for_slot(request)
            self._has_slot = True
            prepared = pool.heads.of(request)
            connect = await self._connect(prepared)
            protocol, chunked = self._protocol, self._send(request, prepared)
            message, rest = await protocol.read()
            while message.code < 200 and message.code != _SWITCHING:
                message, rest = await protocol.read()
            self.watchdog.disarm()
            self._content = content = rest if chunked is None else chunked.before(rest)
            if not content.is_eof():
                protocol.watch(content)
                if content.total_bytes < HELD_BACK:
                    acknowledge_at_once(protocol.transport)
        except BaseException as error:  # noqa: BLE001  # _fail raises what it means
            self._fail(error, self.watchdog.phase)
        return HttpHead(message.code, Headers(message.raw_headers), queue, connect, self._reused), self

    async def _wait_for_slot(self, request: HttpRequest) -> float:
        """Wait for a free slot of the pool; returns the seconds it took."""
        began = self.watchdog.enter("pool", self._timeouts.pool)
        await self._pool.slots.wait(bulk=request.bulk)
        return time.monotonic() - began

    async def connect_only(self, request: HttpRequest) -> bool:
        """Open a connection without sending a request; returns whether it succeeded."""
        self._pool.exchanges.add(self)
        with contextlib.suppress(TransportError):
            try:
                await self._connect(self._pool.heads.of(request))
            except BaseException as error:  # noqa: BLE001  # _fail raises what it means
                self._fail(error, "connect")
            self.watchdog.disarm()
        return self._connection is not None

    async def _connect(self, prepared: Prepared) -> float | None:
        """Get an idle or new connection; returns the seconds that a new one took."""
        began = self.watchdog.enter("connect", self._timeouts.connect)
        self._connection = await self._pool.connector.connect(prepared.destination, [], _NO_LIMITS)
        protocol = self._connection.protocol
        assert isinstance(protocol, Protocol)
        self._protocol = protocol
        self._reused = not protocol.is_new
        protocol.is_new = False
        return None if self._reused else time.monotonic() - began

    def _send(self, request: HttpRequest, prepared: Prepared) -> ChunkedBody | None:
        """Send a small request in one write at once, a large one while waiting for its response.

        Returns what takes the chunks of the response, where many small ones may be expected.
        """
        protocol, body = self._protocol, request.body
        transport = protocol.transport
        self.watchdog.enter("headers", self._timeouts.headers)
        protocol.set_response_params(
            read_until_eof=True, read_bufsize=READ_BUFFER, skip_payload=request.method == "HEAD"
        )
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection was lost before it was used")
        chunked = None
        if request.raw or prepared.streams:
            from nimclient._http.chunks import ChunkedBody

            chunked = ChunkedBody(self._pool.loop, protocol, self.watchdog.extend if request.raw else None)
        if body is None or len(body) <= SEND_PIECE:
            transport.write(prepared.head_for(body) + (body or b""))
        else:
            loop = self._pool.loop
            self._upload = loop.create_task(_upload(protocol, loop, prepared.head_for(body), body))
        return chunked

    def _fail(self, error: BaseException, phase: Phase) -> NoReturn:
        """Close the connection and raise the translated error."""
        self.watchdog.disarm()
        if isinstance(error, asyncio.CancelledError):
            meant = self.watchdog.translate_cancellation(error)
            self.abort()
            raise meant from None
        self.abort()
        if self._pool.closed:
            raise closed_during_the_call() from error
        meant = translate(error, phase, self._reused)
        raise meant from None if meant is error else error

    # the body ----------------------------------------------------------------------------------------------------

    async def read(self, phase: BodyPhase, deadline: float | None) -> bytes:
        """See Body."""
        if not self._pool.is_here():
            self.abandon()
            raise ConnectionLostError(
                "the response was opened in another event loop and can only be read there", phase="body"
            )
        try:
            self.watchdog.enter(phase, getattr(self._timeouts, phase, None), deadline, self._content)
            data = await self._content.readany()
        except BaseException as error:  # noqa: BLE001  # _fail raises what it means
            data = self._arrived_before(error)
            if not data:
                self._reused = False  # it responded: not a stale connection
                self._fail(error, "body")
        self.watchdog.rest()
        if not data:
            self.release()
        elif self._content.total_bytes > RATIO_FROM:
            self._check_ratio()
        return data

    def _arrived_before(self, error: BaseException) -> bytes:
        """What arrived before the connection was lost, or before malformed data, and was not read yet.

        It may be the rest of the answer, and aiohttp discards it. The next read raises the error.
        """
        if self._over or self._pool.closed or not isinstance(error, aiohttp.ClientPayloadError):
            return b""
        content = self._content
        content.set_exception(cast(Any, None))
        data = content.read_nowait()
        content.set_exception(error)
        return data

    def _check_ratio(self) -> None:
        """Raise BodyTooLargeError if the body was far smaller before it was decompressed."""
        size, compressed = self._content.total_bytes, self._content.total_compressed_bytes
        if compressed is not None and size > MAX_RATIO * compressed:
            self.abort()
            problem = f"the compressed answer grows to more than {MAX_RATIO} times its size"
            raise BodyTooLargeError(problem, limit=MAX_RATIO * compressed)

    async def read_all(self, max_bytes: int | None) -> bytes:
        """See Body."""
        idle, content = self._timeouts.idle, self._content
        if content.is_eof() and content.total_bytes <= (max_bytes or inf):  # it is here: there is nothing to wait for
            data = content.read_nowait()
            self.release()
            return data
        pieces: list[bytes] = []
        size = 0
        while not content.at_eof():
            piece = await self.read("idle", None if idle is None else time.monotonic() + idle)
            pieces.append(piece)
            size += len(piece)
            if max_bytes is not None and size > max_bytes:
                self.abort()
                raise BodyTooLargeError(f"the response exceeds {max_bytes} bytes (Limits.max_body)", limit=max_bytes)
        self.release()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read_some(self, max_bytes: int, seconds: float) -> bytes:
        """See Body."""
        deadline = time.monotonic() + seconds
        data = b""
        with contextlib.suppress(TransportError, ClientClosedError):
            while len(data) <= max_bytes and (piece := await self.read("body", deadline)):
                data += piece
        await self._end(None)
        return data[:max_bytes]

    async def finish(self) -> None:
        """See Body."""
        await self._end(time.monotonic() + DRAIN_SECONDS)

    async def _end(self, deadline: float | None) -> None:
        """Release the connection if the body ends by this deadline; else close it."""
        left = DRAIN_BYTES
        with contextlib.suppress(TransportError, ClientClosedError):  # then read has closed it
            while deadline is not None and left > 0 and not self._over and not self._content.at_eof():
                left -= len(await self.read("body", deadline))
        if self._content.at_eof():
            self.release()
        else:
            self.abort()

    def release(self) -> None:
        """Release the connection; it is closed if its request was not sent completely."""
        if self._upload is not None and not self._upload.done():
            self.abort()
        elif not self._over and self._connection is not None:
            self._connection.release()
            self._ended()

    def abort(self) -> None:
        """See Body."""
        if self._over:
            return
        if not self._pool.is_here():
            self.abandon()
            return
        if self._upload is not None:
            self._upload.cancel()
        if self._connection is not None:
            self._connection.close()
        self._ended()

    def abandon(self) -> None:
        """See Body."""
        if self._over:
            return
        if self._pool.is_orphan():
            if self._connection is not None:
                self._connection.close()
            with contextlib.suppress(RuntimeError):  # the waiter's loop is closed
                self._ended()
        else:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                self._pool.loop.call_soon_threadsafe(self.abort)

    def _ended(self) -> None:
        """Release the slot, stop the watchdog, call `on_end`."""
        self._over = True
        self._connection = None
        self._pool.exchanges.discard(self)
        self.watchdog.disarm()
        if self._on_end is not None:
            self._on_end()
        if self._has_slot:
            self._pool.slots.release()


async def _upload(protocol: Protocol, loop: asyncio.AbstractEventLoop, head: bytes, body: bytes) -> None:
    """Send a large body in pieces and without a copy, as fast as the peer accepts it. Errors are raised to the reader."""
    writer = StreamWriter(protocol, loop)
    view = memoryview(body)
    with contextlib.suppress(OSError, aiohttp.ClientError):
        await writer.write(head)
        for start in range(0, len(view), SEND_PIECE):
            await writer.write(view[start : start + SEND_PIECE])

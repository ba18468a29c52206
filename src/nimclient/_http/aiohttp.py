"""The transport over aiohttp: pools per event loop, time limits, and what its exceptions mean.

A pool is opened by the first call in a loop and closed with the loop: it hangs on an async generator, which
`asyncio.run` ends. aiohttp's own time limits, redirects, cookies and environment look-ups are off; see docs/design.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import weakref
from collections.abc import Callable
from typing import NoReturn

import aiohttp
import anyio

from nimclient._base.config import Timeouts
from nimclient._base.values import BodyPhase, Headers, HttpHead, HttpRequest
from nimclient._http.base import TransportSettings
from nimclient._http.connection import (
    ATTEMPT,
    SEND_PIECE,
    LargeBody,
    acknowledge_at_once,
    url_of,
)
from nimclient._http.errors import translate
from nimclient._http.pool import Pool, closed_during_the_call
from nimclient._http.tasks import running_loop
from nimclient._http.tls import ssl_setting
from nimclient._http.watchdog import Watchdog
from nimclient.errors import (
    BodyTooLargeError,
    ClientClosedError,
    ConnectionLostError,
    Phase,
    TransportError,
)

DRAIN_SECONDS = 0.05
DRAIN_BYTES = 64 * 1024
HELD_BACK = 2**16  # a server that has sent more of a body than this along with its head is not held back by Nagle


class AiohttpTransport:
    """Opens requests in whatever asyncio loop is running; holds no socket of a loop that is gone, nor of a parent process."""

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._ssl = ssl_setting(settings.verify, settings.cert)
        _keep_heap()
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._closed = False
        _TRANSPORTS.add(self)
        weakref.finalize(self, _close_orphans, self._pools)

    async def open(self, request: HttpRequest, timeouts: Timeouts, total: float | None) -> tuple[HttpHead, _Body]:
        """See Transport."""
        pool = await self._pool()
        attempt = _Attempt(pool, timeouts, total, request.on_end)
        try:
            await attempt.take_slot()
            response = await attempt.send(request)
        except BaseException as error:  # noqa: BLE001  # fail raises what it means
            attempt.end()
            attempt.fail(error, attempt.phase, attempt.reused)
        if not response.content.at_eof() and response.content.total_bytes < HELD_BACK:
            acknowledge_at_once(response)
        head = HttpHead(response.status, Headers(response.raw_headers), attempt.queue, attempt.connect, attempt.reused)
        return head, _Body(attempt, response)

    async def aclose(self) -> None:
        """Close the pool of this loop now, and those of other loops in their own threads."""
        self._closed = True
        _close_orphans(self._pools)
        here = asyncio.get_running_loop()
        for loop, pool in list(self._pools.items()):
            if loop is here:
                await pool.aclose()
            elif not loop.is_closed():
                with contextlib.suppress(RuntimeError):  # it was closed in the meantime
                    loop.call_soon_threadsafe(pool.close_soon)

    async def _pool(self) -> Pool:
        loop = running_loop()
        if self._closed:
            raise ClientClosedError("the client is closed")
        pool = self._pools.get(loop)
        if pool is None:
            _close_orphans(self._pools)
            pool = self._pools[loop] = Pool(self._settings, self._ssl)
            await pool.close_with_loop(weakref.WeakMethod(self.forget))
        return pool

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """The pool of this loop was closed."""
        self._pools.pop(loop, None)

    def reset_after_fork(self) -> None:
        """In a forked child: begin anew, without the parent's sockets."""
        for pool in self._pools.values():
            pool.reset_after_fork()
        self._pools.clear()


_TRANSPORTS: weakref.WeakSet[AiohttpTransport] = weakref.WeakSet()


def _begin_anew() -> None:
    for transport in list(_TRANSPORTS):
        transport.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _close_orphans(pools: dict[asyncio.AbstractEventLoop, Pool]) -> None:
    """Close and forget the pools whose loop was closed by hand: `asyncio.run` would have ended them."""
    for loop in list(pools):  # other threads add theirs meanwhile
        if loop.is_closed() and (pool := pools.pop(loop, None)) is not None:
            pool.close_without_loop()


def _keep_heap() -> None:
    """Let glibc keep some megabytes of freed heap instead of giving them back after every large answer.

    Its thresholds adapt to the largest block that was mapped and freed; without this, each answer of some hundred
    kilobytes costs a hundred page faults, which doubles the work of an embedding request. The block is never touched.
    """
    bytearray(2**22)


class _Attempt:
    """One request under way: its slot, its watchdog, and what is learned about its connection."""

    __slots__ = (
        "__weakref__",
        "_on_end",
        "_slot_taken",
        "connect",
        "phase",
        "pool",
        "queue",
        "reused",
        "timeouts",
        "watchdog",
    )

    def __init__(
        self, pool: Pool, timeouts: Timeouts, total: float | None, on_end: Callable[[], object] | None
    ) -> None:
        self._on_end = on_end
        self.pool = pool
        self.timeouts = timeouts
        self.watchdog = Watchdog(pool.loop, total, timeouts.total)
        self.phase: Phase = "pool"
        self.queue = 0.0
        self.connect: float | None = None
        self.reused = True
        self._slot_taken = False
        pool.attempts.add(self)

    async def take_slot(self) -> None:
        """Wait for a free slot of the pool."""
        limiter = self.pool.limiter
        try:
            limiter.acquire_on_behalf_of_nowait(self)
        except anyio.WouldBlock:
            began = time.monotonic()
            self.enter("pool", self.timeouts.pool)
            await limiter.acquire_on_behalf_of(self)
            self.queue = time.monotonic() - began
        self._slot_taken = True

    async def send(self, request: HttpRequest) -> aiohttp.ClientResponse:
        """The response, its head read."""
        body = request.body
        self.phase = "connect"
        token = ATTEMPT.set(weakref.ref(self))
        try:
            return await self.pool.session.request(
                request.method,
                url_of(request.url),
                data=body if body is None or len(body) <= SEND_PIECE else LargeBody(body),
                headers=request.headers,
                allow_redirects=False,
                proxy=request.proxy,
                ssl=self.pool.anonymous_ssl if request.anonymous else True,
            )
        finally:
            ATTEMPT.reset(token)
            self.watchdog.disarm()

    def enter(self, phase: Phase, seconds: float | None) -> None:
        """Begin a phase and its time limit."""
        self.phase = phase
        self.watchdog.arm(phase, None if seconds is None else time.monotonic() + seconds, seconds)

    def fail(self, error: BaseException, phase: Phase, reused: bool) -> NoReturn:
        """Raise what an error of this attempt means."""
        if isinstance(error, asyncio.CancelledError):
            raise self.watchdog.translate_cancellation(error) from None
        if self.pool.closed:
            raise closed_during_the_call() from error
        raise translate(error, phase, reused) from error

    def end(self) -> None:
        """Give the slot back, stop the watch, tell that it is over. May be called again."""
        self.pool.attempts.discard(self)
        self.watchdog.close()
        if self._on_end is not None:
            self._on_end()
        if self._slot_taken:
            self._slot_taken = False
            self.pool.limiter.release_on_behalf_of(self)


class _Body:
    """See Body."""

    __slots__ = ("_attempt", "_closed", "_content", "_response")

    def __init__(self, attempt: _Attempt, response: aiohttp.ClientResponse) -> None:
        self._attempt = attempt
        self._response = response
        self._content = response.content
        self._closed = False

    async def read(self, phase: BodyPhase, deadline: float | None) -> bytes:
        watchdog = self._attempt.watchdog
        if not self._attempt.pool.is_here():
            self.abandon()
            raise ConnectionLostError("it was opened in another event loop, and can only be read there", phase="body")
        watchdog.arm(phase, deadline, getattr(self._attempt.timeouts, phase, None))
        try:
            return await self._content.readany()
        except BaseException as error:  # noqa: BLE001  # _fail raises what it means
            self._fail(error)
        finally:
            watchdog.disarm()

    def _fail(self, error: BaseException) -> NoReturn:
        """Close the connection and raise what the error means."""
        self.abort()
        self._attempt.fail(error, "body", reused=False)

    async def read_all(self, max_bytes: int | None) -> bytes:
        idle = self._attempt.timeouts.idle
        watchdog, content = self._attempt.watchdog, self._content
        pieces: list[bytes] = []
        size = 0
        try:
            while not content.at_eof():
                watchdog.arm("idle", None if idle is None else time.monotonic() + idle, idle)
                piece = await content.readany()
                pieces.append(piece)
                size += len(piece)
                if max_bytes is not None and size > max_bytes:
                    raise BodyTooLargeError(f"the answer exceeds {max_bytes} bytes (Limits.max_body)", limit=max_bytes)
        except BaseException as error:  # noqa: BLE001  # _fail raises what it means
            self._fail(error)
        finally:
            watchdog.disarm()
        self._release()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read_some(self, max_bytes: int, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        data = b""
        with contextlib.suppress(TransportError, ClientClosedError):
            while len(data) <= max_bytes and (piece := await self.read("body", deadline)):
                data += piece
        if self._content.at_eof():
            self._release()
        else:
            self.abort()
        return data[:max_bytes]

    async def finish(self) -> None:
        if not self._closed and not self._content.at_eof():
            deadline = time.monotonic() + DRAIN_SECONDS
            left = DRAIN_BYTES
            try:
                while left > 0 and (piece := await self.read("body", deadline)):
                    left -= len(piece)
            except (TransportError, ClientClosedError):
                return  # read has closed the connection: it is not worth waiting for
            if left <= 0:
                self.abort()
        self._release()

    def _release(self) -> None:
        if not self._closed:
            self._closed = True
            self._response.release()
            self._attempt.end()

    def abort(self) -> None:
        if not self._attempt.pool.is_here():
            self.abandon()
        elif not self._closed:
            self._closed = True
            self._response.close()
            self._attempt.end()

    def abandon(self) -> None:
        pool = self._attempt.pool
        if self._closed:
            return
        if pool.is_orphan():
            self._closed = True
            if self._response.connection is not None:
                self._response.connection.close()
            with contextlib.suppress(RuntimeError):  # whoever waits for the slot waits in a closed loop
                self._attempt.end()
        else:
            with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
                pool.loop.call_soon_threadsafe(self.abort)

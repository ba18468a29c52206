"""The transport over aiohttp: pools per event loop, time limits, translation of exceptions.

A pool is opened by the first call in a loop and closed with the loop, through an async generator that `asyncio.run`
finalizes. aiohttp's own time limits, redirects, cookies and environment look-ups are off; see docs/design.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import Sequence

from nimclient._base.config import Timeouts
from nimclient._base.values import HttpHead, HttpRequest
from nimclient._http.base import TransportSettings
from nimclient._http.exchange import Exchange
from nimclient._http.pool import Pool
from nimclient._http.tasks import running_loop
from nimclient._http.tls import ssl_setting
from nimclient.errors import ClientClosedError


class AiohttpTransport:
    """Opens requests in the running asyncio loop; keeps no socket of a closed loop or a parent process."""

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._ssl = ssl_setting(settings.verify, settings.cert)
        _keep_heap()
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._closed = False
        _TRANSPORTS.add(self)
        weakref.finalize(self, _close_orphans, self._pools)

    async def open(self, request: HttpRequest, timeouts: Timeouts, total: float | None) -> tuple[HttpHead, Exchange]:
        """See Transport."""
        loop = asyncio._get_running_loop()
        pool = None if loop is None or self._closed else self._pools.get(loop)
        return await Exchange(pool or await self._pool(), timeouts, total, request.on_end).open(request)

    async def warm(self, requests: Sequence[HttpRequest], timeouts: Timeouts) -> int:
        """See Transport."""
        pool = await self._pool()
        exchanges = [Exchange(pool, timeouts, None, None) for _ in requests]
        try:
            return sum(await asyncio.gather(*map(Exchange.connect_only, exchanges, requests)))
        finally:
            for exchange in exchanges:
                exchange.release()

    async def aclose(self) -> None:
        """Close the pool of this loop now, and those of other loops in their own threads."""
        self._closed = True
        _close_orphans(self._pools)
        here = asyncio.get_running_loop()
        for loop, pool in list(self._pools.items()):
            if loop is here:
                await pool.aclose()
            elif not loop.is_closed():
                with contextlib.suppress(RuntimeError):  # closed in the meantime
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

    def pools(self) -> list[Pool]:
        """The pools of all loops."""
        return list(self._pools.values())

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Remove the pool of this loop, which was closed."""
        self._pools.pop(loop, None)

    def reset_after_fork(self) -> None:
        """In a forked child: start over, without the parent's sockets."""
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
    """Close and remove the pools of loops that were closed manually: `asyncio.run` would have closed them."""
    for loop in list(pools):  # other threads may add pools
        if loop.is_closed() and (pool := pools.pop(loop, None)) is not None:
            pool.connector.close_without_loop()


def _keep_heap() -> None:
    """Let glibc keep some megabytes of freed heap instead of returning them after every large response.

    Its thresholds adapt to the largest block that was mapped and freed; without this, each response of some hundred
    kilobytes costs a hundred page faults, which doubles the work of an embedding request. The block is never touched: bytes
    are allocated as zeros by the system, a bytearray would write them, which takes 2 ms.
    """
    bytes(2**22)

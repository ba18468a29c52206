"""The pool of one event loop: a session of aiohttp's, the slots that bound it, what is under way, and how it ends.

It ends by `aclose`, or with its loop: it hangs on an async generator, which `asyncio.run` ends. Where the loop was closed
by hand, or stayed in a parent process, the pool is an orphan; see `orphans`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol, TypeAlias
from weakref import WeakMethod

import aiohttp
import anyio

from nimclient._http.base import TransportSettings
from nimclient._http.connection import Connector, Request
from nimclient._http.tls import anonymous_setting
from nimclient._http.watchdog import Watchdog
from nimclient.errors import ClientClosedError

READ_BUFFER = 2**18
_NO_LIMITS = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)

Forget: TypeAlias = WeakMethod[Callable[[asyncio.AbstractEventLoop], None]]
"""What is told that the pool of a loop is closed, if it still exists."""


class Attempt(Protocol):
    """What a pool wants of a request under way."""

    watchdog: Watchdog


class Pool:
    """The session of one loop and the slots that bound how many requests it carries at once."""

    def __init__(self, settings: TransportSettings, ssl: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.anonymous_ssl = anonymous_setting(settings.verify, settings.cert)
        self.limiter = anyio.CapacityLimiter(settings.limits.concurrency or float("inf"))
        self._connector = Connector(self.loop, ssl)
        self.session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_LIMITS,
            trust_env=False,
            read_bufsize=READ_BUFFER,
            request_class=Request,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),  # a request has its own
        )
        self.closed = False
        self.attempts: set[Attempt] = set()
        self.session._retry_connection = False  # aiohttp would send a GET twice: there is one retry loop, the engine's
        self._holder: AsyncGenerator[None] | None = None
        self._is_parents = False

    def is_here(self) -> bool:
        """Whether its loop is the one that runs here."""
        try:
            return asyncio.get_running_loop() is self.loop and not self._is_parents
        except RuntimeError:
            return False

    async def close_with_loop(self, forget: Forget) -> None:
        """Make the end of the loop close the session: a primed async generator is what a loop ends by itself."""
        self._holder = _hold(forget, self.loop, self.session)
        await anext(self._holder)

    async def aclose(self) -> None:
        """Close the session; whatever is under way or waits ends with ClientClosedError."""
        self.closed = True
        for attempt in list(self.attempts):
            attempt.watchdog.interrupt(closed_during_the_call())
        holder, self._holder = self._holder, None  # a generator cannot be closed by two at once
        if holder is not None:
            await holder.aclose()

    def close_soon(self) -> None:
        """`aclose` as a task of this pool's loop."""
        self._closing = self.loop.create_task(self.aclose())

    def is_orphan(self) -> bool:
        """Whether no loop of this process serves it any more; its sockets are closed then."""
        if self.loop.is_closed():
            self.close_without_loop()
            return True
        return self._is_parents

    def close_without_loop(self) -> None:
        """Close the sockets of a loop that is closed already. May be called again."""
        self.session.detach()
        self._connector.close_without_loop()

    def reset_after_fork(self) -> None:
        """Give up a forked child's copies of the sockets; the parent goes on using them."""
        self._is_parents = True
        self.session.detach()
        self._connector.reset_after_fork()


async def _hold(
    forget: Forget, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession
) -> AsyncGenerator[None]:
    """Holds no pool: one that nobody refers to any more is gone at once, and its loop ends this."""
    try:
        yield
    finally:
        if (known_to := forget()) is not None:
            known_to(loop)
        await session.close()


def closed_during_the_call() -> ClientClosedError:
    """What ends a request under way."""
    return ClientClosedError("the client was closed during the call")

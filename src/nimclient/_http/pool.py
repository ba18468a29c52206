"""The pool of one event loop: its connections, the slots that limit concurrency, and its shutdown.

It ends by `aclose`, or with its loop through an async generator that `asyncio.run` finalizes. If the loop was closed
manually, or belongs to a parent process, the pool is an orphan.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from ssl import SSLContext
from typing import Protocol, TypeAlias
from weakref import WeakMethod

from attrs import define, field

from nimclient._http.base import TransportSettings
from nimclient._http.connection import Connector
from nimclient._http.errors import closed_during_the_call
from nimclient._http.head import Heads
from nimclient._http.tls import unauthenticated_setting
from nimclient._http.watchdog import Alarm, Watchdog

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

UNBOUNDED = 2**31
SPARE = 32  # descriptors of `ulimit -n` that connections leave to files, imports and name look-ups

Forget: TypeAlias = WeakMethod[Callable[[asyncio.AbstractEventLoop], None]]
"""Called when the pool of a loop is closed."""


class InFlight(Protocol):
    """The interface of a request in flight, as the pool needs it."""

    watchdog: Watchdog


@define
class Slots:
    """The free slots for requests in flight. A released slot is passed to the first waiter, plain requests before bulk ones.

    Bulk leaves `reserved` slots free: plain requests do not wait for its end.
    """

    free: int
    reserved: int = 0
    _waiting: deque[asyncio.Future[None]] = field(factory=deque["asyncio.Future[None]"])
    _waiting_bulk: deque[asyncio.Future[None]] = field(factory=deque["asyncio.Future[None]"])

    def take(self, *, bulk: bool = False) -> bool:
        """Take a slot, if one is free."""
        if self.free <= (self.reserved if bulk else 0):
            return False
        self.free -= 1
        return True

    async def wait(self, *, bulk: bool = False) -> None:
        """Wait for a released slot."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting_bulk if bulk else self._waiting
        queue.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it got the slot, too
                self.release()
            elif turn in queue:
                queue.remove(turn)
            raise

    def release(self) -> None:
        """Release a slot."""
        self.free += 1
        if self._waiting or self._waiting_bulk:
            self._pass_on(self._waiting, 0)
            self._pass_on(self._waiting_bulk, self.reserved)

    def _pass_on(self, queue: deque[asyncio.Future[None]], reserved: int) -> None:
        """Pass free slots to those who wait."""
        while queue and self.free > reserved:
            turn = queue.popleft()
            if not turn.done():
                self.free -= 1
                turn.set_result(None)


def affordable(concurrency: int) -> int:
    """So many at once at most that their connections leave this process some descriptors for its files."""
    if resource is None:
        return concurrency
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return concurrency if most == resource.RLIM_INFINITY else min(concurrency, max(most - SPARE, 1))


def reserve(concurrency: int) -> int:
    """The slots that bulk leaves free: one of sixteen, at least one where there are two."""
    return max(concurrency // 16, 1) if concurrency > 1 else 0


class Pool:
    """The connections of one loop and the requests that use them."""

    def __init__(self, settings: TransportSettings, ssl: SSLContext | bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.connector = Connector(self.loop)
        self.heads = Heads(self.loop, ssl, unauthenticated_setting(settings.verify, settings.cert, ssl))
        concurrency = affordable(settings.limits.concurrency or UNBOUNDED)
        self.slots = Slots(concurrency, reserve(concurrency))
        self.alarm = Alarm(self.loop)
        self.exchanges: set[InFlight] = set()
        self.closed = False
        self._holder: AsyncGenerator[None] | None = None
        self._is_parents = False

    def is_here(self) -> bool:
        """Whether its loop is the running one."""
        try:
            return asyncio.get_running_loop() is self.loop and not self._is_parents
        except RuntimeError:
            return False

    def is_idle(self) -> bool:
        """Whether nothing is in flight or waiting."""
        return not self.exchanges and self.slots.free > 0

    async def close_with_loop(self, forget: Forget) -> None:
        """Close the connections at the end of the loop, which finalizes its started async generators."""
        self._holder = _hold(forget, self.loop, self.connector)
        await anext(self._holder)

    async def aclose(self) -> None:
        """Close all connections; requests in flight or waiting end with ClientClosedError."""
        self.closed = True
        for exchange in list(self.exchanges):
            exchange.watchdog.interrupt(closed_during_the_call())
        self.alarm.close()
        holder, self._holder = self._holder, None  # a generator cannot be closed twice concurrently
        if holder is not None:
            await holder.aclose()

    def close_soon(self) -> None:
        """`aclose` as a task of this pool's loop."""
        self._closing = self.loop.create_task(self.aclose())

    def is_orphan(self) -> bool:
        """Whether it has no loop in this process; its sockets are closed then."""
        if self.loop.is_closed():
            self.connector.close_without_loop()
            return True
        return self._is_parents

    def reset_after_fork(self) -> None:
        """Release a forked child's copies of the sockets; the parent continues to use them."""
        self._is_parents = True
        self.connector.reset_after_fork()


async def _hold(forget: Forget, loop: asyncio.AbstractEventLoop, connector: Connector) -> AsyncGenerator[None]:
    """Has no reference to the pool, which can be garbage-collected before the loop ends."""
    try:
        yield
    finally:
        if (known_to := forget()) is not None:
            known_to(loop)
        await connector.close()

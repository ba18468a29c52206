"""The gate where all slices of one call wait for a slot of the pacer before they are sent.

Waiting slices are queued, throttled ones first. Only the head of the queue asks the pacer, and wakes the next one when it
leaves: there is no polling, and no burst when the gate opens. All decisions are the pacer's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import anyio

from nimclient._base.types import Clock
from nimclient._bulk.pacer import Pacer
from nimclient._bulk.ticket import Ticket
from nimclient.errors import NimError, RequestTimeoutError


def one(_: Any) -> float:
    """All results are the same amount of work."""
    return 1.0


class Gate:
    """The waiting half of a Pacer. `work` returns the amount of work of a result, in any unit."""

    def __init__(
        self,
        pacer: Pacer,
        clock: Clock,
        random: Callable[[], float],
        work: Callable[[Any], float] = one,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.pacer = pacer
        self._clock = clock
        self._random = random
        self._work = work
        self._sleep = sleep
        self._throttled: deque[anyio.Event] = deque()
        self._queue: deque[anyio.Event] = deque()

    def width(self) -> int:
        """Maximum slices in flight now, and so the useful number of workers."""
        return self.pacer.width

    async def acquire(self, ticket: Ticket, deadline: float | None) -> float:
        """Wait for a slot and take it: returns 0, or the seconds it would take if that exceeds the deadline.

        Slices that were already sent take precedence.
        """
        if not self._queue and not self._throttled and not self.pacer.enter(self._clock(), ticket):
            return 0.0
        mine = anyio.Event()
        queue = self._throttled if ticket.seq else self._queue
        queue.append(mine)
        try:
            while True:
                now = self._clock()
                leads = self._head() is mine
                delay = self.pacer.enter(now, ticket) if leads else inf
                if not delay:
                    return 0.0
                left = inf if deadline is None else deadline - now
                if left <= 0.0 or left <= delay < inf:
                    return delay
                if delay < inf:
                    await self._sleep(delay)  # it ends when the client is closed
                else:
                    limit = min(left, self.pacer.poll) if leads else left
                    with anyio.move_on_after(limit):  # the slices that hold the slots end when the client is closed
                        await mine.wait()
                if mine.is_set():
                    queue[queue.index(mine)] = mine = anyio.Event()
        finally:
            queue.remove(mine)
            self._wake()

    def succeeded(self, ticket: Ticket, result: Any) -> None:
        """Release the slot: see Pacer.succeeded."""
        self.pacer.succeeded(self._clock(), ticket, self._work(result))
        if self._queue or self._throttled:
            self._wake()

    def throttled(self, ticket: Ticket, error: NimError) -> float | None:
        """Release the slot: see Pacer.throttled. Returns the delay, None if patience is exhausted."""
        delay = self.pacer.throttled(self._clock(), ticket, error, self._random)
        self._wake()
        return delay

    def left(self) -> None:
        """Release the slot: see Pacer.left."""
        self.pacer.left()
        self._wake()

    def _head(self) -> anyio.Event | None:
        for queue in (self._throttled, self._queue):
            if queue:
                return queue[0]
        return None

    def _wake(self) -> None:
        if (head := self._head()) is not None:
            head.set()


def too_long(delay: float, total: float | None) -> RequestTimeoutError:
    """The error of a request that would wait beyond its time limit."""
    wait = "no slot for another request is free" if delay == inf else f"the next {delay:.3g} s belong to other requests"
    problem = f"{wait}; the total limit of {total} s would be reached"
    return RequestTimeoutError(problem, phase="total", seconds=total)

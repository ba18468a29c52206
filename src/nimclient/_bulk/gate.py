"""The gate before the server that all slices of one call pass: where they wait when the pacer says so.

Who waits stands in line, refused slices first. Only the head of the line asks the pacer, and who leaves the line wakes the
next: nothing is polled, and nobody rushes when the gate opens. It decides nothing itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import anyio

from nimclient._base.types import Clock
from nimclient._bulk.pacer import Pacer, Ticket
from nimclient.errors import NimError, RequestTimeoutError


def one(_: Any) -> float:
    """Every result is as much work as any other."""
    return 1.0


class Gate:
    """The waiting half of a Pacer. `work` tells how much of the whole a result is, in any unit."""

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
        self._refused: deque[anyio.Event] = deque()
        self._line: deque[anyio.Event] = deque()

    def width(self) -> int:
        """How many slices may be in flight now: as many workers are worth having."""
        return self.pacer.limit

    async def enter(self, turn: Ticket, deadline: float | None) -> float:
        """Wait for a place and take it: returns 0, or the seconds it would take where that is behind the deadline.

        A slice that has been sent before goes before those that have not.
        """
        if not self._line and not self._refused and not self.pacer.enter(self._clock(), turn):
            return 0.0
        mine = anyio.Event()
        line = self._refused if turn.place else self._line
        line.append(mine)
        try:
            while True:
                now = self._clock()
                pause = self.pacer.enter(now, turn) if self._head() is mine else inf
                if not pause:
                    return 0.0
                left = inf if deadline is None else deadline - now
                if left <= 0.0 or left <= pause < inf:
                    return pause
                if pause < inf:
                    await self._sleep(pause)  # it ends when the client is closed
                else:
                    with anyio.move_on_after(left):  # so do those whose places are waited for
                        await mine.wait()
                if mine.is_set():
                    line[line.index(mine)] = mine = anyio.Event()
        finally:
            line.remove(mine)
            self._wake()

    def succeeded(self, turn: Ticket, result: Any) -> None:
        """Give the place back: see Pacer.succeeded."""
        self.pacer.succeeded(self._clock(), turn, self._work(result))
        self._wake()

    def refused(self, turn: Ticket, error: NimError) -> float | None:
        """Give the place back: see Pacer.refused."""
        pause = self.pacer.refused(self._clock(), turn, error, self._random)
        self._wake()
        return pause

    def left(self) -> None:
        """Give the place back: see Pacer.left."""
        self.pacer.left()
        self._wake()

    def _head(self) -> anyio.Event | None:
        for line in (self._refused, self._line):
            if line:
                return line[0]
        return None

    def _wake(self) -> None:
        if (head := self._head()) is not None:
            head.set()


def too_long(pause: float, total: float | None, number: int) -> RequestTimeoutError:
    """The error of a request that would have to wait until its time is over, after `number` attempts."""
    wait = (
        "there is no room for another request" if pause == inf else f"the next {pause:.3g} s belong to other requests"
    )
    problem = f"{wait}; the total limit of {total} s would be reached"
    return RequestTimeoutError(problem, phase="total", seconds=total, attempts=number)

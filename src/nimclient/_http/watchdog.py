"""Time limits: a watchdog for each call, and one timer for all waits in a loop.

Up to the head of a response an interruption cancels the waiting task; afterwards it is an error of the body that is waited
for, and no task is touched.

A loop timer per request would cost more than its connector. So the alarm rings at the earliest limit; limits that were
extended or removed by then cost a comparison. A cancel scope per read would cost 60 % of a token.
"""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING

from attrs import define, field

from nimclient.errors import NimError, Phase, RequestTimeoutError

if TYPE_CHECKING:
    from nimclient._http.chunks import Content

SHORTEST = 0.01  # minimum seconds between two rings


@define(eq=False)
class Alarm:
    """The timer of one loop, and the armed watchdogs."""

    loop: asyncio.AbstractEventLoop
    waiting: set[Watchdog] = field(factory=set["Watchdog"])
    rings_at: float = inf
    _timer: asyncio.TimerHandle | None = None

    def ring_by(self, deadline: float) -> None:
        """Ring at this moment (monotonic seconds), unless it already rings earlier."""
        if deadline < self.rings_at:
            self.close()
            self.rings_at = deadline
            self._timer = self.loop.call_later(max(deadline - time.monotonic(), 0.0), self.ring)

    def ring(self) -> None:
        """Check the limits, after one iteration of the loop in which bytes that arrived while it was blocked are read."""
        self.close()
        now = time.monotonic()
        following = inf
        for watchdog in self.waiting:
            if watchdog.deadline > now:
                following = min(following, watchdog.deadline)
            else:
                self.loop.call_soon(watchdog.expire, watchdog.waits)
        if following < inf:
            self.ring_by(max(following, now + SHORTEST))

    def close(self) -> None:
        """Stop until a new limit is set."""
        self.rings_at = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@define(eq=False)
class Watchdog:
    """Armed while a task waits. `translate_cancellation` distinguishes its own cancellation from others.

    `total` is the deadline of the call and `total_seconds` the limit that set it; `deadline` is that of the current wait,
    `waits` counts them. `phase` is the last one that was entered.
    """

    _alarm: Alarm
    _total: float
    _total_seconds: float | None
    deadline: float = inf
    waits: int = 0
    phase: Phase = "pool"
    _limit: Phase = "total"
    _seconds: float | None = None
    _task: asyncio.Task[object] | None = None
    _content: Content | None = None
    _cancelling: int = 0
    _reason: NimError | None = None

    def enter(
        self,
        phase: Phase,
        seconds: float | None,
        deadline: float | None = None,
        content: Content | None = None,
    ) -> float:
        """Begin a phase and its wait; returns when. It is interrupted at the deadline, by default in so many seconds.

        `content` is what is waited for, if it is the body of a response; such a wait ends with `rest`.

        RequestTimeoutError if the deadline, or the call's own, has already passed: continuous data must not postpone a limit.
        """
        now = time.monotonic()
        self.phase = self._limit = phase
        self._seconds = seconds
        if deadline is None:
            deadline = inf if seconds is None else now + seconds
        if self._total < deadline:
            self._limit, self._seconds, deadline = "total", self._total_seconds, self._total
        self.deadline = deadline
        if now >= deadline:
            raise self._reached()
        self.waits += 1
        if content is not None:
            if self._content is None:
                self._content = content
                self._alarm.waiting.add(self)
        elif self._task is None:
            self._task = task = asyncio.current_task()
            assert task is not None
            self._cancelling = task.cancelling()
            self._alarm.waiting.add(self)
        if deadline < self._alarm.rings_at:
            self._alarm.ring_by(deadline)
        return now

    def extend(self) -> None:
        """Begin the limit of this wait again: something has arrived."""
        if self._limit != "total" and self._seconds is not None:
            self.deadline = min(time.monotonic() + self._seconds, self._total)

    def rest(self) -> None:
        """End the wait for more content."""
        self.waits += 1
        self.deadline = inf

    def disarm(self) -> None:
        """End the wait, and that for any content."""
        self._content = None
        self._task = None
        self._alarm.waiting.discard(self)

    def translate_cancellation(self, error: asyncio.CancelledError) -> BaseException:
        """The reason if the watchdog alone caused this cancellation, else the cancellation itself."""
        task = asyncio.current_task()
        reason, self._reason = self._reason, None
        if reason is None or task is None or task.uncancel() > self._cancelling:
            return error
        return reason

    def interrupt(self, reason: NimError) -> None:
        """Interrupt the current wait, if any, for this reason."""
        if self._content is not None:
            if not self._content.is_eof() and self._content.exception() is None:
                self._content.set_exception(reason)
        elif self._task is not None and self._reason is None:
            self._reason = reason
            self._task.cancel()

    def expire(self, waits: int) -> None:
        """Handle the limit of this wait. A later wait has its own limit."""
        if waits == self.waits:
            self.interrupt(self._reached())

    def _reached(self) -> RequestTimeoutError:
        limit = "" if self._seconds is None else f" of {self._seconds:g} s"
        problem = f"timed out: the {self._limit} limit{limit} was reached"
        return RequestTimeoutError(problem, phase=self._limit, seconds=self._seconds)

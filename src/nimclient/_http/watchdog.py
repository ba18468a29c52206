"""One timer for one call: whatever phase is armed when its time is up is cancelled and named.

A timer of the loop costs more than a comparison, so it is armed lazily: moving the deadline only stores it; when the
timer rings too early it is set again. A scope per read would cost 60 % of a token.
"""

from __future__ import annotations

import asyncio
import time

from nimclient.errors import NimError, Phase, RequestTimeoutError

LONGEST = 30.0  # seconds: a timer that rings now and then need not be set anew for a phase with a shorter limit


class Watchdog:
    """Armed while a task of ours waits. `translate_cancellation` tells its own cancellation from anybody else's."""

    __slots__ = (
        "_armed",
        "_cancelling",
        "_deadline",
        "_loop",
        "_phase",
        "_reason",
        "_rings_at",
        "_seconds",
        "_task",
        "_timer",
        "_total",
        "_total_seconds",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, total: float | None, total_seconds: float | None) -> None:
        self._loop = loop
        self._total = total
        self._total_seconds = total_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._deadline: float | None = None
        self._phase: Phase = "total"
        self._seconds: float | None = None
        self._rings_at = 0.0
        self._cancelling = 0
        self._armed = 0
        self._reason: NimError | None = None

    def arm(self, phase: Phase, deadline: float | None, seconds: float | None) -> None:
        """From now on the running task is cancelled at `deadline` (monotonic seconds), or at the call's own if earlier.

        RequestTimeoutError where that has passed already: data that keeps coming must not put a limit off.
        """
        if self._total is not None and (deadline is None or self._total < deadline):
            phase, deadline, seconds = "total", self._total, self._total_seconds
        self._phase = phase
        self._seconds = seconds
        self._deadline = deadline
        self._armed += 1
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        if deadline is None:
            return
        if time.monotonic() >= deadline:
            raise self._reached()
        if self._timer is None or deadline < self._rings_at:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer(deadline)

    def disarm(self) -> None:
        """The wait is over."""
        self._deadline = None
        self._task = None

    def close(self) -> None:
        """No more waits."""
        self.disarm()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def translate_cancellation(self, error: asyncio.CancelledError) -> BaseException:
        """What this cancellation means: our reason if it is ours alone, else the cancellation itself."""
        task = asyncio.current_task()
        reason, self._reason = self._reason, None
        if reason is None or task is None or task.uncancel() > self._cancelling:
            return error
        return reason

    def interrupt(self, reason: NimError) -> None:
        """End the wait that is under way, if there is one, for this reason."""
        if self._task is not None and self._reason is None:
            self._deadline = None
            self._reason = reason
            self._task.cancel()

    def _set_timer(self, deadline: float) -> None:
        now = time.monotonic()
        self._rings_at = min(deadline, now + LONGEST)
        self._timer = self._loop.call_later(max(self._rings_at - now, 0.0), self._ring)

    def _ring(self) -> None:
        """Time may be up. Bytes that arrived while the loop was blocked get one turn of the loop to be read first."""
        self._timer = None
        deadline = self._deadline
        if deadline is None:
            return
        if time.monotonic() < deadline:
            self._set_timer(deadline)
        else:
            self._loop.call_soon(self._expire, self._armed)

    def _expire(self, armed: int) -> None:
        if self._deadline is None or self._task is None:
            return
        if armed != self._armed:  # a later wait: its own time counts
            if self._timer is None:
                self._set_timer(self._deadline)
            return
        self.interrupt(self._reached())

    def _reached(self) -> RequestTimeoutError:
        limit = "" if self._seconds is None else f" of {self._seconds:g} s"
        problem = f"timed out: the {self._phase} limit{limit} was reached"
        return RequestTimeoutError(problem, phase=self._phase, seconds=self._seconds)

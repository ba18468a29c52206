"""How the slices of one call over many items share a server's capacity: arithmetic over times that are passed in."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from attrs import define

from nimclient._base.config import RetryPolicy
from nimclient._bulk.rate import LearnedRate, RateLimit
from nimclient._bulk.window import Window
from nimclient.errors import NimError

DEFAULT_PATIENCE = 120.0
AT_ONCE = 4  # requests that may follow each other without a pause while nothing is known
OUTAGE = 3  # refusals with no success between them
LEAST_PAUSE = 0.02  # seconds: a server without room is not asked as fast as the wire allows, whatever the policy says


@define
class Ticket:
    """What the pacer remembers of one slice. Times are seconds."""

    place: int = 0  # among all requests sent; 0: not yet
    sent: float = 0.0
    refused: float | None = None
    most: float = 0.0  # that the last refusal counts
    waited: float = 0.0


class Pacer:
    """Shared by all slices of one call: says how many may be in flight, and how long to wait before the next one.

    A slice asks `enter` for a place, again and again until the answer is 0, and gives the place back with exactly one of
    `succeeded`, `refused` and `left`. A refusal for capacity spends no attempt. `concurrency=None` finds out how many
    requests, and how many a second, the server has room for; a number is kept, and a refusal makes all slices pause.

    `limit`, `in_flight`, `sent`, `refusals` and `requests_per_second` may be read at any time. Times are monotonic seconds.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        concurrency: int | None = None,
        *,
        patience: float = DEFAULT_PATIENCE,
        rate: RateLimit | None = None,
    ) -> None:
        self.patience = patience if policy.patience is None else policy.patience
        self.in_flight = 0
        self.sent = 0
        self.refusals = 0
        self._policy = policy
        self._fixed = concurrency
        self._window = Window()
        self._learned = LearnedRate()
        self._rate = rate
        self._rate_place: float | None = None  # under the rate limit, for the slice that is next
        self._opens_at = 0.0
        self._spread = 0  # requests after a pause that go out one by one
        self._next = 0.0
        self._seconds = 0.0  # that an answer takes
        self._unfilled = 0  # answers since the window was full
        self._streak = 0  # refusals with no success between them; those of one burst count once
        self._counted = 0  # requests sent before the last one that counted
        self._down_since: float | None = None

    @property
    def limit(self) -> int:
        """How many may be in flight."""
        return self._window.size if self._fixed is None else self._fixed

    @property
    def requests_per_second(self) -> float | None:
        """What the server gives, where refusals have taught that it counts requests."""
        return self._learned.per_second

    def enter(self, now: float, turn: Ticket) -> float:
        """Take a place and return 0; else the seconds to wait before asking again, inf: until a place is given back."""
        if self.in_flight >= self.limit:
            return inf
        if pause := max(self._opens_at - now, 0.0):
            self._rate_place = None  # it will be over by then
            return pause
        evenly = self._spread > 0 or (self._fixed is None and self._window.is_new)
        if pause := self._learned.pause(now) or (max(self._next - now, 0.0) if evenly else 0.0):
            return pause
        if self._rate is not None:
            if self._rate_place is None:
                self._rate_place = now + self._rate.reserve(now)
            if now < self._rate_place:
                return self._rate_place - now
            self._rate_place = None
        if evenly:  # twice as fast as answers come: they may come all at once
            spacing = self._seconds / (2 * self.limit)
            self._next = max(self._next, now if self._spread else now - AT_ONCE * spacing) + spacing
            self._spread = max(self._spread - 1, 0)
        self._learned.sent(now, self.limit)
        self.in_flight += 1
        self.sent += 1
        turn.place, turn.sent = self.sent, now
        if turn.refused is not None:
            turn.waited += min(now - turn.refused, turn.most)
            turn.refused = None
        if self.in_flight >= self.limit:
            self._unfilled = 0
        return 0.0

    def succeeded(self, now: float, turn: Ticket, work: float) -> None:
        """An answer came; `work` is how much of the whole it did, in any unit."""
        self.in_flight -= 1
        self._streak = 0
        self._down_since = None
        seconds = now - turn.sent
        self._seconds = 0.9 * self._seconds + 0.1 * seconds if self._seconds else seconds
        if self._fixed is None:
            self._unfilled += 1
            full = self._unfilled <= max(1, self.limit // 2)
            self._window.succeeded(now, turn.place, seconds, work, full)
            if self._window.is_calm:
                self._learned.calmed()

    def refused(self, now: float, turn: Ticket, error: NimError, random: Callable[[], float]) -> float | None:
        """The server had no room for it.

        Returns how long all slices pause; None where this one has lost its patience, and where the server asks for more
        than that: the refusal is the slice's own failure then. The policy's `max_retry_after` is for plain calls.
        """
        self.in_flight -= 1
        self.refusals += 1
        asked: float | None = getattr(error, "retry_after", None)
        if asked is not None and asked > self.patience:
            return None
        if self.in_flight or self._down_since is None:
            self._down_since = now
        if self._fixed is None:
            counted = self._learned.per_second is not None
            signs = 0 if counted else self._window.refused(turn.place, self.sent, self.in_flight)
            self._learned.refused(now, turn.place, self.sent, signs)
        if turn.place > self._counted:
            self._counted = self.sent
            self._streak += 1
            if pause := self._pause(asked):
                self._close(now, pause + random() * min(pause, self._policy.first_delay))
        pause = max(self._opens_at - now, 0.0)
        turn.refused, turn.most = now, max(pause, self._policy.max_delay)  # more is spent in line, behind others
        lost = turn.waited + pause > self.patience or now + pause - self._down_since > self.patience
        return None if lost else pause

    def left(self) -> None:
        """The request ended in a way that tells nothing about capacity."""
        self.in_flight -= 1

    def _pause(self, asked: float | None) -> float:
        """0 where a slice that is in flight will make room, and where the rate says when to send the next."""
        if asked is not None:
            return asked
        policy = self._policy
        if self._fixed is None and self._streak < OUTAGE:
            if self._learned.per_second is not None:
                return 0.0
            if self.in_flight:  # until half of them are done, where the server took nothing for a while
                return min(self._seconds / 2.0, policy.first_delay) if self._window.starved_cuts > 1 else 0.0
        return max(min(policy.max_delay, policy.first_delay * 2.0 ** min(self._streak, 60)) / 2.0, LEAST_PAUSE)

    def _close(self, now: float, pause: float) -> None:
        self._opens_at = self._next = max(self._opens_at, now + pause)
        self._spread = self.limit  # nobody rushes when it opens
        self._window.paused(pause)

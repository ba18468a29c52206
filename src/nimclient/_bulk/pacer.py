"""Shares a server's capacity among the slices of one call over many items. Pure: times are passed in."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt

from attrs import define, evolve, frozen

from nimclient._base.config import RetryPolicy
from nimclient._base.types import JsonDict
from nimclient._bulk.rate import LearnedRate, RateLimit
from nimclient._bulk.ticket import KEEP, Backlog, Ticket, Users
from nimclient._bulk.window import FIRST, MAX_SIZE, Window
from nimclient.errors import NimError

DEFAULT_PATIENCE = 120.0
AT_ONCE = 4  # requests that may be sent without spacing at the start
OUTAGE = 3  # consecutive throttles without a success
MIN_PAUSE = 0.02  # seconds: a lower bound of the delay after throttling, whatever the policy
HALF_LIFE = 300.0  # seconds: what was learned fades, a window towards that of a beginner, a rate towards none
FORGOTTEN = 3600.0  # seconds

_STATE = (
    "sent",
    "_opens_at",
    "_spread",
    "_next",
    "_seconds",
    "_unfilled",
    "_streak",
    "_counted",
    "_down_since",
)


@frozen
class Learned:
    """What a call has learned of an endpoint: a worse value counts half, what is old fades, and an outage is not recorded.

    So does TCP with what it has measured of a destination.

    `size`: requests in flight; `found`: whether growth had ended there; `limited`: by throttling, not by a queue.

    `per_second`: a rate limit; `seconds`: latency; `at`: when this was known, in seconds of the caller's clock.
    """

    size: float
    found: bool
    limited: bool
    per_second: float | None
    seconds: float
    at: float

    def after(self, earlier: Learned | None) -> Learned:
        """This, with half the weight where it is worse than what was known before."""
        if earlier is None or not (self.found and earlier.found) or self.size >= earlier.size:
            return self
        return evolve(self, size=sqrt(self.size * earlier.size))

    def aged(self, now: float) -> Learned | None:
        """What is left of it; None after an hour. A rate is tried a little faster with every minute."""
        age = max(now - self.at, 0.0)
        if age >= FORGOTTEN:
            return None
        kept = 0.5 ** (age / HALF_LIFE)
        rate = None if self.per_second is None else self.per_second / kept
        return evolve(self, size=FIRST * (self.size / FIRST) ** kept, per_second=rate)


@define
class Memory:
    """What the calls of a client have learned of one route of an endpoint."""

    learned: Learned | None = None
    beside: int = 0  # what may be in flight beside plain calls; 0: not known

    def record(self, learned: Learned) -> None:
        """Record what a call knows."""
        self.learned = learned.after(None if self.learned is None else self.learned.aged(learned.at))


class Pacer:
    """Shared by all slices of one call: decides how many may be in flight, and the delay before the next one.

    A slice asks `enter` for a slot, again and again until it returns 0, and returns the slot with exactly one of
    `succeeded`, `throttled` and `left`. Throttling uses no attempt. `concurrency=None` adapts to how
    many requests, and how many per second, the server accepts; a number is fixed, and throttling makes all slices wait.

    `limit`, `in_flight`, `sent`, `throttles` and `requests_per_second` may be read at any time. Times are monotonic seconds.
    `memory`: where to record what it has learned, and what an earlier one has.
    """

    poll = inf
    """Seconds after which a slot may be free although none was released here."""

    def __init__(
        self,
        policy: RetryPolicy,
        concurrency: int | None = None,
        *,
        patience: float = DEFAULT_PATIENCE,
        rate: RateLimit | None = None,
        users: Users | None = None,
        memory: Memory | None = None,
        now: float = 0.0,
        backlog: Backlog | None = None,
    ) -> None:
        from nimclient._bulk.ceiling import Ceiling

        self.patience = patience if policy.patience is None else policy.patience
        self.in_flight = 0
        self.sent = 0
        self.throttles = 0
        self._policy = policy
        self._fixed = concurrency
        self._window = Window()
        self._learned = LearnedRate()
        self._rate = rate
        self._users = users
        self._ceiling = Ceiling()
        if memory is not None and memory.beside:
            self._ceiling.start(memory.beside)
        self._backlog = backlog
        self._opens_at = 0.0
        self._spread = 0  # requests after a wait that are sent with spacing
        self._next = 0.0
        self._seconds = 0.0  # smoothed latency
        self._unfilled = 0  # responses since the window was full
        self._streak = 0  # consecutive throttles without a success; those of one burst count once
        self._counted = 0  # requests sent before the last counted throttle
        self._down_since: float | None = None
        self._memory = memory
        if memory is not None and memory.learned is not None and (learned := memory.learned.aged(now)) is not None:
            self.resume(learned)

    @property
    def limit(self) -> int:
        """How many may be in flight."""
        return self._window.size if self._fixed is None else self._fixed

    @property
    def width(self) -> int:
        """How many workers are of use."""
        return max(self._window.size, self._ceiling.size) if self._fixed is None else self._fixed

    @property
    def requests_per_second(self) -> float | None:
        """The learned rate of a server that limits requests per time, else None."""
        return self._learned.per_second

    def schedule(self, ticket: Ticket) -> tuple[float, float]:
        """When the next request may be sent under a rate limit, and how many seconds after it the next; 0 without a limit."""
        due, spacing = (0.0, 0.0) if self._rate is None else self._rate.schedule(ticket.cost)
        if (rate := self._learned.per_second) is None:
            return due, spacing
        return max(due, self._learned.next_at), max(spacing, 1.0 / rate)

    def resume(self, learned: Learned) -> None:
        """Begin with what an earlier one has learned."""
        self._window.resume(learned.size, found=learned.found, limited=learned.limited)
        self._learned.resume(learned.per_second)
        self._seconds = learned.seconds
        self._spread = self.limit if learned.found else 0  # no burst

    def learned(self, now: float) -> Learned | None:
        """What it knows, for a later one; None in an outage, which shows nothing."""
        window, rate = self._window, self._learned.per_second
        if self._streak >= OUTAGE or (rate is None and window.starved_cuts > 1):
            return None
        limited = window.is_limited
        return Learned(window.settled, not window.is_new, limited, rate, self._seconds, now)

    def state(self) -> JsonDict:
        """All that it knows except what is in flight, for `restore`."""
        own = {name: value for name in _STATE if (value := getattr(self, name)) is not None}
        return {**own, "window": self._window.state(), "rate": self._learned.state()}

    def restore(self, state: JsonDict) -> None:
        """Continue from the state of another one."""
        for name in _STATE:
            setattr(self, name, state.get(name))
        self._window.restore(state["window"])
        self._learned.restore(state["rate"])

    def enter(self, now: float, ticket: Ticket) -> float:
        """Take a slot and return 0; else the seconds to wait before asking again, inf: until a slot is released."""
        limit, users = self.limit, self._users
        if users is not None and (users.open or now - users.last < KEEP):
            limit = self._beside(users.room(now))
        if self.in_flight >= limit:
            return inf
        if pause := max(self._opens_at - now, 0.0):
            return pause
        evenly = self._spread > 0 or (self._fixed is None and self._window.is_new)
        if pause := self._learned.pause(now) or (max(self._next - now, 0.0) if evenly else 0.0):
            return pause
        if self._rate is not None:  # a slot is reserved when it is there, so that plain calls can reserve it before
            if pause := self._rate.pause(now):
                return pause
            self._rate.reserve(now, ticket.cost)
        if evenly:  # twice as fast as responses arrive, which may be in bursts
            spacing = self._seconds / (2 * limit)
            self._next = max(self._next, now if self._spread else now - AT_ONCE * spacing) + spacing
            self._spread = max(self._spread - 1, 0)
        self._learned.sent(now, limit, self._unfilled <= max(1, limit // 2))
        self.in_flight += 1
        self.sent += 1
        ticket.seq, ticket.sent = self.sent, now
        if ticket.throttled_at is not None:
            ticket.waited += min(now - ticket.throttled_at, ticket.max_wait)
            ticket.throttled_at = None
        if self.in_flight >= limit:
            self._unfilled = 0
        return 0.0

    def _beside(self, users: int) -> int:
        """How many may be in flight beside so many plain calls: what the server works on at once without them."""
        ceiling, window = self._ceiling, self._window
        if ceiling.is_new and window.capacity < window.size:
            ceiling.start(window.capacity)
        most = self._fixed or (window.size if window.is_limited else MAX_SIZE)
        size = min(ceiling.size, most)
        return max(size - users, (size + 1) // 2)

    def succeeded(self, now: float, ticket: Ticket, work: float) -> None:
        """Record a response; `work` is its amount of work, in any unit."""
        self.in_flight -= 1
        self._streak = 0
        self._down_since = None
        seconds = now - ticket.sent
        self._seconds = 0.9 * self._seconds + 0.1 * seconds if self._seconds else seconds
        self._unfilled += 1
        if (users := self._users) is not None and (users.open or now - users.last < KEEP):
            self._succeeded_beside(ticket, seconds, work)
            return
        if self._fixed is not None:
            return
        full = self._unfilled <= max(1, self.limit // 2)
        if full and self._backlog is not None and self._backlog.waiting and self._backlog.holds(self.in_flight, now):
            full = False  # the window does not grow
        self._window.succeeded(now, ticket.seq, seconds, work, full)
        if self._window.is_calm:
            self._learned.calmed()
        if not self.in_flight and self._memory is not None and self.sent > AT_ONCE:
            self._record(now)

    def _succeeded_beside(self, ticket: Ticket, seconds: float, work: float) -> None:
        """Record a response beside plain calls: less is in flight then than the window allows, which shows nothing of it."""
        if self._unfilled <= max(1, self._ceiling.size // 2):
            self._ceiling.succeeded(ticket.seq, self.sent, seconds, work)
        if self._fixed is None:
            self._window.interrupted()
        if not self.in_flight and self._memory is not None and not self._ceiling.is_new:
            self._memory.beside = self._ceiling.size

    def throttled(self, now: float, ticket: Ticket, error: NimError, random: Callable[[], float]) -> float | None:
        """Record throttling.

        Returns how long all slices wait; None if the patience of this one is exhausted, or the server's Retry-After exceeds
        it: then the error is the slice's own failure. The policy's `max_retry_after` applies to plain calls only.
        """
        self.in_flight -= 1
        self.throttles += 1
        asked: float | None = getattr(error, "retry_after", None)
        if asked is not None and asked > self.patience:
            return None
        if self.in_flight or self._down_since is None:
            self._down_since = now
        if self._fixed is None:
            counted = self._learned.per_second is not None
            signs = 0 if counted else self._window.throttled(ticket.seq, self.sent, self.in_flight)
            self._learned.throttled(now, ticket.seq, self.sent, signs)
            if not counted and self._learned.per_second is not None:
                self._window.cleared()
        if ticket.seq > self._counted:
            self._counted = self.sent
            self._streak += 1
            if pause := self._pause(asked):
                pause += random() * min(pause, self._policy.first_delay)
                self.close_until(now + pause)
                self._window.paused(pause)
        pause = max(self._opens_at - now, 0.0)
        ticket.throttled_at, ticket.max_wait = now, max(pause, self._policy.max_delay)  # the rest is spent in the queue
        lost = ticket.waited + pause > self.patience or now + pause - self._down_since > self.patience
        return None if lost else pause

    def left(self) -> None:
        """Record an end that shows nothing about capacity."""
        self.in_flight -= 1

    def _record(self, now: float) -> None:
        if self._memory is not None and (learned := self.learned(now)) is not None:
            self._memory.record(learned)

    def _pause(self, asked: float | None) -> float:
        """0 if a slice in flight will free a slot, or the learned rate decides when to send the next."""
        if asked is not None:
            return asked
        policy = self._policy
        if self._fixed is None and self._streak < OUTAGE:
            if self._learned.per_second is not None:
                return 0.0
            if self.in_flight:  # until about half of them are done, if the server accepted nothing for a while
                return min(self._seconds / 2.0, policy.first_delay) if self._window.starved_cuts > 1 else 0.0
        return max(min(policy.max_delay, policy.first_delay * 2.0 ** min(self._streak, 60)) / 2.0, MIN_PAUSE)

    def close_until(self, time: float) -> None:
        """Send nothing until then, and no burst afterwards."""
        self._opens_at = self._next = max(self._opens_at, time)
        self._spread = self.limit

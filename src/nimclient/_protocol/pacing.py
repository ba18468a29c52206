"""How the slices of one call over many items share a server's capacity: arithmetic over times that are passed in."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from nimclient._config import RetryPolicy
from nimclient.errors import NimError

DEFAULT_PATIENCE = 120.0
FIRST_LIMIT = 16


class Pacer:
    """Shared by all slices of one call: says how many may be in flight, and how long to wait before the next one.

    A slice asks `enter` for a place, again and again until the answer is 0, and gives the place back with exactly one of
    `succeeded`, `refused` and `left`. A refusal for capacity pauses every slice, and spends no attempt. The pause doubles
    with refusals that follow each other and starts over after a success; a slice gives up when its own refusals have
    made it wait for `patience` seconds in all.

    `limit`, `in_flight` and `refusals` may be read at any time. All times are monotonic seconds.
    """

    __slots__ = ("_opens_at", "_place", "_policy", "_rate", "_streak", "in_flight", "limit", "patience", "refusals")

    def __init__(
        self,
        policy: RetryPolicy,
        concurrency: int | None = None,
        *,
        patience: float = DEFAULT_PATIENCE,
        rate: RateLimit | None = None,
    ) -> None:
        self._policy = policy
        self._rate = rate
        self._place: float | None = None  # under the rate limit, held for the slice that is next
        self._streak = 0
        self._opens_at = 0.0
        self.patience = patience if policy.patience is None else policy.patience
        self.limit = FIRST_LIMIT if concurrency is None else concurrency
        self.in_flight = 0
        self.refusals = 0

    def enter(self, now: float) -> float:
        """Take a place and return 0; else the seconds to wait before asking again, inf: until a place is given back."""
        if self.in_flight >= self.limit:
            return inf
        if now < self._opens_at:
            self._place = None  # it will be over by then
            return self._opens_at - now
        if self._rate is not None:
            if self._place is None:
                self._place = now + self._rate.reserve(now)
            if now < self._place:
                return self._place - now
            self._place = None
        self.in_flight += 1
        return 0.0

    def succeeded(self, now: float, seconds: float, work: float) -> None:
        """An answer came, `seconds` after the request was sent; `work` is how much of the whole it did."""
        self.in_flight -= 1
        self._streak = 0

    def refused(
        self, now: float, seconds: float, error: NimError, waited: float, random: Callable[[], float]
    ) -> float | None:
        """The server had no room for a request that was sent `seconds` ago.

        Returns how long this makes the slice wait; None where that is more than it may, together with what it `waited`
        before, and where the server asks for more than `max_retry_after`: the refusal is the slice's own failure then.
        """
        self.in_flight -= 1
        self.refusals += 1
        asked: float | None = getattr(error, "retry_after", None)
        if asked is not None and asked > self._policy.max_retry_after:
            return None
        if now >= self._opens_at:  # refusals of one burst count once
            self._streak += 1
            ceiling = min(self._policy.max_delay, self._policy.first_delay * 2.0 ** min(self._streak, 60))
            pause = ceiling / 2 if asked is None else asked
            self._opens_at = now + pause + random() * self._policy.first_delay
        pause = self._opens_at - now
        return pause if waited + pause <= self.patience else None

    def left(self) -> None:
        """The request ended in a way that tells nothing about capacity."""
        self.in_flight -= 1


class RateLimit:
    """At most so many requests a minute, evenly spaced."""

    __slots__ = ("_next", "_spacing")

    def __init__(self, requests_per_minute: float) -> None:
        self._spacing = 60.0 / requests_per_minute
        self._next = 0.0

    def reserve(self, now: float) -> float:
        """Take the next place; returns the seconds until it."""
        place = max(self._next, now)
        self._next = place + self._spacing
        return place - now

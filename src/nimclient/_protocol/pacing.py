"""How the slices of one call over many items share a server's capacity: arithmetic over times that are passed in."""

from __future__ import annotations

from collections.abc import Callable

from nimclient._config import RetryPolicy
from nimclient.errors import NimError

DEFAULT_PATIENCE = 120.0


class Gate:
    """Shared by all slices of one call: a refusal for capacity pauses every one of them, and spends no attempt.

    The pause doubles with refusals that follow each other and starts over after a success; a slice gives up when it
    has waited for `patience` seconds in all. `refusals` counts all of them.
    """

    __slots__ = ("_opens_at", "_policy", "_refusals", "patience", "refusals")

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._refusals = 0
        self._opens_at = 0.0
        self.refusals = 0
        self.patience = DEFAULT_PATIENCE if policy.patience is None else policy.patience

    def pause(self, now: float) -> float:
        """Seconds until the gate is open; 0 when it is."""
        return max(self._opens_at - now, 0.0)

    def refused(self, now: float, error: NimError, random: Callable[[], float]) -> float | None:
        """Close the gate; returns how long the refused slice waits, None where the server asks for too much."""
        self.refusals += 1
        asked: float | None = getattr(error, "retry_after", None)
        if asked is not None and asked > self._policy.max_retry_after:
            return None
        if now >= self._opens_at:  # refusals of one burst count once
            self._refusals += 1
            ceiling = min(self._policy.max_delay, self._policy.first_delay * 2.0 ** min(self._refusals, 60))
            self._opens_at = now + (ceiling / 2 if asked is None else asked)
        return self.pause(now) + random() * self._policy.first_delay

    def succeeded(self) -> None:
        """The server takes requests again."""
        self._refusals = 0


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

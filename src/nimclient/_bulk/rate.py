"""How many requests a server takes in a time: told by the user, or learned from refusals.

The lesson: at a refusal a server that counts requests has nothing left. So what it took between two refusals is what it
gave in that time, to within one request. A little more than that is sent, so that there is a next refusal to learn from.
"""

from __future__ import annotations

SIGNS = 4  # against a limit on requests in flight, until requests are taken to be counted
FEWEST = 8  # requests between two refusals that make an estimate
ENOUGH = 48  # requests that make a good one: the next begins here
EXCESS = 0.02  # what is sent beyond the estimate
OVERDUE = 64  # requests without a refusal after which the excess doubles


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


class LearnedRate:
    """`per_second` is what the server gives; None as long as nothing speaks for its counting requests."""

    def __init__(self) -> None:
        self.per_second: float | None = None
        self._signs = 0
        self._since = 0.0  # a refusal, and the number of the request that was sent last before it
        self._since_place = 0
        self._taken = 0  # of the requests sent since then
        self._unrefused = 0  # sent since the last refusal
        self._unhindered = 0  # sent since one had to wait
        self._excess = EXCESS
        self._next = 0.0

    def pause(self, now: float) -> float:
        """Seconds until the next request may be sent."""
        if self.per_second is None or now >= self._next:
            return 0.0
        self._unhindered = 0
        return self._next - now

    def sent(self, now: float, window: int) -> None:
        """A request is sent, in a window of that size."""
        self._taken += 1
        if self.per_second is None:
            return
        self._unrefused += 1
        self._unhindered += 1
        if self._unhindered > max(2 * window, OVERDUE):  # the window is what holds requests back
            self.per_second = None
            self._signs = 0
            return
        if self._unrefused > OVERDUE:
            self._unrefused = 0
            self._excess *= 2.0
        spacing = 1.0 / self.per_second
        self._next = max(self._next, now - spacing) + spacing / (1.0 + self._excess)

    def refused(self, now: float, place: int, sent: int, signs: int) -> None:
        """The server refused request number `place` of `sent`; `signs`: see Window.refused."""
        self._taken -= place > self._since_place
        self._unrefused = 0
        self._excess = EXCESS
        seconds = now - self._since
        if self.per_second is not None:
            if self._taken >= FEWEST and seconds > 0.0:
                self.per_second = self._taken / seconds
            if self._taken >= ENOUGH:
                self._restart(now, sent)
            return
        self._signs += signs
        if not self._signs:
            self._restart(now, sent)
        elif self._signs >= SIGNS and self._taken > 0 and seconds > 0.0:
            self.per_second = self._taken / seconds
            self._next = now + 1.0 / self.per_second
            self._unhindered = 0

    def calmed(self) -> None:
        """Many answers came without a refusal: what there was of signs is over."""
        self._signs = 0

    def _restart(self, now: float, sent: int) -> None:
        self._since = now
        self._since_place = sent
        self._taken = 0

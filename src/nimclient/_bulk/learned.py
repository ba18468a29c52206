"""What one call has learned of an endpoint, for the next one. Pure: times are passed in.

As the metrics that TCP keeps of a destination: a worse value counts half, an outage is not recorded, and what is old fades:
the window towards that of a beginner, a rate towards none.
"""

from __future__ import annotations

from math import sqrt

from attrs import define, evolve, frozen

from nimclient._bulk.window import FIRST

HALF_LIFE = 300.0  # seconds
FORGOTTEN = 3600.0  # seconds


@frozen
class Learned:
    """`size`: requests in flight; `found`: whether growth had ended there; `limited`: by throttling, not by a queue.

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

    def record(self, learned: Learned) -> None:
        """Record what a call knows."""
        self.learned = learned.after(None if self.learned is None else self.learned.aged(learned.at))

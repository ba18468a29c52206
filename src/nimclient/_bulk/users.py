"""The plain calls of a client, for which bulk work leaves room: users wait for their answers, bulk does not."""

from __future__ import annotations

from math import inf

from attrs import define, field

KEEP = 10.0
"""Seconds for which room is left after the last plain call was sent."""


@define
class Users:
    """`open` has the id of each plain request in flight: adding and discarding one is atomic, and calls nothing of ours.

    `last` is when the last one was sent, in monotonic seconds.
    """

    open: set[int] = field(factory=set[int])
    last: float = -inf

    def room(self, now: float) -> int:
        """How many requests to leave room for."""
        return len(self.open) or int(now - self.last < KEEP)

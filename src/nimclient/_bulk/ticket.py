"""What every call keeps for those over many items: its cost, who is before them, how much waits at the servers.

A plain call needs no more of this package.
"""

from __future__ import annotations

from math import inf

from attrs import define, field

KEEP = 10.0  # seconds for which bulk leaves room after the last plain call was sent
REPORTED = 3.0  # seconds for which a reported backlog counts


@define
class Cost:
    """What a request takes of a limit of tokens.

    `kind`: the kind of its model; `size`: bytes of the body; `max_answer`: the maximum of tokens that it sets, 0 where there
    is no answer in tokens, None if it is not limited. `expected`: the tokens that were reserved for it.
    """

    kind: str
    size: int
    max_answer: int | None = None
    expected: float = 0.0


@define
class Ticket:
    """The pacer's state of one slice. Times are seconds. `cost`: what it takes of the rate limit of the client."""

    seq: int = 0  # number among all requests sent; 0: not sent yet
    sent: float = 0.0
    throttled_at: float | None = None
    max_wait: float = 0.0  # seconds of the current wait that count against the patience
    waited: float = 0.0
    cost: Cost | None = None


@define
class Users:
    """The plain calls of a client, for which bulk leaves room: users wait for their answers, bulk does not.

    `open` has the id of each plain request in flight: adding and discarding one is atomic, and calls nothing of ours.

    `last` is when the last one was sent, in monotonic seconds.
    """

    open: set[int] = field(factory=set[int])
    last: float = -inf

    def room(self, now: float) -> int:
        """How many requests to leave room for."""
        return len(self.open) or int(now - self.last < KEEP)


@define
class Backlog:
    """How many requests wait at the servers, as they have reported. `at` is in monotonic seconds."""

    waiting: float = 0.0
    at: float = -inf

    def record(self, waiting: float, now: float) -> None:
        """Record a report."""
        self.waiting, self.at = waiting, now

    def holds(self, in_flight: int, now: float) -> bool:
        """Whether as many wait as half of those in flight: then more in flight would only wait, too."""
        return 2.0 * self.waiting >= in_flight and now - self.at < REPORTED

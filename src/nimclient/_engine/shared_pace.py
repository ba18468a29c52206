"""The pace of an endpoint that processes share: the pacer and the hand-set rate of one of them. `share` is their file."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

from nimclient._base.config import RetryPolicy
from nimclient._bulk.fleet import Fleet, SharedRoute
from nimclient._bulk.pacer import Pacer
from nimclient._bulk.rate import RateLimit
from nimclient._bulk.ticket import Cost, Ticket, Users
from nimclient._engine.share import Share
from nimclient.errors import NimError

POLL = 0.1  # seconds between two questions for a slot that others hold
SLACK = 0.1  # seconds that a request may be late without delaying those after it


class SharedPacer(Pacer):
    """The pacer of one call in a fleet: `in_flight`, `sent` and `throttles` are its own; all else is that of the fleet.

    `concurrency` limits this call alone. `limit` is its share when it last asked.
    """

    poll = POLL

    def __init__(
        self,
        policy: RetryPolicy,
        concurrency: int | None,
        *,
        share: Share,
        route: str,
        rate: RateLimit | None,
        users: Users,
    ) -> None:
        super().__init__(policy, concurrency)
        share.open()
        self._share = share
        self._route = route
        self._plain = users
        self._hand_set = rate if isinstance(rate, SharedRate) else None
        self._common = Pacer(policy, rate=None if self._hand_set is None else self._hand_set.common)
        self._limit = 1

    @property
    def limit(self) -> int:
        """How many this call may have in flight."""
        return self._limit if self._fixed is None else min(self._limit, self._fixed)

    @property
    def width(self) -> int:
        """One more worker than slots: one that waits shows that more would be used."""
        return self._limit + 1 if self._fixed is None else min(self._limit + 1, self._fixed)

    @property
    def requests_per_second(self) -> float | None:
        """The learned rate of all processes together."""
        return self._common.requests_per_second

    def enter(self, now: float, ticket: Ticket) -> float:
        """See Pacer.enter."""
        if self._fixed is not None and self.in_flight >= self._fixed:
            return inf
        with self._share.transaction() as fleet:
            route = self._join(fleet)
            name = self._share.name
            delay = route.enter(self._common, name, fleet.now, ticket, self._plain.room(now))
            self._limit = max(route.share(self._common.limit, name, fleet.now), 1)
            self._leave(fleet, route)
        if not delay:
            self.in_flight += 1
            self.sent += 1
        return delay

    def succeeded(self, now: float, ticket: Ticket, work: float) -> None:
        """See Pacer.succeeded."""
        self.in_flight -= 1
        with self._share.transaction() as fleet:
            route = self._join(fleet)
            self._common.succeeded(fleet.now, ticket, work)
            self._release(fleet, route)

    def throttled(self, now: float, ticket: Ticket, error: NimError, random: Callable[[], float]) -> float | None:
        """See Pacer.throttled."""
        self.in_flight -= 1
        self.throttles += 1
        with self._share.transaction() as fleet:
            route = self._join(fleet)
            pause = self._common.throttled(fleet.now, ticket, error, random)
            self._release(fleet, route)
        return pause

    def left(self) -> None:
        """See Pacer.left."""
        self.in_flight -= 1
        with self._share.transaction() as fleet:
            self._release(fleet, self._join(fleet))

    def _join(self, fleet: Fleet) -> SharedRoute:
        """Bring the common pacer to what the file says."""
        if self._hand_set is not None:
            self._hand_set.load(fleet)
        route = fleet.join(self._common, self._route, self._share.name, time.time())
        route.members[self._share.name].held = self._share.held.get(self._route, 0)
        self._common.in_flight = route.in_flight()
        return route

    def _release(self, fleet: Fleet, route: SharedRoute) -> None:
        route.members[self._share.name].held -= 1
        self._leave(fleet, route)

    def _leave(self, fleet: Fleet, route: SharedRoute) -> None:
        self._share.held[self._route] = max(route.members[self._share.name].held, 0)
        route.pace = self._common.state()
        if self._hand_set is not None:
            self._hand_set.keep(fleet)


class SharedRate(RateLimit):
    """A limit of requests, or of tokens, per minute that all clients of a share have together."""

    __slots__ = ("_share", "common")

    def __init__(self, share: Share, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        super().__init__(requests_per_minute, tokens_per_minute)
        self.common = RateLimit(requests_per_minute, tokens_per_minute, slack=SLACK)
        self._share = share

    def load(self, fleet: Fleet) -> None:
        """Continue from the shared state."""
        if fleet.rate is not None:
            self.common.restore(fleet.rate)

    def keep(self, fleet: Fleet) -> None:
        """Put the state back."""
        fleet.rate = self.common.state()

    def reserve(self, now: float, cost: Cost | None = None) -> float:
        """See RateLimit.reserve."""
        with self._share.transaction() as fleet:
            self.load(fleet)
            wait = self.common.reserve(fleet.now, cost)
            self.keep(fleet)
        return wait

    def settle(self, cost: Cost, prompt: int, completion: int) -> None:
        """See RateLimit.settle."""
        if not self._token_spacing:
            return
        with self._share.transaction() as fleet:
            self.load(fleet)
            self.common.settle(cost, prompt, completion)
            self.keep(fleet)

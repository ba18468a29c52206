"""Servers of every kind of capacity on a virtual clock, and a client of many slices that asks a Pacer as the gate does."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from math import inf
from random import Random
from typing import Protocol

from attrs import define, field

from nimclient._bulk import fleet, pacer, rate
from nimclient.errors import RateLimitError

DEFAULT_PATIENCE, MIN_PAUSE = pacer.DEFAULT_PATIENCE, pacer.MIN_PAUSE
FORGOTTEN, HALF_LIFE = pacer.FORGOTTEN, pacer.HALF_LIFE
Backlog, Cost, Ticket, Users = pacer.Backlog, rate.Cost, pacer.Ticket, pacer.Users
Learned, LearnedRate, Memory, Pacer, RateLimit = (
    pacer.Learned,
    rate.LearnedRate,
    pacer.Memory,
    pacer.Pacer,
    rate.RateLimit,
)
CUSHION, OVERDUE, SIGNS = rate.CUSHION, rate.OVERDUE, rate.SIGNS
Fleet, SharedRoute = fleet.Fleet, fleet.SharedRoute
fair_share, fleet_of = fleet.fair_share, fleet.fleet_of

__all__ = [
    "CUSHION",
    "DEFAULT_PATIENCE",
    "FORGOTTEN",
    "HALF_LIFE",
    "MIN_PAUSE",
    "OVERDUE",
    "SIGNS",
    "Backlog",
    "Bucket",
    "Cost",
    "Fleet",
    "Learned",
    "LearnedRate",
    "Memory",
    "Pacer",
    "Queue",
    "RateLimit",
    "Run",
    "Server",
    "Service",
    "SharedRoute",
    "Slots",
    "Ticket",
    "TokenBucket",
    "Users",
    "fair_share",
    "fleet_of",
    "simulate",
]


class Server(Protocol):
    """Takes requests in the order of their arrival."""

    def arrive(self, now: float, turn: Ticket) -> float | None:
        """When the request will be done; None: throttled."""
        ...

    def retry_after(self, now: float) -> float | None:
        """The Retry-After of throttling."""
        ...


class Usages(Protocol):
    """Makes the tickets of requests, and tells the client what each took."""

    def ticket(self) -> Ticket:
        """That of a new request."""
        ...

    def answered(self, turn: Ticket) -> None:
        """The client reads the usage in the answer."""
        ...


class NoUsages:
    """Requests are counted, not their tokens."""

    def ticket(self) -> Ticket:
        return Ticket()

    def answered(self, turn: Ticket) -> None:
        pass


NO_USAGES = NoUsages()


@define
class Service:
    """How long a request takes by itself: lognormal, `mean` seconds, `sigma` of the logarithm."""

    random: Random
    mean: float
    sigma: float

    def __call__(self) -> float:
        return self.mean * self.random.lognormvariate(-self.sigma * self.sigma / 2, self.sigma)


@define
class Slots:
    """At most `slots(now)` at once; more are throttled."""

    slots: Callable[[float], int]
    service: Service
    running: list[float] = field(factory=list)

    def arrive(self, now: float, turn: Ticket) -> float | None:
        while self.running and self.running[0] <= now:
            heapq.heappop(self.running)
        if len(self.running) >= self.slots(now):
            return None
        done = now + self.service()
        heapq.heappush(self.running, done)
        return done

    def retry_after(self, now: float) -> float | None:
        return None


@define
class Queue:
    """So many at once; the others wait in line, however long it is. `slow(now)` stretches the service."""

    slots: int
    service: Service
    slow: Callable[[float], float] = lambda now: 1.0
    free: list[float] = field(factory=list)

    def arrive(self, now: float, turn: Ticket) -> float | None:
        return self.take(now, None)

    def take(self, now: float, seconds: float | None) -> float:
        """When a request that takes so long will be done; None: as long as one of bulk does."""
        if len(self.free) < self.slots:
            start = now
        else:
            start = max(now, heapq.heappop(self.free))
        done = start + (self.service() if seconds is None else seconds) * self.slow(start)
        heapq.heappush(self.free, done)
        return done

    def retry_after(self, now: float) -> float | None:
        return None


@define
class Bucket:
    """A token bucket of one minute's size that refills evenly, as of `nimclient simulate --rpm`."""

    per_minute: float
    service: Service
    tells: bool  # a Retry-After, in whole seconds
    level: float = field(init=False)
    at: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.level = self.per_minute

    def arrive(self, now: float, turn: Ticket) -> float | None:
        self.level = min(self.per_minute, self.level + (now - self.at) * self.per_minute / 60.0)
        self.at = now
        if self.level < 1.0:
            return None
        self.level -= 1.0
        return now + self.service()

    def retry_after(self, now: float) -> float | None:
        return float(-((self.level - 1.0) * 60.0 / self.per_minute // 1)) if self.tells else None


@define
class TokenBucket:
    """A bucket of tokens that refills evenly, of `seconds` worth: prompts are taken when they arrive, answers at their end.

    A body has 400 to 8,000 bytes and `per_byte` tokens a byte; an answer is lognormal around `answer` tokens.
    """

    per_minute: float
    seconds: float
    service: Service
    random: Random
    per_byte: float
    answer: float
    rate: RateLimit
    taken: float = 0.0  # in all
    level: float = field(init=False)
    at: float = 0.0
    ends: list[tuple[float, float]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.level = self.per_minute * self.seconds / 60.0

    def ticket(self) -> Ticket:
        return Ticket(cost=Cost("chat", round(self.random.uniform(400, 8000))))

    def usage(self, turn: Ticket) -> tuple[int, int]:
        """The tokens of prompt and answer, the same for every attempt."""
        assert turn.cost is not None
        answer = self.answer * Random(turn.cost.size).lognormvariate(-0.125, 0.5)
        return round(self.per_byte * turn.cost.size), round(answer)

    def answered(self, turn: Ticket) -> None:
        assert turn.cost is not None
        prompt, completion = self.usage(turn)
        self.taken += prompt + completion
        self.rate.settle(turn.cost, prompt, completion)

    def arrive(self, now: float, turn: Ticket) -> float | None:
        while self.ends and self.ends[0][0] <= now:
            self.level -= heapq.heappop(self.ends)[1]
        most = self.per_minute * self.seconds / 60.0
        self.level = min(most, self.level + (now - self.at) * self.per_minute / 60.0)
        self.at = now
        prompt, completion = self.usage(turn)
        if self.level < prompt:
            return None
        self.level -= prompt
        done = now + self.service()
        heapq.heappush(self.ends, (done, completion))
        return done

    def retry_after(self, now: float) -> float | None:
        return None


@define
class Run:
    """What became of a job."""

    finished: list[float] = field(factory=list)  # times of the answers
    refused: int = 0
    failures: list[float] = field(factory=list)  # times at which a slice lost its patience
    limits: list[tuple[float, int, float | None]] = field(factory=list)  # time, limit and rate, where watched

    @property
    def failed(self) -> int:
        """How many slices lost their patience."""
        return len(self.failures)

    def throughput(self, since: float = 0.1) -> float:
        """Answers a second after that share of the job."""
        first = int(len(self.finished) * since)
        return (len(self.finished) - first) / (self.finished[-1] - self.finished[max(first - 1, 0)])

    @property
    def share_refused(self) -> float:
        return self.refused / (self.refused + len(self.finished))


def simulate(
    server: Server,
    pacer: Pacer,
    slices: int,
    random: Random,
    trip: float = 0.01,
    watch: bool = False,
    usages: Usages = NO_USAGES,
    began: float = 0.0,
) -> Run:
    """Send `slices` requests under the pacer, from `began` on; `trip`: seconds on the network, there and back."""
    run = Run()
    fresh = slices
    again: deque[Ticket] = deque()
    events: list[tuple[float, int, bool, Ticket]] = []  # when, number, whether it is an answer
    alarm = inf
    now = began
    while True:
        turn = None
        while fresh or again:  # the head of the line asks, refused slices first
            turn = again[0] if again else turn or usages.ticket()
            pause = pacer.enter(now, turn)
            if pause:
                alarm = now + pause
                break
            if again:
                again.popleft()
            else:
                fresh -= 1
            done = server.arrive(now, turn)
            heapq.heappush(events, ((now if done is None else done) + trip, pacer.sent, done is not None, turn))
            turn = None
        else:
            alarm = inf
        if not events and alarm == inf:
            return run
        if not events or alarm < events[0][0]:
            now = alarm
            continue
        now, _, answered, turn = heapq.heappop(events)
        if answered:
            run.finished.append(now)
            pacer.succeeded(now, turn, 1.0)
            usages.answered(turn)
        else:
            run.refused += 1
            error = RateLimitError("busy", status=429, retry_after=server.retry_after(now))
            if pacer.throttled(now, turn, error, random.random) is None:
                run.failures.append(now)
            else:
                again.append(turn)
        if watch:
            run.limits.append((now, pacer.limit, pacer.requests_per_second))

"""Load balancing over several base URLs that serve the same models.

A request goes to the replica with the smallest outstanding requests × smoothed latency × reported load, over all replicas
(docs/design.md explains why not over two random ones), or with a prefix to the one that `affinity` prefers. A failing
replica is ejected for a time that doubles, then probed with one request at a time (half-open); one that throttles is only
avoided. If no other is left, all are used: a call always has a target.

No I/O: clock and randomness are passed in; `_retry.classify` decides what an error means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import partial
from math import inf
from types import TracebackType
from typing import Any, Protocol, Self

from attrs import define, field, frozen

from nimclient._api.urls import BaseURL
from nimclient._base.types import Clock
from nimclient._bulk.ticket import Backlog
from nimclient._engine.affinity import prefix_of, room, seed_of, weight
from nimclient._retry.classify import HealthSignal, health_of

SMOOTHING = 0.2  # the weight of a new sample of latency
FORGETTING = 10.0  # seconds without a sample after which half of the difference to the fastest replica is forgotten
FAILURES = 3  # consecutive failures before an ejection (a failed connection ejects at once)
FIRST_EJECTION, MAX_EJECTION = 1.0, 60.0  # seconds
FIRST_THROTTLE, MAX_THROTTLE = 0.25, 60.0  # seconds
FADING = 2.0  # seconds after which half of a reported load counts
READ_EVERY = 1.0  # seconds between two readings of the load, while calls are made
LOAD_FORMAT_HEADER, LOAD_HEADER = "endpoint-load-metrics-format", b"endpoint-load-metrics"  # of requests, of responses
READING = 5.0  # seconds: longer than one takes


class Tier(IntEnum):
    """Preference of a replica; the lowest is used first."""

    HALF_OPEN = 0  # its ejection has expired: the next call is its probe
    OPEN = 1
    THROTTLED = 2  # it throttled a moment ago
    EJECTED = 3


@frozen
class LoadReport:
    """The requests at a server, as it reports them: those that wait, and all (None: not reported)."""

    waiting: float
    total: float | None = None


@define
class Fading:
    """A reported number, of which half counts after a while. `at` is in monotonic seconds."""

    number: float = 0.0
    at: float = 0.0

    def value(self, now: float) -> float:
        """What is left of it."""
        return self.number and self.number * 0.5 ** ((now - self.at) / FADING)


@define(eq=False)
class Replica:
    """One base URL and its health, latency and load. Times are monotonic seconds.

    `open` holds the ids of its leases (adding and discarding is atomic); `probe` is the id of the lease that probes it after
    an ejection. `others`: requests of other clients there; `waiting`: all that wait there. `load_paths`: the routes that may
    report them, None until the server type is known; they are not read before `read_after`.
    """

    base: BaseURL
    seed: int
    open: set[int] = field(factory=set[int])
    latencies: dict[str, float] = field(factory=dict[str, float])
    measured: float = 0.0
    failures: int = 0
    ejections: int = 0
    ejected_until: float | None = None
    probe: int | None = None
    throttles: int = 0
    throttled_until: float = 0.0
    others: Fading = field(factory=Fading)
    waiting: Fading = field(factory=Fading)
    load_paths: list[str] | None = None
    read_after: float = -inf

    def load(self, now: float) -> float:
        """How many requests beside those of this client it has to work on, as it has reported."""
        return max(self.others.value(now), self.waiting.value(now))

    def tier(self, now: float) -> Tier:
        """The current preference."""
        if self.ejected_until is not None:
            return Tier.HALF_OPEN if now >= self.ejected_until and self.probe is None else Tier.EJECTED
        return Tier.THROTTLED if now < self.throttled_until else Tier.OPEN

    def latency(self, kind: str, fastest: float, now: float) -> float:
        """Smoothed latency of a call of this kind in seconds; that of the fastest replica without recent samples."""
        known = self.latencies.get(kind, fastest)
        remembered: float = 0.5 ** ((now - self.measured) / FORGETTING)
        return fastest + (known - fastest) * remembered

    def sample(self, kind: str, seconds: float, now: float) -> None:
        """Add a latency sample of a call of this kind."""
        known = self.latencies.get(kind, seconds)
        self.latencies[kind] = known + SMOOTHING * (seconds - known)
        self.measured = now

    def record_success(self, now: float) -> None:
        """End an ejection; the next one will be shorter."""
        self.failures = 0
        self.ejected_until = None
        self.ejections = max(self.ejections - 1, 0)
        if now >= self.throttled_until:  # else the request was in flight when another one was throttled
            self.throttles = 0

    def record_failure(self, now: float, *, unreachable: bool) -> None:
        """Eject it when due. Failures of requests that were in flight during the ejection do not count again."""
        if self.ejected_until is not None and now < self.ejected_until:
            return
        self.failures += 1
        if unreachable or self.failures >= FAILURES or self.ejected_until is not None:
            self.ejected_until = now + min(FIRST_EJECTION * 2.0**self.ejections, MAX_EJECTION)
            self.ejections = min(self.ejections + 1, 60)
            self.failures = 0
            self.latencies.clear()  # it may return as a different server
            self.others, self.waiting, self.load_paths = Fading(), Fading(), None

    def record_throttle(self, now: float, asked: float | None) -> None:
        """Avoid it for its Retry-After, else for a time that doubles. A burst of throttles counts once.

        It responds, so an ejection ends: a starting container throttles until its model is loaded.
        """
        self.ejected_until = None
        if now >= self.throttled_until:
            pause = FIRST_THROTTLE * 2.0 ** min(self.throttles, 60) if asked is None else asked
            self.throttles += 1
            self.throttled_until = now + min(pause, MAX_THROTTLE)


class Lease:
    """One request at one replica, from the choice to its end; use `with lease:` around what may fail.

    An opened stream is outstanding until `end`, any other request until the end of the block.
    """

    __slots__ = ("_clock", "_kind", "_replica", "_started", "_stream")

    def __init__(self, replica: Replica, kind: str, clock: Clock, *, stream: bool, probe: bool) -> None:
        self._replica = replica
        self._kind = kind
        self._clock = clock
        self._stream = stream
        self._started = clock()
        replica.open.add(id(self))
        if probe:
            replica.probe = id(self)

    @property
    def replica(self) -> Replica:
        """Where the request goes."""
        return self._replica

    @property
    def base(self) -> BaseURL:
        """Its base URL."""
        return self._replica.base

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._judge(error)
        if error is not None or not self._stream:
            self.end()

    def _judge(self, error: BaseException | None) -> None:
        """Update the replica's health from the outcome."""
        replica, now = self._replica, self._clock()
        seconds = now - self._started
        match health_of(error):
            case HealthSignal.OK:
                if self._kind:
                    replica.sample(self._kind, seconds, now)
                replica.record_success(now)
            case HealthSignal.REJECTED:  # the latency of a rejection is no sample
                replica.record_success(now)
            case HealthSignal.THROTTLED:
                replica.record_throttle(now, getattr(error, "retry_after", None))
            case HealthSignal.FAILING:
                replica.record_failure(now, unreachable=False)
            case HealthSignal.UNREACHABLE:
                replica.record_failure(now, unreachable=True)
            case HealthSignal.UNKNOWN:  # cancelled: the latency is at least the elapsed time
                if self._kind and seconds > replica.latencies.get(self._kind, seconds):
                    replica.sample(self._kind, seconds, now)

    def end(self) -> None:
        """End the request. May be called more than once."""
        self._replica.open.discard(id(self))
        if self._replica.probe == id(self):
            self._replica.probe = None

    __del__ = end  # nothing else ends a stream whose loop is closed


class Routing(Protocol):
    """Where the attempts of one call go."""

    def acquire(self) -> Lease | SingleEndpoint:
        """A lease for the next attempt."""
        ...

    def has_another(self) -> bool:
        """Whether there is a healthy replica that this call has not tried."""
        ...

    def waited(self) -> None:
        """Allow all replicas again after a delay."""
        ...


class SingleEndpoint:
    """The routing of a call that can go to one server only; also its only lease."""

    __slots__ = ("base",)

    def __init__(self, base: BaseURL) -> None:
        self.base = base

    def acquire(self) -> SingleEndpoint:
        """See Routing."""
        return self

    def has_another(self) -> bool:
        """See Routing."""
        return False

    def waited(self) -> None:
        """See Routing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *outcome: object) -> None:
        pass

    def end(self) -> None:
        """See Lease."""


class Replicas:
    """All replicas of a client, shared by its copies, all loops and threads."""

    def __init__(
        self,
        bases: Sequence[BaseURL],
        clock: Clock,
        random: Callable[[], float],
        affinity: str | None = None,
    ) -> None:
        self.members = [Replica(base, seed_of(base.api)) for base in bases]
        self.backlog = Backlog()
        self._clock = clock
        self._random = random
        self._affinity = affinity
        self._next_reading = -inf

    def due(self) -> list[Replica]:
        """The replicas whose load is to be read now: none until the next time. The first call only starts the time."""
        now, due = self._clock(), self._next_reading
        if now < due:
            return []
        self._next_reading = now + READ_EVERY * (0.75 + 0.5 * self._random())  # clients do not read in step
        usable = (one for one in self.members if one.tier(now) in (Tier.OPEN, Tier.THROTTLED) and one.load_paths != [])
        found = [] if due == -inf else [one for one in usable if now >= one.read_after]
        for one in found:
            one.read_after = now + READING  # or until this one has ended
        return found

    def report(self, replica: Replica, load: LoadReport | None) -> None:
        """Record what a replica has reported, if it could be read."""
        if load is None:
            return
        now = self._clock()
        replica.waiting = Fading(load.waiting, now)
        if load.total is not None:
            replica.others = Fading(max(load.total - len(replica.open), 0.0), now)
        waiting = [one.waiting.value(now) for one in self.members if one.tier(now) is Tier.OPEN]
        self.backlog.record(len(waiting) * min(waiting, default=0.0), now)

    def routing(
        self,
        kind: str,
        *,
        stream: bool,
        may_probe: bool,
        fields: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ReplicaRouting:
        """The routing of one call. `kind` groups calls of similar duration; "" is not measured.

        `may_probe`: the call can be retried at another replica if the probe fails. `fields` and `headers`: its own, for the
        affinity.
        """
        prefix = prefix_of(fields, headers or {}) if self._affinity else None
        return ReplicaRouting(self.members, kind, self._clock, self._random, stream, may_probe, prefix)


class ReplicaRouting:
    """The routing of one call over the replicas: a retry prefers a healthy replica that was not tried."""

    __slots__ = ("_clock", "_kind", "_may_probe", "_members", "_prefix", "_random", "_stream", "_tried")

    def __init__(
        self,
        members: list[Replica],
        kind: str,
        clock: Clock,
        random: Callable[[], float],
        stream: bool,
        may_probe: bool,
        prefix: int | None,
    ) -> None:
        self._members = members
        self._kind = kind
        self._clock = clock
        self._random = random
        self._stream = stream
        self._may_probe = may_probe
        self._prefix = prefix
        self._tried: list[Replica] = []

    def acquire(self) -> Lease:
        """The best replica for the next attempt."""
        now = self._clock()
        limit = 0 if self._prefix is None else room([len(one.open) + one.load(now) for one in self._members])
        best = min(self._members, key=partial(self._rank, now, self._fastest(), limit))
        self._tried.append(best)
        return Lease(best, self._kind, self._clock, stream=self._stream, probe=best.tier(now) is Tier.HALF_OPEN)

    def _fastest(self) -> float:
        """The lowest latency of any replica, 1 s without samples."""
        known = (replica.latencies[self._kind] for replica in self._members if self._kind in replica.latencies)
        return min(known, default=1.0)

    def _rank(self, now: float, fastest: float, limit: int, replica: Replica) -> tuple[int, bool, float, float]:
        """The sort key of a replica: the smallest is used next."""
        tier = replica.tier(now)
        if tier is Tier.HALF_OPEN and not self._may_probe:
            tier = Tier.EJECTED
        tried = replica in self._tried
        if self._prefix is not None:
            is_full = len(replica.open) + replica.load(now) >= limit
            return tier, tried, float(is_full), -weight(self._prefix, replica.seed)
        seconds = replica.latency(self._kind, fastest, now) * (1.0 + replica.load(now))
        return tier, tried, (len(replica.open) + 1) * seconds, self._random()

    def has_another(self) -> bool:
        """See Routing."""
        now = self._clock()
        return any(replica not in self._tried and replica.tier(now) is Tier.OPEN for replica in self._members)

    def waited(self) -> None:
        """See Routing."""
        self._tried.clear()

"""Several base URLs that serve the same models: which of them gets the next request.

It goes where outstanding requests × smoothed latency is least, over all replicas (docs/design.md says why not over two
random ones). A replica that fails is left alone for a time that doubles, then tried with one request at a time; one that
refuses for capacity is only passed over. When nothing better is left, all are taken: a call always has somewhere to go.

Pure bookkeeping: clock and randomness are passed in, nothing is sent, and what an error means is said by `_retry.classify`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from types import TracebackType
from typing import Protocol, Self

from attrs import define, field

from nimclient._api.urls import BaseURL
from nimclient._base.types import Clock
from nimclient._retry.classify import HealthSignal, health_of

SMOOTHING = 0.2  # the weight of a new sample of latency
FORGETTING = (
    10.0  # seconds without a sample after which half of what sets a replica apart from the fastest is forgotten
)
FAILURES = 3  # in a row; then the replica is ejected (at once where it cannot even be connected to)
FIRST_EJECTION, MAX_EJECTION = 1.0, 60.0  # seconds
FIRST_THROTTLE, MAX_THROTTLE = 0.25, 60.0  # seconds


class Tier(IntEnum):
    """How welcome a replica is; the lowest is taken first."""

    HALF_OPEN = 0  # its ejection is over: the next call is its probe
    OPEN = 1
    THROTTLED = 2  # it refused for capacity a moment ago
    EJECTED = 3


@define(eq=False)
class Replica:
    """One base URL and what is known of it. Times are monotonic seconds.

    `open` holds the ids of its leases, adding and discarding being atomic; `probe` is the id of the one that tries it after
    an ejection.
    """

    base: BaseURL
    open: set[int] = field(factory=set[int])
    latencies: dict[str, float] = field(factory=dict[str, float])
    measured: float = 0.0
    failures: int = 0
    ejections: int = 0
    ejected_until: float | None = None
    probe: int | None = None
    throttles: int = 0
    throttled_until: float = 0.0

    def tier(self, now: float) -> Tier:
        """How welcome it is now."""
        if self.ejected_until is not None:
            return Tier.HALF_OPEN if now >= self.ejected_until and self.probe is None else Tier.EJECTED
        return Tier.THROTTLED if now < self.throttled_until else Tier.OPEN

    def latency(self, kind: str, fastest: float, now: float) -> float:
        """Smoothed seconds of a call of this kind; as fast as the fastest where nothing is known, or not any more."""
        known = self.latencies.get(kind, fastest)
        remembered: float = 0.5 ** ((now - self.measured) / FORGETTING)
        return fastest + (known - fastest) * remembered

    def sample(self, kind: str, seconds: float, now: float) -> None:
        """A call of this kind has taken so long."""
        known = self.latencies.get(kind, seconds)
        self.latencies[kind] = known + SMOOTHING * (seconds - known)
        self.measured = now

    def record_success(self, now: float) -> None:
        """It answers: an ejection is over, and the next one will be shorter."""
        self.failures = 0
        self.ejected_until = None
        self.ejections = max(self.ejections - 1, 0)
        if now >= self.throttled_until:  # else the request was under way when another one was refused
            self.throttles = 0

    def record_failure(self, now: float, *, unreachable: bool) -> None:
        """Eject it when that is due. What was under way when it was ejected does not count again."""
        if self.ejected_until is not None and now < self.ejected_until:
            return
        self.failures += 1
        if unreachable or self.failures >= FAILURES or self.ejected_until is not None:
            self.ejected_until = now + min(FIRST_EJECTION * 2.0**self.ejections, MAX_EJECTION)
            self.ejections = min(self.ejections + 1, 60)
            self.failures = 0
            self.latencies.clear()  # it may come back as another server

    def record_throttle(self, now: float, asked: float | None) -> None:
        """Pass it over for as long as it asks for, else for a pause that doubles. A burst of throttles counts once.

        It answers, so that an ejection is over: a container that starts refuses until its model is loaded.
        """
        self.ejected_until = None
        if now >= self.throttled_until:
            pause = FIRST_THROTTLE * 2.0 ** min(self.throttles, 60) if asked is None else asked
            self.throttles += 1
            self.throttled_until = now + min(pause, MAX_THROTTLE)


class Lease:
    """One request at one replica, from the choice to its end; `with lease:` around what may fail.

    A stream that was opened is outstanding until `end`, anything else until the block is left.
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
    def base(self) -> BaseURL:
        """Where the request goes."""
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
        """Note what the outcome tells about the replica."""
        replica, now = self._replica, self._clock()
        seconds = now - self._started
        match health_of(error):
            case HealthSignal.OK:
                if self._kind:
                    replica.sample(self._kind, seconds, now)
                replica.record_success(now)
            case HealthSignal.REJECTED:  # how fast a bad request is refused says nothing
                replica.record_success(now)
            case HealthSignal.THROTTLED:
                replica.record_throttle(now, getattr(error, "retry_after", None))
            case HealthSignal.FAILING:
                replica.record_failure(now, unreachable=False)
            case HealthSignal.UNREACHABLE:
                replica.record_failure(now, unreachable=True)
            case HealthSignal.UNKNOWN:  # the caller gave up: it takes at least that long
                if self._kind and seconds > replica.latencies.get(self._kind, seconds):
                    replica.sample(self._kind, seconds, now)

    def end(self) -> None:
        """It is outstanding no more. May be called again."""
        self._replica.open.discard(id(self))
        if self._replica.probe == id(self):
            self._replica.probe = None

    __del__ = end  # a stream whose loop is gone has nobody else to end it


class Routing(Protocol):
    """Where the attempts of one call go."""

    def acquire(self) -> Lease | SingleEndpoint:
        """The place of the next attempt."""
        ...

    def has_another(self) -> bool:
        """Whether there is a replica that this call has not been to and that is expected to take it."""
        ...

    def waited(self) -> None:
        """Time has passed: all replicas may be tried again."""
        ...


class SingleEndpoint:
    """The way of a call to which one server is open; also its only lease."""

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
    """All replicas of a client: shared by its copies, by all loops and threads."""

    def __init__(self, bases: Sequence[BaseURL], clock: Clock, random: Callable[[], float]) -> None:
        self._members = [Replica(base) for base in bases]
        self._clock = clock
        self._random = random

    def routing(self, kind: str, *, stream: bool, may_probe: bool) -> ReplicaRouting:
        """The way of one call. `kind` names calls of like duration; "" is not measured.

        `may_probe`: it will be repeated elsewhere if the replica turns out to be broken still.
        """
        return ReplicaRouting(self._members, kind, self._clock, self._random, stream=stream, may_probe=may_probe)


class ReplicaRouting:
    """The way of one call through the replicas: a retry goes where it has not been, as long as that is expected to work."""

    __slots__ = ("_clock", "_kind", "_may_probe", "_members", "_random", "_stream", "_tried")

    def __init__(
        self,
        members: list[Replica],
        kind: str,
        clock: Clock,
        random: Callable[[], float],
        *,
        stream: bool,
        may_probe: bool,
    ) -> None:
        self._members = members
        self._kind = kind
        self._clock = clock
        self._random = random
        self._stream = stream
        self._may_probe = may_probe
        self._tried: list[Replica] = []

    def acquire(self) -> Lease:
        """The best replica for the next attempt."""
        now, kind = self._clock(), self._kind
        fastest = min((replica.latencies[kind] for replica in self._members if kind in replica.latencies), default=1.0)

        def rank(replica: Replica) -> tuple[int, bool, float, float]:
            tier = replica.tier(now)
            if tier is Tier.HALF_OPEN and not self._may_probe:
                tier = Tier.EJECTED
            load = (len(replica.open) + 1) * replica.latency(kind, fastest, now)
            return tier, replica in self._tried, load, self._random()

        best = min(self._members, key=rank)
        self._tried.append(best)
        return Lease(best, kind, self._clock, stream=self._stream, probe=best.tier(now) is Tier.HALF_OPEN)

    def has_another(self) -> bool:
        """See Routing."""
        now = self._clock()
        return any(replica not in self._tried and replica.tier(now) is Tier.OPEN for replica in self._members)

    def waited(self) -> None:
        """See Routing."""
        self._tried.clear()

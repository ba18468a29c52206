"""The choice of a replica, on a clock that tests move: where requests go, who is left alone, for how long, and who tries."""

import gc
import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import median

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nimclient import AsyncClient
from nimclient._engine.replicas import (
    FAILURES,
    FIRST_EJECTION,
    FIRST_THROTTLE,
    FORGETTING,
    MAX_EJECTION,
    MAX_THROTTLE,
    Lease,
    LoadReport,
    Replica,
    ReplicaRouting,
    Replicas,
    SingleEndpoint,
    Tier,
)
from nimclient.errors import (
    ConnectError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    ServiceUnavailableError,
)
from support.leaks import replicas
from support.slow import mostly_slow, seeds

REFUSED = ConnectError("refused", kind="refused")
BROKEN = ServerError("broken", status=500)
BUSY = ServiceUnavailableError("busy", status=503)


@dataclass
class Time:
    """A clock that stands still until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Books:
    """Replicas on a clock of the test, and requests that end as it says."""

    def __init__(self, count: int = 2) -> None:
        self.clock = Time()
        self.replicas = Replicas(bases(count), self.clock, random.Random(1).random)
        self.members: list[Replica] = self.replicas.members

    def way(self, kind: str = "chat", *, stream: bool = False, may_probe: bool = True) -> ReplicaRouting:
        return self.replicas.routing(kind, stream=stream, may_probe=may_probe)

    def take(self, kind: str = "chat", *, stream: bool = False, may_probe: bool = True) -> Lease:
        return self.way(kind, stream=stream, may_probe=may_probe).acquire()

    def place(self, lease: Lease) -> int:
        return next(i for i, member in enumerate(self.members) if member.base is lease.base)

    def at(self, place: int, *errors: BaseException | None, seconds: float = 0.1, kind: str = "chat") -> None:
        """Requests to one replica, one after the other, and how they end."""
        for error in errors:
            lease = Lease(self.members[place], kind, self.clock, stream=False, probe=False)
            self.clock.now += seconds
            end(lease, error)

    def takers(self, number: int = 20, *, may_probe: bool = True) -> set[int]:
        """Where so many requests go that are alone."""
        found: set[int] = set()
        for _ in range(number):
            lease = self.take(may_probe=may_probe)
            found.add(self.place(lease))
            lease.end()
        return found


def bases(count: int) -> list:
    client = AsyncClient(base_url=[f"http://replica-{i}:8000" for i in range(count)])
    return [replica.base for replica in replicas(client)]


def end(lease: Lease, error: BaseException | None = None) -> None:
    """Leave the block of a lease, with an error or without."""
    lease.__exit__(None if error is None else type(error), error, None)


# where requests go -------------------------------------------------------------------------------------------------


def test_the_least_outstanding_where_nothing_is_known() -> None:
    """Fresh replicas share requests that are sent at once equally."""
    books = Books(4)
    leases = [books.take() for _ in range(20)]
    assert [len(member.open) for member in books.members] == [5, 5, 5, 5]
    for lease in leases:
        lease.end()
        lease.end()
    assert [len(member.open) for member in books.members] == [0, 0, 0, 0]


def test_outstanding_times_latency() -> None:
    """A replica that is three times slower gets a request for every three of the other."""
    books = Books()
    books.at(0, None, seconds=0.1)
    books.at(1, None, seconds=0.3)
    leases = [books.take() for _ in range(8)]
    assert [len(member.open) for member in books.members] == [6, 2]
    del leases


def test_a_fresh_replica_is_as_good_as_the_fastest() -> None:
    """A replica that nothing is known of is tried before a slow one, and as often as a fast one."""
    books = Books(3)
    books.at(0, None, seconds=0.1)
    books.at(1, None, seconds=0.3)
    leases = [books.take() for _ in range(4)]
    assert [len(member.open) for member in books.members] == [2, 0, 2]
    del leases


def test_kinds_of_calls_are_measured_apart() -> None:
    """That a replica answers chat slowly says nothing of its embeddings."""
    books = Books()
    books.at(0, None, seconds=10, kind="chat")
    books.at(1, None, seconds=0.01, kind="embeddings")
    books.at(0, None, seconds=0.01, kind="embeddings")
    leases = [books.take("embeddings") for _ in range(4)]
    assert [len(member.open) for member in books.members] == [2, 2]
    del leases


def test_what_is_not_of_a_kind_is_not_measured() -> None:
    """A call without a kind tells that the replica works, and leaves its latency alone."""
    books = Books()
    books.at(0, BROKEN, BROKEN, kind="")
    books.at(0, None, seconds=50, kind="")
    assert books.members[0].latencies == {}
    assert books.members[0].failures == 0


def test_latency_is_smoothed_and_forgotten() -> None:
    """One slow answer does not make a slow replica, and a replica that was slow is tried again."""
    books = Books()
    books.at(0, *[None] * 20, seconds=0.1)
    books.at(0, None, seconds=1.1)
    assert books.members[0].latencies["chat"] == pytest.approx(0.3)
    books.at(1, None, seconds=0.1)
    assert books.takers() == {1}
    now = books.clock.now = books.members[0].measured + FORGETTING
    assert books.members[0].latency("chat", 0.1, now) == pytest.approx(0.2)
    books.clock.now += 1
    busy = books.take()
    assert books.takers() == {0}
    busy.end()


def test_an_errors_speed_is_no_latency() -> None:
    """A replica that rejects a bad request at once is not the fastest for that."""
    books = Books()
    books.at(0, None, seconds=0.2)
    books.at(0, NotFoundError("no", status=404), seconds=0.0)
    assert books.members[0].latencies["chat"] == pytest.approx(0.2)


def test_a_caller_who_gives_up_tells_how_slow_it_is() -> None:
    """A cancelled request counts with the time it had waited, if that is longer than what is known."""
    books = Books()
    books.at(0, None, seconds=0.1)
    books.at(0, KeyboardInterrupt(), seconds=0.05)
    assert books.members[0].latencies["chat"] == pytest.approx(0.1)
    books.at(0, KeyboardInterrupt(), seconds=10.1)
    assert books.members[0].latencies["chat"] == pytest.approx(2.1)
    books.at(1, KeyboardInterrupt(), seconds=10.0)
    assert books.members[1].latencies == {}
    assert books.members[0].failures == 0


# failing -----------------------------------------------------------------------------------------------------------


def test_failures_in_a_row_eject() -> None:
    """Three failures in a row eject a replica; a success or an objection between them does not let it come to that."""
    books = Books()
    for fine in (None, NotFoundError("no", status=404)):
        books.at(0, *[BROKEN] * (FAILURES - 1), fine)
    assert books.takers() == {0, 1}
    books.at(0, *[RequestTimeoutError("late", phase="headers")] * FAILURES)
    assert books.takers() == {1}
    assert books.members[0].latencies == {}


def test_an_unreachable_replica_is_ejected_at_once() -> None:
    """One connection that cannot be made is enough."""
    books = Books()
    books.at(0, REFUSED)
    assert books.takers() == {1}


def test_a_fault_of_this_side_ejects_nobody() -> None:
    """A machine without file descriptors, or a full pool, says nothing of the replica."""
    books = Books()
    books.at(0, *[ConnectError("no files", kind="resources")] * 9)
    books.at(0, *[RequestTimeoutError("full", phase="pool")] * 9)
    assert books.members[0].failures == 0


def test_one_request_probes() -> None:
    """After its ejection a replica gets one request at a time, before the others, until one succeeds."""
    books = Books()
    books.at(0, REFUSED)
    books.clock.now += FIRST_EJECTION
    probe = books.take()
    assert books.place(probe) == 0
    assert [books.place(books.take()) for _ in range(3)] == [1, 1, 1]
    end(probe)
    assert books.takers() == {0, 1}


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    """A probe whose caller cancels is followed by the next one."""
    books = Books()
    books.at(0, REFUSED)
    books.clock.now += FIRST_EJECTION
    end(books.take(), KeyboardInterrupt())
    assert books.place(books.take()) == 0


def test_a_call_that_cannot_be_repeated_is_no_probe() -> None:
    """What will not be repeated elsewhere does not try out a replica that may still be broken."""
    books = Books()
    books.at(0, REFUSED)
    books.clock.now += FIRST_EJECTION
    assert books.takers(may_probe=False) == {1}


def test_an_ejection_doubles_and_is_forgotten() -> None:
    """Each probe that fails doubles the time, up to a minute; each success halves the next."""
    books = Books()
    lengths = []
    for _ in range(9):
        books.at(0, BROKEN if lengths else REFUSED, seconds=0)
        until = books.members[0].ejected_until
        assert until is not None
        lengths.append(until - books.clock.now)
        books.clock.now = until
    assert lengths == [1, 2, 4, 8, 16, 32, MAX_EJECTION, MAX_EJECTION, MAX_EJECTION]
    books.at(0, *[None] * 7, seconds=0)
    books.at(0, REFUSED, seconds=0)
    assert books.members[0].ejected_until == books.clock.now + 4


def test_what_was_under_way_does_not_count_again() -> None:
    """Requests that break together with the first one do not lengthen the ejection."""
    books = Books()
    books.at(0, *[REFUSED] * 50, seconds=0)
    assert books.members[0].ejected_until == books.clock.now + FIRST_EJECTION


def test_a_late_success_ends_an_ejection() -> None:
    """A request that was in flight and succeeds shows that the replica works."""
    books = Books()
    late = [books.take(), books.take()]
    books.at(0, REFUSED)
    for lease in late:
        end(lease)
    assert books.takers() == {0, 1}


def test_with_all_ejected_all_are_used() -> None:
    """When every replica is ejected, requests are spread as if none was."""
    books = Books(3)
    for place in range(3):
        books.at(place, REFUSED)
    leases = [books.take() for _ in range(9)]
    assert [len(member.open) for member in books.members] == [3, 3, 3]
    del leases


# refusing ----------------------------------------------------------------------------------------------------------


def test_a_refusal_for_capacity_passes_over() -> None:
    """A busy replica is passed over for as long as it asks for, and still better than an ejected one."""
    books = Books()
    books.at(0, RateLimitError("slow down", status=429, retry_after=20))
    assert books.takers() == {1}
    books.at(1, REFUSED)
    assert books.takers() == {0}
    books.at(1, None)
    books.clock.now += 20
    assert books.takers() == {0, 1}
    assert books.members[0].ejections == books.members[0].failures == 0


def test_pauses_double() -> None:
    """Without a Retry-After the pause doubles with each burst of throttles; a success after it starts over."""
    books = Books()
    member = books.members[0]
    lengths = []
    for _ in range(10):
        books.at(0, BUSY, BUSY, seconds=0)
        lengths.append(member.throttled_until - books.clock.now)
        books.at(0, None, seconds=0)  # was under way
        books.clock.now = member.throttled_until
    assert lengths == [min(FIRST_THROTTLE * 2**n, MAX_THROTTLE) for n in range(10)]
    books.at(0, None, BUSY, seconds=0)
    assert member.throttled_until == books.clock.now + FIRST_THROTTLE
    books.clock.now = member.throttled_until
    books.at(0, RateLimitError("tomorrow", status=429, retry_after=86_400), seconds=0)
    assert member.throttled_until == books.clock.now + MAX_THROTTLE


def test_a_replica_that_loads_is_not_probed_by_every_call() -> None:
    """A probe that is throttled ends the ejection and begins a pause."""
    books = Books()
    books.at(0, REFUSED)
    books.clock.now += FIRST_EJECTION
    end(books.take(), BUSY)
    assert books.takers() == {1}
    books.clock.now += FIRST_THROTTLE
    assert books.takers() == {0, 1}


# what replicas report ------------------------------------------------------------------------------------------------


def test_a_reported_load_counts() -> None:
    """A replica with nine requests of others is a tenth as good; of those in flight here none counts twice."""
    books = Books()
    own = [books.take(), books.take()]
    books.replicas.report(books.members[0], LoadReport(waiting=0, total=10))
    assert [books.members[0].load(books.clock.now), books.members[1].load(books.clock.now)] == [9, 0]
    leases = [books.take() for _ in range(12)]
    assert [len(member.open) for member in books.members] == [1, 13]
    del own, leases


def test_those_that_wait_are_known_from_answers() -> None:
    """A report of those that wait leaves the number of the others as it was; the larger one counts."""
    books = Books()
    books.replicas.report(books.members[0], LoadReport(waiting=2, total=7))
    books.replicas.report(books.members[0], LoadReport(waiting=3))
    assert books.members[0].load(books.clock.now) == 7
    books.replicas.report(books.members[0], LoadReport(waiting=30))
    assert books.members[0].load(books.clock.now) == 30
    books.replicas.report(books.members[0], None)
    assert books.members[0].load(books.clock.now) == 30


def test_a_report_fades() -> None:
    """After two seconds half of a report counts, and a replica that comes back after an ejection starts over."""
    books = Books()
    books.replicas.report(books.members[0], LoadReport(waiting=8))
    books.clock.now += 4
    assert books.members[0].load(books.clock.now) == 2
    books.at(0, REFUSED)
    assert books.members[0].load(books.clock.now) == 0


def test_bulk_is_held_where_all_replicas_queue() -> None:
    """As many wait, by the reports, as at the best of the healthy replicas at each."""
    books = Books(3)
    now = books.clock.now
    for member in books.members[:2]:
        books.replicas.report(member, LoadReport(waiting=6, total=20))
    assert not books.replicas.backlog.holds(1, now)
    books.at(2, REFUSED, seconds=0)
    books.replicas.report(books.members[0], LoadReport(waiting=8, total=20))
    assert [books.replicas.backlog.holds(count, now) for count in (24, 25)] == [True, False]
    assert not books.replicas.backlog.holds(24, now + 3)


def test_the_load_is_read_once_a_second() -> None:
    """The first call starts the time; then about every second one call does, less often where reading takes long."""
    books = Books()
    one, two = books.members
    one.load_paths, two.load_paths = ["/metrics"], ["/metrics"]
    assert books.replicas.due() == []
    readings = []
    for _ in range(100):
        books.clock.now += 0.1
        if due := books.replicas.due():
            assert due == [one, two]
            readings.append(books.clock.now)
            one.read_after = two.read_after = books.clock.now
    assert 7 <= len(readings) <= 13


def test_who_is_not_read() -> None:
    """A replica whose reading is not over is left alone, as is one that is ejected and one that has no load to report."""
    books = Books(3)
    one, two, three = books.members
    books.replicas.due()
    books.clock.now += 2
    assert books.replicas.due() == [one, two, three]
    one.read_after = books.clock.now
    books.clock.now += 2
    assert books.replicas.due() == [one]
    one.load_paths = []
    books.clock.now += 4
    books.at(2, REFUSED, seconds=0)
    assert books.replicas.due() == [two]


# one call ----------------------------------------------------------------------------------------------------------


def test_a_retry_goes_elsewhere() -> None:
    """The attempts of one call visit every replica before one comes twice; after a wait all are open again."""
    books = Books(3)
    way = books.way()
    places = []
    for left in (True, True, False):
        lease = way.acquire()
        places.append(books.place(lease))
        end(lease, BROKEN)
        assert way.has_another() is left
    assert sorted(places) == [0, 1, 2]
    way.waited()
    assert way.has_another()


def test_no_retry_goes_to_a_replica_that_is_out() -> None:
    """Ejected and busy replicas are no other place to go at once."""
    books = Books(3)
    books.at(0, REFUSED)
    books.at(1, BUSY)
    way = books.way()
    lease = way.acquire()
    assert books.place(lease) == 2
    assert not way.has_another()


def test_a_stream_is_outstanding_until_it_ends() -> None:
    """Opening a stream is measured; after that it is outstanding until `end`, or until it is garbage-collected."""
    books = Books(1)
    member = books.members[0]
    stream = books.take(stream=True)
    books.clock.now += 0.5
    end(stream)
    assert member.latencies == {"chat": 0.5}
    assert len(member.open) == 1
    stream.end()
    assert not member.open
    forgotten = books.take(stream=True)
    end(forgotten)
    del forgotten
    gc.collect()
    assert not member.open
    end(books.take(stream=True), BROKEN)
    assert not member.open


def test_one_server_alone() -> None:
    """With one server there is nothing to choose, nothing to note, and nowhere else to go."""
    base = bases(1)[0]
    way = SingleEndpoint(base)
    with way.acquire() as lease:
        assert lease.base is base
    lease.end()
    way.waited()
    assert not way.has_another()


# many calls: a discrete-event simulation -----------------------------------------------------------------------------


@dataclass
class World:
    """Replicas with a service time and, if they queue, a number of slots; callers that send one request after the other.

    `dies` is when the last replica begins to refuse connections, breaking what it has in flight. `foreign` requests of others
    are always at the last one. With `reports` clients read the load of all once a second.
    """

    services: Sequence[Callable[[random.Random], float]]
    slots: int | None = None
    dies: float | None = None
    foreign: int = 0
    reports: bool = False
    seed: int = 0
    latencies: list[list[float]] = field(default_factory=list)
    failed: int = 0

    def run(self, callers: int, requests: int, clients: int = 1) -> None:
        clock = Time(0.0)
        noise = random.Random(self.seed)
        self.latencies = [[] for _ in self.services]
        urls = bases(len(self.services))
        books = [Replicas(urls, clock, noise.random) for _ in range(clients)]
        order = itertools.count()
        events: list[tuple[float, int, Callable[[], None]]] = []
        serving: list[set[int]] = [set() for _ in urls]
        waiting: list[list[Callable[[], None]]] = [[] for _ in urls]
        left = requests
        last = len(urls) - 1

        def later(seconds: float, action: Callable[[], None]) -> None:
            heapq.heappush(events, (clock.now + seconds, next(order), action))

        def call(caller: int) -> None:
            nonlocal left
            if left:
                left -= 1
                attempt(caller, books[caller % clients].routing("chat", stream=False, may_probe=True), clock.now, 1)

        def enter(place: int, serve: Callable[[], None]) -> None:
            if self.slots is None or len(serving[place]) < self.slots:
                serve()
            else:
                waiting[place].append(serve)

        def leave(place: int, one: int) -> None:
            serving[place].discard(one)
            if waiting[place]:
                waiting[place].pop(0)()

        def others(number: int) -> None:
            def serve() -> None:
                serving[last].add(-number)
                later(self.services[last](noise), finish)

            def finish() -> None:
                leave(last, -number)
                if left:
                    others(number)

            enter(last, serve)

        def read(replicas: Replicas, member: Replica) -> None:
            place = replicas.members.index(member)
            queue = len(waiting[place])
            replicas.report(member, LoadReport(queue, len(serving[place]) + queue))
            member.read_after = clock.now

        def attempt(caller: int, way: ReplicaRouting, began: float, number: int) -> None:
            if self.reports:
                for member in books[caller % clients].due():
                    read(books[caller % clients], member)
            lease = way.acquire()
            place = urls.index(lease.base)
            is_dead = self.dies is not None and clock.now >= self.dies and place == last

            def finish() -> None:
                leave(place, id(lease))
                dead_now = self.dies is not None and clock.now >= self.dies and place == last
                if not dead_now:
                    self.latencies[place].append(clock.now - began)
                    end(lease)
                    call(caller)
                    return
                end(lease, REFUSED)
                if way.has_another() and number < 3:
                    attempt(caller, way, began, number + 1)
                else:
                    self.failed += 1
                    call(caller)

            def serve() -> None:
                serving[place].add(id(lease))
                seconds = 0.0 if is_dead else self.services[place](noise)
                if self.dies is not None and place == last and not is_dead:
                    seconds = min(seconds, max(self.dies - clock.now, 0.0))
                later(seconds, finish)

            enter(place, serve)

        for number in range(1, self.foreign + 1):
            others(number)
        for caller in range(callers):
            call(caller)
        while events:
            clock.now, _, action = heapq.heappop(events)
            action()

    def percentile(self, share: float) -> float:
        """Of all requests, seconds."""
        every = sorted(itertools.chain(*self.latencies))
        return every[int(share * (len(every) - 1))]


def around(seconds: float) -> Callable[[random.Random], float]:
    """A service time that varies by a fifth."""
    return lambda noise: seconds * noise.uniform(0.8, 1.2)


def spread(seconds: float) -> Callable[[random.Random], float]:
    """A service time that varies like the lengths of answers: exponentially."""
    return lambda noise: noise.expovariate(1 / seconds)


@pytest.mark.parametrize("seed", seeds(0, 1, 2))
@pytest.mark.parametrize("callers", [1, 8, 32])
def test_one_of_four_is_twenty_times_slower(seed: int, callers: int) -> None:
    """The 99th percentile of all requests is within twice the median of the healthy replicas, which share the work."""
    world = World([around(0.05)] * 3 + [around(1.0)], seed=seed)
    world.run(callers, 4000)
    healthy = median(itertools.chain(*world.latencies[:3]))
    assert world.percentile(0.99) <= 2 * healthy
    if callers > 1:
        assert min(len(part) for part in world.latencies[:3]) > 4000 / 5
    assert sum(map(len, world.latencies)) == 4000


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_replica_does_not_slow_a_fleet(seed: int) -> None:
    """The same with many clients that know nothing of each other, each with few requests at once."""
    world = World([around(0.05)] * 3 + [around(1.0)], seed=seed)
    world.run(32, 32 * 400, clients=32)
    assert world.percentile(0.99) <= 2 * median(itertools.chain(*world.latencies[:3]))


@pytest.mark.parametrize("seed", range(5))
def test_one_dies_in_mid_run(seed: int) -> None:
    """Not one request fails when a replica dies, and almost none goes there after that."""
    world = World([spread(0.05)] * 4, dies=2.0, seed=seed)
    world.run(32, 10_000)
    assert world.failed == 0
    assert sum(map(len, world.latencies)) == 10_000
    assert 0 < len(world.latencies[3]) < 1000


@pytest.mark.parametrize("seed", range(3))
def test_queues_are_kept_even(seed: int) -> None:
    """Of replicas that queue, one four times slower gets less than a tenth of the work; the others share the rest."""
    world = World([spread(0.05)] * 3 + [spread(0.2)], slots=16, seed=seed)
    world.run(64, 6000)
    shares = [len(part) / 6000 for part in world.latencies]
    assert shares[3] < 0.1
    assert min(shares[:3]) > 0.27


@pytest.mark.parametrize("seed", seeds(0))
@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_the_load_of_others(seed: int, seconds: float) -> None:
    """With foreign requests four times its slots on one of four replicas, the 99th percentile with reports is at most half of
    that without, and no less work is done.
    """
    ends = []
    for reports in (False, True):
        world = World([around(seconds)] * 4, slots=8, foreign=32, reports=reports, seed=seed)
        world.run(16, 3000)
        ends.append((world.percentile(0.99), len(world.latencies[3])))
    (blind, there), (told, then) = ends
    assert told <= blind / 2
    assert then < there / 4


@pytest.mark.parametrize("seed", mostly_slow(range(3), 0))
@pytest.mark.parametrize(("each", "slots"), [(1, 16), pytest.param(4, 64, marks=pytest.mark.slow)])
def test_reports_make_no_herd(seed: int, each: int, slots: int) -> None:
    """Sixty-four clients that read the same load do not all go to the replica that had the least."""
    ends = []
    for reports in (False, True):
        world = World([around(0.5)] * 4, slots=slots, reports=reports, seed=seed)
        world.run(64 * each, 64 * each * 40, clients=64)
        ends.append(world.percentile(0.99))
    assert ends[1] <= 1.05 * ends[0]


# in any order ----------------------------------------------------------------------------------------------------------


NOT_FOUND = NotFoundError("no", status=404)
GAVE_UP = KeyboardInterrupt()


class Choosing(RuleBasedStateMachine):
    """Requests begin and end in any order and at any time; the model knows which are open, and who has just failed."""

    @initialize(count=st.integers(1, 5))
    def make(self, count: int) -> None:
        self.books = Books(count)
        self.open: list[tuple[int, Lease, bool]] = []  # place, lease, whether it is a probe
        self.failed: dict[int, int] = dict.fromkeys(range(count), 0)  # in a row
        self.ejected: dict[int, float] = dict.fromkeys(range(count), 0.0)

    @rule(stream=st.booleans(), may_probe=st.booleans(), tries=st.integers(1, 4))
    def begin(self, stream: bool, may_probe: bool, tries: int) -> None:
        """A call that fails over visits who has not been tried as long as there is a working one."""
        way = self.books.way(stream=stream, may_probe=may_probe)
        tried: list[int] = []
        for _ in range(tries):
            healthy = [
                place for place, member in enumerate(self.books.members) if member.tier(self.books.clock()) is Tier.OPEN
            ]
            probing = may_probe and any(m.tier(self.books.clock()) is Tier.HALF_OPEN for m in self.books.members)
            assert way.has_another() == any(place not in tried for place in healthy)
            lease = way.acquire()
            place = self.books.place(lease)
            member = self.books.members[place]
            if healthy and not probing:
                assert place in healthy, "one that fails or throttles is taken, though another works"
            assert place not in tried or set(healthy) <= set(tried)
            tried.append(place)
            self.open.append((place, lease, member.probe == id(lease)))

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(), seconds=st.floats(0, 5), how=st.sampled_from([None, BROKEN, BUSY, REFUSED, NOT_FOUND, GAVE_UP])
    )
    def end(self, data: st.DataObject, seconds: float, how: BaseException | None) -> None:
        self.books.clock.now += seconds
        place, lease, _ = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        end(lease, how)
        lease.end()
        member = self.books.members[place]
        if how in (None, NOT_FOUND):
            assert member.ejected_until is None
        if how is REFUSED:
            assert member.ejected_until is not None
            assert member.ejected_until - self.books.clock.now <= MAX_EJECTION

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.books.clock.now += seconds

    @rule()
    def after_a_minute_all_are_tried_again(self) -> None:
        """No replica is left alone for ever: a minute later, who was ejected gets the next requests, one each."""
        self.books.clock.now += MAX_EJECTION + 1
        for _ in self.books.members:
            end(self.books.take())
        for member in self.books.members:
            assert member.ejected_until is None or member.probe is not None

    @invariant()
    def the_books_are_right(self) -> None:
        for place, member in enumerate(self.books.members):
            of_this = [lease for there, lease, _ in self.open if there == place]
            assert len(member.open) == len(of_this)
            assert member.probe is None or member.probe in {id(lease) for lease in of_this}
            assert all(0 <= seconds < inf for seconds in member.latencies.values())


TestChoosing = Choosing.TestCase
TestChoosing.settings = settings(stateful_step_count=20)

"""One pace for several processes: all dynamics of the pacer, fair shares, and whoever dies leaves nothing behind."""

from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient import RetryPolicy
from nimclient.errors import RateLimitError
from support.capacity import (
    Bucket,
    Fleet,
    Pacer,
    Queue,
    Server,
    Service,
    SharedRoute,
    Slots,
    Ticket,
    fair_share,
    fleet_of,
)
from support.fleets import FleetRun, Process, simulate_fleet
from support.slow import seeds

SEEDS = seeds(3)
SLOW = seeds()
KILLED = (1, 3, 5)
SECONDS = 100.0


def fleet(
    server: Server, seed: int, *, killed: float = 0.5 * SECONDS, seconds: float = SECONDS, **options: Any
) -> FleetRun:
    """Eight processes, of which three are killed in the middle, one after the other."""
    processes = [Process(dies=killed + number if number in KILLED else inf, **options) for number in range(8)]
    return simulate_fleet(server, processes, seconds, Random(seed))


def compare(run: FleetRun, best: float, begin: float, end: float, share: float, off: float) -> None:
    """Throughput of all against the best, and each process that is alive against the mean of them."""
    alive = [n for n in run.finished(begin, end) if n > 5]
    mean = sum(alive) / len(alive)
    assert sum(alive) / (end - begin) >= share * best
    assert all(abs(n - mean) <= off * mean for n in alive), alive


@pytest.mark.parametrize("seed", SEEDS)
def test_eight_processes_against_64_slots(seed: int) -> None:
    """95 % of what the slots give, before and after three are killed; 5 % throttled; each within a tenth of the mean."""
    service = Service(Random(seed), 0.5, 0.3)
    run = fleet(Slots(lambda now: 64, service), seed)
    compare(run, 64 / 0.5, 20, 50, 0.95, 0.1)
    compare(run, 64 / 0.5, 60, 98, 0.95, 0.1)
    assert run.share_refused <= 0.05
    assert not any(process.lost for process in run.processes)
    assert len(run.fleet.routes["embedding"].members) == 5


@pytest.mark.parametrize("seed", SLOW)
@pytest.mark.parametrize("tells", [True, False])
def test_eight_processes_against_600_a_minute(seed: int, tells: bool) -> None:
    """The same where the server counts requests, which all of them learn as one; after what it has saved up is used."""
    run = fleet(Bucket(600, Service(Random(seed), 0.5, 0.3), tells), seed, seconds=240.0, killed=100.0)
    compare(run, 10.0, 150, 238, 0.95, 0.1)
    assert run.share_refused <= 0.05
    assert not any(process.lost for process in run.processes)


@pytest.mark.parametrize("seed", SLOW)
@pytest.mark.parametrize("late", [0.005, 0.05])
def test_a_rate_is_learned_soon_and_kept(seed: int, late: float) -> None:
    """With little saved up, half a minute after the first request; all requests count; on a busy machine as well."""
    server = Bucket(600, Service(Random(seed), 0.5, 0.3), tells=False)
    server.level = 30.0
    processes = [Process(dies=60.0 + number if number in KILLED else inf) for number in range(8)]
    run = simulate_fleet(server, processes, 120.0, Random(seed), late=late)
    compare(run, 10.0, 36, 60, 0.95, 0.1)
    compare(run, 10.0, 72, 118, 0.95, 0.1)
    assert run.share_refused <= 0.05
    assert not any(process.lost for process in run.processes)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rate_set_by_hand_is_that_of_all_together(seed: int) -> None:
    """600 a minute for eight clients are 600 in all, none of them throttled, and used to 95 %, however late each is."""
    server = Bucket(600, Service(Random(seed), 0.5, 0.3), tells=False)
    server.level = 3.0
    run = fleet(server, seed, per_minute=600.0)
    compare(run, 10.0, 10, 50, 0.95, 0.1)
    compare(run, 10.0, 60, 98, 0.95, 0.1)
    assert run.share_refused <= 0.01


@pytest.mark.parametrize("seed", SLOW)
def test_a_queue_is_shared_as_well(seed: int) -> None:
    """A server that never throttles gets enough to be busy, from each process as much."""
    run = fleet(Queue(64, Service(Random(seed), 0.5, 0.3)), seed)
    compare(run, 64 / 0.5, 60, 98, 0.93, 0.1)
    assert run.share_refused == 0.0


@pytest.mark.parametrize("seed", SLOW)
def test_one_that_joins_gets_its_share_soon(seed: int) -> None:
    """Ten seconds after seven more have begun the first one has an eighth; when they have ended it has all."""
    service = Service(Random(seed), 0.5, 0.3)
    processes = [Process(), *(Process(begins=30.0, ends=60.0) for _ in range(7))]
    run = simulate_fleet(Slots(lambda now: 64, service), processes, 100.0, Random(seed))
    compare(run, 128.0, 40, 60, 0.95, 0.15)
    assert run.finished(70, 98)[0] >= 0.95 * 28 * 128
    assert run.share_refused <= 0.05


@pytest.mark.parametrize("seed", SLOW)
def test_what_nobody_uses_is_for_the_others(seed: int) -> None:
    """With fewer slots than processes each gets its turn; no slot is idle."""
    run = fleet(Slots(lambda now: 5, Service(Random(seed), 0.3, 0.3)), seed)
    compare(run, 5 / 0.3, 20, 50, 0.85, 0.35)
    assert run.share_refused <= 0.06


def test_a_lost_state_comes_right_by_itself() -> None:
    """A file that is torn costs what was learned, not one slot: each process states what it holds."""
    run = fleet(Slots(lambda now: 64, Service(Random(1), 0.5, 0.3)), 1, killed=inf, seconds=20.0)
    held = {f"{number:016x}": process.held for number, process in enumerate(run.processes)}
    assert sum(held.values()) >= 55
    torn = Fleet(now=run.fleet.now)
    for name, count in held.items():
        torn.join(Pacer(RetryPolicy()), "embedding", name, 0.0).members[name].held = count
    assert torn.routes["embedding"].in_flight() == sum(held.values())


def test_a_fleet_that_comes_back_begins_where_the_last_one_ended() -> None:
    """When nobody is left, the next one has no beginning either; an hour later it has."""
    run = fleet(Slots(lambda now: 64, Service(Random(1), 0.5, 0.3)), 1, killed=inf, seconds=20.0)
    for seconds, expected in ((0.0, range(55, 66)), (300.0, range(26, 40)), (7200.0, range(16, 17))):
        later = fleet_of(run.fleet.to_dict())
        later.routes["embedding"].members.clear()
        pacer = Pacer(RetryPolicy())
        later.join(pacer, "embedding", "0" * 16, later.wall + seconds)
        assert pacer.limit in expected


def test_a_retry_after_outlives_its_fleet() -> None:
    """What a server asked of the last process holds for the first one of the next run, less the time between them."""
    first, ticket = Fleet(now=100.0, wall=1000.0), Ticket()
    pacer = Pacer(RetryPolicy())
    route = first.join(pacer, "embedding", "0" * 16, 1000.0)
    assert not route.enter(pacer, "0" * 16, first.now, ticket)
    pacer.throttled(first.now, ticket, RateLimitError("slow down", status=429, retry_after=60.0), Random(1).random)
    route.pace = pacer.state()
    route.members.clear()
    for away, wait in ((5.0, 55.0), (0.0, 60.0), (-5.0, 60.0), (61.0, 0.0)):
        later = fleet_of(first.to_dict())
        pacer = Pacer(RetryPolicy())
        joined = later.join(pacer, "embedding", "1" * 16, later.wall + away)
        assert pacer.enter(later.now, Ticket()) == pytest.approx(wait, abs=0.6)
        assert joined.members.keys() == {"1" * 16}


@given(
    st.integers(0, 300),
    st.lists(st.integers(0, 50), max_size=6).map(sorted),
    st.integers(1, 9),
    st.integers(0, 100),
)
def test_shares_are_fair_and_none_is_wasted(limit: int, content: list[int], waiting: int, turn: int) -> None:
    """Those that wait get equal shares to within one slot; with what the content ones hold these are the whole limit."""
    shares = [fair_share(limit, content, position, waiting, turn) for position in range(waiting)]
    assert max(shares) - min(shares) <= 1
    assert all(share >= limit // (waiting + len(content)) for share in shares)
    if sum(content) * (waiting + len(content)) <= limit * len(content) and all(
        held * (waiting + len(content)) <= limit for held in content
    ):
        assert sum(shares) + sum(content) == limit


@given(st.integers(1, 40), st.integers(1, 9))
def test_what_the_division_leaves_goes_round(limit: int, waiting: int) -> None:
    """After as many turns as there are processes each has had the same."""
    had = [
        sum(fair_share(limit, [], position, waiting, turn) for turn in range(waiting)) for position in range(waiting)
    ]
    assert had == [limit] * waiting


@pytest.mark.parametrize("stored", [None, [], {}, {"version": 0, "routes": 5}, "text"])
def test_what_another_version_has_written_is_not_read(stored: Any) -> None:
    """It starts from nothing."""
    assert fleet_of(stored) == Fleet()
    assert SharedRoute().in_flight() == 0

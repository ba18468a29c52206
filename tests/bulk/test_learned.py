"""What one call has learned of a server, the next one begins with; it fades, and an outage does not poison it."""

from itertools import pairwise
from random import Random

import pytest

from nimclient import RetryPolicy
from support.capacity import (
    FORGOTTEN,
    HALF_LIFE,
    Bucket,
    Learned,
    Memory,
    Pacer,
    Queue,
    Run,
    Server,
    Service,
    Slots,
    simulate,
)
from support.slow import seeds

SEEDS = seeds(4)


def known(size: float, at: float = 0.0, rate: float | None = None, limited: bool = True) -> Learned:
    return Learned(size, found=True, limited=limited, per_second=rate, seconds=0.5, at=at)


def call(server: Server, memory: Memory, requests: int, seed: int, began: float = 0.0) -> Run:
    """One call over many items, as the client makes it: it begins with the memory, and leaves what it has learned there."""
    pacer = Pacer(RetryPolicy(), memory=memory, now=began)
    return simulate(server, pacer, requests, Random(seed), began=began)


def calls(server: Server, memory: Memory, counts: tuple[int, ...], seed: int) -> list[Run]:
    """One after the other."""
    runs: list[Run] = []
    for count in counts:
        runs.append(call(server, memory, count, seed, runs[-1].finished[-1] if runs else 0.0))
    return runs


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("slots", [4, 64, 256])
def test_the_second_call_has_no_beginning(slots: int, seed: int) -> None:
    """It has nearly all of what the slots give from its first request on, with hardly a throttle."""
    server = Slots(lambda now: slots, Service(Random(seed), 0.5, 0.3))
    first, second = calls(server, Memory(), (40 * slots, 20 * slots), seed)
    seconds = second.finished[16 * slots - 1] - first.finished[-1]
    assert second.refused <= max(2, 0.05 * 20 * slots)
    assert 16 * slots / seconds >= 0.85 * slots / 0.5, "the first window is on its way meanwhile"


@pytest.mark.parametrize("seed", SEEDS)
def test_many_short_calls_together_learn_what_a_long_one_does(seed: int) -> None:
    """Calls of 200 requests each, of which one alone never leaves the beginning: the last ones fill the server."""
    server = Queue(128, Service(Random(seed), 0.5, 0.3))
    runs = calls(server, Memory(), (200,) * 12, seed)
    spans = [run.finished[-1] - before.finished[-1] for before, run in pairwise(runs)]
    alone = call(Queue(128, Service(Random(seed), 0.5, 0.3)), Memory(), 200, seed)
    assert sum(spans[-4:]) / 4 <= 0.8 * alone.finished[-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rate_is_known_from_the_start(seed: int) -> None:
    """A limit of 600 a minute that one call has met costs the next one few throttles, and none of its speed."""
    server = Bucket(600, Service(Random(seed), 0.3, 0.3), tells=False)
    memory = Memory()
    _, second = calls(server, memory, (1500, 600), seed)
    assert second.share_refused <= 0.10
    assert second.throughput() >= 0.93 * 10.0
    assert memory.learned is not None
    rate = memory.learned.per_second  # given up for a time where the window alone holds requests back
    assert rate is None or rate == pytest.approx(10.0, rel=0.15)


def test_what_is_old_fades() -> None:
    """A window halves its distance to that of a beginner, in orders of magnitude, every five minutes; a rate doubles."""
    learned = known(256, rate=5.0)
    halfway = learned.aged(HALF_LIFE)
    assert halfway is not None
    assert (halfway.size, halfway.per_second) == (pytest.approx(64.0), pytest.approx(10.0))
    low = known(1).aged(2 * HALF_LIFE)
    assert low is not None
    assert low.size == pytest.approx(8.0)
    assert learned.aged(FORGOTTEN) is None
    assert learned.aged(-100.0) == learned, "a clock that was set back"


def test_a_worse_value_counts_half() -> None:
    """One bad call in a row of good ones leaves the geometric mean; a better one counts at once."""
    memory = Memory()
    for size in (64, 16, 100):
        memory.record(known(size))
        seen = memory.learned
        assert seen is not None
        assert seen.size == pytest.approx({64: 64, 16: 32, 100: 100}[size])


def test_an_outage_leaves_the_memory_as_it_was() -> None:
    """A call that ends in a storm of throttles records nothing: the next one begins with what was known before."""
    memory = Memory(known(48.0))
    ends = Slots(lambda now: 48 if now < 5 else 0, Service(Random(1), 0.5, 0.3))
    run = call(ends, memory, 4000, 1)
    assert run.failed > 0
    assert memory.learned is not None
    assert memory.learned.size >= 40


def test_after_a_storm_the_next_call_is_soon_as_fast_as_without_it() -> None:
    """Whatever a bad memory says (a window of one, a rate of one in two seconds), a long call finds the room there is."""
    service = Service(Random(1), 0.3, 0.3)
    for memory in (Memory(known(1.0)), Memory(known(500.0)), Memory(known(500.0, limited=False))):
        run = call(Slots(lambda now: 32, service), memory, 6000, 1)
        assert run.failed == 0
        assert run.share_refused <= 0.05
        assert run.throughput(0.3) >= 0.95 * 32 / 0.3
    slow = Memory(known(4.0, at=-900.0, rate=0.5))
    assert call(Slots(lambda now: 32, service), slow, 6000, 1).throughput(0.3) >= 0.9 * 32 / 0.3

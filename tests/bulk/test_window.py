"""The window that is detected: what cuts it, what it grows by, what it remembers."""

import itertools
import json
from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient._bulk.window import FIRST, MAX_SIZE, MIN_ROUND, Window


class Played:
    """A window with requests numbered as a pacer does, and answers that come `seconds` apart."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.window = Window()
        self.now = 0.0
        self.seconds = seconds
        self.sent = 0

    def succeed(self, times: int = 1, full: bool = True) -> None:
        for _ in range(times):
            self.now += self.seconds
            self.sent += 1
            self.window.succeeded(self.now, self.sent, 1.0, 1.0, full)

    def refuse(self, others: int) -> int:
        self.sent += 1
        return self.window.throttled(self.sent, self.sent, others)


def test_it_doubles_at_first():
    """Every answer makes room for one more as long as that pays."""
    played = Played()
    played.succeed(16)
    assert played.window.size == 2 * FIRST


def test_it_does_not_grow_where_it_is_not_full():
    """Answers that say nothing about a larger window change nothing."""
    played = Played()
    played.succeed(1000, full=False)
    assert played.window.size == FIRST


def test_what_is_not_used_is_given_back():
    """Where source or reader hold requests back, a window that has grown comes down to where it began, and no further."""
    played = Played()
    played.succeed(200)
    assert played.window.size > 2 * FIRST
    played.succeed(4000, full=False)
    assert played.window.size == FIRST


def test_it_stops_growing_when_throughput_does():
    """Answers that come no faster with a larger window end growth soon, and the window comes back down."""
    played, most = Played(), 0
    for _ in range(4000):
        played.succeed()
        most = max(most, played.window.size)
    assert most <= 12 * FIRST
    assert played.window.size <= FIRST


def test_a_refusal_leaves_what_was_in_flight():
    """A server with a hard limit has told it."""
    played = Played()
    played.succeed(10)
    assert played.refuse(20) == 0
    assert played.window.size == 20


def test_a_burst_cuts_once():
    """Requests that were sent before a cut are no second reason: together they leave what was in flight after them."""
    played = Played()
    played.succeed(112)
    assert {played.window.throttled(others, 128 + 112, others) for others in range(127, 87, -1)} == {0}
    assert played.window.size == 88


def test_cuts_soon_one_after_the_other_go_deeper():
    """A server that has far less room than before is not followed down one by one."""
    played = Played()
    played.succeed(112)
    sizes = [played.window.size for _ in range(12) if played.refuse(played.window.size) is not None]
    assert sizes[0] == 128
    assert sizes[-1] < 32


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 600), st.booleans(), st.floats(0, 10)), max_size=300))
def test_it_stays_in_its_bounds(events):
    """Whatever happens in whatever order, the window is a number from 1 to the most there may be."""
    played = Played()
    for refused, others, full, seconds in events:
        if refused:
            played.refuse(others)
            played.window.paused(seconds)
        else:
            played.seconds = seconds
            played.succeed(full=full)
        assert 1 <= played.window.size <= MAX_SIZE


@given(st.integers(1, 256), st.integers(1, 256))
def test_one_cut_a_window(size, refused):
    """However many of one window are throttled, and in whatever order, nothing is taken beyond what they leave."""
    played = Played()
    played.window._size = float(size)
    played.sent = size
    refused = min(refused, size)
    for gone in range(1, refused + 1):
        played.window.throttled(size - gone + 1, size, size - gone)
    assert played.window.size == max(1, size - refused)


@given(st.integers(1, 400))
def test_it_finds_back(capacity):
    """A server that took nothing at all, and is back: 90 % of its capacity again after four windows (of fifty answers)."""
    played = Played()
    played.window._size = float(capacity)
    played.sent = 2 * capacity + 1
    for gone in range(1, capacity + 1):
        played.window.throttled(capacity + 1 + gone, played.sent, capacity - gone)
    assert played.window.size == 1
    answers = 0
    while played.window.size < 0.9 * capacity:
        played.seconds = 1 / played.window.size
        played.succeed()
        answers += 1
        if played.window.size > capacity:
            played.refuse(capacity)
        assert answers <= 4 * max(capacity, 50)


def test_trials_are_paid_for():
    """After a throttle the window is not tried again before fifty answers have come for every throttle of the last trial."""
    played = Played()
    played.succeed(4)
    played.refuse(10)
    played.succeed(49)
    assert played.window.size == 10
    played.succeed(3)
    assert played.window.size == 11
    played.refuse(10)
    for _ in range(3):  # a burst: the trial has cost four
        played.window.throttled(1, played.sent, 10)
    played.succeed(199)
    assert played.window.size == 10
    played.succeed(3)
    assert played.window.size == 11


@pytest.mark.parametrize(("others", "signs"), [(14, 0), (0, 2)])
def test_nothing_else_in_flight_speaks_for_counted_requests(others, signs):
    """A throttle of a request that was alone, after others were taken, is no limit on requests in flight."""
    played = Played()
    played.refuse(others)
    played.sent += 1  # taken
    assert played.refuse(others) == signs


def test_a_server_that_became_faster_is_used():
    """Throughput that rises by itself starts a trial of more at once."""
    played = Played()
    played.succeed(4000)
    before, most = played.window.size, 0
    played.seconds = 0.001
    for _ in range(3 * MIN_ROUND):
        played.succeed()
        most = max(most, played.window.size)
    assert most > before


# whole paths ----------------------------------------------------------------------------------------------------------


def turns(
    window: Window, answers: int, throughput: Callable[[int], float], slots: float = inf, full: bool = True
) -> list[tuple[int, int]]:
    """After how many answers a window turned round, and at which size, with its last one.

    `throughput`: the answers a second of so many in flight; of more than `slots` one is throttled.
    """
    now, sent, path = 0.0, 0, [(0, window.size)]
    for answer in range(1, answers + 1):
        now += 1.0 / throughput(window.size)
        sent += 1
        window.succeeded(now, sent, 1.0, 1.0, full)
        path.append((answer, window.size))
        if window.size > slots:
            sent += 1
            window.throttled(sent, sent, int(slots))
            path.append((answer, window.size))
    path = [next(same) for _, same in itertools.groupby(path, lambda place: place[1])]
    inner = (b for a, b, c in zip(path, path[1:], path[2:], strict=False) if (b[1] - a[1]) * (c[1] - b[1]) < 0)
    return [*inner, path[-1]]


@pytest.mark.parametrize(
    ("first", "capacity", "slots", "path"),
    [
        (16, 1, inf, [(80, 96), (1152, 1), (1561, 2), (1605, 1), (2398, 2), (2442, 1)]),
        (16, 10, inf, [(176, 192), (1279, 7), (1616, 22), (1949, 8), (2546, 23), (3136, 9), (3279, 14)]),
        (16, 40, inf, [(176, 192), (784, 34), (1499, 80), (2163, 32), (3194, 80), (3354, 53)]),
        (16, 150, inf, [(368, 384), (1136, 115), (3312, 294), (3900, 196)]),
        (16, 1000, inf, [(496, 512), (2288, 307), (2824, 512)]),
        (1, 40, inf, [(131, 132), (589, 23), (1172, 78), (1822, 31)]),
        (16, 1000, 1, [(1, 17), (1, 1), (53, 2), (53, 1), (105, 2), (105, 1)]),
        (16, 1000, 24, [(9, 25), (9, 24), (61, 25), (61, 24), (113, 25), (113, 24)]),
        (16, 1000, 100, [(85, 101), (85, 100), (187, 101), (187, 100)]),
        (16, 30, 60, [(45, 61), (45, 60), (107, 61), (107, 60)]),
    ],
)
def test_a_whole_path(first: int, capacity: int, slots: float, path: list[tuple[int, int]]) -> None:
    """Where a server queues, growth and ever rarer trials of less; where it throttles, probes that fifty answers pay for."""
    answers = 4000 if slots == inf else path[-1][0]
    assert turns(Window(first), answers, lambda size: min(size, capacity), slots)[: len(path)] == path


def shown(window: Window) -> tuple[object, ...]:
    """All that it tells."""
    facts = (window.is_new, window.is_limited, window.is_calm)
    return (window.size, round(window.settled, 2), window.capacity, *(int(fact) for fact in facts))


@pytest.mark.parametrize(
    ("answers", "facts"),
    [
        (0, (16, 16.0, 16, 1, 0, 0)),
        (49, (65, 48.0, 65, 1, 0, 0)),
        (200, (192, 96.0, 192, 0, 0, 0)),
        (500, (192, 96.0, 192, 0, 0, 1)),
        (800, (34, 57.6, 34, 0, 0, 1)),
        (1200, (53, 53.86, 40, 0, 0, 1)),
        (1600, (80, 53.86, 80, 0, 0, 1)),
        (2200, (32, 53.86, 32, 0, 0, 1)),
    ],
)
def test_what_it_tells_on_its_way(answers: int, facts: tuple[object, ...]) -> None:
    """Growing, holding, resting and trying less: size, what has proved right, what the server works on, what is known."""
    window = Window()
    turns(window, answers, lambda size: min(size, 40))
    assert shown(window) == facts


@pytest.mark.parametrize(
    ("answers", "calm"), [(9, False), (58, False), (59, True), (60, True), (61, False)], ids=lambda value: str(value)
)
def test_a_limited_window_is_calm_after_fifty_answers(answers: int, calm: bool) -> None:
    """Of a server with 24 slots it knows the limit, and has no queue to take off."""
    window = Window()
    turns(window, answers, lambda size: size, 24)
    assert shown(window) == (24, 24, 24, 0, 1, calm)


@pytest.mark.parametrize(
    ("size", "found", "limited", "facts", "path"),
    [
        (0.2, True, False, (1, 1.0, 1, 0, 0, 0), [(571, 8)]),
        (40.0, True, False, (40, 40.0, 40, 0, 0, 0), [(270, 135), (540, 54)]),
        (1000.0, True, True, (512, 512.0, 512, 0, 1, 0), [(0, 512)]),
        (40.0, True, True, (40, 40.0, 40, 0, 1, 0), [(240, 135), (510, 54)]),
        (40.0, False, False, (40, 40.0, 40, 1, 0, 0), [(248, 288)]),
    ],
)
def test_a_size_from_before(
    size: float, found: bool, limited: bool, facts: tuple[object, ...], path: list[tuple[int, int]]
) -> None:
    """One that was found is kept until a trial, one that only had grown grows on; none is below 1 or above 512."""
    window = Window()
    window.resume(size, found=found, limited=limited)
    assert shown(window) == facts
    assert turns(window, 600, lambda size: min(size, 60)) == path


def test_the_depth_of_cuts_in_a_row() -> None:
    """Each takes more than the one before, up to a quarter, or what was in flight if that is less."""
    played = Played()
    played.succeed(112)
    assert [(played.refuse(played.window.size), played.window.size) for _ in range(9)] == [
        (0, size) for size in (128, 126, 122, 114, 100, 75, 56, 42, 31)
    ]


def test_signs_of_a_rate_and_the_way_back() -> None:
    """Throttles although requests are accepted between them, deep below the first: signs. Half of it comes back at once."""
    played = Played()
    played.succeed(112)
    seen = []
    for others in (40, 20, 4, 0, 0, 2, 0):
        played.sent += 1  # accepted
        seen.append((played.refuse(others), played.window.size, played.window.starved_cuts))
    assert seen == [(0, 40, 0), (1, 20, 0), (1, 4, 0), (2, 1, 0), (2, 1, 0), (1, 1, 0), (2, 1, 0)]
    played = Played()
    played.succeed(112)
    seen = [(played.refuse(others), played.window.size, played.window.starved_cuts) for others in (100, 60, 4, 0, 0)]
    assert seen == [(0, 100, 0), (0, 60, 1), (0, 4, 2), (0, 1, 3), (0, 1, 4)]
    sizes = []
    for _ in range(70):
        played.succeed()
        sizes.append(played.window.size)
    assert sizes[:65] == [*range(2, 65), 64, 64]


@pytest.mark.parametrize("answers", [50, 300, 800, 1200, 1600, 2300])
@pytest.mark.parametrize("slots", [inf, 24])
def test_a_restored_window_continues(answers: int, slots: float) -> None:
    """What was written down as JSON behaves like the first one, whatever it was doing."""
    window, other = Window(), Window()
    turns(window, answers, lambda size: min(size, 40), slots)
    other.restore(json.loads(json.dumps(window.state())))
    assert shown(other) == shown(window)
    paths = [turns(each, 1500, lambda size: min(size, 40), slots) for each in (window, other)]
    assert paths[0] == paths[1]
    assert window.state() == other.state()


def test_a_new_window_is_calm_after_fifty_answers() -> None:
    """As one is after a throttle, and no sooner."""
    played = Played()
    played.succeed(49, full=False)
    assert not played.window.is_calm
    played.succeed(full=False)
    assert played.window.is_calm


def test_the_first_throttle_of_all() -> None:
    """No request was accepted before it; it leaves what is in flight, also of a size that was known."""
    window = Window()
    assert (window.throttled(1, 16, 15), window.size, window.starved_cuts) == (0, 15, 1)
    window = Window()
    window.resume(64.0, found=True, limited=False)
    window.throttled(1, 64, 64)
    assert window.size == 64


def test_the_last_request_sent_before_a_cut_belongs_to_it() -> None:
    """It was on its way, too."""
    window = Window()
    window.throttled(1, 16, 15)
    assert (window.throttled(16, 16, 14), window.size, window.starved_cuts) == (0, 14, 1)


def test_a_burst_that_is_no_trial_has_no_price() -> None:
    """A window that fell deep is tried again after fifty answers, however many were throttled."""
    played = Played()
    played.succeed(4)
    played.refuse(10)
    for _ in range(3):
        played.window.throttled(1, played.sent, 10)
    played.succeed(52)
    assert played.window.size == 11


def test_a_window_of_one_that_a_rate_explains_has_proved_nothing() -> None:
    """The next throttle is no further evidence of a rate."""
    window = Window(1)
    window.throttled(1, 1, 0)
    window.cleared()
    assert window.throttled(3, 3, 0) == 0


def test_a_server_that_becomes_faster_during_a_trial_of_less() -> None:
    """A larger one is tried after a single round, of 96 answers behind the 96 that belong to the round before."""
    window, now, sizes = Window(), 0.0, [0]
    for answer in range(1, 1000):
        now += 1.0 / min(window.size, 40 if answer < 600 else 60)
        window.succeeded(now, answer, 1.0, 1.0, True)
        sizes.append(window.size)
    assert [sizes[answer] for answer in (560, 783, 784, 976, 977, 980)] == [57, 57, 96, 96, 96, 98]


def test_cuts_that_a_rate_explains_are_taken_back():
    """Once throttles are known to count requests per time, the window is what it was before them, and not their limit."""
    played = Played()
    played.succeed(40)
    before = played.window.size
    for others in (30, 10, 4):
        played.refuse(others)
    assert played.window.size <= 4
    played.window.cleared()
    assert played.window.size == before
    assert not played.window.is_limited
    assert not played.window.is_new

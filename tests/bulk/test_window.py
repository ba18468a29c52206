"""The window that is detected: what cuts it, what it grows by, what it remembers."""

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
    for others in range(127, 87, -1):
        played.window.throttled(others, 128 + 112, others)
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

"""The pacer that slices of one call share: places, pauses and patience; arithmetic over times that are passed in."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nimclient import RetryPolicy
from nimclient.errors import ConnectError, RateLimitError
from support.capacity import DEFAULT_PATIENCE, MIN_PAUSE, Backlog, Pacer, RateLimit, Ticket

BUSY = ConnectError("x", kind="refused")


def limited(retry_after=None):
    return RateLimitError("x", status=429, retry_after=retry_after)


def never():
    return 0.0


def enter(pacer, now):
    """A new slice takes a place."""
    turn = Ticket()
    assert pacer.enter(now, turn) == 0.0
    return turn


def ask(pacer, now):
    """What a new slice is answered."""
    return pacer.enter(now, Ticket())


def refuse(pacer, now, error=BUSY, waited=0.0, random=never):
    """A request is sent, whatever the gate says, and throttled at the same moment."""
    pacer.in_flight += 1
    pacer.sent += 1
    return pacer.throttled(now, Ticket(pacer.sent, now, waited=waited), error, random)


def test_places_are_given_up_to_the_limit():
    """As many enter as the window holds; the next one waits until a place is given back, however the request ended."""
    pacer = Pacer(RetryPolicy(), 2)
    turns = [enter(pacer, 0.0), enter(pacer, 0.0)]
    assert ask(pacer, 0.0) == inf
    pacer.left()
    turns[0] = enter(pacer, 0.0)
    assert ask(pacer, 0.0) == inf
    pacer.succeeded(1.0, turns[0], 1.0)
    turns[0] = enter(pacer, 1.0)
    assert ask(pacer, 1.0) == inf
    assert pacer.throttled(1.0, turns[0], BUSY, never) == 0.5
    assert pacer.enter(1.5, turns[0]) == 0.0
    assert ask(pacer, 1.5) == inf
    assert (pacer.limit, pacer.in_flight, pacer.sent, pacer.throttles) == (2, 2, 5, 1)


def test_an_untold_concurrency_starts_in_the_middle():
    """None begins with a window for most servers; a number stays what it is."""
    assert Pacer(RetryPolicy()).limit == 16
    pacer = Pacer(RetryPolicy(), 3)
    for now in range(100):
        pacer.succeeded(now + 0.5, enter(pacer, now), 1.0)
    refuse(pacer, 100.0)
    assert (pacer.limit, pacer.requests_per_second) == (3, None)


@pytest.mark.parametrize(("patience", "expected"), [(None, DEFAULT_PATIENCE), (5, 5), (0, 0)])
def test_patience_is_that_of_the_policy(patience, expected):
    """None is two minutes, or what the kind of call finds right."""
    assert Pacer(RetryPolicy(patience=patience)).patience == expected
    assert Pacer(RetryPolicy(patience=patience), patience=900.0).patience == (900.0 if patience is None else patience)


def test_a_refusal_pauses_everyone():
    """One throttled slice closes the gate of a fixed window for all; it opens when the time has come."""
    pacer = Pacer(RetryPolicy(), 4)
    assert refuse(pacer, 100.0) == 0.5
    assert ask(pacer, 100.0) == 0.5
    assert ask(pacer, 100.2) == pytest.approx(0.3)
    assert ask(pacer, 100.5) == 0.0


def test_refusals_of_one_burst_count_once():
    """What was sent before the gate closed may be throttled, too; that does not make the pause longer."""
    pacer = Pacer(RetryPolicy(), 16)
    turns = [enter(pacer, 10.0) for _ in range(16)]
    assert [pacer.throttled(10.0, turn, BUSY, never) for turn in turns] == [0.5] * 16
    assert ask(pacer, 10.0) == 0.5
    assert refuse(pacer, 10.5) == 1.0


def test_refusals_in_a_row_double_the_pause_up_to_half_of_max_delay():
    """The pause doubles with every throttle that follows an open gate, and starts over after a success."""
    pacer = Pacer(RetryPolicy(), 4)
    now, pauses = 0.0, []
    for _ in range(10):
        pauses.append(refuse(pacer, now))
        now += pauses[-1]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    pacer.succeeded(now, enter(pacer, now), 1.0)
    assert refuse(pacer, now) == 0.5


def test_a_policy_without_delays_pauses_all_the_same():
    """A server that throttles everything is not asked as fast as the wire allows."""
    pacer = Pacer(RetryPolicy(first_delay=0.0, max_delay=0.0), 4)
    assert refuse(pacer, 0.0) == pytest.approx(MIN_PAUSE)


@pytest.mark.parametrize("concurrency", [4, None])
def test_the_servers_retry_after_is_the_pause(concurrency):
    """What the server asks for is what all slices wait; too much is None and leaves the gate as it was."""
    pacer = Pacer(RetryPolicy(), concurrency)
    enter(pacer, 0.0)
    assert refuse(pacer, 0.0, limited(10800)) is None
    assert ask(pacer, 0.0) == 0.0
    pacer.left()
    pacer.left()
    assert refuse(pacer, 0.0, limited(60)) == 60.0
    assert ask(pacer, 1.0) == 59.0


def test_a_window_that_is_found_out_does_not_pause_while_something_is_in_flight():
    """The throttled slice continues when a sibling is done: the cut is what keeps it waiting, not the time."""
    pacer = Pacer(RetryPolicy())
    first, second, third = (enter(pacer, 0.0) for _ in range(3))
    assert pacer.throttled(0.0, third, limited(), never) == 0.0
    assert (pacer.limit, pacer.enter(0.0, third)) == (2, inf)
    pacer.succeeded(1.0, first, 1.0)
    assert pacer.enter(1.0, third) == 0.0
    assert pacer.throttled(1.0, third, limited(), never) == 0.0
    pacer.left()
    assert pacer.enter(1.0, second) == 0.0
    assert pacer.throttled(1.0, second, limited(), never) > 0.0


def test_patience_is_spent_by_the_slices_own_refusals():
    """A slice may wait for `patience` seconds in all; the throttle after that is its failure."""
    pacer = Pacer(RetryPolicy(patience=10), 4)
    enter(pacer, 0.0)
    assert refuse(pacer, 0.0, limited(4), waited=6.0) == 4.0
    assert refuse(pacer, 5.0, limited(4), waited=6.5) is None


def test_waiting_counts_from_the_refusal_to_the_next_attempt():
    """Without a pause it is the time until the slice has a place again; standing in line counts for max_delay at most."""
    pacer = Pacer(RetryPolicy(max_delay=8))
    siblings = [enter(pacer, 0.0) for _ in range(4)]
    turn = enter(pacer, 0.0)
    assert pacer.throttled(0.0, turn, BUSY, never) == 0.0
    pacer.succeeded(3.0, siblings[0], 1.0)
    assert pacer.enter(3.0, turn) == 0.0
    assert turn.waited == 3.0
    assert pacer.throttled(4.0, turn, BUSY, never) == 0.0
    pacer.succeeded(1000.0, siblings[1], 1.0)
    assert pacer.enter(1000.0, turn) == 0.0
    assert turn.waited == 11.0


def test_an_outage_longer_than_the_patience_fails_every_slice():
    """What is throttled after the server took nothing for `patience` seconds is not held for as long again."""
    pacer = Pacer(RetryPolicy(patience=10), 4)
    now = 0.0
    while (pause := refuse(pacer, now)) is not None:
        now += pause
    assert 10 - 4 <= now <= 10
    assert refuse(pacer, now + 4) is None
    pacer.succeeded(now + 8, enter(pacer, now + 8), 1.0)
    assert refuse(pacer, now + 9) == 0.5


@given(st.floats(0, 1), st.floats(0, 10), st.floats(0, 1e6))
def test_gates_of_many_processes_open_one_after_the_other(random, first, now):
    """The pause has a jitter of up to first_delay, at most itself, and is never shorter than what was asked for."""
    pacer = Pacer(RetryPolicy(first_delay=first), 4)
    wait = refuse(pacer, now, limited(3), random=lambda: random)
    assert 3 - 1e-6 <= wait <= 3 + first + 1e-6
    assert ask(pacer, now) == wait


def test_nobody_rushes_when_the_gate_opens():
    """After a pause the window is filled one by one, twice as fast as answers came before."""
    pacer = Pacer(RetryPolicy(), 10)
    pacer.succeeded(1.0, enter(pacer, 0.0), 1.0)
    refuse(pacer, 1.0, limited(2))
    now, times = 3.0, []
    while len(times) < 10:
        if pause := ask(pacer, now):
            now += pause
        else:
            times.append(now)
    assert times == pytest.approx([3.0 + 0.05 * number for number in range(10)])


def test_a_server_that_takes_nothing_for_a_while_is_not_asked_with_every_answer():
    """Two cuts in a row with nothing taken between them: all pause until about half of what is in flight is done."""
    pacer = Pacer(RetryPolicy())
    turns = [enter(pacer, 0.0) for _ in range(12)]
    pacer.succeeded(0.4, turns.pop(), 1.0)
    for low, high in ((0.0, 0.0), (0.0, 0.0), (0.2, 0.3)):
        again = turns.pop()
        pause = pacer.throttled(1.0, again, BUSY, never)
        assert pause is not None
        assert low <= pause <= high
        while pacer.in_flight >= pacer.limit:
            pacer.succeeded(1.0, turns.pop(), 1.0)
        turns.append(enter(pacer, 2.0))


def test_a_window_that_has_only_grown_is_filled_evenly():
    """Answers that come all at once are not followed by twice as many requests at once: four, then one by one."""
    pacer = Pacer(RetryPolicy())
    for turn in [enter(pacer, 0.0) for _ in range(16)]:
        pacer.succeeded(1.0, turn, 1.0)
    now, times = 1.0, []
    while len(times) < pacer.limit:
        if pause := ask(pacer, now):
            now += pause
        else:
            times.append(now)
    assert len(times) == 31
    assert times[:4] == [1.0] * 4
    assert times[-1] == pytest.approx(1.0 + 26 / 62)


def test_a_plain_call_takes_the_next_place_under_the_rate():
    """A slice that waits has reserved nothing: a plain call that comes meanwhile goes first, the slice after it."""
    rate = RateLimit(60)
    pacer = Pacer(RetryPolicy(), 4, rate=rate)
    enter(pacer, 0.0)
    turn = Ticket()
    assert pacer.enter(0.25, turn) == 0.75
    assert rate.reserve(0.5) == 0.5
    assert pacer.enter(1.0, turn) == 1.0
    assert pacer.enter(2.0, turn) == 0.0


def test_a_slice_waits_for_its_place_under_the_rate():
    """The rate limit of the client is asked once a place; what passes while the gate is closed is not made up for."""
    pacer = Pacer(RetryPolicy(), 4, rate=RateLimit(60))
    assert [ask(pacer, 0.0), ask(pacer, 0.0), ask(pacer, 0.5)] == [0.0, 1.0, 0.5]
    refuse(pacer, 0.5, limited(2))
    assert ask(pacer, 1.0) == 1.5
    assert [ask(pacer, 2.5), ask(pacer, 2.5)] == [0.0, 1.0]


def test_a_reported_backlog_ends_the_growth():
    """The window grows while the servers report fewer waiting than half of what is in flight, and not beyond that."""
    backlog = Backlog()
    pacer = Pacer(RetryPolicy(), backlog=backlog)
    first = pacer.limit

    def answers(count, now):
        turns = [enter(pacer, now + number) for number in range(count)]
        for turn in turns:
            pacer.succeeded(now + count, turn, 1.0)

    backlog.record(first, 100.0)
    answers(first, 100.0 - first)
    assert pacer.limit == first
    backlog.record(1.0, 200.0)
    answers(first, 200.0 - first)
    assert pacer.limit > first
    grown = pacer.limit
    backlog.record(1000.0, 300.0)
    answers(grown, 400.0)
    assert pacer.limit > grown  # an old report


# slices in any order ---------------------------------------------------------------------------------------------------


class Pacing(RuleBasedStateMachine):
    """Slices enter, succeed, are throttled and leave in any order and at any time; `open` is the model: who has a slot."""

    def __init__(self):
        super().__init__()
        self.now = 100.0
        self.open = []
        self.waiting = []
        self.opens_at = 0.0
        self.throttled_count = self.entered = 0

    @initialize(concurrency=st.none() | st.integers(1, 40), rate=st.none() | st.floats(30, 6000))
    def make(self, concurrency, rate):
        limit = None if rate is None else RateLimit(rate)
        self.concurrency = concurrency
        self.pacer = Pacer(RetryPolicy(), concurrency, rate=limit)

    @rule(count=st.integers(1, 20))
    def enter(self, count):
        for _ in range(count):
            turn = self.waiting.pop() if self.waiting else Ticket()
            before = self.pacer.limit
            pause = self.pacer.enter(self.now, turn)
            assert pause >= 0.0
            assert (pause == inf) == (len(self.open) >= before)
            if pause:
                self.waiting.append(turn)
                return
            assert self.now >= self.opens_at - 1e-6
            self.open.append(turn)
            self.entered += 1

    @precondition(lambda self: self.open)
    @rule(first=st.integers(0, 20), seconds=st.floats(0.001, 3), count=st.integers(1, 20), work=st.floats(0.1, 100))
    def succeed(self, first, seconds, count, work):
        self.now += seconds
        for _ in range(min(count, len(self.open))):
            self.pacer.succeeded(self.now, self.open.pop(first % len(self.open)), work)

    @precondition(lambda self: self.open)
    @rule(
        first=st.integers(0, 20), seconds=st.floats(0, 2), count=st.integers(1, 20), after=st.none() | st.floats(0, 200)
    )
    def throttle(self, first, seconds, count, after):
        self.now += seconds
        for _ in range(min(count, len(self.open))):
            turn = self.open.pop(first % len(self.open))
            pause = self.pacer.throttled(self.now, turn, limited(after), lambda: 0.5)
            self.throttled_count += 1
            if pause is None:  # the slice's own failure
                assert after is not None or self.now - 100.0 + 8.0 > self.pacer.patience
                continue
            assert 0.0 <= pause <= self.pacer.patience
            self.opens_at = max(self.opens_at, self.now + pause)
            self.waiting.append(turn)

    @precondition(lambda self: self.open)
    @rule()
    def leave(self):
        self.open.pop()
        self.pacer.left()

    @rule(seconds=st.floats(0, 300))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def everybody_gets_a_slot_in_the_end(self):
        while self.open:
            self.leave()
        for _ in range(5):
            pause = self.pacer.enter(self.now, turn := Ticket())
            if not pause:
                break
            assert pause < 201.0 + 8.0
            self.now += pause + 1e-6
        assert not pause
        self.open.append(turn)
        self.entered += 1

    @invariant()
    def the_books_are_right(self):
        if not hasattr(self, "pacer"):
            return
        assert self.pacer.in_flight == len(self.open)
        assert self.pacer.sent == self.entered
        assert self.pacer.throttles == self.throttled_count
        assert 1 <= self.pacer.limit <= 512
        assert self.concurrency is None or self.pacer.limit == self.concurrency


TestPacing = Pacing.TestCase
TestPacing.settings = settings(stateful_step_count=20)

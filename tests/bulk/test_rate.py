"""Requests in a time: the limit that a user sets, and the one that throttles teach."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.capacity import CUSHION, OVERDUE, SIGNS, Cost, LearnedRate, RateLimit


@pytest.mark.parametrize(("rate", "spacing"), [(60, 1.0), (40, 1.5), (6000, 0.01), (0.5, 120.0)])
def test_the_rate_is_spaced_evenly(rate, spacing):
    """Requests that come at once get places a minute/rate apart."""
    limit = RateLimit(rate)
    assert [limit.reserve(100.0) for _ in range(4)] == pytest.approx([0.0, spacing, 2 * spacing, 3 * spacing])


def test_an_idle_limit_saves_nothing_up():
    """After a pause there is one free place, not a burst."""
    limit = RateLimit(60)
    limit.reserve(0.0)
    assert [limit.reserve(500.0) for _ in range(3)] == [0.0, 1.0, 2.0]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30).map(sorted))
def test_no_two_places_are_closer_than_the_spacing(times):
    """Whenever requests come, their places keep the distance."""
    limit = RateLimit(30)
    places = [now + limit.reserve(now) for now in times]
    assert all(b - a >= 2.0 - 1e-9 for a, b in itertools.pairwise(places))
    assert all(place >= now for place, now in zip(places, times, strict=True))


def test_tokens_are_spaced_by_what_is_expected_and_then_known():
    """Before the first answer a quarter of a token a byte and the maximum of the answer; then what was seen."""
    limit = RateLimit(None, 60_000)
    cost = Cost("chat", 400, 50)
    assert limit.reserve(0.0, cost) == 0.0
    assert cost.expected == 150.0
    assert limit.reserve(0.0, Cost("chat", 400, 0)) == pytest.approx(0.15)
    limit.settle(cost, 200, 20)
    later = Cost("chat", 800, 500)
    assert limit.reserve(1.0, later) == 0.0
    assert later.expected == 420.0
    assert limit.reserve(1.0, Cost("chat", 400, 5)) == pytest.approx(0.42 + 0.07), "the first took 70 more"


def test_what_was_not_taken_is_given_back_slowly():
    """At most twice the rate, and no more than some seconds' worth is kept."""
    limit = RateLimit(None, 60_000)
    for _ in range(3):
        cost = Cost("chat", 4, 100_000)
        limit.reserve(0.0, cost)
        limit.settle(cost, 0, 1000)
    places = [600.0 + limit.reserve(600.0, Cost("chat", 4, 1000)) for _ in range(30)]
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert gaps[:10] == pytest.approx([0.5] * 10), "what the last two of the three left"
    assert gaps[10:] == pytest.approx([1.0] * 19)


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 30_000), st.integers(0, 30_000)), min_size=2, max_size=40)
)
def test_tokens_are_conserved(requests):
    """In the long run the time between two places is what was taken, up to a minute's a call, but for the credit kept."""
    limit = RateLimit(None, 60_000)
    place = 0.0
    for size, prompt, completion in requests:
        cost = Cost("chat", size)
        place += limit.reserve(place, cost)
        limit.settle(cost, prompt, completion)
    place += limit.reserve(place, Cost("chat", 1))
    place += limit.reserve(place, Cost("chat", 1))
    taken = sum(prompt + completion for _, prompt, completion in requests) / 1000
    assert place >= taken - 6.0 - 1e-6


class Bucket:
    """A server that counts requests, and a client that sends as fast as its learned rate lets it."""

    def __init__(self):
        self.rate = LearnedRate()
        self.now = self.level = 0.0
        self.sent = 0

    def run(self, per_second, seconds):
        """The numbers of requests that were accepted and throttled."""
        taken = refused = 0
        end = self.now + seconds
        while self.now < end:
            pause = self.rate.pause(self.now)
            if not pause:
                self.sent += 1
                self.rate.sent(self.now, 1)
                if self.level >= 1.0:
                    self.level -= 1.0
                    taken += 1
                else:
                    refused += 1
                    self.rate.throttled(self.now, self.sent, self.sent, 2)
                pause = 0.001
            self.now += pause
            self.level += pause * per_second
        return taken, refused


def test_nothing_is_held_up_before_there_is_a_sign():
    """Throttles that a window explains teach no rate."""
    rate = LearnedRate()
    for place in range(1, 100):
        rate.sent(float(place), 8)
        rate.throttled(float(place), place, place, 0)
    assert (rate.per_second, rate.pause(100.0)) == (None, 0.0)


def test_signs_must_come_soon_one_after_the_other():
    """A calm between them makes them start over."""
    rate = LearnedRate()
    for place in range(1, 40):
        rate.sent(float(place), 8)
        rate.throttled(float(place), place, place, 1)
        if place % (SIGNS - 1) == 0:
            rate.calmed()
    assert rate.per_second is None


@pytest.mark.parametrize("per_second", [0.5, 2.0, 40.0])
def test_what_is_taken_between_two_refusals_is_the_rate(per_second):
    """After some throttling the rate is known to two percent, and few more requests are sent than the server gives."""
    server = Bucket()
    server.run(per_second, 100 / per_second)
    assert server.rate.per_second == pytest.approx(per_second, rel=0.05)
    taken, refused = server.run(per_second, 1000 / per_second)
    assert server.rate.per_second == pytest.approx(per_second, rel=0.02)
    assert taken >= 990
    assert 1 <= refused <= 50


def test_a_server_that_gives_more_is_noticed():
    """Without throttling for long the excess doubles, again and again; the next throttles show the new rate."""
    server = Bucket()
    server.run(2.0, 100.0)
    server.run(20.0, 400.0)
    assert server.rate.per_second == pytest.approx(20.0, rel=0.05)


def test_a_server_that_gives_less_is_noticed():
    """Throttles that come too soon show the new rate, too."""
    server = Bucket()
    server.run(20.0, 100.0)
    server.run(2.0, 100.0)
    taken, refused = server.run(2.0, 100.0)
    assert server.rate.per_second == pytest.approx(2.0, rel=0.05)
    assert refused <= 0.1 * taken


def test_a_rate_that_holds_nothing_up_is_forgotten():
    """Where the window sends less than the rate allows, the rate is no news."""
    server = Bucket()
    server.run(2.0, 100.0)
    rate = server.rate
    assert rate.per_second is not None
    for number in range(OVERDUE + 1):
        assert rate.pause(1000.0 + number * 10) == 0.0
        rate.sent(1000.0 + number * 10, 4)
    assert rate.per_second is None


def test_a_client_that_is_late_keeps_the_rate():
    """On a busy machine requests leave later than the rate allows: only a full window shows that the rate is no news."""
    server = Bucket()
    server.run(2.0, 100.0)
    rate = server.rate
    for number in range(OVERDUE + 1):
        rate.sent(1000.0 + number * 10, 4, full=False)
    assert rate.per_second == pytest.approx(2.0, rel=0.05)


def test_some_requests_are_saved_up_after_a_throttle():
    """The next one comes some spacings later, however many of a burst are throttled: what is late has room then."""
    rate = LearnedRate()
    rate.resume(2.0)
    for number in range(1, 41):
        rate.sent(number / 2, 8)
    for number in (38, 39, 40):
        rate.throttled(20.0, number, 40, 0)
    assert rate.pause(20.0) == pytest.approx(CUSHION / 2.0, rel=0.2)


def test_nothing_is_saved_up_where_that_does_not_help():
    """A throttle that comes soon after another one holds back one request, not more."""
    rate = LearnedRate()
    rate.resume(2.0)
    for number in range(1, 8):
        rate.sent(number / 2, 8)
    rate.throttled(3.5, 7, 7, 0)
    assert rate.pause(3.5) <= 1.0 / 2.0

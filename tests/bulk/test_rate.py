"""Requests in a time: the limit that a user sets, and the one that throttles teach."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.capacity import CUSHION, OVERDUE, SIGNS, Cost, LearnedRate, RateLimit, Users


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


def test_full_windows_are_counted_from_the_last_that_was_not():
    """A request that did not wait for the window begins the count again; one more than OVERDUE end the rate."""
    rate = LearnedRate()
    rate.resume(2.0)
    rate.sent(0.0, 4, full=False)
    for number in range(1, OVERDUE + 1):
        rate.sent(number * 10.0, 4, full=True)
    assert rate.per_second is not None
    rate.sent(1000.0, 4, full=True)
    assert rate.per_second is None


def test_some_requests_are_saved_up_after_a_throttle():
    """The next one comes some spacings later, however many of a burst are throttled: what is late has room then."""
    rate = LearnedRate()
    rate.resume(2.0)
    for number in range(1, 41):
        rate.sent(number / 2, 8)
    for number in (38, 39, 40):
        rate.throttled(20.0, number, 40, 0)
    assert rate.pause(20.0) == pytest.approx(CUSHION / 2.0, rel=0.2)


@pytest.mark.parametrize(("count", "held_back"), [(7, 1), (15, 1), (16, CUSHION)])
def test_nothing_is_saved_up_where_that_does_not_help(count, held_back):
    """A throttle that comes sooner than sixteen requests after another one holds back one request, not more."""
    rate = LearnedRate()
    rate.resume(2.0)
    for number in range(1, count + 1):
        rate.sent(number / 2, 8)
    rate.throttled(count / 2, count, count, 0)
    assert rate.pause(count / 2) == pytest.approx(held_back / 2.0, rel=0.1)


# tokens ---------------------------------------------------------------------------------------------------------------


def expected(limit, *cost):
    """The tokens that a limit expects of a request."""
    request = Cost(*cost)
    limit.reserve(0.0, request)
    return request.expected


@pytest.mark.parametrize(
    ("cost", "tokens"), [(("chat", 400), 356.0), (("chat", 400, 0), 100.0), (("chat", 10**6, 8), 8200.0)]
)
def test_what_is_expected_before_the_first_answer(cost, tokens):
    """A quarter of a token a byte, at most 8,192 of them, and 256 for an answer without a maximum."""
    assert expected(RateLimit(None, 60_000), *cost) == tokens


@pytest.mark.parametrize("before", [31, 32])
def test_what_was_seen_fades_after_32_answers(before):
    """The 32 latest answers count like a mean; from the 33rd on each takes a 32nd from what the older ones say."""
    limit = RateLimit(None, 10**9)
    for _ in range(before):
        limit.settle(Cost("chat", 4), 1, 10)
    limit.settle(Cost("chat", 4), 97, 330)
    assert expected(limit, "chat", 8) == 8.0 + 20.0
    assert expected(limit, "chat", 8, 5) == 8.0 + 5.0
    assert expected(limit, "embed", 8, 0) == 2.0, "another kind"


def test_a_request_without_a_body_has_one_byte():
    """What it took is known by the byte all the same."""
    limit = RateLimit(None, 60_000)
    limit.settle(Cost("chat", 0), 5, 0)
    assert expected(limit, "chat", 3) == 15.0


@pytest.mark.parametrize("usage", [(10**15, 0), (0, 10**15)])
def test_no_request_takes_more_than_a_minutes_tokens(usage):
    """A server that reports more would have rejected it: the next ones wait for two minutes, not for ever."""
    limit = RateLimit(None, 60_000)
    cost = Cost("chat", 4, 60_000)
    limit.reserve(0.0, cost)
    limit.settle(cost, *usage)
    limit.reserve(61.0, Cost("chat", 4, 60_000))
    assert limit.reserve(61.0, Cost("chat", 4, 60_000)) == pytest.approx(120.0)


def test_a_request_that_was_not_reserved_counts_whole():
    """All that it took delays the next ones."""
    limit = RateLimit(None, 60_000)
    limit.settle(Cost("chat", 4), 5, 5)
    assert limit.reserve(0.0, Cost("chat", 4, 0)) == 0.0
    assert limit.reserve(0.0, Cost("chat", 4, 0)) == pytest.approx(0.015)


def test_a_request_without_a_cost_takes_no_tokens():
    """Under a limit of tokens it waits for what others took, and delays nobody."""
    limit = RateLimit(None, 60_000)
    limit.reserve(0.0, Cost("chat", 4_000, 0))
    assert [limit.reserve(0.0), limit.reserve(0.0)] == [1.0, 1.0]


def test_tokens_matter_only_where_they_are_limited():
    """A limit of requests alone spaces a request of any size alike."""
    limit = RateLimit(60)
    cost = Cost("chat", 10**6)
    assert limit.reserve(0.0, cost) == 0.0
    limit.settle(cost, 10**6, 10**6)
    assert limit.schedule(cost) == (1.0, 1.0)
    assert (limit.pause(0.25), limit.pause(1.0), limit.pause(2.0)) == (0.75, 0.0, 0.0)
    assert RateLimit(600).schedule(None) == RateLimit(600).schedule(cost) == (0.0, 0.1)


@pytest.mark.parametrize(("per_minute", "at", "small", "large"), [(60, 3.0, 1.0, 3.0), (6, 10.0, 10.0, 10.0)])
def test_the_stricter_limit_decides(per_minute, at, small, large):
    """Of requests and tokens that which comes later; a schedule reserves nothing."""
    limit = RateLimit(per_minute, 60_000)
    limit.reserve(0.0, Cost("chat", 12_000, 0))
    assert limit.schedule(None) == (at, 60 / per_minute)
    assert limit.schedule(Cost("chat", 400, 100)) == (at, small)
    assert limit.schedule(Cost("chat", 12_000, 0)) == (at, large)
    assert (limit.pause(at - 0.5), limit.pause(at), limit.pause(at + 1)) == (0.5, 0.0, 0.0)


def test_a_little_late_is_on_time():
    """With slack the place after a request that is late by no more keeps its time; the rest of the delay is lost."""
    limit = RateLimit(60, slack=0.5)
    assert limit.reserve(0.5) == 0.0
    assert limit.reserve(1.25) == 0.0
    assert limit.reserve(1.25) == 0.75
    assert limit.reserve(10.0) == 0.0
    assert limit.reserve(10.0) == 0.5


def test_a_restored_limit_continues():
    """What was written down as JSON gives the places that the first one would have given."""
    limit = RateLimit(60, 60_000)
    for size in (400, 80_000, 4):
        cost = Cost("chat", size)
        limit.reserve(1.0, cost)
        limit.settle(cost, size, 100)
    limit.reserve(2.0, Cost("chat", 400, 3_000))
    other = RateLimit(60, 60_000)
    other.restore(json.loads(json.dumps(limit.state())))
    assert [other.schedule(Cost("chat", 9)), other.schedule(None)] == [
        limit.schedule(Cost("chat", 9)),
        limit.schedule(None),
    ]
    assert other.schedule(None)[0] > 2.0
    places = [[each.reserve(2.0, Cost("chat", size)) for size in (4, 4_000, 40)] for each in (limit, other)]
    assert places[0] == places[1]


def test_room_for_users():
    """For each plain call in flight, and for one while the last was sent less than ten seconds ago."""
    users = Users()
    assert users.room(0.0) == 0
    users.last = 100.0
    assert (users.room(109.9), users.room(110.0)) == (1, 0)
    users.open.update({1, 2})
    assert users.room(500.0) == 2


# what throttles teach -------------------------------------------------------------------------------------------------


def learned(accepted, seconds):
    """A rate that is known from so many accepted requests in so many seconds, and one that was throttled at their end."""
    rate = LearnedRate()
    for place in range(accepted + 1):
        rate.sent(seconds * place / accepted, 1)
    rate.throttled(seconds, accepted + 1, accepted + 1, SIGNS)
    return rate


def send(rate, times, now=0.0):
    for _ in range(times):
        rate.sent(now, 1)


def test_the_fourth_sign_teaches_the_rate():
    """It is what was accepted since the last throttle without a sign, by the time; then some are held back."""
    rate = LearnedRate()
    send(rate, 5)
    rate.throttled(2.0, 5, 5, SIGNS - 1)
    assert (rate.per_second, rate.pause(2.0)) == (None, 0.0)
    send(rate, 1)
    rate.throttled(2.0, 6, 6, 1)
    assert rate.per_second == 2.0
    assert (rate.next_at, rate.pause(2.0), rate.pause(4.0)) == (2.0 + CUSHION / 2.0, 2.0, 0.0)


@pytest.mark.parametrize(("seq", "per_second"), [(9, 1.5), (6, 1.5), (5, 2.0)])
def test_a_throttle_without_a_sign_starts_over(seq, per_second):
    """Time and requests are counted from it; one that was sent before it and is throttled later was not among them."""
    rate = LearnedRate()
    send(rate, 5)
    rate.throttled(10.0, 4, 5, 0)
    send(rate, 4)
    rate.throttled(12.0, seq, 9, SIGNS)
    assert rate.per_second == per_second


def test_a_calm_takes_every_sign_back():
    """Four more are needed after it, not three."""
    rate = LearnedRate()
    send(rate, 9)
    rate.throttled(1.0, 9, 9, SIGNS - 1)
    rate.calmed()
    rate.throttled(2.0, 0, 9, SIGNS - 1)
    assert rate.per_second is None
    rate.throttled(4.0, 0, 9, 1)
    assert rate.per_second == 2.0


@pytest.mark.parametrize(("accepted", "now"), [(0, 1.0), (1, 0.0)])
def test_nothing_accepted_or_no_time_is_no_rate(accepted, now):
    """There is nothing to divide, whatever the signs."""
    rate = LearnedRate()
    send(rate, accepted + 1)
    rate.throttled(now, accepted + 1, accepted + 1, SIGNS)
    assert rate.per_second is None


@pytest.mark.parametrize(("accepted", "seconds", "per_second"), [(1, 2.0, 0.5), (8, 0.5, 16.0)])
def test_one_request_and_half_a_second_are_enough(accepted, seconds, per_second):
    """A rate needs something that was accepted and some time, no more; a better estimate of a fast server takes no longer."""
    rate = learned(accepted, seconds)
    assert rate.per_second == per_second
    send(rate, 9, seconds)
    rate.throttled(seconds + 0.25, accepted + 10, accepted + 10, 1)
    assert rate.per_second == (accepted + 8) / (seconds + 0.25)
    rate.resume(4.0)
    rate.throttled(10.0, accepted + 10, accepted + 10, 1)
    send(rate, 8, 10.0)
    rate.throttled(10.5, 0, accepted + 18, 1)
    assert rate.per_second == 8 / 0.5


def test_a_known_rate_spaces_requests():
    """Two percent closer than the server takes them; one that is late is followed by one place at most."""
    rate = learned(4, 2.0)
    rate.sent(rate.next_at, 1)
    assert rate.next_at == pytest.approx(2.0 + CUSHION / 2.0 + 0.5 / 1.02)
    rate.sent(10.0, 1)
    assert rate.next_at == pytest.approx(9.5 + 0.5 / 1.02)


@pytest.mark.parametrize(("accepted", "doubted"), [(3, 8), (4, 8), (20, 40), (100, 64)])
def test_a_rate_is_doubted_the_later_the_more_it_is_made_of(accepted, doubted):
    """After twice as many requests without a throttle, from 8 to 64, the excess doubles, and again; a throttle ends that."""
    rate = learned(accepted, accepted / 2.0)
    steps = []
    for _ in range(2 * doubted + 2):
        now = rate.next_at
        assert rate.pause(now - 0.25) == 0.25
        rate.sent(now, 1)
        steps.append(rate.next_at - now)
    excesses = [0.02] * doubted + [0.04] * (doubted + 1) + [0.08]
    assert steps == pytest.approx([0.5 / (1 + excess) for excess in excesses])
    rate.throttled(rate.next_at, 0, 0, 1)
    now, spacing = rate.next_at, 1 / rate.per_second
    rate.sent(now, 1)
    assert rate.next_at - now == pytest.approx(spacing / 1.02)


@pytest.mark.parametrize(("window", "most"), [(4, 64), (40, 80)])
def test_a_rate_is_forgotten_after_so_many_that_did_not_wait(window, most):
    """Two windows, at least 64. Then four signs are needed again."""
    rate = learned(100, 50.0)
    for _ in range(3):
        rate.sent(rate.next_at, window)
    assert rate.pause(rate.next_at - 0.25) == 0.25, "this one waited: the count begins"
    for _ in range(most):
        assert rate.pause(rate.next_at) == 0.0
        rate.sent(rate.next_at, window)
        assert rate.per_second == 2.0
    rate.sent(rate.next_at, window)
    assert rate.per_second is None
    rate.throttled(200.0, 300, 300, SIGNS - 1)
    assert rate.per_second is None
    rate.throttled(200.0, 301, 301, 1)
    assert rate.per_second is not None


def test_a_new_rate_is_not_forgotten_early():
    """The requests before the throttle that taught it are not among those that did not wait."""
    rate = learned(100, 50.0)
    for _ in range(OVERDUE):
        rate.sent(1000.0, 1)
    assert rate.per_second == 2.0
    rate.sent(1000.0, 1)
    assert rate.per_second is None


def test_few_requests_change_no_rate():
    """Eight that were accepted since the last estimate are enough, seven are not; what they are is all since it began."""
    rate = learned(4, 2.0)
    send(rate, 4, 3.0)
    rate.throttled(4.0, 9, 9, 1)
    assert rate.per_second == 2.0
    send(rate, 2, 4.5)
    rate.throttled(5.0, 11, 11, 1)
    assert rate.per_second == 8 / 5.0


@pytest.mark.parametrize(("more", "first", "second"), [(45, 48 / 24.0, 8 / 2.0), (44, 47 / 24.0, 55 / 26.0)])
def test_after_48_the_next_estimate_begins(more, first, second):
    """So that a server that changes is noticed; fewer are kept for a better one."""
    rate = learned(4, 2.0)
    send(rate, more, 20.0)
    rate.throttled(24.0, 5 + more, 5 + more, 1)
    assert rate.per_second == first
    send(rate, 9, 25.0)
    rate.throttled(26.0, 14 + more, 14 + more, 1)
    assert rate.per_second == second


def test_a_rate_from_before_is_kept_over_the_first_throttle():
    """The server may have saved up quota: requests are counted from the throttle that shows that it is spent."""
    rate = LearnedRate()
    rate.resume(5.0)
    send(rate, 40)
    rate.throttled(1.0, 40, 40, SIGNS)
    assert rate.per_second == 5.0
    send(rate, 9, 1.0)
    rate.throttled(1.0, 49, 49, 1)
    assert rate.per_second == 5.0, "no time has passed"
    rate.throttled(3.0, 40, 49, 1)
    assert rate.per_second == 8 / 2.0


def test_a_rate_from_before_begins_at_once():
    """The first request has its place now; after 64 without a throttle it is doubted, or forgotten if none had to wait."""
    rate = LearnedRate()
    rate.resume(2.0)
    assert rate.pause(0.0) == 0.0
    steps = []
    for _ in range(OVERDUE + 1):
        now = rate.next_at
        assert rate.pause(now - 0.25) == 0.25
        rate.sent(now, 1)
        steps.append(rate.next_at - now)
    assert steps == pytest.approx([0.5 / 1.02] * OVERDUE + [0.5 / 1.04])
    rate = LearnedRate()
    rate.resume(2.0)
    send(rate, OVERDUE, 1000.0)
    assert rate.per_second == 2.0
    send(rate, 1, 1000.0)
    assert rate.per_second is None


def test_no_rate_from_before_is_a_new_beginning():
    """As if nothing had been resumed."""
    rate = LearnedRate()
    rate.resume(None)
    send(rate, 5)
    rate.throttled(2.0, 5, 5, SIGNS)
    assert rate.per_second == 2.0


@pytest.mark.parametrize("known", [True, False])
def test_a_restored_rate_continues(known):
    """What was written down as JSON, without what is not known, behaves like the first one."""
    rate = learned(20, 10.0) if known else LearnedRate()
    send(rate, 3, 10.5)
    written = json.dumps(rate.state())
    assert "null" not in written
    other = LearnedRate()
    other.restore(json.loads(written))
    seen = []
    for each in (rate, other):
        each.throttled(12.0, 24, 24, SIGNS)
        send(each, 2, 12.0)
        seen.append((each.per_second, each.next_at, each.pause(12.0)))
    assert seen[0] == seen[1]
    assert seen[0][0]

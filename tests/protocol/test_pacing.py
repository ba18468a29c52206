"""The pacer that slices of one call share, and the rate limit: arithmetic over times that are passed in."""

import itertools
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient._config import RetryPolicy
from nimclient._protocol.pacing import DEFAULT_PATIENCE, FIRST_LIMIT, Pacer, RateLimit
from nimclient.errors import ConnectError, RateLimitError

BUSY = ConnectError("x", kind="refused")


def limited(retry_after=None):
    return RateLimitError("x", status=429, retry_after=retry_after)


def never():
    return 0.0


def always():
    return 1.0


def refuse(pacer, now, error=BUSY, waited=0.0, random=never):
    """A request is sent and refused at the same moment."""
    pacer.in_flight += 1
    return pacer.refused(now, 0.0, error, waited, random)


def test_places_are_given_up_to_the_limit():
    """As many enter as the window holds; the next one waits until a place is given back, however the request ended."""
    pacer = Pacer(RetryPolicy(), 2)
    assert [pacer.enter(0.0) for _ in range(3)] == [0.0, 0.0, inf]
    pacer.left()
    assert [pacer.enter(0.0) for _ in range(2)] == [0.0, inf]
    pacer.succeeded(1.0, 1.0, 1.0)
    assert [pacer.enter(1.0) for _ in range(2)] == [0.0, inf]
    assert pacer.refused(1.0, 0.0, BUSY, 0.0, never) == 0.5
    assert [pacer.enter(1.5) for _ in range(2)] == [0.0, inf]
    assert (pacer.limit, pacer.in_flight, pacer.refusals) == (2, 2, 1)


def test_an_untold_concurrency_starts_in_the_middle():
    """None begins with a window for most servers."""
    assert Pacer(RetryPolicy()).limit == FIRST_LIMIT


@pytest.mark.parametrize(("patience", "expected"), [(None, DEFAULT_PATIENCE), (5, 5), (0, 0)])
def test_patience_is_that_of_the_policy(patience, expected):
    """None is two minutes, or what the kind of call finds right."""
    assert Pacer(RetryPolicy(patience=patience)).patience == expected
    assert Pacer(RetryPolicy(patience=patience), patience=900.0).patience == (900.0 if patience is None else patience)


def test_a_refusal_pauses_everyone():
    """One refused slice closes the gate for all; it opens when the time has come."""
    pacer = Pacer(RetryPolicy(), 4)
    assert refuse(pacer, 100.0) == 0.5
    assert pacer.enter(100.0) == 0.5
    assert pacer.enter(100.2) == pytest.approx(0.3)
    assert pacer.enter(100.5) == 0.0


def test_refusals_of_one_burst_count_once():
    """Slices that are refused while the gate is closed wait for it; they do not make it longer."""
    pacer = Pacer(RetryPolicy(), 16)
    assert [refuse(pacer, 10.0) for _ in range(16)] == [0.5] * 16
    assert pacer.enter(10.0) == 0.5


def test_refusals_in_a_row_double_the_pause_up_to_half_of_max_delay():
    """The pause doubles with every refusal that follows an open gate, and starts over after a success."""
    pacer = Pacer(RetryPolicy(), 4)
    now, pauses = 0.0, []
    for _ in range(100):
        pauses.append(refuse(pacer, now))
        now += pauses[-1]
    assert pauses[:6] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert pauses[-1] == 4.0
    assert pacer.enter(now) == 0.0
    pacer.succeeded(now, 1.0, 1.0)
    assert refuse(pacer, now) == 0.5


def test_the_servers_retry_after_is_the_pause():
    """What the server asks for is what all slices wait; too much is None and leaves the gate as it was."""
    pacer = Pacer(RetryPolicy(), 4)
    assert refuse(pacer, 0.0, limited(10800)) is None
    assert pacer.enter(0.0) == 0.0
    assert refuse(pacer, 0.0, limited(60)) == 60.0
    assert pacer.enter(1.0) == 59.0


def test_patience_is_spent_by_the_slices_own_refusals():
    """A slice may wait for `patience` seconds in all; the refusal after that is its failure."""
    pacer = Pacer(RetryPolicy(patience=10), 4)
    assert refuse(pacer, 0.0, limited(4), waited=6.0) == 4.0
    assert refuse(pacer, 5.0, limited(4), waited=6.5) is None


@given(st.floats(0, 1), st.floats(0, 10), st.floats(0, 1e6))
def test_gates_of_many_processes_open_one_after_the_other(random, first, now):
    """The pause has a jitter of up to first_delay, and is never shorter than what was asked for."""
    pacer = Pacer(RetryPolicy(first_delay=first), 4)
    wait = refuse(pacer, now, limited(3), random=lambda: random)
    assert 3 - 1e-6 <= wait <= 3 + first + 1e-6
    assert pacer.enter(now) == wait


def test_a_slice_waits_for_its_place_under_the_rate():
    """The rate limit of the client is asked once a place; what passes while the gate is closed is not made up for."""
    rate = RateLimit(60)
    pacer = Pacer(RetryPolicy(), 4, rate=rate)
    assert [pacer.enter(0.0), pacer.enter(0.0), pacer.enter(0.5)] == [0.0, 1.0, 0.5]
    refuse(pacer, 0.5, limited(2))
    assert pacer.enter(1.0) == 1.5
    assert [pacer.enter(2.5), pacer.enter(2.5)] == [0.0, 1.0]


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

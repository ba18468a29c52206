"""The gate that slices of one call share, and the rate limit: arithmetic over times that are passed in."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient._config import RetryPolicy
from nimclient._protocol.pacing import DEFAULT_PATIENCE, Gate, RateLimit
from nimclient.errors import ConnectError, RateLimitError

BUSY = ConnectError("x", kind="refused")


def limited(retry_after=None):
    return RateLimitError("x", status=429, retry_after=retry_after)


def never():
    return 0.0


def always():
    return 1.0


def test_a_gate_is_open_at_first():
    """Nothing waits before the first refusal."""
    assert Gate(RetryPolicy()).pause(0.0) == 0.0
    assert Gate(RetryPolicy()).pause(1e9) == 0.0


@pytest.mark.parametrize(("patience", "expected"), [(None, DEFAULT_PATIENCE), (5, 5), (0, 0)])
def test_patience_is_that_of_the_policy(patience, expected):
    """None is two minutes."""
    assert Gate(RetryPolicy(patience=patience)).patience == expected


def test_a_refusal_pauses_everyone():
    """One refused slice closes the gate for all; it opens when the time has come."""
    gate = Gate(RetryPolicy())
    assert gate.refused(100.0, BUSY, never) == 0.5
    assert gate.pause(100.0) == 0.5
    assert gate.pause(100.2) == pytest.approx(0.3)
    assert gate.pause(100.5) == 0.0
    assert gate.pause(200.0) == 0.0


def test_refusals_of_one_burst_count_once():
    """Slices that are refused while the gate is closed wait for it; they do not make it longer."""
    gate = Gate(RetryPolicy())
    assert [gate.refused(10.0, BUSY, never) for _ in range(16)] == [0.5] * 16
    assert gate.pause(10.0) == 0.5


def test_refusals_in_a_row_double_the_pause_up_to_half_of_max_delay():
    """The pause doubles with every refusal that follows an open gate, and starts over after a success."""
    gate = Gate(RetryPolicy())
    now, pauses = 0.0, []
    for _ in range(100):
        pauses.append(gate.refused(now, BUSY, never))
        now += pauses[-1]
    assert pauses[:6] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert pauses[-1] == 4.0
    gate.succeeded()
    assert gate.refused(now, BUSY, never) == 0.5


def test_the_servers_retry_after_is_the_pause():
    """What the server asks for is what all slices wait; too much is None and leaves the gate as it was."""
    gate = Gate(RetryPolicy())
    assert gate.refused(0.0, limited(10800), never) is None
    assert gate.pause(0.0) == 0.0
    assert gate.refused(0.0, limited(60), never) == 60.0
    assert gate.pause(1.0) == 59.0


@given(st.floats(0, 1), st.floats(0, 10), st.floats(0, 1e6))
def test_the_wait_of_one_slice_is_the_pause_and_less_than_first_delay(random, first, now):
    """Slices come back spread over first_delay after the gate opens, never before it."""
    gate = Gate(RetryPolicy(first_delay=first))
    wait = gate.refused(now, BUSY, lambda: random)
    assert gate.pause(now) <= wait <= gate.pause(now) + first


def test_jitter_is_added_to_the_pause():
    """The full jitter is first_delay."""
    assert Gate(RetryPolicy(first_delay=0.5)).refused(0.0, limited(3), always) == 3.5


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

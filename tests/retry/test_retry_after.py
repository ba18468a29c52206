"""Retry-After in all its spellings is a number of seconds, or as if it were not there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient._retry.retry_after import retry_after, wait_in_words

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
LATER = "Wed, 21 Oct 2026 07:28:30 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 3 "}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "10800"}, 10800.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "3 seconds"}, None),
        ({"retry-after": "3, 7"}, 3.0),
        ({"retry-after": "soon, 7"}, 7.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "-1"}, 0.0),
        ({"retry-after": LATER, "date": DATE}, 30.0),
        ({"retry-after": DATE, "date": LATER}, 0.0),
        ({"retry-after": LATER}, None),
        ({"retry-after": LATER, "date": "yesterday"}, None),
        ({"retry-after": LATER.replace("GMT", "-0000"), "date": DATE}, None),
        ({"retry-after": f"{LATER}, 5", "date": DATE}, 30.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT", "date": DATE}, 251609733119.0),
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT", "date": DATE}, None),
    ],
)
def test_retry_after_in_its_spellings(headers, seconds):
    """Seconds, fractions, milliseconds and dates against the response's own Date; what cannot be read is not there."""
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Limit 15000, Used 11972, Requested 4351. Please try again in 5.289s. Visit https://x", 5.289),
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 1.1234567891.5s.", 2.623456789),  # a number as no server should write it
        ("Please try again in 1m2.5s.", 62.5),
        ("Please try again in 7h12m0s", 25920.0),
        ("Please retry after 45 seconds. Please go here: https://x", 45.0),
        ("Please retry in 2 minutes", 120.0),
        ("retry after 3", 3.0),
        ("try again in 30 days", None),
        ("retry after 3 attempts", None),
        ("try again later", None),
        ("", None),
    ],
)
def test_the_wait_in_words(words: str, seconds: float | None) -> None:
    """What OpenAI, Groq, Azure and Gemini write into the error; what cannot be read is not there."""
    assert wait_in_words(words) == pytest.approx(seconds)


@settings(deadline=None)
@given(st.text(max_size=40) | st.floats().map(str), st.text(max_size=40) | st.just(DATE))
def test_any_retry_after_is_none_or_not_negative(value, date):
    """Garbage never raises and never gives a negative or endless wait."""
    seconds = retry_after({"retry-after": value, "date": date, "retry-after-ms": value[::-1]})
    assert seconds is None or 0 <= seconds < float("inf")

"""Parses `Retry-After`, its variants, and what the text of an error says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nimclient._retry.wording import WAIT, WAIT_PART

_IN_SECONDS = ("retry-after", "llm_provider-retry-after")
_SECONDS = {
    **dict.fromkeys(("ms", "milliseconds"), 0.001),
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
_IN_MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms", "llm_provider-retry-after-ms")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as requested by the server: `retry-after-ms`, `Retry-After` in seconds or as a date, else None.

    Azure has its own header for milliseconds; LiteLLM forwards the provider's headers with the prefix `llm_provider-`.
    A date is measured against the response's own `Date`, not against the local clock. Negative values and dates in
    the past are 0; of several values the first valid one counts; invalid values are ignored.
    """
    for name in _IN_MILLISECONDS:
        milliseconds = _number(headers.get(name, ""))
        if milliseconds is not None:
            return milliseconds / 1000
    for name in _IN_SECONDS:
        value = headers.get(name, "")
        for part in (value, *value.split(",")) if value else ():
            seconds = _number(part)
            if seconds is None:
                seconds = _seconds_until(part, headers.get("date"))
            if seconds is not None:
                return seconds
    return None


def wait_in_words(text: str) -> float | None:
    """Seconds to wait as the text of an error says: "Please try again in 1m2.5s", "retry after 45 seconds"; else None."""
    found = WAIT.search(text)
    parts: list[tuple[str, str]] = re.findall(WAIT_PART, found[1].lower()) if found is not None else []
    if not parts or any(unit not in _SECONDS for _, unit in parts):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(number, 0.0) if number - number == 0 else None  # infinity and NaN are invalid


def _seconds_until(text: str, now: str | None) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        then = parsedate_to_datetime(text)
        base = parsedate_to_datetime(now) if now else None
        return None if base is None else max((then - base).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None

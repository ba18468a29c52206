"""nimclient.plot: what it takes from the events of progress, and that it draws."""

import sys
from typing import Any

import pytest

from nimclient import plot
from nimclient.errors import ConfigurationError
from nimclient.records.progress import Progress


def event(seconds: float, done: int, refusals: int = 0, **fields: Any) -> Progress:
    return Progress(done, None, done + refusals, 0, seconds, refusals=refusals, **fields)


def test_refusals_are_marked_where_they_were_told() -> None:
    """Each event that tells of more refusals than the one before is a mark, the first one too."""
    history = [event(1.0, 1, 2), event(2.0, 2, 2), event(3.0, 3, 5)]
    assert plot.refused(history) == [(history[0], 2), (history[2], 3)]
    assert plot.refused(history[1:2]) == [(history[1], 2)]
    assert plot.refused([event(1.0, 1), event(2.0, 2)]) == []


def test_throughput_is_that_of_equal_stretches() -> None:
    """Items a second between points in time, however uneven the events are; events of one moment are one."""
    even = [event(seconds / 10, seconds) for seconds in range(601)]
    times, rates = plot.throughput(even)
    assert len(times) == plot.WINDOWS
    assert times[-1] == 60.0
    assert rates == pytest.approx([10.0] * plot.WINDOWS)
    burst = [event(0.0, 0), event(1.0, 5), event(1.0, 6), event(2.0, 8)]
    assert plot.throughput(burst)[1] == pytest.approx([5.0, 3.0])


def test_too_little_is_no_picture() -> None:
    """Fewer than two events are refused, before anything is imported."""
    with pytest.raises(ConfigurationError, match="two events"):
        plot.pacing([event(1.0, 1)])


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib the error says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"nimclient\[plot\]"):
        plot.pacing([event(1.0, 1), event(2.0, 2)])


def test_a_picture_is_drawn() -> None:
    """Limit, what was in flight, refusals and throughput: two panels."""
    pytest.importorskip("matplotlib")
    history = [event(0.1 * number, number, number // 40, limit=16, in_flight=number % 16) for number in range(200)]
    upper, lower = plot.pacing(history, title="a job").axes
    assert [text.get_text() for text in upper.get_legend().get_texts()] == [
        "in flight",
        "limit",
        "refusals (4 of 203 requests)",
    ]
    assert lower.get_ylabel() == "items a second"
    calm = [event(0.0, 0, limit=None), event(1.0, 1, limit=None)]
    assert len(plot.pacing(calm).axes[0].get_legend().get_texts()) == 2

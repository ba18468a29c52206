"""nimclient.plot: what it takes from the events of progress, and that it draws."""

import json
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest

from nimclient import plot
from nimclient.errors import ConfigurationError
from nimclient.records import Vectors
from nimclient.records.progress import Progress


def event(seconds: float, done: int, refusals: int = 0, **fields: Any) -> Progress:
    return Progress(done, None, done + refusals, 0, seconds, refusals=refusals, **fields)


def test_refusals_are_marked_where_they_were_told() -> None:
    """Each event that tells of more refusals than the one before is a mark, the first one too."""
    history = [event(1.0, 1, 2), event(2.0, 2, 2), event(3.0, 3, 5)]
    assert plot.throttled(history) == [(history[0], 2), (history[2], 3)]
    assert plot.throttled(history[1:2]) == [(history[1], 2)]
    assert plot.throttled([event(1.0, 1), event(2.0, 2)]) == []


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
    """Limit, what was in flight, throttled requests and throughput: two panels."""
    pytest.importorskip("matplotlib")
    history = [event(0.1 * number, number, number // 40, limit=16, in_flight=number % 16) for number in range(200)]
    upper, lower = plot.pacing(history, title="a job").axes
    assert [text.get_text() for text in upper.get_legend().get_texts()] == [
        "in flight",
        "limit",
        "throttled (4 of 203 requests)",
    ]
    assert lower.get_ylabel() == "items a second"
    calm = [event(0.0, 0, limit=None), event(1.0, 1, limit=None)]
    assert len(plot.pacing(calm).axes[0].get_legend().get_texts()) == 2


QUERIES = Vectors(array("f", [1.0, 0.0, 0.0, 2.0]).tobytes(), 2)
DOCUMENTS = Vectors(array("f", [3.0, 0.0, 1.0, 1.0, 0.0, 0.0]).tobytes(), 2)


def test_similarity_as_text() -> None:
    """A line a query, a column a document, a darker shade for a higher cosine; a vector of zeros has none."""
    table = plot.similarity_table(QUERIES, DOCUMENTS, rows=["first", "second"], columns=["east", "north-east", "zero"])
    assert table.splitlines() == [
        "            1      2   3",
        "first  █ 1.00 ▓ 0.71   –",
        "second   0.00 ▓ 0.71   –",
        "1: east",
        "2: north-east",
        "3: zero",
    ]


def test_similarity_of_what_json_has_kept() -> None:
    """Lists of numbers and the object of `to_dict` give what the vectors gave."""
    table = plot.similarity_table(QUERIES, DOCUMENTS)
    assert plot.similarity_table(QUERIES.tolist(), json.loads(json.dumps(DOCUMENTS.to_dict()))) == table
    assert len(table.splitlines()) == 3


@pytest.mark.parametrize(
    ("queries", "documents", "labels", "words"),
    [
        (QUERIES, DOCUMENTS, {"rows": ["one"]}, "rows has 1 labels for 2 vectors"),
        (QUERIES, DOCUMENTS, {"columns": []}, "columns has 0 labels for 3 vectors"),
        (QUERIES, [], {}, "at least one query and one document"),
        ([[1.0, 2.0], [1.0]], DOCUMENTS, {}, "different dimensions"),
        ([[1.0]], DOCUMENTS, {}, "query has 1 numbers"),
    ],
)
def test_similarity_of_what_does_not_fit(queries: Any, documents: Any, labels: Any, words: str) -> None:
    """The error says what, before anything is drawn."""
    with pytest.raises(ConfigurationError, match=words):
        plot.similarity(queries, documents, **labels)


def test_similarity_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install, and what needs nothing."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"nimclient\[plot\], or print\(similarity_table"):
        plot.similarity(QUERIES, DOCUMENTS)


def test_similarity_is_drawn_and_saved(tmp_path: Path) -> None:
    """A cell with its number for each pair, the labels beside them, a picture where it was asked for."""
    pytest.importorskip("matplotlib")
    path = tmp_path / "similarity.png"
    figure = plot.similarity(QUERIES, DOCUMENTS, rows=["a", "b"], columns=["x", "y" * 60, "z"], title="T", path=path)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.71", "–", "0.00", "0.71", "–"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y" * 39 + "…", "z"]
    assert axes.get_title() == "T"
    assert path.read_bytes().startswith(b"\x89PNG")
    many = Vectors(array("f", [1.0, 2.0] * 500).tobytes(), 2)
    assert not plot.similarity(QUERIES, many).axes[0].texts

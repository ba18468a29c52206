"""nimclient.plot: what it takes from the events of progress, and that it draws."""

import json
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest

from nimclient import plot
from nimclient.errors import ConfigurationError
from nimclient.jobs import JobReport
from nimclient.plot._progress import WINDOWS, rates_of, throttled
from nimclient.records import Vectors
from nimclient.records.progress import Progress
from support.slow import mostly_slow


def event(seconds: float, done: int, refusals: int = 0, **fields: Any) -> Progress:
    return Progress(done, None, done + refusals, 0, seconds, refusals=refusals, **fields)


def test_refusals_are_marked_where_they_were_told() -> None:
    """Each event with more throttled requests than the one before is a mark, the first one too."""
    history = [event(1.0, 1, 2), event(2.0, 2, 2), event(3.0, 3, 5)]
    assert throttled(history) == [(history[0], 2), (history[2], 3)]
    assert throttled(history[1:2]) == [(history[1], 2)]
    assert throttled([event(1.0, 1), event(2.0, 2)]) == []


def test_throughput_is_that_of_equal_stretches() -> None:
    """Items a second between points in time, however uneven the events are; events of one moment are one."""
    even = [event(seconds / 10, seconds) for seconds in range(601)]
    times, rates = rates_of(even)
    assert len(times) == WINDOWS
    assert times[-1] == 60.0
    assert rates == pytest.approx([10.0] * WINDOWS)
    burst = [event(0.0, 0), event(1.0, 5), event(1.0, 6), event(2.0, 8)]
    assert rates_of(burst)[1] == pytest.approx([5.0, 3.0])


def test_too_little_is_no_picture() -> None:
    """Fewer than two events are rejected, before anything is imported."""
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
    with pytest.raises(ConfigurationError, match=r"nimclient\[plot\], or print\(plot.similarity_table"):
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


# latency and throughput ----------------------------------------------------------------------------------------------


def level(concurrency: int, scale: float, **more: Any) -> dict[str, Any]:
    parts = {"avg": 10.0 * scale, "p50": 10.0 * scale, "p90": 20.0 * scale, "p99": 40.0 * scale}
    return {
        "concurrency": concurrency,
        "request_latency": {"unit": "ms", **parts},
        "request_throughput": {"unit": "requests/sec", "avg": scale},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 0.0},
        **more,
    }


BENCH = {
    "model": "m",
    "runs": [level(1, 1.0), level(16, 5.0, time_to_first_token={"p50": 3.0, "p90": 4.0, "p99": 5.0})],
}
JOB = [event(0.5 * number, 10 * number, number // 3, in_flight=number, latency_p50=0.1 * number) for number in range(5)]
REPORTS = [JobReport("complete", 30, 20, 0, 10, 2, 400, 4.0), JobReport("partial", 30, 20, 10, 0, 3, 300, 10.0)]


def test_a_benchmark_as_text() -> None:
    """A table for each latency, a row a level, its largest numbers the darkest; a level without one has a dash."""
    assert plot.latency_table(BENCH).splitlines() == [
        "time to first token (ms)",
        "concurrency  p50  p90  p99",
        "          1    –    –    –",
        "         16  ▓ 3  █ 4  █ 5",
        "",
        "request latency (ms)",
        "concurrency   p50    p90    p99",
        "          1    10     20   ░ 40",
        "         16  ░ 50  ▒ 100  █ 200",
    ]
    assert plot.throughput_table(BENCH).splitlines() == [
        "concurrency  requests/s",
        "          1         ░ 1",
        "         16         █ 5",
    ]


def test_a_call_as_text() -> None:
    """Events of progress are a row for each stretch of time, from records and from their JSON alike."""
    saved = [{"event": "progress", **one.to_dict()} for one in JOB] + [{"event": "report", "status": "complete"}]
    assert plot.pacing_table(JOB) == plot.pacing_table(saved)
    assert plot.pacing_table(JOB).splitlines()[0].split() == [
        "seconds",
        "in",
        "flight",
        "limit",
        "throttled",
        "items/s",
    ]
    assert "█ 400" in plot.latency_table(iter(JOB))
    assert "█ 20" in plot.throughput_table(saved)


def test_reports_of_jobs_as_text() -> None:
    """Each report is a run, with the rows and tokens a second of that run; what earlier runs did is not counted."""
    assert plot.throughput_table(REPORTS) == plot.throughput_table([one.to_dict() for one in REPORTS])
    assert [line.split() for line in plot.throughput_table(REPORTS).splitlines()[1:]] == [
        ["1", "█", "2.5", "█", "100"],
        ["2", "█", "3", "░", "30"],
    ]
    assert plot.throughput_table(REPORTS[0]).count("\n") == 1


@pytest.mark.parametrize("drawn", mostly_slow(["latency", "throughput", "benchmark", "pacing"], "latency"))
def test_pictures_from_saved_json(drawn: str, tmp_path: Path) -> None:
    """Each draws without a window from a file of JSON, a benchmark or a line an event, and saves it at `path`."""
    lines = "".join(json.dumps({"event": "progress", **one.to_dict()}) + "\n" for one in JOB)
    (tmp_path / "events.jsonl").write_text(lines)
    (tmp_path / "bench.json").write_text(json.dumps(BENCH))
    for name in ("events.jsonl", "bench.json")[: 1 if drawn == "pacing" else 2]:
        figure = getattr(plot, drawn)(tmp_path / name, title="T", path=tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        assert figure.get_suptitle() == "T"
        assert all(axes.lines for axes in figure.axes if axes.get_visible())


def test_what_nothing_can_be_drawn_from(tmp_path: Path) -> None:
    """Text that is no JSON, and JSON of something else, are errors that say so."""
    (tmp_path / "a.txt").write_text("{\n")
    with pytest.raises(ConfigurationError, match="is not JSON"):
        plot.latency_table(tmp_path / "a.txt")
    with pytest.raises(ConfigurationError, match="no benchmark"):
        plot.throughput_table([{"a": 1}])
    with pytest.raises(ConfigurationError, match="no latencies"):
        plot.latency_table(REPORTS)

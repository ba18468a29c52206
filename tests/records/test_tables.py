"""How records show themselves in notebooks and on terminals."""

from pathlib import Path

import pytest

from nimclient.jobs.report import JobReport
from nimclient.records import Model, ModelList, Progress, RankedDocument, Ranking, Usage


def test_a_list_of_models_shows_its_first_ten() -> None:
    """As a table of id and kind; a short list shows all of it."""
    shown = repr(ModelList([Model(f"vendor/model-{number}", "chat") for number in range(25)]))
    lines = shown.splitlines()
    assert lines[0] == "ModelList of 25 (the first 10)"
    assert lines[1].split() == ["id", "kind", "max_model_len"]
    assert [line.split() for line in lines[2:]] == [[f"vendor/model-{number}", "chat"] for number in range(10)]
    assert "(the first" not in repr(ModelList([Model("m")]))
    assert repr(ModelList([])) == "ModelList of 0"


def test_a_list_of_models_in_a_notebook() -> None:
    """The same as HTML; what a server says is escaped."""
    shown = ModelList([Model("<script>alert(1)</script>", deprecated=True)])._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "<td>deprecated</td>" in shown
    assert shown.count("<tr>") == 2


def test_a_ranking_in_a_notebook() -> None:
    """Index, score and the beginning of the document, the best ten."""
    results = [RankedDocument(index, -float(index), -float(index), None, f"a <b> {'x' * 200}") for index in range(12)]
    shown = Ranking(tuple(results))._repr_html_()
    assert "<th>logit</th>" in shown
    assert shown.count("<tr>") == 11
    assert "a &lt;b&gt;" in shown
    assert "x" * 100 not in shown
    assert "Ranking of 12 documents (the first 10)" in shown


def test_a_report_prints_short() -> None:
    """What has no value, or a count of zero that a job need not have, is left out."""
    report = JobReport("complete", 10, 10, 0, 0, 2, 70, 1.5)
    assert repr(report) == (
        "JobReport(status='complete', total=10, succeeded=10, failed=0, resumed=0, requests=2, tokens=70, seconds=1.5)"
    )
    assert report._repr_html_().count("<tr>") == 8


def test_usage_and_a_report_in_a_notebook() -> None:
    """Each field with its value."""
    assert "<td>7</td><td>3</td><td>10</td>" in Usage(7, 3, 10)._repr_html_()
    report = JobReport("partial", 10, 9, 1, 4, 2, 70, 1.23456, Path("out") / "failures.jsonl")
    shown = report._repr_html_()
    assert "<td>failures_path</td><td>out" in shown
    assert "<td>seconds</td><td>1.235</td>" in shown
    assert "Job: partial" in shown


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress(0, None, 0, 0, 0.0), "0, 0/s, 0 in flight"),
        (
            Progress(50, 200, 4, 900, 2.0, failed=1, resumed=10, in_flight=3, refusals=2),
            "50 of 200 (25%), 20/s, 3 in flight, 1 failed, 10 resumed, 2 throttled, 8 s left",
        ),
        (Progress(200, 200, 4, 900, 2.0), "200 of 200 (100%), 100/s, 0 in flight"),
    ],
)
def test_printed_progress_is_one_line(progress: Progress, line: str) -> None:
    """How far, how fast, and what deserves attention."""
    assert str(progress) == line
    assert f"{progress}" == line

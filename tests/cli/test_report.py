import json

import pytest

from nimclient.cli.report import Report, percentile, rows, to_json
from nimclient.cli.text import Hit


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.5), (0.95, 3.85), (1.0, 4.0)])
def test_percentiles_are_interpolated(share, value):
    """A percentile lies between its two neighbours."""
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == pytest.approx(value)


def test_percentile_of_nothing():
    """Nothing has no percentile, one value is all of them."""
    assert percentile([], 0.5) is None
    assert percentile([7.0], 0.95) == 7.0


def test_a_full_report_reads_as_a_table():
    """The table has counts with thousands apart and times in milliseconds."""
    report = Report("u", True, 80, texts=4000, embedding_seconds=2.0, embedding_tokens=12345, answer="a", ttft=0.2)
    report.inter_token = [0.01, 0.03]
    report.prompt_tokens, report.completion_tokens = 7, 5
    assert rows(report) == [
        ("texts", "4,000"),
        ("requests", "80"),
        ("texts/s", "2,000"),
        ("time to first token", "200.0 ms"),
        ("inter-token latency p50", "20.0 ms"),
        ("inter-token latency p95", "29.0 ms"),
        ("tokens embedded", "12,345"),
        ("tokens in the prompt", "7"),
        ("tokens in the answer", "5"),
    ]
    assert report.complete


def test_an_empty_report_has_dashes():
    """What is not known is a dash in the table and null in the JSON."""
    report = Report("u", False)
    assert [value for _, value in rows(report)] == ["–", "0", *["–"] * 7]
    assert to_json(report)["ttft_seconds"] is None
    assert not report.complete


def test_json_has_everything():
    """The JSON object has numbers, hits and the answer, and json can write it."""
    report = Report("u", True, searches=[("q", [Hit("csv", 0.5, "CSV.")])], question="q?", answer="a")
    value = json.loads(json.dumps(to_json(report)))
    assert value["searches"] == [{"query": "q", "hits": [{"name": "csv", "score": 0.5, "summary": "CSV."}]}]
    assert value["answer"] == "a"

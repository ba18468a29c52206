"""Progress is a plain value with derived figures; Tally makes it of counts and passed-in times."""

import json
import pickle

import pytest

from nimclient import EmbeddedBatch, Progress
from nimclient._bulk.progress import REMEMBERED, Tally
from nimclient.errors import BadRequestError
from nimclient.records import Failure, Vectors


def test_what_is_derived() -> None:
    """Rates are over this run's own work; the time to the end is what is left at that pace."""
    progress = Progress(60, 100, 7, 500, 5.0, failed=2, resumed=10)
    assert (progress.texts_per_second, progress.tokens_per_second, progress.eta) == (10.0, 100.0, 4.0)
    assert progress.to_dict()["eta"] == 4.0
    assert json.loads(json.dumps(progress.to_dict()))["failed"] == 2
    assert pickle.loads(pickle.dumps(progress)) == progress


@pytest.mark.parametrize(
    ("progress", "eta"),
    [
        (Progress(5, None, 1, 1, 1.0), None),
        (Progress(0, 5, 0, 0, 1.0), None),
        (Progress(5, 5, 1, 1, 0.0), None),
        (Progress(7, 5, 1, 1, 1.0), 0.0),
    ],
)
def test_an_unknown_end(progress: Progress, eta: float | None) -> None:
    """Without a total, or without a pace, there is no time to the end; a source longer than it said is at its end."""
    assert progress.eta == eta
    assert progress.tokens_per_second >= 0


def test_a_tally() -> None:
    """Counts add up; attempts beyond the first are throttled or retried; percentiles are of the latest latencies."""
    tally = Tally(10)
    assert tally.progress(99.0, 4, 0) == Progress(0, 10, 0, 0, 0.0, limit=4)
    tally.start(100.0)
    tally.start(200.0)
    for seconds in range(1, REMEMBERED + 101):
        tally.answered(1, 2, float(seconds))
    tally.answered(4, 0, 1.0)
    tally.sent(1)
    tally.finished(8, 1)
    tally.in_flight = 3
    progress = tally.progress(101.5, None, 2)
    assert (progress.requests, progress.retries, progress.refusals) == (REMEMBERED + 105, 1, 2)
    assert (progress.done, progress.failed, progress.seconds, progress.in_flight) == (8, 1, 1.5, 3)
    assert progress.tokens == 2 * (REMEMBERED + 100)
    assert (progress.latency_p50, progress.latency_p95) == (229.0, 344.0)


def test_an_embedded_batch() -> None:
    """Its to_dict is that of an answer, with positions as indexes and with the failures; it pickles."""
    error = BadRequestError("no", status=400)
    error.index = 6
    batch = EmbeddedBatch((5, 7), Vectors(b"\0" * 16, 2), (Failure(6, None, error, "x"),), extra={"id": "e"})
    data = batch.to_dict()
    assert [item["index"] for item in data["data"]] == [5, 7]
    assert (data["failures"][0]["index"], data["id"], len(batch)) == (6, "e", 2)
    twin = pickle.loads(pickle.dumps(batch))
    assert (twin.indexes, twin.vectors, twin.failures[0].index) == ((5, 7), batch.vectors, 6)

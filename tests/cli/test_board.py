"""What is seen of a running job: lines, events, the live table."""

import io
import json

import pytest
from attrs import evolve
from rich.console import Console

from nimclient.cli.board import Events, Lines, board_for
from nimclient.cli.board_rich import LiveTable, drawn
from nimclient.cli.figures import PACE_SECONDS, Rates, RecentRates, amount, clock, latency, sentence
from nimclient.records import Progress

EARLY = Progress(0, None, 0, 0, 0.0)
MIDDLE = Progress(
    1_200,
    5_000,
    40,
    24_000,
    10.0,
    failed=2,
    resumed=200,
    in_flight=7,
    limit=12,
    refusals=3,
    retries=1,
    latency_p50=0.035,
    latency_p95=12.5,
)


RATES = Rates(100.0, 2_400.0, 38.0)
NOTHING = Rates(0.0, 0.0, None)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line():
    """A line has what is done, the rates, requests in flight, latencies, what went wrong, and the time that is left."""
    assert sentence(MIDDLE, RATES, "texts") == (
        "1,200 of 5,000 texts (24.0 %), 100 texts/s, 2,400 tokens/s, 7 of 12 in flight, p50 35 ms, p95 12.5 s, "
        "2 failed, 3 throttled, 1 retried, 0:00:38 left"
    )
    assert sentence(EARLY, NOTHING, "texts") == "0 texts, 0 texts/s, 0 tokens/s, 0 in flight, p50 –, p95 –"


def test_the_pace_is_that_of_the_last_seconds():
    """Rates begin with the run, forget what is long past, and are nothing when nothing comes; the time left follows them."""
    pace = RecentRates()
    assert pace.rates(MIDDLE, 11.0) == Rates(100.0, 2_400.0, 38.0)
    later = evolve(MIDDLE, done=1_300, tokens=24_500, seconds=20.0)
    assert pace.rates(later, 21.0) == Rates(55.0, 1_225.0, pytest.approx(3_700 / 55))
    for seconds in (22.0, 23.0):
        pace.rates(later, seconds)
    assert pace.rates(later, 21.0 + PACE_SECONDS) == Rates(0.0, 0.0, None)
    assert pace.rates(evolve(later, done=5_000), 40.0).eta == 0.0
    assert pace.rates(evolve(later, total=None), 41.0).eta is None


def test_words():
    """Amounts, durations and latencies as people write them; 100 % is all, and nothing less."""
    assert amount(evolve(MIDDLE, done=4_999), "texts") == "4,999 of 5,000 texts (99.9 %)"
    assert amount(evolve(MIDDLE, done=5_000), "texts") == "5,000 of 5,000 texts (100 %)"
    assert amount(evolve(MIDDLE, total=0, done=0), "texts") == "0 of 0 texts (100 %)"
    assert (clock(0.4), clock(3_599.6), clock(90_061)) == ("0:00:00", "1:00:00", "25:01:01")
    assert (latency(None), latency(0.0004), latency(1.25), latency(30)) == ("–", "0 ms", "1,250 ms", "30.0 s")


def test_lines():
    """Lines go to the stream one by one, without control characters."""
    stream = io.StringIO()
    lines = Lines(stream, "embedding a\x1bb", "texts")
    lines.show(None, 61.0)
    lines.show(EARLY, 62.0)
    lines.close()
    lines.message("report", "done", {"status": "complete"})
    assert stream.getvalue().splitlines() == [
        "embedding ab: starting (0:01:01)",
        "embedding ab: 0 texts, 0 texts/s, 0 tokens/s, 0 in flight, p50 –, p95 –",
        "done",
    ]


def test_events():
    """Each event is a JSON object on a line: a Progress once, and the end."""
    stream = io.StringIO()
    events = Events(stream)
    for progress in (None, MIDDLE, MIDDLE):
        events.show(progress, 1.0)
    events.close()
    events.message("report", "done", {"status": "complete"})
    progress, report = map(json.loads, stream.getvalue().splitlines())
    assert progress["event"] == "progress"
    assert {"done", "total", "texts_per_second", "tokens_per_second", "eta", "limit"} <= progress.keys()
    assert report == {"event": "report", "text": "done", "status": "complete"}


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80, record=True)


def test_the_live_table(console: Console):
    """The table has every number of a Progress."""
    console.print(drawn("embedding docs.jsonl", "texts", MIDDLE, RATES, 11.0))
    shown = console.export_text()
    lines = [line.split() for line in shown.splitlines()]
    assert lines[0] == ["embedding", "docs.jsonl", "0:00:11"]
    assert "1,200 of 5,000 texts (24.0 %)  0:00:38 left" in shown
    assert lines[2:] == [
        ["texts/s", "100", "in", "flight", "7"],
        ["tokens/s", "2,400", "limit", "12"],
        ["requests", "40", "throttled", "3"],
        ["failed", "2", "retries", "1"],
        ["p50", "35", "ms", "p95", "12.5", "s"],
    ]


def test_the_table_where_little_is_known(console: Console):
    """Before anything has come there is a word for it; without a total and a limit there are none."""
    console.print(drawn("embedding -", "texts", None, None, 1.0))
    console.print(drawn("embedding -", "texts", EARLY, NOTHING, 1.0))
    shown = console.export_text()
    assert "starting" in shown
    assert "0 texts\n" in shown
    assert "limit             –" in shown


def test_the_table_is_drawn_in_place(console: Console):
    """The last state stays, and what is said at the end stands below it."""
    table = LiveTable(console, "embedding x", "texts")
    table.show(None, 0.0)
    table.show(MIDDLE, 1.0)
    table.close()
    table.message("report", "all\x1b done", {})
    assert console.export_text().rstrip().splitlines()[-1] == "all done"


def test_a_narrow_terminal():
    """On a narrow terminal the bar gives way to the numbers."""
    console = Console(file=io.StringIO(), force_terminal=True, width=60, record=True)
    table = LiveTable(console, "embedding x", "texts")
    table.show(MIDDLE, 1.0)
    table.close()
    assert "1,200 of 5,000 texts (24.0 %)" in console.export_text()


def test_which_board(monkeypatch: pytest.MonkeyPatch):
    """A terminal gets the table where rich is installed, and lines where it is not; a pipe gets lines."""
    assert isinstance(board_for(io.StringIO(), "x", "texts"), Lines)
    live = board_for(Terminal(), "x", "texts")
    assert isinstance(live, LiveTable)
    live.close()
    monkeypatch.setitem(__import__("sys").modules, "nimclient.cli.board_rich", None)
    assert isinstance(board_for(Terminal(), "x", "texts"), Lines)

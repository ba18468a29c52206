"""The page of benchmarks is written from the JSON of a run, and only between its marks."""

import json
from pathlib import Path

import pytest

from benchmarks import page, report
from benchmarks.runs import Run

MACHINE = {"cpu": "a CPU", "cores": 2, "python": "CPython 3.11", "versions": {"aiohttp": "3.14", "attrs": "26"}}
OPTIONS = {"runs": 2, "seconds": 0.5, "started_at": "2026-11-26T20:21:28+00:00"}


def runs(scenario, peer, microseconds, shared=False):
    return [
        Run(scenario, peer, turn, units=1000, cpu_seconds=value / 1e3, wall_seconds=value / 1e3, shared=shared)
        for turn, value in enumerate(microseconds)
    ]


def document(measured):
    """As `python -m benchmarks` writes and reads it."""
    return json.loads(json.dumps(report.document(MACHINE, OPTIONS, measured, report.summarize_all(measured))))


OURS = [*runs("chat", "floor", [100, 200]), *runs("chat", "nimclient", [90, 180])]


def test_nimclient_beside_the_floor():
    """A line has both, the ratio with its extent, the target, and whether it was missed; the conditions come first."""
    text = page.measured(document(OURS))
    assert text.startswith("a CPU, 2 cores, CPython 3.11, aiohttp 3.14; 2026-11-26; 2 runs of 0.5 s, medians")
    assert (
        "small chat requests, one after another, µs a request | 150 | 135 | × 0.90 (0.90–0.90) | ≤ 0.8, missed |"
        in text
    )
    assert "the least first" not in text


def test_a_peer_that_is_ahead_is_named_first():
    """Then a table ranks all peers."""
    text = page.measured(document([*OURS, *runs("chat", "pyreqwest", [45, 90]), *runs("chat", "openai", [900, 1800])]))
    assert text.startswith("pyreqwest is ahead of nimclient in small chat requests, one after another: 0.50 × its CPU.")
    assert text.endswith("µs a request | pyreqwest 67.5, nimclient 135, floor 150, openai 1350 |")


def test_a_busy_machine_is_told():
    """Whoever reads the figures sees that they are a reading."""
    text = page.measured(document(runs("chat", "floor", [1, 1]) + runs("chat", "nimclient", [1, 1], shared=True)))
    assert "2 of 4 runs shared the machine with something else: a reading, not to be quoted." in text


def test_only_what_is_between_the_marks_is_written(tmp_path: Path):
    """The rest of the page stays, and writing twice changes nothing."""
    path = tmp_path / "page.md"
    path.write_text(f"before\n\n{page.BEGIN}\nold\n{page.END}\n\nafter\n")
    page.renew(document(OURS), path)
    once = path.read_text()
    page.renew(document(OURS), path)
    assert (
        path.read_text()
        == once
        == f"before\n\n{page.BEGIN}\n\n{page.measured(document(OURS))}\n\n{page.END}\n\nafter\n"
    )


def test_a_page_without_marks():
    """Nothing is written anywhere else."""
    with pytest.raises(ValueError, match="substring"):
        page.renewed("no marks", document(OURS))


def test_the_page_has_its_marks():
    """So the next quiet run has only to be called."""
    assert page.PAGE.read_text().count(page.BEGIN) == page.PAGE.read_text().count(page.END) == 1

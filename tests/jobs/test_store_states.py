"""The store in any order of events: rows done, rows lost, crashes between and within them, power failures, other runs."""

import json
import os
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nimclient.jobs.checkpoint import Checkpoint, FailedRow, RowSpan
from nimclient.jobs.store import Store

IDENTITY = {"version": 1, "input": {"digest": "d"}, "model": "m", "parameters": {"text": "text"}}
WIDTH = 2
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Crash(Exception):
    """The process ends here."""


def vector(row: int) -> list[float]:
    return [float(row), 1.0]


def copied(folder: Path, after: Path) -> bool:
    """Whether all files were copied as they are at one moment: a part may be finished and renamed meanwhile."""
    before = sorted(os.listdir(folder))
    try:
        shutil.copytree(folder, after, ignore=shutil.ignore_patterns("*.tmp"))
    except shutil.Error:
        return False
    return sorted(os.listdir(folder)) == before


class Storing(RuleBasedStateMachine):
    """One job over many runs. `done` and `failed` are the model: what every later run has to find."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=MEMORY))
        self.folder = self.root / "job-0"
        self.done: set[int] = set()
        self.failed: dict[int, bool] = {}  # row: whether it is final
        self.runs = 0

    @initialize(part_rows=st.integers(1, 9))
    def begin(self, part_rows: int) -> None:
        self.part_bytes = 4 * WIDTH * part_rows
        self.open()

    def open(self) -> None:
        self.store = Store(self.folder, "jsonl", self.part_bytes)
        self.store.open()
        self.store.begin(IDENTITY)
        self.failed = {row: final for row, final in self.failed.items() if final}

    def missing(self) -> list[int]:
        return [row for row in range(60) if row not in self.done and row not in self.failed]

    def spans(self, data: st.DataObject) -> list[RowSpan]:
        """One or two stretches of rows that are not done."""
        left = self.missing()
        start = data.draw(st.sampled_from(left))
        stop = start + 1
        while stop in left and stop - start < 6:
            stop += 1
        stop = data.draw(st.integers(start + 1, stop))
        rows = range(start, stop)
        numbers = [number for row in rows for number in vector(row)]
        return [RowSpan(rows, [f"id-{row}" for row in rows], struct.pack(f"<{len(numbers)}f", *numbers))]

    @precondition(lambda self: self.missing())
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        spans = self.spans(data)
        self.store.keep(spans, [], WIDTH, ["m"])
        self.done.update(row for span in spans for row in span.rows)

    @precondition(lambda self: self.missing())
    @rule(data=st.data(), final=st.booleans())
    def lose(self, data: st.DataObject, final: bool) -> None:
        row = data.draw(st.sampled_from(self.missing()))
        self.store.keep([], [FailedRow(row, {"index": row, "id": str(row), "error": "no"}, final)], None)
        self.failed[row] = final

    @rule()
    def killed(self) -> None:
        """All files as they are at this moment: what a killed process leaves. The next run takes them."""
        self.runs += 1
        after = self.root / f"job-{self.runs}"
        while not copied(self.folder, after):
            shutil.rmtree(after)
        self.store.close()
        shutil.rmtree(self.folder)
        self.folder = after
        self.open()

    @precondition(lambda self: self.missing())
    @rule(data=st.data())
    def killed_between_spool_and_checkpoint(self, data: st.DataObject) -> None:
        """Vectors that are in the spool and not in the checkpoint are as if they had never come."""
        with patch.object(Checkpoint, "record", side_effect=Crash), pytest.raises(Crash):
            self.store.keep(self.spans(data), [], WIDTH, ["m"])
        self.killed()

    @rule()
    def stopped(self) -> None:
        """An interrupted run closes in order; the next one begins."""
        self.store.stop()
        self.store.close()
        self.open()

    @rule(lost=st.integers(0, 200))
    def power_failure(self, lost: int) -> None:
        """The end of a spool that was not synced is lost: its rows are not done, and no other."""
        self.store.close()
        held: set[int] = set()
        for path in self.folder.glob("open-*.f32"):
            content = path.read_bytes()
            kept = content[: max(len(content) - lost, 0)]
            held.update(int(row) for row, _ in struct.iter_unpack("<2f", content))
            os.truncate(path, len(kept))
        self.open()
        found = self.found()
        assert found <= self.done
        assert self.done - found <= held
        if lost == 0:
            assert found == self.done
        self.done = found

    def found(self) -> set[int]:
        """The rows that the store says are done, failures left out."""
        spans, last = [], -1
        while after := self.store.done_after(last):
            spans += after
            last = after[-1].start
        return {row for span in spans for row in range(span.start, span.stop)} - self.failed.keys()

    @invariant()
    def the_store_is_the_model(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.found() == self.done
        assert (self.store.succeeded, self.store.failed) == (len(self.done), len(self.failed))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.finish()
            self.store.close()
            assert self.rows() == {row: (f"id-{row}", vector(row)) for row in self.done}
            status = json.loads((self.folder / "manifest.json").read_text())
            assert (status["succeeded"], status["failed"]) == (len(self.done), len(self.failed))
            assert not list(self.folder.glob("open-*"))
        shutil.rmtree(self.root)

    def rows(self) -> dict[int, Any]:
        """All rows of all parts; none is there twice."""
        records = [
            json.loads(line) for path in self.folder.glob("part-*.jsonl") for line in path.read_text().splitlines()
        ]
        rows = {record["index"]: (record["id"], record["vector"]) for record in records}
        assert len(rows) == len(records)
        return rows


TestStoring = Storing.TestCase
TestStoring.settings = settings(max_examples=max(settings().max_examples // 4, 10), stateful_step_count=20)

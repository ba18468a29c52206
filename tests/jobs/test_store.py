"""The store: what is recorded stays, whatever happens to the process, the disk or the files."""

import errno
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nimclient.errors import ConfigurationError, JobMismatchError, JobStoreError
from nimclient.jobs import files
from nimclient.jobs import spool as spool_module
from nimclient.jobs import store as module
from nimclient.jobs.checkpoint import DoneSpan, FailedRow, LongRow, RowSpan
from nimclient.jobs.store import Store

JOB = {"version": 1, "input": {"digest": "d"}, "model": "m", "parameters": {"text": "text", "format": "jsonl"}}


def run(start: int, stop: int, width: int = 2) -> RowSpan:
    """Rows whose vectors begin with their number."""
    numbers = [float(row if place == 0 else 1) for row in range(start, stop) for place in range(width)]
    return RowSpan(
        range(start, stop), [f"id{row}" for row in range(start, stop)], struct.pack(f"<{len(numbers)}f", *numbers)
    )


def lost(row: int, *, final: bool) -> FailedRow:
    return FailedRow(row, {"index": row, "id": str(row), "error": "no"}, final)


class Folder:
    """Opens stores on one folder and closes them at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open_stores: list[Store] = []

    def store(self, job: Any = JOB, part_bytes: int = 1 << 20) -> Store:
        store = Store(self.path, "jsonl", part_bytes)
        self.open_stores.append(store)
        store.open()
        store.begin(job)
        return store

    def reopened(self, job: Any = JOB, part_bytes: int = 1 << 20) -> Store:
        """As after a crash: what was open is closed without a word."""
        self.close()
        return self.store(job, part_bytes)

    def close(self) -> None:
        while self.open_stores:
            self.open_stores.pop().close()

    def rows(self) -> list[tuple[int, str, float]]:
        """(index, id, first number) of all rows in parts, in their order there."""
        lines = [line for path in sorted(self.path.glob("part-*")) for line in path.read_text().splitlines()]
        return [(row["index"], row["id"], row["vector"][0]) for row in map(json.loads, lines)]

    def manifest(self) -> Any:
        return json.loads((self.path / "manifest.json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path / "out" / "vectors")
    yield folder
    folder.close()


def test_what_is_kept_is_done(folder: Folder) -> None:
    """Successes and final failures, in the order of their rows, also for the next process."""
    folder.store().keep([run(10, 12), run(0, 5)], [lost(5, final=True), lost(6, final=False)], 2)
    store = folder.reopened()
    assert store.done_after(-1) == [DoneSpan(0, 5, None), DoneSpan(5, 6, None), DoneSpan(10, 12, None)]
    assert store.done_after(5) == [DoneSpan(10, 12, None)]
    assert (store.succeeded, store.failed) == (7, 1)


def test_a_closed_store_leaves_no_thread(folder: Folder) -> None:
    """The thread that writes the parts ends with its store."""
    before = set(threading.enumerate())
    store = folder.store(part_bytes=80)
    store.keep([run(0, 20)], [], 1)
    folder.close()
    assert store.succeeded == 20
    assert set(threading.enumerate()) <= before


def test_a_slice_is_kept_whole_or_not_at_all(folder: Folder) -> None:
    """What cannot be recorded takes nothing with it, and the next slice is recorded as ever."""
    store = folder.store()
    with pytest.raises(JobStoreError, match=r"checkpoint\.sqlite cannot be written: UNIQUE constraint"):
        store.keep([run(0, 5), run(10, 12), run(0, 5)], [], 2)
    assert store.done_after(-1) == []
    store.keep([run(0, 5)], [], 2)
    assert store.done_after(-1) == [DoneSpan(0, 5, None)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SQLITE_FULL", "free some space"),
        ("SQLITE_READONLY_DIRECTORY", "the folder must be writable"),
        ("SQLITE_CANTOPEN", "the folder must be writable"),
        ("SQLITE_BUSY", "another program has it open"),
        ("SQLITE_IOERR_WRITE", "run the same job again"),
        ("SQLITE_CORRUPT_INDEX", "is damaged"),
    ],
)
def test_what_sqlite_refuses_says_what_to_do(folder: Folder, name: str, words: str) -> None:
    """Its own words are there, too."""

    class Refusing:
        def execute(self, *args: object) -> None:
            error = sqlite3.OperationalError("its own words")
            error.sqlite_errorname = name
            raise error

        def close(self) -> None:
            real.close()

    opened = folder.store()._checkpoint
    real, opened._db = opened._db, Refusing()  # type: ignore[assignment]
    with pytest.raises(JobStoreError, match=words) as caught:
        opened.counts()
    assert "its own words" in str(caught.value)


def test_a_large_part_is_written_group_by_group(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only some of its vectors are in memory."""
    monkeypatch.setattr(module, "_GROUP_BYTES", 8 * 25)
    store = folder.store()
    for start in range(0, 100, 10):
        store.keep([run(start, start + 10)], [], 2)
    assert [len(group.indexes) for group in store._groups(0)] == [20] * 5
    store.finish()
    assert folder.rows() == [(n, f"id{n}", float(n)) for n in range(100)]


def test_a_failure_that_may_pass_is_forgotten_by_the_next_run(folder: Folder) -> None:
    """Its row is sent again."""
    folder.store().keep([], [lost(6, final=False)], None)
    assert folder.reopened().done_after(-1) == []


def test_the_end_puts_everything_into_parts(folder: Folder) -> None:
    """In the order of the rows; the manifest says what there is, and failures.jsonl what failed."""
    store = folder.store()
    store.keep([run(3, 5), run(0, 2)], [lost(2, final=True)], 2)
    store.learn({"total": 5})
    assert store.is_complete
    store.finish()
    assert folder.rows() == [(n, f"id{n}", float(n)) for n in (0, 1, 3, 4)]
    assert [json.loads(line) for line in store.failures_path.read_text().splitlines()] == [lost(2, final=True).record]
    manifest = folder.manifest()
    assert (manifest["status"], manifest["model"]) == ("partial", "m")
    assert (manifest["total"], manifest["succeeded"], manifest["failed"], manifest["dimensions"]) == (5, 4, 1, 2)
    assert manifest["parts"] == [
        {"rows": 4, "files": {"part-00000.jsonl": os.path.getsize(folder.path / "part-00000.jsonl")}}
    ]


def test_a_part_is_written_when_there_is_enough_for_one(folder: Folder) -> None:
    """And its spool goes."""
    store = folder.store(part_bytes=8 * 100)
    for start in range(0, 250, 10):
        store.keep([run(start, start + 10)], [], 2)
    store._wait()
    assert sorted(path.name for path in folder.path.glob("part-*")) == ["part-00000.jsonl", "part-00001.jsonl"]
    assert [part["rows"] for part in folder.manifest()["parts"]] == [100, 100]
    store = folder.reopened(part_bytes=800)
    store.finish()
    assert [row[0] for row in folder.rows()] == list(range(250))
    assert list(folder.path.glob("open-*")) == []
    store.close()
    folder.open_stores.clear()
    with sqlite3.connect(folder.path / "checkpoint.sqlite") as db:
        assert db.execute("SELECT count(*) FROM runs WHERE ids IS NOT NULL").fetchone() == (0,)
    db.close()


def test_a_part_that_a_crash_left_without_its_entry_is_written_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the part's name and the checkpoint's entry nothing can be lost or doubled."""
    store = folder.store()
    store.keep([run(0, 5)], [], 2)

    class Crash(Exception):
        pass

    def crash(part: object) -> None:
        raise Crash

    monkeypatch.setattr(store._checkpoint, "seal", crash)
    with pytest.raises(Crash):
        store.finish()
    assert len(folder.rows()) == 5
    store = folder.reopened()
    store.keep([run(5, 6)], [], 2)
    store.finish()
    assert [row[0] for row in folder.rows()] == list(range(6))


def test_what_comes_while_a_part_is_written_goes_into_the_next(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording does not wait for the disk, unless a second part is full; a crash in between loses neither."""
    store = folder.store(part_bytes=80)
    on = threading.Event()
    real = module.write_part

    def slowly(*args: Any) -> Any:
        on.wait()
        return real(*args)

    monkeypatch.setattr(module, "write_part", slowly)
    store.keep([run(0, 10)], [], 2)
    store.keep([run(10, 15)], [], 2)
    store.keep([run(15, 19)], [], 2)
    assert folder.rows() == []
    assert store._checkpoint.held() == [(0, 10, 80), (1, 9, 72)]
    crashed = Folder(folder.path.parent / "crashed")
    shutil.copytree(folder.path, crashed.path)
    later = threading.Timer(0.05, on.set)
    later.start()
    store.keep([run(19, 20)], [], 2)
    assert on.is_set()
    store.finish()
    assert [row[0] for row in folder.rows()] == list(range(20))
    again = crashed.store(part_bytes=80)
    again.keep([run(19, 20)], [], 2)
    again.finish()
    crashed.close()
    assert crashed.rows() == folder.rows()


def test_a_part_that_cannot_be_written_stops_the_job(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded next raises it; the next run writes the part."""
    store = folder.store(part_bytes=80)
    monkeypatch.setattr(files.os, "fsync", refuse(errno.EIO))
    store.keep([run(0, 10)], [], 2)
    with pytest.raises(JobStoreError, match="Input/output error"):
        while True:
            store.keep([run(store.succeeded, store.succeeded + 1)], [], 2)
    monkeypatch.undo()
    kept = store.succeeded
    store = folder.reopened(part_bytes=80)
    store.finish()
    assert [row[0] for row in folder.rows()] == list(range(kept))


def test_a_job_without_a_vector_has_no_part(folder: Folder) -> None:
    """Its status is failed, its failures are listed."""
    store = folder.store()
    store.keep([], [lost(0, final=True)], None)
    store.finish()
    assert folder.rows() == []
    assert folder.manifest()["status"] == "failed"


def test_a_list_of_failures_goes_when_there_are_none_any_more(folder: Folder) -> None:
    """What failed in an earlier run has succeeded now."""
    store = folder.store()
    store.keep([run(0, 1)], [lost(1, final=False)], 2)
    store.finish()
    assert store.failures_path.exists()
    store = folder.reopened()
    store.keep([run(1, 2)], [], 2)
    store.finish()
    assert not store.failures_path.exists()


def test_texts_that_were_cut_are_listed(folder: Folder) -> None:
    """One a line in long.jsonl, and their number in the manifest."""
    records = [{"index": row, "pieces": 2} for row in (0, 3)]
    store = folder.store()
    store.keep([run(0, 5)], [], 2, long=[LongRow(record["index"], {**record}) for record in records])
    store.finish()
    assert [json.loads(line) for line in (folder.path / "long.jsonl").read_text().splitlines()] == records
    assert folder.manifest()["long"] == folder.reopened().long == 2


def test_a_stop_leaves_words_for_readers(folder: Folder) -> None:
    """The manifest says that it was stopped, and how far it came."""
    store = folder.store()
    store.keep([run(0, 5)], [lost(7, final=False)], 2)
    store.stop()
    assert folder.manifest()["status"] == "stopped"
    assert folder.manifest()["succeeded"] == 5
    assert store.failures_path.exists()


def test_a_stop_survives_a_power_failure(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool is synced, and the checkpoint needs nothing of its log."""
    store = folder.store()
    store.keep([run(0, 5)], [], 2)
    synced: list[int] = []
    monkeypatch.setattr(spool_module, "sync", synced.append)
    store.stop()
    assert len(synced) == 1
    after = Folder(tmp_path / "after")
    shutil.copytree(folder.path, after.path, ignore=shutil.ignore_patterns("*-wal"))
    assert after.store().succeeded == 5
    after.close()


def test_a_spool_is_synced_from_time_to_time(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever so many bytes of vectors have come, and not before."""
    synced: list[int] = []
    monkeypatch.setattr(spool_module, "sync", synced.append)
    monkeypatch.setattr(module, "_SYNC_BYTES", 80)
    store = folder.store()
    for start in range(0, 25, 5):
        store.keep([run(start, start + 5)], [], 2)
    folder.close()
    assert len(synced) == 2


@pytest.mark.parametrize("final", [True, False])
def test_a_job_without_a_done_row_may_leave_its_folder(folder: Folder, final: bool) -> None:
    """To a job of other parameters; not where a row has failed."""
    other = {**JOB, "model": "other"}
    folder.store().disown()
    store = folder.reopened(other)
    store.keep([], [lost(0, final=final)], None)
    store.disown()
    with pytest.raises(JobMismatchError, match="model"):
        folder.reopened(JOB)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": "other"}, 'model "m", not "other"'),
        ({"input": {"digest": "e"}}, 'input.digest "d", not "e"'),
        ({"input": None}, 'input {"digest":"d"}, not null'),
        ({"parameters": {"text": "body", "format": "jsonl"}}, 'parameters.text "text", not "body"'),
        ({"parameters": {"text": "text", "format": "jsonl", "prefix": "p"}}, 'parameters.prefix null, not "p"'),
        ({"version": 2}, "version 1, not 2"),
    ],
)
def test_another_job_is_refused_by_name_of_the_difference(folder: Folder, changed: Any, words: str) -> None:
    """And nothing of the folder is touched."""
    folder.store().stop()
    before = folder.manifest()
    folder.close()
    with pytest.raises(JobMismatchError) as caught:
        folder.store({**JOB, **changed})
    assert words in str(caught.value)
    folder.open_stores[-1].stop()
    assert folder.manifest() == before


def test_vectors_of_another_width_are_refused(folder: Folder) -> None:
    """The server behind the name is another one now; nothing of it is stored."""
    folder.store().keep([run(0, 1)], [], 2)
    store = folder.reopened()
    with pytest.raises(JobMismatchError, match=r"3 dimensions now; those .* have 2"):
        store.keep([run(1, 2, 3)], [], 3)
    assert store.done_after(-1) == [DoneSpan(0, 1, None)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux lists them there")
def test_a_closed_store_has_no_file_open(folder: Folder) -> None:
    """Neither the checkpoint, nor a spool, nor the lock."""
    folder.store().keep([run(0, 5)], [], 2)

    def opened() -> list[str]:
        places = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
        return [place for place in places if place.startswith(os.path.realpath(folder.path))]

    assert len(opened()) >= 3
    folder.close()
    assert opened() == []


def test_a_mistake_of_our_own_is_no_damage(folder: Folder) -> None:
    """What is wrong with the results themselves comes out as it is, and records nothing."""
    store = folder.store()
    nothing: Any = None
    with pytest.raises(AttributeError):
        store.keep([run(0, 5)], [], 2, long=[nothing])
    assert store.done_after(-1) == []


def test_two_jobs_in_one_folder(folder: Folder) -> None:
    """The second is rejected and leaves the first alone."""
    store = folder.store()
    with pytest.raises(JobStoreError, match="belongs to a job that is running"):
        Store(folder.path, "jsonl").open()
    store.keep([run(0, 1)], [], 2)


def test_an_output_that_is_a_file(tmp_path: Path) -> None:
    """It takes a folder."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="is a file; it takes a folder"):
        Store(tmp_path / "file", "jsonl").open()


@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_parts_without_their_checkpoint(folder: Folder, damage: str) -> None:
    """A new job must not begin over them."""
    store = folder.store()
    store.keep([run(0, 5)], [], 2)
    store.finish()
    folder.close()
    path = folder.path / "checkpoint.sqlite"
    path.unlink() if damage == "missing" else path.write_bytes(b"")
    with pytest.raises(JobStoreError, match=r"checkpoint\.sqlite is missing or empty"):
        folder.store()
    assert len(folder.rows()) == 5


@pytest.mark.parametrize("damage", ["nonsense", "middle", "facts"])
def test_a_damaged_checkpoint(folder: Folder, damage: str) -> None:
    """The error says what to do; the parts are not touched."""
    store = folder.store(part_bytes=80)
    for start in range(0, 100, 10):
        store.keep([run(start, start + 10)], [], 2)
    store.finish()
    folder.close()
    path = folder.path / "checkpoint.sqlite"
    if damage == "facts":
        with sqlite3.connect(path) as db:
            db.execute("UPDATE facts SET value = '{'")
        db.close()
    else:
        content = path.read_bytes()
        middle = 16384 if damage == "middle" else 0
        path.write_bytes(content[:middle] + b"\xff" * 16384 * 3 + content[middle + 16384 * 3 :])
    with pytest.raises(JobStoreError, match=r"is damaged .*restore it from a backup"):
        folder.store()
    assert len(folder.rows()) == 100


TAMPERED = {
    "stamp": "UPDATE facts SET value = '{\"digest\": \"d\"}' WHERE name = 'content'",
    "job": "UPDATE facts SET value = '[1]' WHERE name = 'job'",
    "dimensions": "UPDATE facts SET value = '\"two\"' WHERE name = 'dimensions'",
    "total": "INSERT INTO facts VALUES ('total', '-1')",
    "models": "INSERT INTO facts VALUES ('served_models', '[1]')",
    "rows": "UPDATE runs SET stop = 'many'",
    "digest": "UPDATE runs SET digest = 'text'",
    "ids": "UPDATE runs SET ids = '[1, 2]'",
    "one id": 'UPDATE runs SET ids = \'["a", "b", 3, "d", "e"]\'',
    "part": "UPDATE runs SET part = -1",
    "count": 'UPDATE facts SET value = \'{"digest": "d", "rows": -1, "stamp": 1}\' WHERE name = \'content\'',
    "nothing": "UPDATE runs SET ids = 'x'",
    "size": "UPDATE runs SET size = 9000000000000",
    "place": "UPDATE runs SET place = -5",
    "parts": "INSERT INTO parts VALUES (7, 1, '[]')",
    "escape": "INSERT INTO parts VALUES (7, 1, '{\"../../etc/passwd\": 1}')",
}


@pytest.mark.parametrize("change", TAMPERED)
def test_a_tampered_checkpoint_is_a_store_error(folder: Folder, change: str) -> None:
    """Whatever stands in it that a job does not write: never a KeyError, and the parts are not touched."""
    store = folder.store()
    store.learn({"content": {"digest": "d", "rows": 5, "stamp": [1, 2]}})
    store.keep([run(0, 5)], [], 2)
    folder.close()
    with sqlite3.connect(folder.path / "checkpoint.sqlite") as db:
        db.execute(TAMPERED[change])
    db.close()
    with pytest.raises(JobStoreError, match=r"checkpoint\.sqlite is damaged"):
        folder.store().done_after(-1)


@pytest.mark.parametrize("name", ["failures.jsonl", "open-00000.f32"])
def test_files_of_others_in_a_new_folder_are_kept(folder: Folder, name: str) -> None:
    """A job that would replace or remove them does not begin."""
    folder.path.mkdir(parents=True)
    (folder.path / name).write_text("precious")
    with pytest.raises(JobStoreError, match=rf"{name} is not of this job"):
        folder.store()
    assert (folder.path / name).read_text() == "precious"


@pytest.mark.parametrize("name", ["checkpoint.sqlite", "checkpoint.sqlite-wal", "open-00000.f32"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_in_the_folder_are_refused(folder: Folder, tmp_path: Path, name: str, kind: str) -> None:
    """A link is not followed, and a pipe does not hang the job."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"")
    folder.store().keep([run(5, 6)], [], 2)
    folder.close()
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).symlink_to(precious) if kind == "link" else os.mkfifo(folder.path / name)
    with pytest.raises(JobStoreError, match=name):
        folder.store().keep([run(0, 5)], [], 2)
    assert precious.read_bytes() == b""


def test_a_file_system_without_locks_has_a_checkpoint_all_the_same(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite does without its own, which would read as "another program has it open"."""
    monkeypatch.setattr(files, "has_byte_locks", lambda descriptor: False)
    folder.store().keep([run(0, 5)], [], 2)
    assert folder.reopened().succeeded == 5
    with sqlite3.connect(folder.path / "checkpoint.sqlite") as other:
        assert other.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    other.close()


def test_a_part_that_is_gone_or_cut(folder: Folder) -> None:
    """It is missed by name before anything else is done."""
    store = folder.store()
    store.keep([run(0, 5)], [], 2)
    store.finish()
    folder.close()
    part = folder.path / "part-00000.jsonl"
    content = part.read_bytes()
    part.write_bytes(content[:-1])
    with pytest.raises(
        JobStoreError, match=rf"part-00000\.jsonl has {len(content) - 1} bytes instead of {len(content)}"
    ):
        folder.store()
    folder.close()
    part.unlink()
    (folder.path / "part-00001.jsonl").touch()
    with pytest.raises(JobStoreError, match=r"part-00000\.jsonl is missing"):
        folder.store()


def test_a_torn_last_record_is_dropped(folder: Folder) -> None:
    """The log of a process that died while it wrote: all that was whole is there."""
    code = f"""
import os, signal, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from test_store import JOB, run
from nimclient.jobs.store import Store
store = Store(Path({str(folder.path)!r}), "jsonl")
store.open()
store.begin(JOB)
for row in range(20):
    store.keep([run(row, row + 1)], [], 2)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    subprocess.run([sys.executable, "-c", code], check=False, env=environment)
    log = folder.path / "checkpoint.sqlite-wal"
    size = log.stat().st_size
    with log.open("r+b") as file:
        file.truncate(size - 1000)
    assert folder.store().succeeded == 19


@pytest.mark.parametrize("damage", ["none", "cut", "torn", "gone"])
def test_a_power_cut_costs_what_was_not_synced_and_nothing_else(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """At any moment, without what was never synced of the log and the spools, the folder can be gone on with."""
    monkeypatch.setattr(module, "_SYNC_BYTES", 3 * 64)
    store = folder.store(part_bytes=5 * 64)
    most = 0
    for moment in range(12):
        store.keep([run(moment * 8, moment * 8 + 8)], [lost(1000 + moment, final=True)], 2)
        store._wait()
        after = Folder(tmp_path / f"after-{moment}")
        shutil.copytree(folder.path, after.path, ignore=shutil.ignore_patterns("*-wal" if damage == "none" else ""))
        for spool in after.path.glob("open-*"):
            content = spool.read_bytes()
            kept = {"none": content, "cut": content[:-100], "torn": content[:-3] + b"\xff\xff\xff", "gone": b""}[damage]
            spool.write_bytes(kept)
        again = after.store()
        done = {row for stretch in again.done_after(-1) for row in range(stretch.start, stretch.stop)}
        missing = [start for start in range(0, moment * 8 + 8, 8) if start not in done]
        most = max(most, len(missing))
        again.keep([run(start, start + 8) for start in missing], [], 2)
        again.finish()
        after.close()
        assert [(index, first) for index, _, first in after.rows()] == [(n, float(n)) for n in range(moment * 8 + 8)]
    assert most == {"none": 2, "cut": 2, "torn": 1, "gone": 4}[damage]  # slices


def test_a_spool_that_is_damaged_while_it_is_open_goes_into_no_part(folder: Folder) -> None:
    """The run ends with an error; the next one misses the rows and nothing else."""
    store = folder.store()
    store.keep([run(0, 5)], [], 2)
    store.keep([run(5, 9)], [], 2)
    (spool,) = folder.path.glob("open-*")
    with spool.open("r+b") as file:
        file.seek(42)
        file.write(b"x")
    with pytest.raises(JobStoreError, match=r"open-00000\.f32 is damaged: run the same job again"):
        store.finish()
    assert folder.reopened().done_after(-1) == [DoneSpan(0, 5, None)]


def test_half_a_piece_is_taken_back(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full in the middle of it; with room again everything is in its place."""
    store = folder.store()
    store.keep([run(0, 5)], [], 2)
    real = os.write
    calls: list[int] = []

    def write(descriptor: int, data: Any) -> int:
        calls.append(len(data))
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:7])

    monkeypatch.setattr(spool_module.os, "write", write)
    with pytest.raises(JobStoreError, match=r"open-00000\.f32.*free some space"):
        store.keep([run(5, 9)], [], 2)
    monkeypatch.undo()
    store.keep([run(5, 9)], [], 2)
    store.finish()
    assert [row[2] for row in folder.rows()] == [float(n) for n in range(9)]


def test_spools_that_are_not_needed_go(folder: Folder) -> None:
    """As one is left by a crash between a part and the end of its spool."""
    folder.store().stop()
    stale = folder.path / "open-00007.f32"
    stale.touch()
    folder.reopened()
    assert not stale.exists()


def refuse(number: int) -> Any:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    return fsync


def test_a_disk_that_fails_at_the_end_keeps_everything(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part is not there, its rows are; the next run makes it."""
    store = folder.store()
    store.keep([run(0, 5)], [], 2)
    monkeypatch.setattr(files.os, "fsync", refuse(errno.EIO))
    with pytest.raises(JobStoreError, match="the disk reports an error"):
        store.finish()
    store.stop()  # says nothing: it cannot write either
    monkeypatch.undo()
    store = folder.reopened()
    assert folder.rows() == []
    store.finish()
    assert len(folder.rows()) == 5


def on_a_disk_of_its_own(disk: Path, size: str, code: str) -> str:
    """Run a program that sees a small disk at this place, `remount(options)` included; returns what it prints."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("mounting needs root and unshare")
    begin = f"""
import subprocess
import sys
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
disk = Path({str(disk)!r})
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size={size}", "tmpfs", disk]).returncode:
    sys.exit(77)
def remount(options):
    subprocess.run(["mount", "-o", f"remount,{{options}}", disk], check=True)
from test_store import JOB, Folder, run
from nimclient.errors import JobStoreError
from nimclient.jobs.store import Store
folder = Folder(disk / "out")
"""
    done = subprocess.run(["unshare", "-m", sys.executable, "-c", begin + code], capture_output=True, text=True)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk(tmp_path: Path) -> None:
    """The job ends with the typed error; what was finished is there when the disk has room again."""
    code = """
store = folder.store()
kept = 0
try:
    while True:
        store.keep([run(kept, kept + 64, 16)], [], 16)
        kept += 64
        if kept == 64:
            store._close_part()
except JobStoreError as error:
    assert "free some space" in str(error), error
    assert "full" in str(error) or "No space left" in str(error), error
store.stop()
assert kept >= 128, kept
remount("size=3m")
store = folder.reopened()
assert store.succeeded == kept, (store.succeeded, kept)
store.finish()
assert [row[0] for row in folder.rows()] == list(range(kept))
folder.close()
print("kept")
"""
    assert on_a_disk_of_its_own(tmp_path, "200k", code) == "kept\n"


@pytest.mark.slow
def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    """16 KiB do not hold a checkpoint: the typed error comes at once."""
    code = """
try:
    folder.store()
except JobStoreError as error:
    print(error)
"""
    assert "free some space" in on_a_disk_of_its_own(tmp_path, "16k", code)


@pytest.mark.slow
def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    """A new job and one that is there: the error says so, and when it can be written again all is as it was."""
    code = """
folder.store().keep([run(0, 5)], [], 2)
folder.close()
remount("ro")
for place in (folder.path, disk / "new"):
    try:
        Store(place, "jsonl").open()
    except JobStoreError as error:
        print(error)
remount("rw")
assert folder.store().succeeded == 5
folder.close()
"""
    first, second = on_a_disk_of_its_own(tmp_path, "1m", code).splitlines()
    assert "the file system is read-only: choose another output" in first
    assert "the file system is read-only: choose another output" in second


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file is in the way: the error names the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(JobStoreError, match="cannot make"):
        Store(tmp_path / "file" / "out", "jsonl").open()

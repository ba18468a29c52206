"""What a job has finished, in one SQLite file: durable row by row, whatever happens to the process.

Every finished slice is one transaction. SQLite's write-ahead log makes it whole or absent: a process that is killed
loses nothing that was recorded, a power cut at most what came after the last sync. Here stands that rows are done, and
where their vectors lie; the vectors themselves are in a spool until they are in a part.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from nimclient._base import json as _json
from nimclient._base.types import JsonDict
from nimclient.errors import DecodeError, JobStoreError
from nimclient.jobs.spool import Place

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    start INTEGER PRIMARY KEY, stop INTEGER NOT NULL, digest BLOB, part INTEGER NOT NULL,
    ids BLOB, place INTEGER, size INTEGER, sum INTEGER
);
CREATE INDEX held ON runs (part, start) WHERE ids IS NOT NULL;
CREATE TABLE failures (row INTEGER PRIMARY KEY, final INTEGER NOT NULL, digest BLOB, record BLOB NOT NULL);
CREATE TABLE parts (number INTEGER PRIMARY KEY, rows INTEGER NOT NULL, files TEXT NOT NULL);
"""
_AT_ONCE = 1000  # stretches of rows in memory


@frozen
class RowSpan:
    """Rows that follow each other, all of them embedded: their numbers, ids and vectors, and what they were made of."""

    rows: range
    ids: Sequence[str]
    vectors: memoryview | bytes
    digest: bytes | None = None


@frozen
class SpooledSpan:
    """A run whose vectors lie in the spool of a part."""

    rows: range
    ids: Sequence[str]
    place: Place
    digest: bytes | None = None


@frozen
class FailedRow:
    """A row that failed. `final`: another attempt would end the same way; `record` is its line in failures.jsonl."""

    row: int
    record: JsonDict
    final: bool
    digest: bytes | None = None


@frozen
class DoneSpan:
    """Rows start … stop - 1 need not be sent again; `digest` is of what they were made of."""

    start: int
    stop: int
    digest: bytes | None


@frozen
class Part:
    """A part: its number, its rows, its files and their sizes once it is written."""

    number: int
    rows: int
    files: dict[str, int]


class Checkpoint:
    """The open file, for any thread: they take turns. Every method may raise JobStoreError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.RLock()
        with self._errors("opened"):
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.0)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        # exclusive: the lock of the folder is ours, and the log then needs no file of shared memory
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL"):
            self._db.execute(f"PRAGMA {pragma}").fetchone()
        if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self._db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")

    # facts ------------------------------------------------------------------------------------------------------

    def facts(self) -> JsonDict:
        """What is known of the job as a whole."""
        with self._errors("read"):
            try:
                return {name: _json.loads(value.encode()) for name, value in self._db.execute("SELECT * FROM facts")}
            except (DecodeError, AttributeError) as error:
                raise self._broken(str(error)) from None

    def learn(self, facts: JsonDict) -> None:
        """Keep facts, in place of what was known under their names."""
        with self._transaction():
            self._put(facts)

    def _put(self, facts: JsonDict) -> None:
        rows = [(name, _json.dumps(value).decode()) for name, value in facts.items()]
        self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    # rows -------------------------------------------------------------------------------------------------------

    def record(self, part: int, runs: Iterable[SpooledSpan], lost: Iterable[FailedRow], facts: JsonDict) -> None:
        """Keep what came back, all of it or nothing. The vectors are to go into the part of this number."""
        with self._transaction():
            for run in runs:
                place = run.place
                values = (run.rows.start, run.rows.stop, run.digest, part, _json.dumps(list(run.ids)))
                self._db.execute(
                    "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*values, place.start, place.size, place.check)
                )
            self._db.executemany(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)",
                [(item.row, item.final, item.digest, _json.dumps(item.record)) for item in lost],
            )
            self._put(facts)

    def done_after(self, row: int) -> list[DoneSpan]:
        """The next rows behind `row`, up to a thousand stretches of them, that need not be sent again.

        Failures that are not final are not among them.
        """
        query = """
            SELECT start, stop, digest FROM runs WHERE start > :row UNION ALL
            SELECT row, row + 1, digest FROM failures WHERE final AND row > :row ORDER BY 1 LIMIT 1000"""
        with self._errors("read"):
            return [DoneSpan(*found) for found in self._db.execute(query, {"row": row})]

    def clear_transient(self) -> None:
        """Forget the failures that are not final: they are tried again."""
        with self._transaction():
            self._db.execute("DELETE FROM failures WHERE NOT final")

    def counts(self) -> tuple[int, int]:
        """How many rows succeeded and how many failed."""
        with self._errors("read"):
            (succeeded,) = self._db.execute("SELECT coalesce(sum(stop - start), 0) FROM runs").fetchone()
            (failed,) = self._db.execute("SELECT count(*) FROM failures").fetchone()
        return succeeded, failed

    def failures(self) -> Iterator[JsonDict]:
        """The lines of failures.jsonl, in the order of the rows."""
        with self._errors("read"):
            for (record,) in self._db.execute("SELECT record FROM failures ORDER BY row"):
                yield _json.loads(record)

    # parts ------------------------------------------------------------------------------------------------------

    def held(self) -> list[tuple[int, int, int]]:
        """The parts that are not written yet: number, rows, and bytes of vectors."""
        query = "SELECT part, sum(stop - start), sum(size) FROM runs WHERE ids IS NOT NULL GROUP BY part ORDER BY part"
        with self._errors("read"):
            return self._db.execute(query).fetchall()

    def kept(self, part: int) -> Iterator[SpooledSpan]:
        """What goes into a part, in the order of the rows. Other threads have their turn in between."""
        start = -1
        query = """
            SELECT start, stop, digest, ids, place, size, sum FROM runs
            WHERE ids IS NOT NULL AND part = ? AND start > ? ORDER BY start LIMIT ?"""
        while True:
            with self._errors("read"):
                found = self._db.execute(query, (part, start, _AT_ONCE)).fetchall()
            if not found:
                return
            for start, stop, digest, ids, *place in found:
                yield SpooledSpan(range(start, stop), _json.loads(ids), Place(*place), digest)

    def forget(self, runs: Iterable[SpooledSpan]) -> None:
        """These rows are not done after all."""
        with self._transaction():
            self._db.executemany("DELETE FROM runs WHERE start = ?", [(run.rows.start,) for run in runs])

    def seal(self, part: Part) -> None:
        """The part is written: where its vectors lay is of no interest any more."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO parts VALUES (?, ?, ?)", (part.number, part.rows, _json.dumps(part.files).decode())
            )
            self._db.execute(
                "UPDATE runs SET ids = NULL, place = NULL, size = NULL, sum = NULL WHERE ids IS NOT NULL AND part = ?",
                (part.number,),
            )

    def parts(self) -> list[Part]:
        """The parts that are written, by number."""
        with self._errors("read"):
            rows = self._db.execute("SELECT number, rows, files FROM parts ORDER BY number").fetchall()
        return [Part(number, count, _json.loads(files.encode())) for number, count, files in rows]

    # life -------------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Make all that was recorded safe from a power cut."""
        with self._errors("written"):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close the file. Raises nothing: what was recorded is recorded."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        with self._errors("written"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self, what: str) -> Generator[None, None, None]:
        with self._turn:
            try:
                yield
            except sqlite3.Error as error:
                raise self._store_error(what, error) from error

    def _store_error(self, what: str, error: sqlite3.Error) -> JobStoreError:
        name: Any = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return self._broken(str(error))
        advice = "run the same job again when that is put right"
        if name.startswith("SQLITE_FULL"):
            advice = "free some space and run the same job again"
        elif name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            advice = "the folder must be writable; change the permissions, or choose another output"
        elif name.startswith("SQLITE_BUSY"):
            advice = "another program has it open; close that and run the same job again"
        return JobStoreError(f"{self.path} cannot be {what}: {error}; what was finished is kept; {advice}")

    def _broken(self, problem: str) -> JobStoreError:
        return JobStoreError(
            f"{self.path} is damaged ({problem}): restore it from a backup, or keep the parts that are there and start "
            f"anew in another folder"
        )

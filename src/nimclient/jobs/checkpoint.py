"""The checkpoint of a job in one SQLite file: durable row by row.

Every finished slice is one transaction. SQLite's write-ahead log makes it atomic: a killed process
loses nothing that was recorded, a power failure at most what came after the last sync. It records which rows are done, and
where their vectors are; the vectors themselves are in a spool until they are in a part.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from attrs import frozen

from nimclient._resources.bulk import JsonDict, check_regular, is_array, is_object
from nimclient._resources.bulk import json as _json
from nimclient.errors import DecodeError, JobStoreError
from nimclient.jobs.files import store_errors
from nimclient.jobs.spool import SpoolSpan

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
_LONG = "CREATE TABLE IF NOT EXISTS long (row INTEGER PRIMARY KEY, record BLOB NOT NULL)"
_AT_ONCE = 1000  # spans of rows in memory


@frozen
class RowSpan:
    """Consecutive embedded rows: their numbers, ids, vectors, and the digest of their texts."""

    rows: range
    ids: Sequence[str]
    vectors: memoryview | bytes
    digest: bytes | None = None


@frozen
class SpooledSpan:
    """Rows whose vectors are in the spool of a part."""

    rows: range
    ids: Sequence[str]
    place: SpoolSpan
    digest: bytes | None = None


@frozen
class FailedRow:
    """A row that failed. `final`: another attempt would end the same way; `record` is its line in failures.jsonl."""

    row: int
    record: JsonDict
    final: bool
    digest: bytes | None = None


@frozen
class LongRow:
    """A row whose text was cut into pieces; `record` is its line in long.jsonl."""

    row: int
    record: JsonDict


@frozen
class DoneSpan:
    """Rows start … stop - 1 are done; `digest` is that of their texts."""

    start: int
    stop: int
    digest: bytes | None


@frozen
class Part:
    """A part: its number and rows; its files and their sizes once it is written."""

    number: int
    rows: int
    files: dict[str, int]


class _Tampered(Exception):
    """The file has content that a job never writes."""


def _check(is_so: bool, what: str) -> None:
    if not is_so:
        raise _Tampered(f"{what} is invalid")


def is_count(value: object) -> bool:
    """Whether it is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_facts(facts: JsonDict) -> None:
    for name in ("job", "content"):
        _check(facts.get(name) is None or is_object(facts[name]), name)
    for name in ("total", "dimensions"):
        _check(facts.get(name) is None or is_count(facts[name]), name)
    if content := facts.get("content"):
        _check(content.keys() == {"digest", "rows", "stamp"} and isinstance(content["digest"], str), "content")
        _check(content["rows"] is None or is_count(content["rows"]), "the number of rows")
    models = facts.get("served_models", [])
    _check(is_array(models) and all(isinstance(model, str) for model in models), "the list of models")


def _done_span(start: Any, stop: Any, digest: Any) -> DoneSpan:
    _check(is_count(start) and is_count(stop) and start < stop, "a stretch of rows")
    _check(digest is None or isinstance(digest, bytes), "a digest")
    return DoneSpan(start, stop, digest)


def _spooled_span(
    row_bytes: int, start: Any, stop: Any, digest: Any, ids: Any, place: Any, size: Any, checksum: Any
) -> SpooledSpan:
    _done_span(start, stop, digest)
    names = _json.loads(ids)
    _check(is_array(names) and len(names) == stop - start and all(isinstance(n, str) for n in names), "a list of ids")
    _check(size == row_bytes * (stop - start), "the size of vectors")
    _check(is_count(place) and is_count(checksum), "the place of vectors")
    return SpooledSpan(range(start, stop), names, SpoolSpan(place, size, checksum), digest)


def _part(number: Any, rows: Any, files: Any) -> Part:
    _check(is_count(number) and is_count(rows) and is_object(files), "a part")
    _check(all("/" not in name and is_count(size) for name, size in files.items()), "the files of a part")
    return Part(number, rows, files)


class Checkpoint:
    """The open file. Thread-safe. Every method may raise JobStoreError."""

    def __init__(self, path: Path, *, has_locks: bool = True) -> None:
        """`has_locks`: whether the file system supports SQLite's locks; else the folder's lock must suffice."""
        self.path = path
        self._mutex = threading.RLock()
        for end in ("", "-wal", "-shm", "-journal"):
            with store_errors(f"cannot open {path}{end}"):
                check_regular(path.with_name(path.name + end))
        address = f"{path.absolute().as_uri()}?nolock={int(not has_locks)}"
        with self._errors("opened"):
            self._db = sqlite3.connect(address, isolation_level=None, check_same_thread=False, timeout=0.0, uri=True)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        # exclusive: we hold the folder's lock, and the log then needs no shared-memory file
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL"):
            self._db.execute(f"PRAGMA {pragma}").fetchone()
        if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self._db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        self._db.execute(_LONG)  # folders of earlier versions have none

    # facts ------------------------------------------------------------------------------------------------------

    def facts(self) -> JsonDict:
        """The facts about the job."""
        with self._errors("read"):
            facts = {name: _json.loads(value.encode()) for name, value in self._db.execute("SELECT * FROM facts")}
            _check_facts(facts)
        return facts

    def learn(self, facts: JsonDict) -> None:
        """Store facts, replacing earlier ones with the same names."""
        with self._transaction():
            self._put(facts)

    def _put(self, facts: JsonDict) -> None:
        rows = [(name, _json.dumps(value).decode()) for name, value in facts.items()]
        self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    # rows -------------------------------------------------------------------------------------------------------

    def record(
        self,
        part: int,
        runs: Iterable[SpooledSpan],
        lost: Iterable[FailedRow],
        facts: JsonDict,
        long: Iterable[LongRow] = (),
    ) -> None:
        """Record results in one transaction. The vectors will go into the part with this number."""
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
            self._db.executemany(
                "INSERT OR REPLACE INTO long VALUES (?, ?)", [(item.row, _json.dumps(item.record)) for item in long]
            )
            self._put(facts)

    def done_after(self, row: int) -> list[DoneSpan]:
        """The next done rows after `row`, up to a thousand spans.

        Transient failures are not among them.
        """
        query = """
            SELECT start, stop, digest FROM runs WHERE start > :row UNION ALL
            SELECT row, row + 1, digest FROM failures WHERE final AND row > :row ORDER BY 1 LIMIT 1000"""
        with self._errors("read"):
            return [_done_span(*found) for found in self._db.execute(query, {"row": row})]

    def clear_transient(self) -> None:
        """Remove transient failures: their rows are tried again."""
        with self._transaction():
            self._db.execute("DELETE FROM failures WHERE NOT final")

    def counts(self) -> tuple[int, int]:
        """How many rows succeeded and how many failed."""
        with self._errors("read"):
            (succeeded,) = self._db.execute("SELECT coalesce(sum(stop - start), 0) FROM runs").fetchone()
            (failed,) = self._db.execute("SELECT count(*) FROM failures").fetchone()
            _check(is_count(succeeded), "the number of rows")
        return succeeded, failed

    def failures(self) -> Iterator[JsonDict]:
        """The lines of failures.jsonl, in the order of the rows."""
        with self._errors("read"):
            for (record,) in self._db.execute("SELECT record FROM failures ORDER BY row"):
                yield _json.loads(record)

    def long(self) -> Iterator[JsonDict]:
        """The lines of long.jsonl, in the order of the rows."""
        with self._errors("read"):
            for (record,) in self._db.execute("SELECT record FROM long ORDER BY row"):
                yield _json.loads(record)

    def long_count(self) -> int:
        """How many rows have a text that was cut into pieces."""
        with self._errors("read"):
            count: int = self._db.execute("SELECT count(*) FROM long").fetchone()[0]
        return count

    # parts ------------------------------------------------------------------------------------------------------

    def held(self) -> list[tuple[int, int, int]]:
        """The parts not written yet: number, rows, and bytes of vectors."""
        query = "SELECT part, sum(stop - start), sum(size) FROM runs WHERE ids IS NOT NULL GROUP BY part ORDER BY part"
        with self._errors("read"):
            held: list[tuple[int, int, int]] = self._db.execute(query).fetchall()
            _check(all(map(is_count, chain.from_iterable(held))), "a part that is not written")
        return held

    def kept(self, part: int, row_bytes: int) -> Iterator[SpooledSpan]:
        """The content of a part, in the order of the rows, with vectors of `row_bytes`. The lock is released in between."""
        last = -1
        query = """
            SELECT start, stop, digest, ids, place, size, sum FROM runs
            WHERE ids IS NOT NULL AND part = ? AND start > ? ORDER BY start LIMIT ?"""
        while True:
            with self._errors("read"):
                found = [_spooled_span(row_bytes, *row) for row in self._db.execute(query, (part, last, _AT_ONCE))]
            if not found:
                return
            last = found[-1].rows.start
            yield from found

    def forget(self, runs: Iterable[SpooledSpan]) -> None:
        """Mark rows as not done."""
        with self._transaction():
            self._db.executemany("DELETE FROM runs WHERE start = ?", [(run.rows.start,) for run in runs])

    def seal(self, part: Part) -> None:
        """Mark a part as written, and remove the positions of its vectors in the spool."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO parts VALUES (?, ?, ?)", (part.number, part.rows, _json.dumps(part.files).decode())
            )
            self._db.execute(
                "UPDATE runs SET ids = NULL, place = NULL, size = NULL, sum = NULL WHERE ids IS NOT NULL AND part = ?",
                (part.number,),
            )

    def parts(self) -> list[Part]:
        """The written parts, by number."""
        with self._errors("read"):
            rows = self._db.execute("SELECT number, rows, files FROM parts ORDER BY number").fetchall()
            return [_part(number, count, _json.loads(files.encode())) for number, count, files in rows]

    # life -------------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Sync everything recorded to disk."""
        with self._errors("written"):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close the file. Never raises."""
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
        with self._mutex:
            try:
                yield
            except sqlite3.Error as error:
                raise self._store_error(what, error) from error
            except UnicodeDecodeError as error:  # SQLite's own message quotes what is there
                raise self._broken("its text is not UTF-8") from error
            except (_Tampered, DecodeError, LookupError, TypeError, AttributeError) as error:
                if what != "read":
                    raise
                raise self._broken(f"{type(error).__name__.lstrip('_')}: {error}") from error

    def _store_error(self, what: str, error: sqlite3.Error) -> JobStoreError:
        name: Any = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return self._broken(str(error))
        advice = "run the same job again once that is fixed"
        if name.startswith("SQLITE_FULL"):
            advice = "free some space and run the same job again"
        elif name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            advice = "the folder must be writable; change the permissions, or choose another output"
        elif name.startswith("SQLITE_BUSY"):
            advice = "another program has it open; close it and run the same job again"
        return JobStoreError(f"{self.path} cannot be {what}: {error}; what was finished is kept; {advice}")

    def _broken(self, problem: str) -> JobStoreError:
        return JobStoreError(
            f"{self.path} is damaged ({problem}): restore it from a backup, or keep the parts that are there and start "
            f"again in another folder"
        )

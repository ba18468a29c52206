"""A table of SQLite: `"index"`, `id`, and the vector as a blob of little-endian numbers, which sqlite-vec reads as it is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager

from nimclient._resources.bulk import JsonDict, write_ahead
from nimclient._resources.bulk import json as _json
from nimclient.errors import JobStoreError
from nimclient.jobs.sinks.base import SinkSlice, check_writers

_BUSY = 60.0  # seconds to wait for another shard's transaction


class SQLiteSink:
    """Vectors in a table of an SQLite file, which is created if missing: `EmbedJob(source, "sqlite:///docs.db")`.

    A slice and its record are one transaction. Other programs may read the table meanwhile.
    """

    def __init__(self, path: str | os.PathLike[str], table: str = "vectors") -> None:
        self.path = os.fspath(path)
        self.table = table
        self._writer = ""
        self._db: sqlite3.Connection

    def __str__(self) -> str:
        return f"table {self.table} of {self.path}"

    @contextmanager
    def open(self, writer: str) -> Generator[None, None, None]:
        """See Sink. An unfinished transaction is rolled back by SQLite."""
        self._writer = writer
        opened = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=_BUSY)
        with closing(opened) as self._db:
            write_ahead(self._db, _BUSY)
            self._db.execute("BEGIN IMMEDIATE")
            self._create()
            self._db.execute("COMMIT")
            writers = self._db.execute(f"SELECT DISTINCT writer FROM {quoted(f'{self.table}_commits')}").fetchall()  # nosec B608
            check_writers(self, writer, (name for (name,) in writers))
            yield

    def _create(self) -> None:
        commits = f"{self.table}_commits"
        query = "SELECT name FROM sqlite_master WHERE name COLLATE NOCASE IN (?, ?)"
        there = [name for (name,) in self._db.execute(query, (self.table, commits))]
        if len(there) == 1 and there[0].lower() != commits.lower():
            raise JobStoreError(f"{self} was not created by a job: choose another table")
        self._db.execute(
            f"CREATE TABLE IF NOT EXISTS {quoted(self.table)} "
            '("index" INTEGER PRIMARY KEY, id TEXT NOT NULL, vector BLOB NOT NULL)'
        )
        self._db.execute(
            f"CREATE TABLE IF NOT EXISTS {quoted(commits)} "
            "(writer TEXT, number INTEGER, record TEXT NOT NULL, PRIMARY KEY (writer, number)) WITHOUT ROWID"
        )

    def write(self, slice: SinkSlice) -> None:
        """See Sink."""
        self._db.execute("BEGIN IMMEDIATE")
        rows = zip(slice.indexes, slice.ids, (vector.buffer for vector in slice.vectors), strict=True)
        self._db.executemany(f"INSERT INTO {quoted(self.table)} VALUES (?, ?, ?)", rows)  # nosec B608

    def commit(self, ids: JsonDict) -> None:
        """See Sink."""
        record = (self._writer, ids["number"], _json.dumps(ids).decode())
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(f"INSERT INTO {quoted(f'{self.table}_commits')} VALUES (?, ?, ?)", record)  # nosec B608
        self._db.execute("COMMIT")

    def committed(self) -> Iterable[JsonDict]:
        """See Sink."""
        query = f"SELECT record FROM {quoted(f'{self.table}_commits')} WHERE writer = ? ORDER BY number"  # nosec B608
        for (record,) in self._db.execute(query, (self._writer,)):
            yield _json.loads(record.encode())


def quoted(name: str) -> str:
    """A name of SQL in quotes, which no name escapes from: values are always parameters."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'

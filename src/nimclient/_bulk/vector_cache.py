"""A cache of vectors in a folder: one SQLite file, by the content of their texts, for any number of processes.

It has a write-ahead log: a process that is killed loses nothing that was added, and readers do not wait for a writer. What
fails here costs requests, never vectors: the cache then finds nothing, and says why in `problem`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time  # noqa: TID251  # how long a file is busy
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from nimclient._base.files import check_regular
from nimclient.errors import ConfigurationError

_BUSY_SECONDS = 60.0
_BUSY_DELAY = 0.01
_AT_ONCE = 500  # keys in a query
_PAGE = 16384  # bytes: a vector of 1024 float32 should not need pages of its own


class VectorCache:
    """An open cache. Blocking; thread-safe. ConfigurationError if it cannot be opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = os.getpid()
        self.problem: str | None = None
        self._mutex = threading.Lock()
        path = folder / "vectors.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            check_regular(*(path.with_name(path.name + end) for end in ("", "-wal", "-shm", "-journal")))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
            try:
                self._db.execute(f"PRAGMA page_size={_PAGE}")
                write_ahead(self._db, _BUSY_SECONDS)
                self._db.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
                self._db.execute("CREATE TABLE IF NOT EXISTS models (space BLOB PRIMARY KEY, model TEXT NOT NULL)")
            except BaseException:
                self._db.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"the cache {folder} cannot be opened: {error}") from error

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """What is there, by key: vectors, unless another program wrote it."""
        found: dict[bytes, Any] = {}
        left = iter(keys)
        with self._mutex:
            try:
                while some := list(islice(left, _AT_ONCE)):
                    marks = ",".join("?" * len(some))
                    query = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"  # nosec B608
                    found.update(self._db.execute(query, some))
            except sqlite3.Error as error:
                self.problem = f"cannot be read: {error}"
        return found

    def add(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Add vectors, in one transaction."""
        with self._mutex:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self.problem = f"cannot be written: {error}"
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def model_of(self, space: bytes, served: str) -> str:
        """The model that answered for a space when its first vectors were added: `served` if these are the first."""
        with self._mutex:
            try:
                self._db.execute("INSERT OR IGNORE INTO models VALUES (?, ?)", (space, served))
                (model,) = self._db.execute("SELECT model FROM models WHERE space = ?", (space,)).fetchone()
            except sqlite3.Error as error:
                self.problem = f"cannot be written: {error}"
                return served
        return str(model)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self.pid == os.getpid():  # a child's copy belongs to its parent
            self._db.close()

    def __del__(self) -> None:
        if hasattr(self, "_db"):
            self.close()


def key_of(space: bytes, text: str) -> bytes:
    """The key of a text; `space` (at most 64 bytes) identifies all else that changes its vector."""
    return blake2b(text.encode(), key=space, digest_size=20).digest()


def space_of(description: bytes) -> bytes:
    """The space of calls with this description."""
    return blake2b(description, digest_size=32).digest()


def write_ahead(db: sqlite3.Connection, busy_seconds: float) -> None:
    """Give an SQLite database a write-ahead log. SQLite does not wait for a process that writes there meanwhile: we do."""
    end = time.monotonic() + busy_seconds
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL").fetchone()
            db.execute("PRAGMA synchronous=NORMAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(_BUSY_DELAY)

"""A table of PostgreSQL with pgvector: `"index"`, `id`, `vector`."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from nimclient._resources.bulk import JsonDict
from nimclient._resources.bulk import json as _json
from nimclient.errors import ConfigurationError, JobStoreError
from nimclient.jobs.extras import module_of_extra
from nimclient.jobs.sinks.base import SinkSlice, check_writers
from nimclient.jobs.sinks.sqlite import quoted

_WAIT = "30s"  # for the server to end what a killed process was doing
_NAME_BYTES = 63  # of which PostgreSQL cuts the rest off, without a word
_COMMITS = "_commits"
_KEEPALIVES = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""With these the server notices in half a minute, not in two hours, that a machine is gone, and its session with the lock."""


class PostgresSink:
    """Vectors in a table of PostgreSQL: `EmbedJob(source, "postgresql://user@host/database?table=museum")`.

    A slice and its record are one transaction. float16 becomes a column of type halfvec, which needs pgvector 0.7.

    Args:
        conninfo: A connection string of libpq's. A password is better left to PGPASSWORD or ~/.pgpass.
        table: Its name, or "schema.name"; made by the job.
    """

    slice_bytes = 1 << 20

    def __init__(self, conninfo: str = "", table: str = "vectors") -> None:
        self.table = table
        self._conninfo = conninfo
        self._psycopg = module_of_extra("psycopg", "postgresql:// needs psycopg: install nimclient[pgvector]")
        self._writer = ""
        self._schema = "public"  # of the extension
        self._db: Any = None

    def __str__(self) -> str:
        return f"table {self.table} of PostgreSQL"

    @contextmanager
    def open(self, writer: str) -> Generator[None, None, None]:
        """See Sink. PostgreSQL rolls back an unfinished transaction."""
        self._writer = writer
        _, _, name = self.table.rpartition(".")
        if len(f"{name}{_COMMITS}".encode()) > _NAME_BYTES:
            raise ConfigurationError(
                f"{self}: the name is too long: PostgreSQL cuts names at {_NAME_BYTES} bytes, and {_COMMITS} is added"
            )
        with self.connect() as self._db:
            self._lock()
            there = {end for end in ("", _COMMITS) if self._one("SELECT to_regclass(%s)", table_name(self.table, end))}
            if there == {""}:
                raise JobStoreError(f"{self} was not created by a job: choose another table")
            if not self._one("SELECT count(*) FROM pg_extension WHERE extname = 'vector'"):
                self._db.execute("CREATE EXTENSION vector")
            self._schema = self._one(
                "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
            )
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS {table_name(self.table, _COMMITS)} "
                "(writer text, number int, record text NOT NULL, PRIMARY KEY (writer, number))"
            )
            self._db.commit()
            writers = self._db.execute(f"SELECT DISTINCT writer FROM {table_name(self.table, _COMMITS)}").fetchall()  # nosec B608
            check_writers(self, writer, (name for (name,) in writers))
            yield
            self._db.rollback()
            self._one(
                "SELECT pg_advisory_unlock(hashtext(%s), hashtext(%s))", self.table, writer
            )  # of a pooled connection

    def connect(self) -> Any:
        """A connection that a pooler may be behind: nothing is prepared in it."""
        return self._psycopg.connect(self._conninfo, prepare_threshold=None, client_encoding="utf8")

    def _lock(self) -> None:
        """Wait until no other connection writes for this writer; let no two create tables at the same time.

        A pooler shows another process id than the server. It would keep the lock of a session after the job: there the
        transaction has it, and of two jobs the one stops that comes second to a row.
        """
        scope = "" if self._db.info.backend_pid == self._one("SELECT pg_backend_pid()") else "xact_"
        if not scope:
            for name, value in _KEEPALIVES.items():
                self._db.execute("SELECT set_config(name, %s, false) FROM pg_settings WHERE name = %s", (value, name))
        self._db.execute(f"SET LOCAL lock_timeout = '{_WAIT}'")
        try:
            self._db.execute(f"SELECT pg_advisory_{scope}lock(hashtext(%s), hashtext(%s))", (self.table, self._writer))
        except self._psycopg.errors.LockNotAvailable:
            raise JobStoreError(f"{self} belongs to a job that is running; wait for its end") from None
        self._db.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self.table,))

    def _one(self, query: str, *values: str) -> Any:
        return self._db.execute(query, values).fetchone()[0]

    def write(self, slice: SinkSlice) -> None:
        """See Sink."""
        vectors = slice.vectors
        if slice.number == 0:
            kind = "halfvec" if vectors.dtype == "float16" else "vector"
            self._db.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self.table,))
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS {table_name(self.table)} ("
                f'"index" bigint PRIMARY KEY, id text NOT NULL, vector {self._schema}.{kind}({vectors.dimensions}) NOT NULL)'
            )
        with self._db.cursor().copy(f"COPY {table_name(self.table)} FROM STDIN") as copy:
            for index, name, vector in zip(slice.indexes, slice.ids, vectors, strict=True):
                copy.write_row((index, name, _json.dumps(vector.tolist()).decode()))

    def commit(self, ids: JsonDict) -> None:
        """See Sink."""
        record = (self._writer, ids["number"], _json.dumps(ids).decode())
        self._db.execute(f"INSERT INTO {table_name(self.table, _COMMITS)} VALUES (%s, %s, %s)", record)  # nosec B608
        self._db.commit()

    def committed(self) -> Iterable[JsonDict]:
        """See Sink."""
        query = f"SELECT record FROM {table_name(self.table, _COMMITS)} WHERE writer = %s"  # nosec B608
        records = [_json.loads(record.encode()) for (record,) in self._db.execute(query, (self._writer,))]
        self._db.commit()  # else the transaction would wait for the first slice
        return records


def table_name(table: str, end: str = "") -> str:
    """The name in SQL of a table, or of the one whose name has this end, in its schema."""
    schema, dot, name = table.rpartition(".")
    return (quoted(schema) + dot if dot else "") + quoted(name + end)

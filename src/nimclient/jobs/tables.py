"""Rows of tables in databases, by URL: sqlite://, lancedb://, qdrant:// and postgresql://, as for sinks.

A table is read a block at a time, and in the same order by each run, which compares the rows that are done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, TypeAlias
from urllib.parse import quote

from nimclient.errors import JobStoreError, NimError
from nimclient.jobs.parquet import arrow
from nimclient.jobs.rows import BLOCK_BYTES, Row, RowFields
from nimclient.jobs.sinks.lance import LanceSink
from nimclient.jobs.sinks.postgres import PostgresSink, table_name
from nimclient.jobs.sinks.qdrant import QdrantSink
from nimclient.jobs.sinks.sqlite import SQLiteSink, quoted
from nimclient.jobs.sinks.urls import sink_of

_ROWS_AT_ONCE = 256
_SAMPLE = 16  # rows that say how large the others are
_MAY_WAIT = "SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"
"""The server is not to end a transaction that waits for texts to be embedded."""
CheckColumns: TypeAlias = Callable[[Any, Iterable[str], RowFields], None]
"""Raises ConfigurationError if a table lacks a column: its name, those that there are, and the fields wanted."""


def table_rows(url: str, fields: RowFields, check: CheckColumns) -> Iterator[Row]:
    """The rows of the table that a URL names. Raises JobStoreError for errors of the database."""
    table = sink_of(url)
    records: Iterable[Mapping[str, Any]]
    try:
        match table:
            case SQLiteSink():
                records = _sqlite(table, fields, check)
            case LanceSink():
                records = _lance(table, fields, check)
            case QdrantSink():
                records = table.payloads()
            case PostgresSink():
                records = _postgres(table, fields, check)
            case _:
                raise AssertionError(url)
        for record in records:
            yield fields.row(record, None)
    except NimError:
        raise
    except Exception as error:
        words = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise JobStoreError(f"{table} cannot be read: {words}; what was finished is kept") from error


def _selected(fields: RowFields) -> str:
    return ", ".join(map(quoted, fields.columns))


def _sqlite(table: SQLiteSink, fields: RowFields, check: CheckColumns) -> Iterator[Mapping[str, Any]]:
    with closing(sqlite3.connect(f"file:{quote(table.path)}?mode=ro", uri=True, check_same_thread=False)) as db:
        db.text_factory = _text
        name = quoted(table.table)
        check(table, [column for _, column, *_ in db.execute(f"PRAGMA table_info({name})")], fields)
        for values in db.execute(f"SELECT {_selected(fields)} FROM {name} ORDER BY {_order(db, name, fields)}"):  # nosec B608
            yield dict(zip(fields.columns, values, strict=True))


def _text(value: bytes) -> str:
    """A text; one that is not UTF-8, which SQLite allows, becomes an invalid one, and its row fails alone."""
    return value.decode(errors="surrogateescape")


def _order(db: sqlite3.Connection, name: str, fields: RowFields) -> str:
    """What orders the rows: their numbers; without (WITHOUT ROWID, a view) the column of the id, or the first."""
    try:
        db.execute(f"SELECT rowid FROM {name} LIMIT 0")  # nosec B608
    except sqlite3.OperationalError:
        return "1" if fields.id is None else quoted(fields.id)
    return "rowid"


def _postgres(table: PostgresSink, fields: RowFields, check: CheckColumns) -> Iterator[Mapping[str, Any]]:
    name = table_name(table.table)
    with table.connect() as db:
        columns = db.execute(f"SELECT * FROM {name} LIMIT 0").description  # nosec B608
        check(table, [column.name for column in columns], fields)
        order = "tableoid, ctid" if fields.id is None else quoted(fields.id)
        db.execute(_MAY_WAIT)
        with db.cursor("rows") as cursor:
            cursor.execute(f"SELECT {_selected(fields)} FROM {name} ORDER BY {order}")  # nosec B608
            while block := cursor.fetchmany(_ROWS_AT_ONCE):  # psycopg 3.3.0 ends an iteration after the first block
                for values in block:
                    yield dict(zip(fields.columns, values, strict=True))


def _lance(table: LanceSink, fields: RowFields, check: CheckColumns) -> Iterator[Mapping[str, Any]]:
    arrow()
    rows = table.opened()
    check(table, rows.schema.names, fields)
    first = rows.search().select(list(fields.columns)).limit(_SAMPLE).to_arrow()
    count = max(min(BLOCK_BYTES * len(first) // max(first.nbytes, 1), _ROWS_AT_ONCE), 1)  # fewer where they are large
    for batch in rows.search().select(list(fields.columns)).to_batches(count):
        yield from batch.to_pylist()

"""A table of LanceDB: index, id, vector, and the slice that a row came with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nimclient._resources.bulk import JsonDict
from nimclient._resources.bulk import json as _json
from nimclient.errors import JobStoreError
from nimclient.jobs.extras import module_of_extra
from nimclient.jobs.parquet import arrow, vector_array
from nimclient.jobs.sinks.base import SinkSlice, check_writers, next_slice, slice_key


class LanceSink:
    """Vectors in a table of LanceDB, in a folder or an object store: `EmbedJob(source, "lancedb:///museum.lance")`.

    LanceDB has no transaction over two tables: a slice is added, then its record; `open` deletes the rows of a slice that
    has none. Additions of two processes never conflict there, so that only one at a time may run a job.
    """

    slice_bytes = 16 << 20  # each addition is a file and a version of the table

    def __init__(self, uri: str, table: str = "vectors") -> None:
        self.uri = uri
        self.table = table
        self._lancedb = module_of_extra("lancedb", "lancedb:// needs LanceDB: install nimclient[lancedb]")
        self._writer = ""
        self._records: list[JsonDict] = []
        self._db: Any = None
        self._rows: Any = None
        self._commits: Any = None

    def __str__(self) -> str:
        return f"table {self.table} of {self.uri}"

    def open(self, writer: str) -> None:
        """See Sink."""
        pa = arrow()
        self._writer = writer
        self._db = self._lancedb.connect(self.uri)
        self._rows, self._commits = self._opened(self.table), self._opened(f"{self.table}_commits")
        if self._commits is None:
            if self._rows is not None:
                raise JobStoreError(f"{self} was not created by a job: choose another table")
            schema = pa.schema({"writer": pa.string(), "record": pa.string()})
            self._commits = self._db.create_table(f"{self.table}_commits", schema=schema, exist_ok=True)
        found = self._commits.to_arrow().to_pylist()
        check_writers(self, writer, (row["writer"] for row in found))
        self._records = [_json.loads(row["record"].encode()) for row in found if row["writer"] == writer]
        if self._rows is not None:
            unfinished = f"slice = '{slice_key(writer, next_slice(self._records))}'"
            if self._rows.count_rows(unfinished):
                self._rows.delete(unfinished)

    def opened(self) -> Any:
        """The table, which must exist."""
        return self._lancedb.connect(self.uri).open_table(self.table)

    def _opened(self, name: str) -> Any:
        try:
            return self._db.open_table(name)
        except ValueError as error:
            if "not found" not in str(error):
                raise
            return None

    def write(self, slice: SinkSlice) -> None:
        """See Sink."""
        pa = arrow()
        vectors = vector_array(bytes(slice.vectors.buffer), slice.vectors.dimensions, slice.vectors.dtype)
        keys = [slice_key(self._writer, slice.number)] * len(slice.ids)
        columns = [pa.array(slice.indexes, pa.int64()), pa.array(slice.ids, pa.string()), vectors, pa.array(keys)]
        rows = pa.table(columns, names=["index", "id", "vector", "slice"])
        if self._rows is None:
            self._rows = self._db.create_table(self.table, schema=rows.schema, exist_ok=True)
        self._rows.add(rows)

    def commit(self, ids: JsonDict) -> None:
        """See Sink."""
        self._commits.add([{"writer": self._writer, "record": _json.dumps(ids).decode()}])

    def committed(self) -> Iterable[JsonDict]:
        """See Sink."""
        return self._records

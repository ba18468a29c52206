"""Parts in an object store (S3, Google Cloud Storage, Azure, a local folder, memory) through obstore.

A part is one Parquet object that carries its record in its footer, and is created or not: rows and record are there
together, without a transaction. A name is taken only once, so that of two processes on one job the second stops.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from nimclient._resources.bulk import JsonDict
from nimclient._resources.bulk import json as _json
from nimclient.errors import JobStoreError
from nimclient.jobs.objects import obstore
from nimclient.jobs.parquet import arrow, write_parquet
from nimclient.jobs.shards import shard_in
from nimclient.jobs.sinks.base import SinkSlice, check_writers, try_thrice

_RECORD = b"nimclient"  # the key of the record among the metadata of a Parquet file
_TAIL = 64 << 10  # bytes read for a footer
_AT_ONCE = 16  # footers read concurrently
_PART, _NOTE = "part", "_record"  # readers of a folder of Parquet files skip names that begin with an underscore


class ObjectSink:
    """Vectors as `part-00000.parquet` … below a prefix of an object store: `EmbedJob(source, "s3://bucket/vectors")`.

    `store`: a store of obstore's. The parts are those of a folder: index, id, vector.
    """

    slice_bytes = 64 << 20

    def __init__(self, store: Any, name: str = "the object store") -> None:
        self._store = store
        self._name = name
        self._suffix = ""
        self._written: SinkSlice | None = None

    def __str__(self) -> str:
        return self._name

    def open(self, writer: str) -> None:
        """See Sink."""
        self._suffix = f"-{writer}" if writer else ""
        self._written = None
        if isinstance(self._store, obstore().store.LocalStore) and self._store.prefix is not None:
            _clear(Path(self._store.prefix), re.compile(rf"{_PART}{re.escape(self._suffix)}-\d{{5,}}\.parquet#\d+"))

    def write(self, slice: SinkSlice) -> None:
        """See Sink. Nothing is stored before the commit."""
        self._written = slice

    def commit(self, ids: JsonDict) -> None:
        """See Sink. Raises JobStoreError if another process has used the name."""
        record, slice = _json.dumps(ids), self._written
        if ids["slice"] is None or slice is None:
            name, content = f"{_NOTE}{self._suffix}-{ids['number']:05d}.json", record
        else:
            name, file = f"{_PART}{self._suffix}-{slice.number:05d}.parquet", BytesIO()
            group = (slice.indexes, slice.ids, bytes(slice.vectors.buffer))
            write_parquet(file, [group], slice.vectors.dimensions, slice.vectors.dtype, {_RECORD: record})
            content = file.getvalue()
        self._create(name, content)
        self._written = None

    def _create(self, name: str, content: bytes) -> None:
        exceptions = obstore().exceptions
        passing = exceptions.GenericError, FileNotFoundError  # cut, or asked to slow down; a conflict that has passed
        try_thrice(partial(self._put, name, content), lambda error: isinstance(error, passing))

    def _put(self, name: str, content: bytes) -> None:
        objects = obstore()
        try:
            objects.put(self._store, name, content, mode="create")
        except objects.exceptions.AlreadyExistsError:  # FileNotFoundError: S3 says the same of two at once (409)
            if bytes(objects.get(self._store, name).bytes()) != content:  # as an earlier try whose answer was lost
                raise JobStoreError(
                    f"{self}: {name} already exists: another process is running this job; "
                    "wait for its end, and run it again"
                ) from None

    def committed(self) -> Iterable[JsonDict]:
        """See Sink."""
        found = [item for batch in obstore().list(self._store) for item in batch if "/" not in item["path"]]
        ours = [item for item in found if item["path"].startswith((f"{_PART}-", f"{_NOTE}-"))]
        writers = {item["path"]: shard_in(item["path"]).suffix for item in ours}
        check_writers(self, self._suffix, writers.values())
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(self._record, [item for item in ours if writers[item["path"]] == self._suffix])

    def _record(self, item: Any) -> JsonDict:
        name = item["path"]
        if name.startswith(_NOTE):
            return _object(bytes(obstore().get(self._store, name).bytes()))
        tail = self._tail(item, _TAIL)
        if (needed := int.from_bytes(tail[-8:-4], "little") + 8) > len(tail):
            tail = self._tail(item, needed)
        metadata: dict[bytes, bytes] = arrow("pyarrow.parquet").read_metadata(BytesIO(tail)).metadata or {}
        if _RECORD not in metadata:
            raise JobStoreError(f"{self}: {name} was not written by a job: choose another output")
        return _object(metadata[_RECORD])

    def _tail(self, item: Any, length: int) -> bytes:
        length = min(length, item["size"])
        return bytes(obstore().get_range(self._store, item["path"], start=item["size"] - length, length=length))


def _clear(folder: Path, names: re.Pattern[str]) -> None:
    """Remove what a process that was killed had not written to the end: a reader of the folder would read it."""
    for path in folder.glob("*#*"):
        if names.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _object(data: bytes) -> JsonDict:
    record: JsonDict = _json.loads(data)
    return record

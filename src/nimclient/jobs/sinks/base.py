"""The protocol of a sink, and what it is given."""

from __future__ import annotations

import time  # noqa: TID251  # between two tries
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from attrs import frozen

from nimclient._resources.bulk import JsonDict
from nimclient.errors import JobMismatchError
from nimclient.records.embeddings import Vectors

_WAITS = (1.0, 5.0)  # seconds between the tries


@frozen
class SinkSlice:
    """Rows that are written together.

    `number` counts the slices of a writer from 0. `indexes` are the numbers of the rows in the source, which occur once in
    an output, `ids` their ids, and `vectors` their vectors.
    """

    number: int
    indexes: Sequence[int]
    ids: Sequence[str]
    vectors: Vectors


@runtime_checkable
class Sink(Protocol):
    """A store of vectors: any class with these four methods can be the output of an EmbedJob.

    They are called in a worker thread, one at a time: `open` and `committed` once, then `write` and `commit` in turn, or
    `commit` alone. What they raise ends the job with a JobStoreError. A sink with an attribute `slice_bytes` gets
    slices of about that many bytes of vectors, or what arrived within a minute; without it one slice per response.
    """

    def open(self, writer: str) -> AbstractContextManager[object] | None:
        """Create or open the store, and remove what this writer wrote without a commit.

        `writer`: "", or the shard ("00003-of-00008"), which has its own slices and records. If a context manager is
        returned, it is exited when the run ends.
        """
        ...

    def write(self, slice: SinkSlice) -> None:
        """Take the rows of a slice. They count from its commit on; after a crash the same number may come with other rows."""
        ...

    def commit(self, ids: JsonDict) -> None:
        """Make the slice written last count, and keep this record, both or neither.

        The record is one JSON object that says which rows are done. "number" counts the records of a writer from 0;
        "slice" is the number of the slice, None for a commit of failures or facts alone.
        """
        ...

    def committed(self) -> Iterable[JsonDict]:
        """The records of this writer, in any order."""
        ...


def check_writers(sink: object, writer: str, there: Iterable[str]) -> None:
    """Raise JobMismatchError if a store belongs to a job with another number of shards."""
    counts = {name.rpartition("-")[2] for name in there}
    if other := counts - {writer.rpartition("-")[2]}:
        shards = int(max(other) or 1)
        raise JobMismatchError(f"{sink} belongs to a job of {shards} shards: run that one, or choose another output")


def try_thrice(store: Callable[[], object], may_pass: Callable[[Exception], bool]) -> None:
    """Store, again after errors that may pass; the last try's error is raised."""
    for wait in _WAITS:
        try:
            store()
        except Exception as error:
            if not may_pass(error):
                raise
            time.sleep(wait)
        else:
            return
    store()


def slice_key(writer: str, number: int) -> str:
    """The mark of the rows of a slice, in a store without transactions."""
    return f"{writer}/{number}"


def next_slice(records: Iterable[JsonDict]) -> int:
    """The number of the slice after those that these records commit."""
    return max((record["slice"] + 1 for record in records if record["slice"] is not None), default=0)

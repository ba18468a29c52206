"""What a job keeps in a sink: slices of vectors, and the records that say which rows are done.

Nothing else holds the state of such a job: any machine that reaches the store resumes it. Rows come together in memory
until there are enough for a slice; a row is done when the record of its slice is committed.
"""

from __future__ import annotations

import time  # noqa: TID251  # how long rows have been waiting
from bisect import bisect_right
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from nimclient._resources.bulk import JsonDict, is_object
from nimclient.errors import JobMismatchError, JobStoreError, NimError
from nimclient.jobs.checkpoint import DoneSpan, FailedRow, LongRow, RowSpan, is_count
from nimclient.jobs.objects import first_line
from nimclient.jobs.parts import FloatType
from nimclient.jobs.shards import Shard
from nimclient.jobs.sinks.base import Sink, SinkSlice
from nimclient.jobs.store import check_dimensions, differences
from nimclient.records.embeddings import Vectors

SLICE_SECONDS = 60.0
"""How long rows wait for a slice to fill: what a crash costs at most."""
_AT_ONCE = 1000  # spans handed out, and failures that wait for a record


class SinkStore:
    """The state of a job whose output is a sink. Like a `Store`: blocking, for one thread at a time."""

    def __init__(self, sink: Sink, *, shard: Shard, dtype: FloatType) -> None:
        self._sink = sink
        self._shard = shard
        self._dtype: FloatType = dtype
        self._slice_bytes: int = getattr(sink, "slice_bytes", 0)
        self._stack = ExitStack()
        self._facts: JsonDict = {}
        self._news: JsonDict = {}  # facts that are in no record yet
        self._records = self._slices = 0
        self._done: list[DoneSpan] = []  # of earlier runs, by row
        self._failures: dict[int, FailedRow] = {}
        self._spans: list[RowSpan] = []  # what waits for its slice
        self._lost: list[FailedRow] = []
        self._long: list[LongRow] = []
        self._bytes = 0
        self._since: float | None = None
        self._has_begun = self._is_broken = False
        self.succeeded = 0
        self.long_rows: list[JsonDict] = []
        """The records of the rows whose texts were cut into pieces, in the order in which they came."""

    # what is there ----------------------------------------------------------------------------------------------

    def open(self) -> JsonDict:
        """Open the sink; returns the facts about its job, {} for a new one. Must be closed in any case."""
        with self._errors("opened"):
            opened = self._sink.open(self._shard.suffix.removeprefix("-"))
            if opened is not None:
                self._stack.enter_context(opened)
            records = list(self._sink.committed())
        try:
            for record in sorted(records, key=_number):
                self._replay(record)
        except (LookupError, TypeError, ValueError) as error:
            raise JobStoreError(
                f"{self._sink} has a record that no job writes ({error!r:.80}): restore it, or choose another output"
            ) from error
        return self._facts

    def _replay(self, record: JsonDict) -> None:
        spans = [
            DoneSpan(start, stop, None if digest is None else bytes.fromhex(digest))
            for start, stop, digest in record["rows"]
        ]
        if not all(is_count(span.start) and span.stop > span.start for span in spans):
            raise ValueError("rows")
        failed = [_failed_row(item) for item in record["failed"]]
        if not is_object(record["facts"]):
            raise TypeError("facts")
        self._note(spans, failed, record["facts"])
        self.long_rows += record.get("long", ())
        self._done += spans
        self._records = record["number"] + 1
        if record["slice"] is not None:
            self._slices = record["slice"] + 1

    def _note(self, spans: Iterable[DoneSpan], failed: Iterable[FailedRow], facts: JsonDict) -> None:
        """Count what a record says."""
        self._facts = {**self._facts, **facts}
        for span in spans:
            self.succeeded += span.stop - span.start
            if self._failures:
                for row in range(span.start, span.stop):
                    self._failures.pop(row, None)
        self._failures |= {item.row: item for item in failed}

    def begin(self, identity: JsonDict) -> None:
        """Start a job with this identity, or resume it; JobMismatchError if the sink holds another job's rows.

        Transient failures are removed: their rows are not done.
        """
        known: Any = self._facts.get("job")
        if known is not None and (other := differences(known, identity)):
            raise JobMismatchError(
                f"{self._sink} belongs to a job with {'; '.join(other)}: run that one, or choose another output"
            )
        self.learn({"job": identity})
        self._failures = {row: item for row, item in self._failures.items() if item.final}
        self._done += [DoneSpan(row, row + 1, item.digest) for row, item in self._failures.items()]
        self._done.sort(key=_start)
        self._has_begun = True

    def done_after(self, row: int) -> list[DoneSpan]:
        """The next rows done in earlier runs, up to a thousand spans."""
        first = bisect_right(self._done, row, key=_start)
        return self._done[first : first + _AT_ONCE]

    @property
    def failed(self) -> int:
        """How many rows failed."""
        return len(self._failures)

    @property
    def is_complete(self) -> bool:
        """Whether every row of the source is done."""
        return self._facts.get("total") == self.succeeded + self.failed

    @property
    def served_models(self) -> list[str]:
        """The models that produced the vectors, as named by the server."""
        models: list[str] = self._facts.get("served_models", [])
        return models

    @property
    def failures(self) -> tuple[JsonDict, ...]:
        """The records of the rows that failed, in their order."""
        return tuple(self._failures[row].record for row in sorted(self._failures))

    failures_path = None

    @property
    def long(self) -> int:
        """How many rows have a text that was cut into pieces."""
        return len(self.long_rows)

    # what comes -------------------------------------------------------------------------------------------------

    def learn(self, facts: JsonDict) -> None:
        """Note facts about the job; they go with the next record."""
        news = {name: value for name, value in facts.items() if self._facts.get(name) != value}
        self._facts |= news
        self._news |= news

    def disown(self) -> None:
        """Nothing: a sink without rows belongs to no job."""

    def keep(
        self,
        runs: Sequence[RowSpan],
        lost: Sequence[FailedRow],
        dimensions: int | None,
        served: Sequence[str] = (),
        long: Sequence[LongRow] = (),
    ) -> None:
        """Take the results of a request; they are written once there are enough for a slice.

        `served`: the models of the vectors. Raises JobStoreError, and JobMismatchError for vectors of other dimensions.
        """
        known = self._facts.get("dimensions")
        check_dimensions(dimensions, known, self._sink)
        self.learn(
            {"dimensions": known or dimensions, "served_models": list(dict.fromkeys((*self.served_models, *served)))}
        )
        self._spans += runs
        self._lost += lost
        self._long += long
        self._bytes += sum(len(run.vectors) for run in runs)
        now = time.monotonic()
        if self._since is None and (runs or lost):
            self._since = now
        is_due = self._since is not None and now - self._since >= SLICE_SECONDS
        is_full = self._bytes >= max(self._slice_bytes, 1) or len(self._lost) >= _AT_ONCE
        if is_due or is_full:
            self._write()

    def _write(self) -> None:
        """Write what waits as one slice, and commit it. What cannot be written is on the error."""
        spans = sorted(self._spans, key=lambda span: span.rows.start)
        failed, facts = self._lost, self._news
        number = self._slices if spans else None
        record: JsonDict = {
            "number": self._records,
            "slice": number,
            "rows": [[span.start, span.stop, span.digest and span.digest.hex()] for span in _joined(spans)],
            "failed": [_failure(item) for item in failed],
            "facts": facts,
        }
        if long := [row.record for row in self._long]:
            record["long"] = long
        vectors = Vectors(b"".join(span.vectors for span in spans), self._facts.get("dimensions") or 0, self._dtype)
        rows = [row for span in spans for row in span.rows]
        try:
            with self._errors("written"):
                if number is not None:
                    indexes = [self._shard.number(row) for row in rows]
                    self._sink.write(SinkSlice(number, indexes, [name for span in spans for name in span.ids], vectors))
                self._sink.commit(record)
        except JobStoreError as error:
            self._is_broken = True
            error.completed = tuple(zip(rows, vectors, strict=True))
            raise
        self._records += 1
        self._slices += number is not None
        self._note(_joined(spans), failed, facts)
        self.long_rows += long
        self._spans, self._lost, self._long, self._news, self._bytes, self._since = [], [], [], {}, 0, None

    def finish(self) -> None:
        """Write what waits: the job is finished."""
        if self._spans or self._lost or self._news:
            self._write()

    def stop(self) -> None:
        """Write what waits after an interrupted run, best effort, unless writing has failed."""
        if self._has_begun and not self._is_broken and (self._spans or self._lost):
            with suppress(JobStoreError):
                self._write()

    def close(self) -> None:
        """Leave the sink, also after a failed `open`. Never raises."""
        with suppress(Exception):
            self._stack.close()

    @contextmanager
    def _errors(self, what: str) -> Generator[None, None, None]:
        """Turn what a sink raises into a JobStoreError."""
        try:
            yield
        except NimError:
            raise
        except Exception as error:
            words = f"{type(error).__name__}: {first_line(error)}"
            raise JobStoreError(
                f"{self._sink} cannot be {what}: {words}; what was committed is kept; run the job again once that is fixed"
            ) from error


def _number(record: JsonDict) -> int:
    number: int = record["number"]
    return number


def _start(span: DoneSpan) -> int:
    return span.start


def _joined(spans: Iterable[RowSpan]) -> list[DoneSpan]:
    """Spans by row, those without digests joined where one follows another."""
    joined: list[DoneSpan] = []
    for span in spans:
        start, stop = span.rows.start, span.rows.stop
        if joined and span.digest is None and joined[-1].digest is None and joined[-1].stop == start:
            start = joined.pop().start
        joined.append(DoneSpan(start, stop, span.digest))
    return joined


def _failure(item: FailedRow) -> JsonDict:
    return {"row": item.row, "final": item.final, "digest": item.digest and item.digest.hex(), "record": item.record}


def _failed_row(item: JsonDict) -> FailedRow:
    digest = item["digest"]
    if not is_count(item["row"]):
        raise ValueError("row")
    return FailedRow(item["row"], item["record"], item["final"], None if digest is None else bytes.fromhex(digest))

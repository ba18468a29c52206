"""A job's folder: the lock, the checkpoint, the spools, the parts, the list of failures and the manifest, and their
invariants.

A row is done when the checkpoint has it. Its vector is always in a spool or in a part: it is in the spool before the
checkpoint records it, and a part is synced and renamed before the spool is removed. Manifest and failures.jsonl are for
readers; they are derived from the checkpoint.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from nimclient._resources.bulk import JsonDict, is_object
from nimclient._resources.bulk import json as _json
from nimclient.errors import ConfigurationError, JobMismatchError, JobStoreError
from nimclient.jobs.checkpoint import Checkpoint, DoneSpan, FailedRow, LongRow, Part, RowSpan, SpooledSpan
from nimclient.jobs.files import FolderLock, store_errors, write_whole
from nimclient.jobs.parts import FloatType, Format, Group, names_of_part, write_part
from nimclient.jobs.report import status_of
from nimclient.jobs.shards import WHOLE, Shard, shard_in
from nimclient.jobs.spool import Spool, spool_path
from nimclient.records.embeddings import NUMBER_BYTES

VERSION = 1
PART_BYTES = 64 << 20
"""Vectors in a part: 16,384 of 1024 dimensions. Larger parts take longer to finish, smaller ones make many files."""
_SYNC_BYTES = 16 << 20  # of vectors between two syncs: what a power failure costs
_GROUP_BYTES = 16 << 20  # of vectors in memory while a part is written


class Store:
    """A job's folder. Blocking, and for one thread at a time; locked for this process from `open` to `close`.

    Each shard of a job has files of its own, whose names say which.
    """

    def __init__(
        self,
        folder: Path,
        format: Format,
        part_bytes: int | None = None,
        *,
        shard: Shard = WHOLE,
        dtype: FloatType = "float32",
    ) -> None:
        self.folder = folder
        self._shard = shard
        self._manifest = folder / f"manifest{shard.suffix}.json"
        self._format: Format = format
        self._dtype: FloatType = dtype
        self._part_bytes = part_bytes or PART_BYTES
        self._facts: JsonDict = {}
        self._lock: FolderLock | None = None
        self._opened: Checkpoint | None = None
        self._has_begun = False
        self._part = self._rows = self._bytes = 0  # the part being filled, and its content
        self._unsynced = 0
        self._spools: dict[int, Spool] = {}
        self._writer = ThreadPoolExecutor(1, "nimclient-parts")
        self._writing: deque[Future[None]] = deque()
        self.succeeded = self.failed = self.long = 0

    def open(self) -> JsonDict:
        """Create or open the folder; returns the facts about its job, {} for a new one.

        Raises JobStoreError, and ConfigurationError for a file. Must be closed in any case.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigurationError(f"output {self.folder} is a file; it takes a folder")
        with store_errors(f"cannot make {self.folder}"):
            self.folder.mkdir(parents=True, exist_ok=True)
        suffix = self._shard.suffix
        self._check_shards()
        self._lock = FolderLock(self.folder, suffix)
        path = self.folder / f"checkpoint{suffix}.sqlite"
        if not (path.exists() and path.stat().st_size):
            self._check_unused(path.name)
        self._opened = Checkpoint(path, has_locks=self._lock.has_byte_locks)
        self._facts = self._checkpoint.facts()
        self._look()
        return self._facts

    def _check_shards(self) -> None:
        """Raise JobMismatchError if the folder holds a job of another number of shards."""
        with store_errors(f"cannot look at {self.folder}"):
            counts = {shard_in(path.name).count for path in self.folder.glob("checkpoint*.sqlite")}
        if other := counts - {self._shard.count}:
            raise JobMismatchError(
                f"{self.folder} belongs to a job of {max(other)} shards, not {self._shard.count}: run that one, or choose "
                f"another output"
            )

    def _check_unused(self, checkpoint: str) -> None:
        """Raise JobStoreError if a folder without a checkpoint has files that a job would replace or remove."""
        suffix = self._shard.suffix
        if self._manifest.exists() or any(self.folder.glob(f"part{suffix}-*")):
            raise JobStoreError(
                f"{self.folder} holds a job, but {checkpoint} is missing or empty: restore it, or choose another output"
            )
        for path in (self.failures_path, *self.folder.glob(f"open{suffix}-*.f??")):
            if path.exists() or path.is_symlink():
                raise JobStoreError(
                    f"{path} is not of this job, which would replace it: move it, or choose another output"
                )

    @property
    def _checkpoint(self) -> Checkpoint:
        assert self._opened is not None
        return self._opened

    def _look(self) -> None:
        """Check that the parts in the checkpoint exist."""
        for part in self._checkpoint.parts():
            for name, size in part.files.items():
                path = self.folder / name
                with store_errors(f"cannot look at {path}"):
                    found = path.stat().st_size if path.exists() else None
                if found != size:
                    problem = "is missing" if found is None else f"has {found} bytes instead of {size}"
                    raise JobStoreError(f"{path} {problem}: restore it, or start again in another folder")

    def begin(self, identity: JsonDict) -> None:
        """Start a job with this identity, or resume it; JobMismatchError if the folder belongs to another job.

        Transient failures are removed: their rows are not done.
        """
        known: Any = self._facts.get("job")
        if known is None:
            self.learn({"job": identity})
        elif other := differences(known, identity):
            raise JobMismatchError(
                f"{self.folder} belongs to a job with {'; '.join(other)}: run that one, or choose another output"
            )
        self._checkpoint.clear_transient()
        self._mend()
        self.succeeded, self.failed = self._checkpoint.counts()
        self.long = self._checkpoint.long_count()
        self._part = len(self._checkpoint.parts())
        self._has_begun = True
        self._describe("running")
        for held in self._checkpoint.held():
            if self._rows:  # a part that was being written when the last run ended
                self._close_part()
            self._part, self._rows, self._bytes = held
        self._close_part_if_full()

    def _mend(self) -> None:
        """Mark rows whose vectors were lost in a power failure as not done; remove the spools of written parts."""
        held = {part for part, _, _ in self._checkpoint.held()}
        for part in held:
            spool = self._spool(part)
            runs = self._checkpoint.kept(part, self._row_bytes)
            self._checkpoint.forget([run for run in runs if not spool.holds(run.place)])
        needed = {self._spool_path(part) for part in held}
        for path in self.folder.glob(f"open{self._shard.suffix}-*.f??"):
            if path not in needed:
                with store_errors(f"cannot remove {path}"):
                    path.unlink()

    def _spool(self, part: int) -> Spool:
        if part not in self._spools:
            self._spools[part] = Spool(self._spool_path(part))
        return self._spools[part]

    def _spool_path(self, part: int) -> Path:
        return spool_path(self.folder, part, self._shard.suffix, 8 * NUMBER_BYTES[self._dtype])

    @property
    def _row_bytes(self) -> int:
        return NUMBER_BYTES[self._dtype] * (self.dimensions or 0)

    def learn(self, facts: JsonDict) -> None:
        """Store facts about the job."""
        self._checkpoint.learn(facts)
        self._facts = {**self._facts, **facts}

    def disown(self) -> None:
        """Remove the job's identity if no row is done: a job with other parameters may begin here."""
        if not self.succeeded and not self.failed:
            self.learn({"job": None, "content": None})

    @property
    def is_complete(self) -> bool:
        """Whether every row of the source is done."""
        return self._facts.get("total") == self.succeeded + self.failed

    @property
    def dimensions(self) -> int | None:
        """Of the vectors, once there is one."""
        dimensions: int | None = self._facts.get("dimensions")
        return dimensions

    def done_after(self, row: int) -> list[DoneSpan]:
        """The next done rows, up to a thousand spans."""
        return self._checkpoint.done_after(row)

    @property
    def served_models(self) -> list[str]:
        """The models that produced the vectors, as named by the server."""
        models: list[str] = self._facts.get("served_models", [])
        return models

    def keep(
        self,
        runs: Sequence[RowSpan],
        lost: Sequence[FailedRow],
        dimensions: int | None,
        served: Sequence[str] = (),
        long: Sequence[LongRow] = (),
    ) -> None:
        """Record the results of a slice; `served`: the models of the vectors.

        Raises JobStoreError, and JobMismatchError for vectors of other dimensions.
        """
        known = self.dimensions
        check_dimensions(dimensions, known, self.folder)
        facts: JsonDict = {"dimensions": dimensions} if dimensions is not None and known is None else {}
        models = self.served_models
        if not set(models).issuperset(served):
            facts["served_models"] = list(dict.fromkeys((*models, *served)))
        spool = self._spool(self._part) if runs else None
        kept = [
            SpooledSpan(run.rows, run.ids, spool.append(run.vectors), run.digest) for run in runs if spool is not None
        ]
        self._checkpoint.record(self._part, kept, lost, facts, long)
        self._facts = {**self._facts, **facts}
        rows = sum(len(run.rows) for run in runs)
        self.succeeded += rows
        self.failed += len(lost)
        self.long += len(long)
        size = sum(run.place.size for run in kept)
        self._rows += rows
        self._bytes += size
        self._unsynced += size
        if spool is not None and self._unsynced >= _SYNC_BYTES:
            self._unsynced = 0
            self._writing.append(self._writer.submit(self._sync, spool))
        self._close_part_if_full()

    def _sync(self, spool: Spool) -> None:
        """Sync everything recorded so far to disk."""
        spool.sync()
        self._checkpoint.sync()

    def _close_part_if_full(self) -> None:
        """Start writing the part if it is full, and fill the next one; only after the previous one is written."""
        while self._writing and self._writing[0].done():
            self._writing.popleft().result()
        if self._bytes >= self._part_bytes:
            self._close_part()

    def _close_part(self) -> None:
        self._wait()
        self._writing.append(self._writer.submit(self._write_part, self._part, self._rows))
        self._part += 1
        self._rows = self._bytes = 0

    def _wait(self) -> None:
        """Wait for the writing thread, and raise its error."""
        while self._writing:
            self._writing.popleft().result()

    def _write_part(self, number: int, rows: int) -> None:
        """Runs in its own thread; results are recorded in the meantime."""
        dimensions = self.dimensions
        assert dimensions is not None
        names = names_of_part(number, self._format, self._shard.suffix)
        shape = (rows, dimensions, self._dtype)
        files = write_part(self.folder, names, self._format, lambda: self._groups(number), *shape)
        self._checkpoint.seal(Part(number, rows, files))
        self._checkpoint.sync()  # else a power failure may restore a state that needs the spool
        spool = self._spools.pop(number)
        spool.close()
        with store_errors(f"cannot remove {spool.path}"):
            spool.path.unlink()
        self._describe("running")

    def _groups(self, part: int) -> Iterator[Group]:
        """The content of a part in blocks, in the order of the rows."""
        spool = self._spools[part]
        runs: list[SpooledSpan] = []
        size = 0
        for run in self._checkpoint.kept(part, self._row_bytes):
            if runs and size + run.place.size > _GROUP_BYTES:
                yield self._group(runs, spool)
                runs, size = [], 0
            runs.append(run)
            size += run.place.size
        yield self._group(runs, spool)

    def _group(self, runs: list[SpooledSpan], spool: Spool) -> Group:
        return Group(
            [self._shard.number(row) for run in runs for row in run.rows],
            [name for run in runs for name in run.ids],
            b"".join(spool.read(run.place) for run in runs),
        )

    def finish(self) -> None:
        """Write the last part, the list of failures and the manifest of a finished job."""
        if self._rows:
            self._close_part()
        self._wait()
        self._list_rows()
        self._describe(status_of(self.succeeded, self.failed))
        self._checkpoint.sync()

    def stop(self) -> None:
        """Close after an interrupted run, best effort. The checkpoint has the finished rows."""
        if self._has_begun:
            with suppress(JobStoreError):
                self._wait()
            with suppress(JobStoreError):
                for spool in self._spools.values():
                    spool.sync()
                self._checkpoint.sync()
                self._list_rows()
                self._describe("stopped")

    @property
    def failures_path(self) -> Path:
        """The list of failures, which exists if there are any."""
        return self.folder / f"failures{self._shard.suffix}.jsonl"

    def _list_rows(self) -> None:
        if self.failed:
            lines = (_json.dumps(record) + b"\n" for record in self._checkpoint.failures())
            write_whole(self.failures_path, lambda file: file.writelines(lines))
        else:
            with store_errors(f"cannot remove {self.failures_path}"):
                self.failures_path.unlink(missing_ok=True)

        if self.long:
            rows = (_json.dumps(record) + b"\n" for record in self._checkpoint.long())
            write_whole(self.folder / f"long{self._shard.suffix}.jsonl", lambda file: file.writelines(rows))

    def _describe(self, status: str) -> None:
        identity: JsonDict = self._facts.get("job") or {}
        manifest: JsonDict = {
            "status": status,
            **identity,
            "format": self._format,
            "dtype": self._dtype,
            "dimensions": self.dimensions,
            "served_models": self.served_models,
            "total": self._facts.get("total"),
            "succeeded": self.succeeded,
            "failed": self.failed,
            **({"long": self.long} if self.long else {}),
            "parts": [{"rows": part.rows, "files": part.files} for part in self._checkpoint.parts()],
        }
        write_whole(self._manifest, lambda file: file.write(_json.dumps(manifest)))

    def close(self) -> None:
        """Release the folder, also after a failed `open`."""
        self._writer.shutdown()
        while self._spools:
            self._spools.popitem()[1].close()
        if self._opened is not None:
            self._opened.close()
        if self._lock is not None:
            self._lock.close()


def check_dimensions(now: int | None, known: int | None, place: object) -> None:
    """Raise JobMismatchError if vectors have other dimensions than those that a folder or sink holds; None: not known."""
    if now is not None and known not in (None, now):
        raise JobMismatchError(f"the vectors have {now} dimensions now; those that {place} holds have {known}")


def differences(known: Any, now: Any, where: str = "") -> list[str]:
    """The differences between two identities, as text."""
    if is_object(known) and is_object(now):
        names = [*known, *(name for name in now if name not in known)]
        return [
            line
            for name in names
            if known.get(name) != now.get(name)
            for line in differences(known.get(name), now.get(name), f"{where}.{name}" if where else str(name))
        ]
    return [f"{where} {_shown(known)}, not {_shown(now)}"]


def _shown(value: Any) -> str:
    return _json.dumps(value).decode()[:80]

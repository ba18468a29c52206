"""Results appended line by line to a file; failures to a second one. A batch writes OpenAI's output format.

The answers are their own checkpoint: a complete line is done, and it names its request by a key and by an id that is
derived from what was sent, so that another request with the same key is detected. A last line that was truncated by a
crash is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast

from attrs import evolve, frozen

from nimclient._resources.bulk import JsonDict, is_object
from nimclient._resources.bulk import json as _json
from nimclient.errors import APIStatusError, ConfigurationError, DecodeError, JobStoreError, NimError
from nimclient.jobs.files import lock, open_regular, store_errors, sync, write_whole
from nimclient.jobs.requests import Answered, Request

_SYNC_BYTES = 1 << 20  # between two syncs: what a power failure may cost
FINAL_STATUSES = (400, 413, 422)
"""Another attempt would end the same way."""


class Keyed(Protocol):
    """A request of a job: its key within the job, an id derived from what is sent, and its bytes."""

    @property
    def key(self) -> str:
        """Unique within the job."""
        ...

    @property
    def id(self) -> str:
        """Another one for another request."""
        ...

    @property
    def weight(self) -> int:
        """What it takes of the memory."""
        ...


@frozen
class Found:
    """An existing line: the request it answers, whether another attempt would end the same way, and whether the answer
    was cut off by the token limit.
    """

    key: str
    id: str
    is_final: bool
    is_truncated: bool = False
    line: bytes = b""


@frozen
class LineForm:
    """The lines of one type of job: its name for errors, how they begin, and how one is read.

    `read` raises LookupError or TypeError for anything that is no such line.
    """

    job: str
    beginning: bytes
    read: Callable[[Any], Found]


def _batch_line(record: Any) -> Found:
    name, custom_id, response, error = (record[key] for key in ("id", "custom_id", "response", "error"))
    status = response["status_code"] if response else None
    is_final = status in FINAL_STATUSES or bool(error and error["code"] == ConfigurationError.__name__)
    return Found(custom_id, name, is_final)


BATCH_LINES = LineForm("a batch", b'{"id":"batch_req_', _batch_line)


def answer_line(request: Request, answer: Answered) -> bytes:
    """The line of an answer."""
    response = {"status_code": answer.meta.status, "request_id": answer.meta.request_id, "body": answer.body}
    return _line(request, response, None)


def failure_line(request: Request, error: NimError) -> bytes:
    """The line of a failure: a rejection has the server's status and error body, anything else a code and a message."""
    if isinstance(error, APIStatusError):
        try:
            body = _json.loads(error.body.encode())
        except DecodeError:
            body = None
        if not is_object(body):
            body = {"error": {"message": error.message, "type": error.type, "code": error.code, "param": error.param}}
        return _line(request, {"status_code": error.status, "request_id": error.request_id, "body": body}, None)
    return _line(request, None, {"code": type(error).__name__, "message": error.message})


def _line(request: Request, response: JsonDict | None, error: JsonDict | None) -> bytes:
    return line_of({"id": request.id, "custom_id": request.custom_id, "response": response, "error": error})


def line_of(record: JsonDict) -> bytes:
    """A line of JSON. Half a character in a custom_id and a number of many digits stay what they are."""
    try:
        return _json.dumps(record) + b"\n"
    except ConfigurationError:
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def failures_path_of(path: Path) -> Path:
    """The file of failures, next to the answers: answers.errors.jsonl."""
    return path.with_name(f"{path.stem}.errors{path.suffix}")


def checked_path(name: str, path: str | os.PathLike[str]) -> Path:
    """The path of a file; TypeError or ConfigurationError for anything else. `name`: that of the argument."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name} takes the path of a file, not {type(path).__name__}")
    if not Path(path).name:  # of "", "." and "/"
        raise ConfigurationError(f"{name} takes the path of a file, not {os.fspath(path)!r:.200}")
    return Path(path)


def checked_output(output: str | os.PathLike[str], source: Path | None) -> Path:
    """The path of the answers. ConfigurationError if these, or the failures, would be written to the source."""
    path = checked_path("output", output)
    if source is not None and path.exists() and path.samefile(source):
        raise ConfigurationError(f"output {path} is the source")
    failures = failures_path_of(path)
    if source is not None and failures.exists() and failures.samefile(source):
        raise ConfigurationError(f"source {source} is where the failures of output {path} go: choose another output")
    return path


class AnswerFiles:
    """The two files of a job. Blocking, and for one thread at a time; `open` locks them for this process."""

    def __init__(self, path: Path, form: LineForm) -> None:
        self.path = path
        self.failures_path = failures_path_of(path)
        self._form = form
        self.answered: dict[str, str] = {}
        """The ids of the requests that have an answer, by key."""
        self.failed: dict[str, str] = {}
        """The same of those that have failed."""
        self.truncated = 0
        """Answers that were cut off by the token limit."""
        self._lost: list[Found] = []
        self._has_stale = False
        self._answers: _LineFile | None = None
        self._failures: _LineFile | None = None

    def open(self) -> None:
        """Open or create the answers, and read existing ones, failures included. Changes no existing line.

        Raises ConfigurationError for anything but a regular file, JobStoreError for a line that is not of this job.
        Must be closed in any case.
        """
        for path in (self.path, self.failures_path):
            if path.exists() and not path.is_file():
                raise ConfigurationError(f"output {path} is not a regular file")
        with store_errors(f"cannot make {self.path.parent}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        # the caller may pass a symbolic link; the name of the failures file is ours
        answers = self._answers = _LineFile(Path(os.path.realpath(self.path)), self._form)
        with store_errors(f"cannot lock {self.path}"):
            lock(answers.descriptor, str(self.path))
        for found in answers.read():
            self.answered[found.key] = found.id
            self.truncated += found.is_truncated
        if self.failures_path.exists():
            failures = _LineFile(self.failures_path, self._form)
            try:
                self._lost = [found for found in failures.read() if found.key not in self.answered]
            finally:
                failures.close()
        self.failed = {found.key: found.id for found in self._lost if found.is_final}

    def begin(self, current: Mapping[str, str] | None) -> None:
        """Resume: truncated last lines are removed, and failures that another attempt may fix.

        `current`: the ids of the requests by key, if they are known. A failure of a request that was
        removed or changed is removed as well.
        """
        assert self._answers is not None
        self._answers.mend()
        lost = [f for f in self._lost if f.is_final and (current is None or current.get(f.key) == f.id)]
        self.failed = {found.key: found.id for found in lost}
        kept = [found.line for found in lost]
        self._lost = []
        write_whole(self.failures_path, lambda file: file.writelines(kept))
        self._failures = _LineFile(self.failures_path, self._form)

    def answer(self, request: Keyed, line: bytes) -> None:
        """Append an answer."""
        assert self._answers is not None
        self._answers.append(line)
        self.answered[request.key] = request.id

    def fail(self, request: Keyed, line: bytes) -> None:
        """Append a failure."""
        assert self._failures is not None
        self._failures.append(line)
        self.failed[request.key] = request.id

    def forget(self, key: str) -> None:
        """Forget a failure of an earlier run: its request has changed, or is gone. `finish` removes the line."""
        del self.failed[key]
        self._has_stale = True

    def finish(self) -> None:
        """Sync everything to disk. Failures that were forgotten are removed, and an empty file of failures."""
        if self._answers is not None and self._failures is not None:
            self._answers.sync()
            self._failures.sync()
            if self._has_stale and self.failed:
                kept = [found.line for found in self._failures.read() if self.failed.get(found.key) == found.id]
                write_whole(self.failures_path, lambda file: file.writelines(kept))
            if not self.failed:
                with store_errors(f"cannot remove {self.failures_path}"):
                    self.failures_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release them, also after a failed `open`."""
        for lines in (self._answers, self._failures):
            if lines is not None:
                lines.close()


class _LineFile:
    """A file that is appended to by whole lines."""

    def __init__(self, path: Path, form: LineForm) -> None:
        self._path = path
        self._form = form
        with store_errors(f"cannot open {path}"):
            self.descriptor = open_regular(path, os.O_CREAT | os.O_APPEND)
            self._size = os.fstat(self.descriptor).st_size
        self._unsynced = 0

    def read(self) -> Iterator[Found]:
        """The existing lines. Raises JobStoreError for an invalid one."""
        beginning = self._form.beginning
        end = 0
        with store_errors(f"cannot read {self._path}"), os.fdopen(os.dup(self.descriptor), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if line[: len(beginning)] != beginning[: len(line)]:
                        raise self._foreign(number)
                    break
                yield self._found(line, number)
                end += len(line)
        self._size = end

    def _found(self, line: bytes, number: int) -> Found:
        try:
            found = self._form.read(_json.loads(line, keep_surrogates=True))
            if isinstance(cast(object, found.id), str) and isinstance(cast(object, found.key), str):
                return evolve(found, line=line)
        except (DecodeError, LookupError, TypeError):
            pass
        raise self._foreign(number)

    def _foreign(self, number: int) -> JobStoreError:
        return JobStoreError(
            f"{self._path}, line {number}, is not a result of {self._form.job}: remove that line if it was damaged, or "
            f"choose another output"
        )

    def mend(self) -> None:
        """Truncate after the last complete line."""
        with store_errors(f"cannot write {self._path}"):
            os.ftruncate(self.descriptor, self._size)

    def append(self, line: bytes) -> None:
        """Append a line, completely or not at all. It survives a power failure only after the next sync."""
        with store_errors(f"cannot write {self._path}"):
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self.descriptor, rest) :]
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(self.descriptor, self._size)
                raise
            self._size += len(line)
            self._unsynced += len(line)
            if self._unsynced >= _SYNC_BYTES:
                self.sync()

    def sync(self) -> None:
        """Sync it to disk."""
        with store_errors(f"cannot write {self._path}"):
            sync(self.descriptor)
        self._unsynced = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)

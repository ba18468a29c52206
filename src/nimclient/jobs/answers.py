"""Results in OpenAI's batch output format, appended line by line; failures in a second file, as in OpenAI's format.

The answers are their own checkpoint: a complete line is done, and the `id` of a line is derived from its request, so that
another request with the same custom_id is detected. A last line that was truncated by a crash is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from nimclient._resources.bulk import JsonDict, is_object
from nimclient._resources.bulk import json as _json
from nimclient.errors import APIStatusError, ConfigurationError, DecodeError, JobStoreError, NimError
from nimclient.jobs.files import lock, open_regular, store_errors, sync, write_whole
from nimclient.jobs.requests import Answered, Request

_BEGINNING = b'{"id":"batch_req_'
_SYNC_BYTES = 1 << 20  # between two syncs: what a power failure may cost
_FINAL_STATUSES = (400, 413, 422)


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
    record = {"id": request.id, "custom_id": request.custom_id, "response": response, "error": error}
    return _json.dumps(record) + b"\n"


@frozen
class _Found:
    """An existing line: the request it answers, and whether another attempt would end the same way."""

    custom_id: str
    id: str
    is_final: bool
    line: bytes


def failures_path_of(path: Path) -> Path:
    """The file of failures, next to the answers: answers.errors.jsonl."""
    return path.with_name(f"{path.stem}.errors{path.suffix}")


class AnswerFiles:
    """The two files of a batch. Blocking, and for one thread at a time; `open` locks them for this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failures_path = failures_path_of(path)
        self.answered: dict[str, str] = {}
        """The ids of the requests that have an answer, by custom_id."""
        self.failed: dict[str, str] = {}
        """The same of those that have failed."""
        self._lost: list[_Found] = []
        self._answers: _LineFile | None = None
        self._failures: _LineFile | None = None

    def open(self) -> None:
        """Open or create the answers, and read existing ones, failures included. Changes no existing line.

        Raises ConfigurationError for anything but a regular file, JobStoreError for a line that is not a result of a batch.
        Must be closed in any case.
        """
        for path in (self.path, self.failures_path):
            if path.exists() and not path.is_file():
                raise ConfigurationError(f"output {path} is not a regular file")
        with store_errors(f"cannot make {self.path.parent}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        # the caller may pass a symbolic link; the name of the failures file is ours
        answers = self._answers = _LineFile(self.path.resolve())
        lock(answers.descriptor, str(self.path))
        self.answered = {found.custom_id: found.id for found in answers.read()}
        if self.failures_path.exists():
            failures = _LineFile(self.failures_path)
            try:
                self._lost = [found for found in failures.read() if found.custom_id not in self.answered]
            finally:
                failures.close()
        self.failed = {found.custom_id: found.id for found in self._lost if found.is_final}

    def begin(self, current: Mapping[str, str]) -> None:
        """Resume: truncated last lines are removed, and failures that another attempt may fix.

        `current`: the ids of the requests by custom_id. A failure of a request that was
        removed or changed is removed as well.
        """
        assert self._answers is not None
        self._answers.mend()
        lost = [found for found in self._lost if found.is_final and current.get(found.custom_id) == found.id]
        self.failed = {found.custom_id: found.id for found in lost}
        kept = [found.line for found in lost]
        self._lost = []
        write_whole(self.failures_path, lambda file: file.writelines(kept))
        self._failures = _LineFile(self.failures_path)

    def answer(self, request: Request, line: bytes) -> None:
        """Append an answer."""
        assert self._answers is not None
        self._answers.append(line)
        self.answered[request.custom_id] = request.id

    def fail(self, request: Request, line: bytes) -> None:
        """Append a failure."""
        assert self._failures is not None
        self._failures.append(line)
        self.failed[request.custom_id] = request.id

    def finish(self) -> None:
        """Sync everything to disk. An empty file of failures is removed."""
        if self._answers is not None and self._failures is not None:
            self._answers.sync()
            self._failures.sync()
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

    def __init__(self, path: Path) -> None:
        self._path = path
        with store_errors(f"cannot open {path}"):
            self.descriptor = open_regular(path, os.O_CREAT | os.O_APPEND)
            self._size = os.fstat(self.descriptor).st_size
        self._unsynced = 0

    def read(self) -> Iterator[_Found]:
        """The existing lines. Raises JobStoreError for an invalid one."""
        end = 0
        with store_errors(f"cannot read {self._path}"), os.fdopen(os.dup(self.descriptor), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if line[: len(_BEGINNING)] != _BEGINNING[: len(line)]:
                        raise self._foreign(number)
                    break
                yield self._found(line, number)
                end += len(line)
        self._size = end

    def _found(self, line: bytes, number: int) -> _Found:
        try:
            record: Any = _json.loads(line)
            name, custom_id, response, error = (record[key] for key in ("id", "custom_id", "response", "error"))
            if isinstance(name, str) and isinstance(custom_id, str):
                status = response["status_code"] if response else None
                is_final = status in _FINAL_STATUSES or bool(error and error["code"] == ConfigurationError.__name__)
                return _Found(custom_id, name, is_final, line)
        except (DecodeError, LookupError, TypeError):
            pass
        raise self._foreign(number)

    def _foreign(self, number: int) -> JobStoreError:
        return JobStoreError(
            f"{self._path}, line {number}, is not a result of a batch: remove that line if it was damaged, or choose "
            f"another output"
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

"""Atomic, durable file writes, and a lock per job.

A file gets its name only when it is complete on disk. A symbolic link in place of a job's file is not followed, and a
pipe not waited for. Errors of the operating system become a JobStoreError that says what to do.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from nimclient.errors import JobStoreError

_ADVICE = {
    errno.ENOSPC: "free some space and run the same job again",
    errno.EDQUOT: "the quota is used up: free some space and run the same job again",
    errno.EROFS: "the file system is read-only: choose another output",
    errno.EACCES: "this user may not write there: change the permissions, or choose another output",
    errno.EPERM: "this user may not write there: change the permissions, or choose another output",
    errno.EIO: "the disk reports an error: check it, then run the same job again",
    errno.ELOOP: "it is a symbolic link, which jobs do not follow: remove it, or choose another output",
}
_UNSUPPORTED = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.ENOTTY})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})
_RESUMES = "run the same job again once that is fixed"


@contextmanager
def store_errors(what: str) -> Generator[None, None, None]:
    """Turn an OSError in the block into a JobStoreError: `what` failed, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise store_error(what, error) from error
    except Exception as error:
        if not isinstance(error, (EOFError, zlib.error)) and type(error).__name__ != "ZstdError":  # of several modules
            raise
        raise JobStoreError(f"{what}: it is damaged ({error}); what was finished is kept; restore it") from error


def store_error(what: str, error: OSError) -> JobStoreError:
    """The JobStoreError for an error of the operating system."""
    advice = _ADVICE.get(error.errno or 0, _RESUMES)
    return JobStoreError(f"{what}: {error.strerror or error}; what was finished is kept; {advice}")


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> int:
    """Create a file with the content that `write` writes; returns its size in bytes.

    It is written under another name, synced and renamed: after a crash the file is either the new one or the old one.
    """
    temporary = path.with_name(path.name + ".tmp")
    with store_errors(f"cannot write {path}"):
        try:
            with suppress(FileNotFoundError):  # left by a crash, or put there by another program
                temporary.unlink()
            with os.fdopen(open_regular(temporary, os.O_CREAT | os.O_EXCL), "wb") as file:
                write(file)
                file.flush()
                sync(file.fileno())
                size = file.tell()
            temporary.rename(path)
            sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    return size


def open_regular(path: Path, flags: int) -> int:
    """The descriptor of a job's file, opened for reading and writing.

    Raises OSError as `os.open` does: ELOOP for a symbolic link; and EINVAL for a pipe, a device or a folder.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def opened(path: Path) -> IO[bytes]:
    """A job's file, opened for reading. Raises OSError as `open_regular` does, but follows a symbolic link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return os.fdopen(descriptor, "rb")


def sync(descriptor: int) -> None:
    """Sync a file, or the names in a folder, to disk, if the file system supports it.

    Network and FUSE file systems may fail with EINVAL, EOPNOTSUPP or ENOSYS, especially for folders.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def lock(descriptor: int, what: str) -> None:
    """Lock this open file for this process, until it is closed or the process ends in any way.

    The kernel releases the lock of a dead process. On a file system without locks (some network
    file systems) none is taken. Raises JobStoreError when another process, or another job of this one, has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JobStoreError(f"{what} belongs to a job that is running{_owner(descriptor)}; wait for its end") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def has_byte_locks(descriptor: int) -> bool:
    """Whether the file system supports the byte-range locks that SQLite uses. Those of this file are released again."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    return True


def _owner(descriptor: int) -> str:
    """The process named in the file of a `FolderLock`."""
    pid = os.pread(descriptor, 20, 0).strip()
    return f" (process {pid.decode()})" if pid.isdigit() else ""


class FolderLock:
    """The lock of a job's folder, or of a shard in it: a file with the process id."""

    def __init__(self, folder: Path, suffix: str = "") -> None:
        path = folder / f"job{suffix}.lock"
        with store_errors(f"cannot open {path}"):
            self._descriptor = open_regular(path, os.O_CREAT)
            try:
                lock(self._descriptor, str(folder))
                self.has_byte_locks = has_byte_locks(self._descriptor)
                if (content := os.pread(self._descriptor, 20, 0)) and not content.isdigit():
                    raise JobStoreError(f"{path} does not belong to a job: remove it, or choose another output")
                os.ftruncate(self._descriptor, 0)
                with suppress(OSError):  # on a full disk the lock works without the process id
                    os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
            except BaseException:
                os.close(self._descriptor)
                raise

    def close(self) -> None:
        """Release it."""
        os.close(self._descriptor)

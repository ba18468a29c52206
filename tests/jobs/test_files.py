"""Files: whole or not at all, and one process a job."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from nimclient.errors import JobStoreError
from nimclient.jobs import files
from nimclient.jobs.files import FolderLock, lock, store_errors, write_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Its size is returned, and no other file is left."""
    path = tmp_path / "a"
    assert write_whole(path, lambda file: file.write(b"one")) == 3
    assert write_whole(path, lambda file: file.write(b"three")) == 5
    assert path.read_bytes() == b"three"
    assert os.listdir(tmp_path) == ["a"]


def test_what_fails_halfway_leaves_the_former_file(tmp_path: Path) -> None:
    """Neither the new name nor the temporary one is there."""
    path = tmp_path / "a"
    path.write_bytes(b"former")

    def write(file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(JobStoreError, match=r"cannot write .*No space left on device.*free some space"):
        write_whole(path, write)
    assert path.read_bytes() == b"former"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permissions"),
        (errno.EIO, "the disk reports an error"),
        (errno.EMFILE, "run the same job again"),
    ],
)
def test_every_refusal_says_what_to_do(number: int, words: str) -> None:
    """The words of the system are there, too, and the cause is chained."""
    with pytest.raises(JobStoreError, match=words) as caught, store_errors("cannot do it"):
        raise OSError(number, os.strerror(number))
    assert os.strerror(number) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_sync_that_fails_is_a_store_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not on the disk does not get its name."""

    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(JobStoreError, match="Input/output error"):
        write_whole(tmp_path / "a", lambda file: file.write(b"x"))
    assert os.listdir(tmp_path) == []


def test_a_folder_belongs_to_one_job_at_a_time(tmp_path: Path) -> None:
    """The second one's error names the process that has it; when the first is closed, it gets it."""
    first = FolderLock(tmp_path)
    with pytest.raises(JobStoreError, match=rf"a job that is running \(process {os.getpid()}\)"):
        FolderLock(tmp_path)
    first.close()
    FolderLock(tmp_path).close()


def test_the_lock_of_a_dead_process_is_none(tmp_path: Path) -> None:
    """The file with its number is still there, and nobody is kept out."""
    code = f"""
import os, signal, pathlib
from nimclient.jobs.files import FolderLock
lock = FolderLock(pathlib.Path({str(tmp_path)!r}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / "job.lock").read_text().isdigit()
    FolderLock(tmp_path).close()
    assert (tmp_path / "job.lock").read_text() == str(os.getpid())


def test_a_file_system_without_locks_is_used_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems have none."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    FolderLock(tmp_path).close()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_cannot_sync_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """CIFS and FUSE cannot sync a folder, some of them not even a file."""

    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fsync)
    write_whole(tmp_path / "a", lambda file: file.write(b"x"))
    assert (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_byte_locks_is_told_from_one_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """SQLite takes the missing support for another process's lock, so it is checked beforehand."""
    first = FolderLock(tmp_path)
    assert first.has_byte_locks
    first.close()

    def lockf(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "lockf", lockf)
    second = FolderLock(tmp_path)
    assert not second.has_byte_locks
    second.close()


def test_links_in_the_place_of_our_files_are_not_followed(tmp_path: Path) -> None:
    """What they point at stays as it is: the lock is rejected, a temporary file is made again."""
    precious = tmp_path / "precious"
    precious.write_text("12345")
    (tmp_path / "job.lock").symlink_to(precious)
    with pytest.raises(JobStoreError, match=r"job\.lock.*a symbolic link, which jobs do not follow"):
        FolderLock(tmp_path)
    (tmp_path / "a.tmp").symlink_to(precious)
    (tmp_path / "a").symlink_to(precious)
    write_whole(tmp_path / "a", lambda file: file.write(b"x"))
    assert precious.read_text() == "12345"
    assert (tmp_path / "a").read_bytes() == b"x"
    assert not (tmp_path / "a").is_symlink()


def test_a_lock_file_that_is_not_ours_is_kept(tmp_path: Path) -> None:
    """Its content is no number of a process."""
    (tmp_path / "job.lock").write_text("precious")
    with pytest.raises(JobStoreError, match=r"job\.lock does not belong to a job"):
        FolderLock(tmp_path)
    assert (tmp_path / "job.lock").read_text() == "precious"


def test_a_lock_that_fails_otherwise_is_a_store_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes the file that it opened."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(JobStoreError, match=r"job\.lock"):
        FolderLock(tmp_path)
    assert os.listdir("/proc/self/fd") == before


def test_who_has_a_file_without_a_number_is_not_known(tmp_path: Path) -> None:
    """The words are right without one."""
    path = tmp_path / "answers"
    path.write_text("{}\n")
    with path.open("rb") as first, path.open("rb") as second:
        lock(first.fileno(), str(path))
        with pytest.raises(JobStoreError, match="a job that is running; wait"):
            lock(second.fileno(), str(path))

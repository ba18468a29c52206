"""The folder in which processes share the pace of an endpoint: one small file, locked for some 0.1 ms per request.

The lock is flock's: the kernel releases that of a process that dies. Every process also holds the lock of a file of its own
for as long as it lives; who can take that lock knows that its owner is dead, and frees its slots. A file that was torn or
lost starts from nothing: each process states what it holds with its next request. If the folder fails while requests are
sent, each process continues with a pace of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import time
import weakref
from collections.abc import Generator, Sequence
from hashlib import blake2b
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

from nimclient._base import json
from nimclient._base.callbacks import run_callback
from nimclient._base.warnings import warn_caller
from nimclient._bulk.fleet import Fleet, fleet_of
from nimclient.errors import ConfigurationError, DecodeError

fcntl: Any = None  # Windows has none
with contextlib.suppress(ImportError):
    fcntl = import_module("fcntl")

MAX_BYTES = 2**20
LOCK_SECONDS = 2.0  # for a lock that is held for 0.1 ms: longer if its owner is stopped
OPEN_SECONDS = 20.0  # when many processes begin at once
ALONE_SECONDS = 30.0  # after a failure, until the folder is tried again
_NAME = re.compile("[0-9a-f]{16}")
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_BUSY = (errno.EAGAIN, errno.EACCES)


class Share:
    """The part of one client in the folder `folder`, for the endpoint with these URLs. Thread-safe.

    Nothing is opened before `open` or the first transaction.
    """

    def __init__(self, folder: str | os.PathLike[str], urls: Sequence[str]) -> None:
        self.folder = Path(folder)
        where = urlsplit(urls[0])
        digest = blake2b("\n".join(sorted(urls)).encode(), digest_size=6).hexdigest()
        self.path = self.folder / f"{where.hostname}-{where.port or where.scheme}-{digest}.pace"
        self.name = ""
        self.held: dict[str, int] = {}  # slots of this client, by route
        self._pid = 0
        self._files: tuple[int, int] | None = None  # the shared one, and that of this process
        self._mutex = threading.RLock()
        self._offset = 0.0
        self._alone_until = -inf
        self._closed = False
        self._known = Fleet()
        _shares.add(self)

    def open(self) -> None:
        """Open the files. ConfigurationError where there is no folder to write to, or no locks."""
        with self._mutex:
            if self._files is None or self._pid != os.getpid():
                self._open()

    @contextlib.contextmanager
    def transaction(self) -> Generator[Fleet]:
        """The state, for this process alone; what is changed in it is kept."""
        with self._mutex:
            if not self._closed:
                self.open()
            locked = self._lock()
            try:
                fleet = self._read() if locked else self._known
                fleet.now = max(time.monotonic() + self._offset, fleet.now)
                self._offset = fleet.now - time.monotonic()
                self._bury(fleet, locked)
                yield fleet
                fleet.wall = time.time()
                self._known = fleet
                if locked:
                    self._write(fleet)
            finally:
                if locked:
                    self._unlock()

    def close(self) -> None:
        """Leave: what it holds is free at once. Idempotent."""
        with self._mutex:
            if self._files is not None and self._pid == os.getpid():
                with self.transaction() as fleet:
                    for route in fleet.routes.values():
                        route.members.pop(self.name, None)
                self._close_files()
            self._closed = True

    def inherited(self) -> None:
        """Close the files of the parent in a forked child, which must not keep its lock."""
        self._mutex = threading.RLock()
        self._close_files()

    def __del__(self) -> None:
        self._close_files()  # others find its lock free, as that of a process that was killed

    @property
    def _own(self) -> Path:
        return self.folder / f"{self.name}.member"

    def _open(self) -> None:
        self._close_files()
        if fcntl is None:
            raise ConfigurationError("Limits(share=…) takes file locks of POSIX, which this system does not have")
        self._pid, self.name, self.held, self._offset = os.getpid(), os.urandom(8).hex(), {}, -inf
        opened: list[int] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            opened.append(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666))
            if not lock_within(opened[0], OPEN_SECONDS):
                raise OSError(errno.EAGAIN, f"another process has held its lock for {OPEN_SECONDS:g} s")
            try:
                self._sweep()
                opened.append(os.open(self._own, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
                fcntl.flock(opened[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                fcntl.flock(opened[0], fcntl.LOCK_UN)
        except OSError as error:
            for file in opened:
                os.close(file)
            raise ConfigurationError(f"the share {self.folder} cannot be used: {_reason(error)}") from error
        self._files = (opened[0], opened[1])
        with contextlib.suppress(OSError):
            mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
            if (mount := unshared_mount(mounts, str(self.folder.resolve()))) is not None:
                text = (
                    f"the share {self.folder} is on {mount}, and its mount options keep locks to this machine: others "
                    "do not share this pace (mount it without nolock and local_lock)"
                )
                run_callback(warn_caller, text, UserWarning)

    def _close_files(self) -> None:
        files, self._files = self._files, None
        if files is None:
            return
        if self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self._own.unlink(missing_ok=True)
        for file in files:
            with contextlib.suppress(OSError):
                os.close(file)

    def _lock(self) -> bool:
        """Take the lock of the shared file; False after a failure."""
        if self._files is None or time.monotonic() < self._alone_until:
            return False
        try:
            is_ours = lock_within(self._files[0], LOCK_SECONDS)
        except OSError as error:
            return self._go_alone(_reason(error))
        return is_ours or self._go_alone(f"another process has held its lock for {LOCK_SECONDS:g} s")

    def _unlock(self) -> None:
        if self._files is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._files[0], fcntl.LOCK_UN)

    def _go_alone(self, reason: str) -> bool:
        if self._alone_until == -inf:
            text = f"the share {self.folder} fails, so this process paces itself: {reason}"
            run_callback(warn_caller, text, UserWarning)
        self._alone_until = time.monotonic() + ALONE_SECONDS
        return False

    def _read(self) -> Fleet:
        """What is in the file; a new state if it is empty or torn."""
        assert self._files is not None
        try:
            check, _, data = os.pread(self._files[0], MAX_BYTES, 0).partition(b"\n")[0].partition(b" ")
            if int(check or b"0", 16) == crc32(data):
                return fleet_of(json.loads(data)) if data else Fleet()
        except OSError as error:
            self._go_alone(_reason(error))
        except (ValueError, TypeError, KeyError, AttributeError, DecodeError):
            pass
        return Fleet()

    def _write(self, fleet: Fleet) -> None:
        assert self._files is not None
        data = json.dumps(fleet.to_dict())
        try:
            os.pwrite(self._files[0], b"%08x %b\n" % (crc32(data), data), 0)
        except OSError as error:
            self._go_alone(_reason(error))

    def _bury(self, fleet: Fleet, locked: bool) -> None:
        """Remove the processes that are dead; alone, all others."""
        for route in fleet.routes.values():
            joins = self.name not in route.members
            for name in list(route.members) if joins or not locked else route.silent(fleet.now):
                if name == self.name:
                    continue
                if not locked or self._is_dead(name):
                    del route.members[name]
                else:
                    route.members[name].at = fleet.now

    def _is_dead(self, name: str) -> bool:
        """Whether nobody holds the lock of a process's file; it is then removed."""
        if not _NAME.fullmatch(name):
            return True
        path = self.folder / f"{name}.member"
        try:
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError:
            return False
        finally:
            os.close(file)
        return True

    def _sweep(self) -> None:
        """Remove the files of processes that died before they had registered."""
        for path in self.folder.glob("*.member"):
            self._is_dead(path.stem)


def lock_within(file: int, seconds: float) -> bool:
    """Take the lock of a file; False if others keep it that long. Raises OSError where there are no locks."""
    end, wait = time.monotonic() + seconds, 0.0002
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _BUSY:
                raise
        else:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(wait)
        wait = min(2 * wait, 0.005)


def unshared_mount(mounts: str, path: str) -> str | None:
    """The network mount of a path if its locks do not reach other machines; `mounts` as in /proc/self/mountinfo."""
    best, found = "", None
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if len(fields) < 5 or len(rest) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", _octal, fields[4])
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            options = set(rest[2].split(","))
            local = rest[0].startswith("nfs") and bool(options & {"nolock", "local_lock=all", "local_lock=flock"})
            best, found = point, f"{rest[0]} ({point})" if local else None
    return found


def _octal(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))


def _reason(error: OSError) -> str:
    """What is wrong with the folder, and what to do."""
    if error.errno in _NO_LOCKS:
        return (
            f"its file system has no locks that work ({error.strerror}); NFS takes version 4, or lockd and statd and "
            "no `nolock`; a folder on the machine's own disk serves all its processes"
        )
    return str(error.strerror or error)


_shares: weakref.WeakSet[Share] = weakref.WeakSet()


def _close_inherited() -> None:
    for share in list(_shares):
        share.inherited()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)

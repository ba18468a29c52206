"""Checks what is at the path of one of our files before it is opened: a link would be followed, a pipe would block; and opens
a database that processes share.
"""

from __future__ import annotations

import errno
import stat
import time  # noqa: TID251  # how long a database is busy
from contextlib import suppress
from pathlib import Path
from typing import Any

_BUSY_DELAY = 0.01


def check_regular(*paths: Path) -> None:
    """Raise OSError (EINVAL, with the path) for a symbolic link, a pipe, a device or a folder; none need exist."""
    for path in paths:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise OSError(errno.EINVAL, "a symbolic link, a pipe or a folder is in its place: remove it", str(path))


def write_ahead(db: Any, busy_seconds: float) -> None:
    """Give an SQLite database a write-ahead log. SQLite does not wait for a process that writes there meanwhile: we do."""
    end = time.monotonic() + busy_seconds
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL").fetchone()
            db.execute("PRAGMA synchronous=NORMAL")
            return
        except Exception as error:  # sqlite3's, which is not imported here
            if getattr(error, "sqlite_errorname", "") != "SQLITE_BUSY" or time.monotonic() > end:
                raise
        time.sleep(_BUSY_DELAY)

"""Checks what is at the path of one of our files before it is opened: a link would be followed, a pipe would block."""

from __future__ import annotations

import errno
import stat
from contextlib import suppress
from pathlib import Path


def check_regular(*paths: Path) -> None:
    """Raise OSError (EINVAL, with the path) for a symbolic link, a pipe, a device or a folder; none need exist."""
    for path in paths:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise OSError(errno.EINVAL, "a symbolic link, a pipe or a folder is in its place: remove it", str(path))

"""The spool: a file with the vectors of an unfinished part, appended as they arrive.

Written data survives a crash of the process at once. A power failure may lose or truncate data that was not synced, so
the checkpoint keeps a checksum of every piece, and texts whose piece does not match are sent again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from attrs import frozen

from nimclient.errors import JobStoreError
from nimclient.jobs.files import open_regular, store_errors, sync


@frozen
class SpoolSpan:
    """A piece of the file: its offset, size and checksum."""

    start: int
    size: int
    check: int


def spool_path(folder: Path, part: int, suffix: str, bits: int) -> Path:
    """The spool of this part, with numbers of this many bits; `suffix`: that of a shard."""
    return folder / f"open{suffix}-{part:05d}.f{bits}"


class Spool:
    """The open file. Appending is for one thread, reading and syncing for any. Methods raise JobStoreError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with store_errors(f"cannot open {self.path}"):
            self._descriptor = open_regular(self.path, os.O_CREAT | os.O_APPEND)
            self._end = os.fstat(self._descriptor).st_size

    def append(self, piece: memoryview | bytes) -> SpoolSpan:
        """Append a piece, completely or not at all."""
        start = self._end
        with store_errors(f"cannot write {self.path}"):
            try:
                rest = memoryview(piece).cast("B")
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, start)
                raise
        self._end += len(piece)
        return SpoolSpan(start, len(piece), crc32(piece))

    def read(self, place: SpoolSpan) -> bytes:
        """The bytes of a piece, as they were written."""
        if (piece := self._read(place)) is None:
            raise JobStoreError(f"{self.path} is damaged: run the same job again, which sends what it misses")
        return piece

    def holds(self, place: SpoolSpan) -> bool:
        """Whether a piece is intact."""
        return self._read(place) is not None

    def _read(self, place: SpoolSpan) -> bytes | None:
        with store_errors(f"cannot read {self.path}"):
            piece = os.pread(self._descriptor, place.size, place.start)
        return piece if len(piece) == place.size and crc32(piece) == place.check else None

    def sync(self) -> None:
        """Sync it to disk."""
        with store_errors(f"cannot write {self.path}"):
            sync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

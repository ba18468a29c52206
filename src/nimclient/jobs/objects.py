"""Objects of an object store by URL, through obstore, which is imported when needed (extra `objects`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from io import BufferedReader, RawIOBase
from pathlib import PurePosixPath
from typing import Any

from attrs import frozen

from nimclient.errors import ConfigurationError
from nimclient.jobs.extras import module_of_extra

SCHEMES = ("s3", "gs", "az", "file", "memory")
_READ_SIZE = 1 << 20


@frozen
class ObjectPath:
    """An object, with what the readers of files use of a Path."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def suffix(self) -> str:
        """The end of its name, with the dot."""
        return PurePosixPath(self.url).suffix

    def with_suffix(self, suffix: str) -> ObjectPath:
        """The object with another end of its name."""
        return ObjectPath(self.url.removesuffix(self.suffix) + suffix)

    def open(self, mode: str = "rb") -> BufferedReader:
        """The object, to be read as a file. Raises ConfigurationError if there is none."""
        folder, _, name = self.url.rpartition("/")
        objects = obstore()
        try:
            reader = objects.open_reader(store_of(folder), name)
        except (objects.exceptions.NotFoundError, FileNotFoundError):
            raise ConfigurationError(f"source {self.url} does not exist") from None
        return BufferedReader(_ObjectFile(reader), _READ_SIZE)


class _ObjectFile(RawIOBase):
    """An object as a file: obstore's reader, with what Python's own files have besides."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        position: int = self._reader.seek(offset, whence)
        return position

    def tell(self) -> int:
        position: int = self._reader.tell()
        return position

    def readinto(self, buffer: Any, /) -> int:
        piece = memoryview(self._reader.read(len(buffer)))
        buffer[: len(piece)] = piece
        return len(piece)


def store_of(url: str) -> Any:
    """The store of a URL, with what the environment says of keys and regions. Each memory:// URL is one for the process."""
    if url.startswith("memory:"):
        return _memory(url)
    options: Mapping[str, bool] = {"mkdir": True} if url.startswith("file:") else {}
    objects = obstore()
    try:
        return objects.store.from_url(url, **options)
    except objects.exceptions.BaseError as error:
        raise ConfigurationError(f"{url} cannot be used: {str(error).partition(chr(10))[0]}") from None


@cache
def _memory(url: str) -> Any:
    return obstore().store.MemoryStore()


def obstore() -> Any:
    """The module; ConfigurationError if it is not installed."""
    missing = "object stores need obstore and pyarrow: install nimclient[objects]"
    module_of_extra("obstore.store", missing)
    return module_of_extra("obstore", missing)

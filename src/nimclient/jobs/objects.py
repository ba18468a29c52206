"""Objects of an object store by URL, through obstore, which is imported when needed (extra `objects`)."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from io import BufferedReader, RawIOBase
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from attrs import frozen

from nimclient.errors import ConfigurationError
from nimclient.jobs.extras import module_of_extra

SCHEMES = ("s3", "gs", "az", "file", "memory")
_READ_SIZE = 1 << 20
_KEYLESS = {
    "/latest/api/token": "of a profile: aws configure export-credentials --format env",
    "/computeMetadata/": "GOOGLE_SERVICE_ACCOUNT, or GOOGLE_APPLICATION_CREDENTIALS, names a file",
    "/metadata/identity/": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""What was asked for credentials last, where there were none, and how they are given."""


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
            with _as_os_errors():
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
        with _as_os_errors():
            piece = memoryview(self._reader.read(len(buffer)))
        buffer[: len(piece)] = piece
        return len(piece)


@contextmanager
def _as_os_errors() -> Generator[None, None, None]:
    """Turn what a store says into an OSError, as of any other file; that nothing is there stays what it is."""
    exceptions = obstore().exceptions
    try:
        yield
    except exceptions.NotFoundError:
        raise
    except exceptions.BaseError as error:
        raise OSError(first_line(error)) from error


def first_line(error: Exception) -> str:
    """What a store says, without the page of details; without credentials it says how the last of all places was asked."""
    content = getattr(error, "content", b"")  # Qdrant's response
    line = str(error).partition("\n")[0] + (f": {content.decode(errors='replace')}" if content else "")
    hints = [
        f"; there are no credentials in the environment ({hint})" for sign, hint in _KEYLESS.items() if sign in line
    ]
    return f"{line:.500}{''.join(hints)}"


def store_of(url: str) -> Any:
    """The store of a URL, with what the environment says of keys and regions. Each memory:// URL is one for the process.

    Names of objects are meant as they are, so that a percent sign is one.
    """
    if url.startswith("memory:"):
        return _memory(url)
    options: Mapping[str, bool] = {"mkdir": True} if url.startswith("file:") else {}
    objects = obstore()
    scheme, _, rest = url.partition("://")
    try:
        return objects.store.from_url(f"{scheme}://{quote(rest, safe='/:@')}", **options)
    except objects.exceptions.BaseError as error:
        raise ConfigurationError(f"{url} cannot be used: {first_line(error)}") from None


@cache
def _memory(url: str) -> Any:
    return obstore().store.MemoryStore()


def obstore() -> Any:
    """The module; ConfigurationError if it is not installed."""
    missing = "object stores need obstore and pyarrow: install nimclient[objects]"
    module_of_extra("obstore.store", missing)
    return module_of_extra("obstore", missing)

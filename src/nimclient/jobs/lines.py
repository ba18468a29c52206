"""Reads lines as other programs write them: with a byte-order mark, in gzip, in UTF-16 by mistake, ending in LF or CRLF.

A line ends at LF only: the other characters that Python's `splitlines` splits at occur in texts.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

from nimclient.errors import ConfigurationError
from nimclient.jobs.objects import ObjectPath

BOM = b"\xef\xbb\xbf"
LONG_NUMBER = re.compile(rb"\d[\d.]{15}|\d[eE][+-]?\d{3}")
"""A number in JSON beyond 64 bits or a float; it may also be in a text."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ZSTD = (".zst", ".zstd")


def open_lines(path: Path | ObjectPath) -> IO[bytes]:
    """Open a text file after its byte-order mark; one whose name ends in .gz or .zst is decompressed.

    Raises ConfigurationError for UTF-16, and for zstd where nothing installed reads it; OSError as `open` does.
    """
    file = _decompressed(path)
    try:
        head = file.peek(4)[:4]
        check_encoding(head, str(path))
        if head.startswith(BOM):
            file.read(len(BOM))
    except BaseException:
        file.close()
        raise
    return cast(IO[bytes], file)


def _decompressed(path: Path | ObjectPath) -> BufferedReader | gzip.GzipFile:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.GzipFile(path) if isinstance(path, Path) else gzip.GzipFile(fileobj=path.open())
    if suffix not in _ZSTD:
        return path.open("rb")
    module = zstd_reader(path)
    if module.__name__ == "pyarrow":
        return BufferedReader(module.input_stream(path.open("rb"), compression="zstd"))
    return BufferedReader(module.open(path if isinstance(path, Path) else path.open(), "rb"))


def zstd_reader(path: Path | ObjectPath) -> Any:
    """The module that reads zstd: Python's own (3.14), else one that is installed. ConfigurationError where there is none."""
    for name in ("compression.zstd", "zstandard", "pyarrow"):
        with suppress(ImportError):
            return import_module(name)
    raise ConfigurationError(
        f"{path} is compressed with zstd, which needs zstandard or pyarrow (nimclient[arrow]); "
        f"or pipe it in: `zstdcat {path} | nimclient embed - …`"
    )


def check_encoding(head: bytes, what: str) -> None:
    """Raise ConfigurationError if `what` begins like UTF-16 or UTF-32 text."""
    if head[:2] in _UTF_16 or (len(head) > 1 and head[:2].count(0) == 1) or head == b"\x00\x00\xfe\xff":
        raise ConfigurationError(f"{what} is UTF-16 text, not UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`")


def numbered(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1."""
    return ((number, line) for number, line in enumerate(file, 1) if line.strip())


def text_lines(data: bytes, what: str) -> list[str]:
    """The lines of UTF-8 text, blank ones included, without their ends. ConfigurationError for any other encoding."""
    check_encoding(data[:4], what)
    try:
        text = data.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{what} is not valid UTF-8 text ({error.reason} at byte {error.start})") from None
    return [line.removesuffix("\r") for line in text.split("\n")]


def suffix_of(path: Path | ObjectPath) -> str:
    """The suffix that shows the format of a file, in lower case and without .gz or .zst.

    Raises ConfigurationError for zstd where nothing installed reads it.
    """
    suffix = path.suffix.lower()
    if suffix in _ZSTD:
        zstd_reader(path)
    return path.with_suffix("").suffix.lower() if suffix in (".gz", *_ZSTD) else suffix

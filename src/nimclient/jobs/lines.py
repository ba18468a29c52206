"""Reads lines as other programs write them: with a byte-order mark, in gzip, in UTF-16 by mistake, ending in LF or CRLF.

A line ends at LF only: the other characters that Python's `splitlines` splits at occur in texts.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from nimclient.errors import ConfigurationError

BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ZSTD = (".zst", ".zstd")


def open_lines(path: Path) -> IO[bytes]:
    """Open a text file after its byte-order mark; one whose name ends in .gz is decompressed.

    Raises ConfigurationError for UTF-16, OSError as `open` does.
    """
    is_gzip = path.suffix.lower() == ".gz"
    file = cast(IO[bytes], gzip.GzipFile(path)) if is_gzip else path.open("rb")
    try:
        head = file.read(4)
        check_encoding(head, str(path))
        file.seek(len(BOM) if head.startswith(BOM) else 0)
    except BaseException:
        file.close()
        raise
    return file


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


def suffix_of(path: Path) -> str:
    """The suffix that shows the format of a file, in lower case and without .gz.

    Raises ConfigurationError for zstd, which Python's standard library does not read.
    """
    suffix = path.suffix.lower()
    if suffix in _ZSTD:
        raise ConfigurationError(f"{path} is compressed with zstd; pipe it in: `zstdcat {path} | nimclient embed - …`")
    return path.with_suffix("").suffix.lower() if suffix == ".gz" else suffix

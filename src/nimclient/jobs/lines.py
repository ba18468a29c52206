"""Reads lines as other programs write them: with a byte-order mark, compressed, in UTF-16 by mistake, ending in LF or CRLF.

A line ends at LF only: the other characters that Python's `splitlines` splits at occur in texts.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Generator, Iterator
from contextlib import suppress
from importlib import import_module
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, cast

from nimclient.errors import ConfigurationError
from nimclient.jobs.objects import ObjectPath

BOM = b"\xef\xbb\xbf"
LONG_NUMBER = re.compile(rb"\d[\d.]{15}|\d[eE][+-]?\d{3}")
"""A number in JSON beyond 64 bits or a float; it may also be in a text."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ZSTD = (".zst", ".zstd")
_PIECE = 2**12  # bytes to decompress at once: they may become a thousand times as many
_OTHERS = {
    b"\x1f\x8b": "gzip",
    b"(\xb5/\xfd": "zstd",
    b"\xfd7zX": "xz",
    b"PK\x03\x04": "a ZIP archive (or an Excel file)",
}


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
    if module.__name__ == "zstandard":
        return BufferedReader(_Pieces(_zstd_pieces(path, module)))
    return BufferedReader(module.open(path if isinstance(path, Path) else path.open(), "rb"))


def _zstd_pieces(path: Path | ObjectPath, module: Any) -> Generator[bytes]:
    """What zstandard decompresses, frame by frame: its own reader takes a file that was cut for a whole one."""
    with path.open("rb") as file:
        frame: Any = None
        while piece := file.read(_PIECE):
            while piece:
                frame = frame or module.ZstdDecompressor().decompressobj()
                yield frame.decompress(piece)
                piece, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("compressed file ended before the end of a frame")


class _Pieces(RawIOBase):
    """A file of pieces."""

    def __init__(self, pieces: Generator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""

    def close(self) -> None:
        """Close the file that they come from."""
        self._pieces.close()
        super().close()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what fits; 0 at the end."""
        while not self._piece:
            try:
                self._piece = next(self._pieces)
            except StopIteration:
                return 0
        count = min(len(buffer), len(self._piece))
        buffer[:count], self._piece = self._piece[:count], self._piece[count:]
        return count


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
    """Raise ConfigurationError if `what` begins like UTF-16 or UTF-32 text, or like a file that is no text."""
    if head[:2] in _UTF_16 or (len(head) > 1 and head[:2].count(0) == 1) or head == b"\x00\x00\xfe\xff":
        raise ConfigurationError(f"{what} is UTF-16 text, not UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`")
    for magic, kind in _OTHERS.items():
        if head.startswith(magic):
            raise ConfigurationError(
                f"{what} is {kind}, not text: unpack it, or give it a name that says so (.gz, .zst)"
            )


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

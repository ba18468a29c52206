"""Bulk operations on numbers: decoding base64 rows, checking that a buffer is finite, allocating zeroed buffers.

Uses pybase64 if it is installed, NumPy if the program has already imported it (it is never imported here), else the
standard library, which takes about twenty times as long as pybase64 and twice as long as NumPy.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import struct
import sys
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

_fast_decode: Callable[[str | bytes, None, bool], bytes] | None  # text, alphabet, strict: keywords cost a third more
try:
    from pybase64 import b64decode as _fast_decode
except ImportError:
    _fast_decode = None

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_WRONG = 255
_VALUES = bytes(_ALPHABET.find(c) % 256 for c in range(256))  # find gives -1, that is 255, for what is not in it
_LARGE = 2**23  # bytes
_MANY = 2**16  # bytes: below this NumPy's overhead exceeds the work itself
_TELLING = 8  # numbers
_SMALL = bytes(top for top in range(256) if top & 0x7F < 0x38)
_ORDINARY = bytes(top for top in range(256) if 0x30 <= top & 0x7F <= 0x47 or top in (0, 0x80))
_NOT_HUGE = bytes(top for top in range(256) if top & 0x7F < 0x60)
"""Top bytes of float32 numbers: below 2^-15; between 2^-31 and 2^17, or zero; below 2^65."""
_FINITE_FLOAT16 = bytes(top for top in range(256) if top & 0x7C != 0x7C)
_AT_ONCE = 2**18  # characters: larger blocks do not fit in the cache


def b64decode(text: str | bytes) -> bytes:
    """The bytes of one row. Raises ValueError for anything that is not base64, including stray characters."""
    if _fast_decode is not None:
        return _fast_decode(text, None, True)
    return a2b_base64(text, strict_mode=True)


def decode_rows(texts: Sequence[bytes]) -> list[bytes]:
    """The bytes of many rows. Raises ValueError as `b64decode` does."""
    if _fast_decode is not None:
        decode = _fast_decode
        return [decode(text, None, True) for text in texts]
    numpy = sys.modules.get("numpy")
    width = len(texts[0])
    if numpy is None or width % 4 or {*map(len, texts)} != {width}:
        return [a2b_base64(text, strict_mode=True) for text in texts]
    step = max(_AT_ONCE // max(width, 1), 1)
    parts = (_decode_alike(numpy, texts[start : start + step]) for start in range(0, len(texts), step))
    return list(chain.from_iterable(parts))


def _decode_alike(numpy: Any, texts: Sequence[bytes]) -> list[bytes]:
    """Decode rows of equal length together: four characters of 6 bits are one number of 24."""
    width = len(texts[0])
    padding = texts[0][-2:].count(b"=")
    zeros = b"A" * padding
    values = (zeros.join([text[: width - padding] for text in texts]) + zeros).translate(_VALUES)
    if _WRONG in values or any(text[width - padding :] != b"=" * padding for text in texts):
        raise ValueError("not base64 text")
    pairs = numpy.frombuffer(values, "<u2")
    twelves = pairs << 6  # bits of two characters, first times 64; bits above 12 are masked or unused
    twelves |= pairs >> 8
    numbers = twelves.view("<u4")
    low = numbers >> 16
    low &= 0xFFF
    numbers <<= 12
    numbers |= low
    octets = numbers.view("u1").reshape(-1, 4)
    decoded = numpy.empty((len(octets), 3), "u1")
    for place in range(3):  # the number is little-endian, the bytes of base64 are big-endian
        decoded[:, place] = octets[:, 2 - place]
    rows, row = decoded.tobytes(), width // 4 * 3
    return [rows[start : start + row - padding] for start in range(0, len(rows), row)]


def first_not_finite(buffer: bytes | bytearray, dtype: str = "float32") -> int | None:
    """Position of the first NaN or infinity among little-endian float32 or float16 numbers, or None.

    For small buffers and without NumPy: only a float32 whose last byte is 0x7f or 0xff can be one, and real embeddings have
    none, so that a scan of every fourth byte decides, twenty times faster than decoding the numbers. The exponent of a
    float16 is in its last byte.
    """
    if dtype == "float16":
        tops = buffer[1::2]
        bad = tops.translate(None, _FINITE_FLOAT16)[:1]
        return tops.index(bad) if bad else None
    if dtype != "float32":
        return None
    numpy = sys.modules.get("numpy") if len(buffer) > _MANY else None
    if numpy is not None:
        finite = numpy.isfinite(numpy.frombuffer(buffer, "<f4"))
        return None if finite.all() else int(finite.argmin())
    top = buffer[3::4]
    if b"\x7f" not in top and b"\xff" not in top:
        return None
    values = memoryview(buffer).cast("f")
    return next((i for i, value in enumerate(values) if not math.isfinite(value)), None)


def misread(row: bytes, dtype: str) -> str | None:
    """What a vector seems to contain instead of the requested dtype, judged by its bytes; None if that cannot be told.

    A server that ignores `embedding_type` sends float32, some send float16 or float64 as base64. The top byte of a
    float32 is its sign and most of its exponent: real embeddings are between 2^-31 and 2^17, their largest number is above
    2^-15. Pairs of float16 look like numbers around 2^-40, halves of float64 like numbers of any size. Too few numbers
    show nothing.
    """
    top = row[3::4]
    if len(row) % 4 or len(top) < _TELLING or not any(row):
        return None
    looks_float32 = not top.translate(None, _ORDINARY) and bool(top.translate(None, _SMALL))
    if dtype != "float32":
        return f"float32 numbers, but {dtype} was requested" if looks_float32 else None
    if not top.translate(None, _SMALL) or top.translate(None, _NOT_HUGE):
        return "the numbers are implausible as float32: they may be float16 or float64"
    return None


def rounded_to_float16(buffer: bytes) -> bytes:
    """float32 numbers as float16, to the nearest, ties to even; infinity for what is too large."""
    if (numpy := sys.modules.get("numpy")) is not None:
        with numpy.errstate(over="ignore"):
            rounded: bytes = numpy.frombuffer(buffer, "<f4").astype("<f2").tobytes()
        return rounded
    values = memoryview(buffer).cast("f")
    try:
        return struct.pack(f"<{len(values)}e", *values)
    except OverflowError:
        return b"".join(map(_rounded, values))


def _rounded(value: float) -> bytes:
    try:
        return struct.pack("<e", value)
    except OverflowError:
        return struct.pack("<e", math.copysign(math.inf, value))


def float16s(buffer: bytes | memoryview) -> list[float]:
    """The numbers of little-endian float16."""
    return list(struct.unpack(f"<{len(buffer) // 2}e", buffer))


def zeroed_buffer(size: int) -> memoryview:
    """`size` bytes of zeroed memory, private to the process.

    Large buffers are mapped and get their pages as they are written; a bytearray is filled with zeros at once, which blocks
    the event loop for a fifth of a second at 250 MB.
    """
    if size < _LARGE or not hasattr(mmap, "MAP_ANONYMOUS"):
        return memoryview(bytearray(size))
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)

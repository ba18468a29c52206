"""Nearest vectors by cosine: with NumPy if it is installed, else in plain Python, with the same scores within rounding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from operator import mul
from typing import Any, cast

from nimclient.errors import ConfigurationError

_PACKED = {"binary": 0x80, "ubinary": 0}
"""Bit-packed types, and the offset to unsigned bytes: `binary` is `ubinary` minus 128."""

_SIGNS = [tuple(1.0 if byte >> (7 - bit) & 1 else -1.0 for bit in range(8)) for byte in range(256)]
_BLOCK_NUMBERS = 2**17  # numbers converted to float64 at once: they fit in the cache
_DECIMALS = 12  # scores equal to this precision count as equal: the rounding of a sum depends on a row's position


def read_query(query: object, dimensions: int, dtype: str) -> list[float]:
    """The normalized query. Raises TypeError for anything but a sequence of numbers,

    ConfigurationError for other dimensions than those of the vectors, and for a zero query.
    """
    numbers = _numbers(query)
    wanted = 8 * dimensions if dtype in _PACKED else dimensions
    if len(numbers) != wanted:
        bits = f" ({dimensions} bytes of 8 bits)" if dtype in _PACKED else ""
        raise ConfigurationError(f"query has {len(numbers)} numbers, and the vectors have {wanted}{bits}")
    largest = max(map(abs, numbers))
    if not math.isfinite(largest) or not all(map(math.isfinite, numbers)):
        raise ConfigurationError("query has NaN or infinity in it")
    if not largest:
        raise ConfigurationError("query has only zeros: its cosine with anything is undefined")
    numbers = [number / largest for number in numbers]
    length = math.hypot(*numbers)
    return [number / length for number in numbers]


def _numbers(query: object) -> list[float]:
    """The numbers of a query, bits as -1 and 1."""
    if isinstance(query, (str, bytes)) or not isinstance(query, Iterable):
        raise TypeError(
            f"query takes a Vector or a sequence of numbers, not {type(query).__name__}; embed a text first"
        )
    items = cast(Iterable[Any], query)
    dtype: object = getattr(items, "dtype", "")
    values = list(items)
    if isinstance(dtype, str) and dtype in _PACKED:
        return list(_unpacked(values, _PACKED[dtype]))
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        raise TypeError("query takes one Vector, a sequence of numbers; of several pass one at a time") from None


def _unpacked(row: Sequence[int], flip: int) -> Iterator[float]:
    """The bits of a row as -1 and 1, the highest of each byte first."""
    return (sign for byte in row for sign in _SIGNS[(byte & 0xFF) ^ flip])


def scores_numpy(numpy: Any, rows: Any, dtype: str, query: Sequence[float]) -> list[float | None]:
    """The cosine of the query with each row of a matrix, None for one that is zero or not finite."""
    direction = numpy.asarray(query)
    step = max(_BLOCK_NUMBERS // len(query), 1)
    found: list[float | None] = []
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        if dtype in _PACKED:
            block = numpy.unpackbits(block.view("u1") ^ _PACKED[dtype], axis=1) * 2.0 - 1.0
        block = block.astype("f8", copy=False)
        with numpy.errstate(invalid="ignore", divide="ignore"):
            lengths = numpy.sqrt(numpy.einsum("ij,ij->i", block, block))
            cosines = numpy.clip(block @ direction / lengths, -1.0, 1.0).tolist()
        found += [cosine if math.isfinite(cosine) else None for cosine in cosines]
    return found


def scores(rows: Iterable[Sequence[Any]], dtype: str, query: Sequence[float]) -> list[float | None]:
    """The same without NumPy."""
    found: list[float | None] = []
    for row in rows:
        numbers = list(_unpacked(row, _PACKED[dtype])) if dtype in _PACKED else row
        length = math.hypot(*numbers)
        if 0.0 < length < math.inf:
            found.append(max(-1.0, min(1.0, math.fsum(map(mul, numbers, query)) / length)))
        else:
            found.append(None)
    return found


def best(scored: Sequence[float | None], k: int) -> list[tuple[int, float]]:
    """The k best, highest first; of equal scores the first one. Rows without a score are left out."""
    pairs = [(index, score) for index, score in enumerate(scored) if score is not None]
    return nsmallest(k, pairs, key=_rank)


def _rank(pair: tuple[int, float]) -> tuple[float, int]:
    return -round(pair[1], _DECIMALS), pair[0]

"""Cosine search over vectors in one buffer of float32: with NumPy where it is installed, else with nothing."""

from __future__ import annotations

import heapq
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property


def _sum_of_products(left: Iterable[float], right: Iterable[float]) -> float:
    total: float = sum(map(operator.mul, left, right))
    return total


_Product = Callable[[Iterable[float], Iterable[float]], float]

sum_of_products: _Product = getattr(math, "sumprod", _sum_of_products)
"""The inner product of two rows of numbers; math.sumprod came with Python 3.12."""


class Index:
    """Rows of `dimensions` float32 numbers in `buffer`, which is not copied. Rows need not be of length one."""

    def __init__(self, buffer: memoryview, dimensions: int) -> None:
        self._buffer = buffer.cast("B")
        self._dimensions = dimensions

    def top(self, query: Sequence[float], count: int) -> list[tuple[int, float]]:
        """(row, cosine) of the `count` rows nearest to `query`, nearest first; equal ones in their order."""
        try:
            scores = self.cosines_with_numpy(query)
        except ImportError:
            scores = self.cosines(query)
        best = heapq.nlargest(count, range(len(scores)), key=lambda row: (scores[row], -row))
        return [(row, scores[row]) for row in best]

    def cosines(self, query: Sequence[float]) -> list[float]:
        """The cosine of every row with `query`, in plain Python."""
        length = math.hypot(*query)
        asked = [value / length for value in query] if length else list(query)
        return [
            sum_of_products(row, asked) / norm if norm else 0.0
            for row, norm in zip(self._rows, self._norms, strict=True)
        ]

    def cosines_with_numpy(self, query: Sequence[float]) -> list[float]:
        """The same by NumPy; ImportError where it is not installed."""
        import numpy

        rows = numpy.frombuffer(self._buffer, "<f4").reshape(-1, self._dimensions)
        asked = numpy.asarray(query, "<f4")
        norms = numpy.linalg.norm(rows, axis=1) * numpy.linalg.norm(asked)
        scores: list[float] = (rows @ asked / numpy.where(norms, norms, 1.0)).tolist()
        return scores

    @cached_property
    def _rows(self) -> list[memoryview[float]]:
        numbers = self._buffer.cast("f")
        size = self._dimensions
        return [numbers[start : start + size] for start in range(0, len(numbers), size)]

    @cached_property
    def _norms(self) -> list[float]:
        return [math.sqrt(sum_of_products(row, row)) for row in self._rows]

"""A text that is longer than the model takes: its pieces, and one vector for all of them.

The arithmetic is that of vLLM's chunked mode (`enable_chunked_processing`, entrypoints/pooling/embed/io_processor.py): the
ids of the tokens are cut into pieces of `max_model_len`, and the vectors of the pieces are added up, each as many times as it
has tokens. The mean has length one if those of the pieces have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul

_UNIT = 1e-2
"""How far from one the length of a normalized vector may be: half-precision numbers are rounded."""
_SPACES = (" ", "\n")


def pooled(vectors: Sequence[Sequence[float]], tokens: Sequence[int]) -> list[float]:
    """The mean of vectors of equal dimensions, weighted by the tokens of their pieces; its length is one if theirs are."""
    total = sum(tokens)
    mean = [sum(map(mul, tokens, column)) / total for column in zip(*vectors, strict=True)]
    if all(abs(math.hypot(*vector) - 1) <= _UNIT for vector in vectors):
        length = math.hypot(*mean) or 1.0
        return [number / length for number in mean]
    return mean


def pieces_of(ids: Sequence[int], limit: int) -> list[list[int]]:
    """Token ids in pieces of `limit`; the last may be shorter."""
    return [list(ids[start : start + limit]) for start in range(0, len(ids), limit)]


def parts_of(text: str, count: int) -> list[str]:
    """A text in `count` parts of about equal length, cut after nearby white space if there is some. Joined they are the text.

    `count`: at least 2, at most its length.
    """
    reach = len(text) // (4 * count)
    bounds = [0]
    for number in range(1, count):
        middle = len(text) * number // count
        space = max(text.rfind(space, middle - reach, middle + reach) for space in _SPACES)
        bounds.append(middle if space < 0 else space + 1)
    return [text[start:stop] for start, stop in zip(bounds, [*bounds[1:], len(text)], strict=True)]

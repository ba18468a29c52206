"""How similar texts are, from their vectors: a heat map, and the same as text."""

# pyright: reportUnknownMemberType=false
# matplotlib leaves keyword arguments untyped

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from nimclient.errors import ConfigurationError
from nimclient.plot._figure import new_figure, save
from nimclient.plot._text import shade
from nimclient.records.embeddings import Vectors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NUMBERED_CELLS = 400  # of a heat map: in more the numbers would not be readable

VectorsLike: TypeAlias = Vectors | Sequence[Sequence[float]] | Mapping[str, Any]
"""Vectors, lists of numbers, or the JSON form of `Vectors.to_dict`."""

_MOST_LABEL = 40
_INCHES_A_LETTER = 0.09


def similarity(
    queries: VectorsLike,
    documents: VectorsLike,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw the cosine of each query (a row) with each document (a column), as a heat map with its numbers.

    Args:
        queries: Vectors, lists of numbers, or `Vectors.to_dict()` as decoded from JSON.
        documents: The same, of as many dimensions.
        rows: Labels of the rows; None: their numbers.
        columns: Labels of the columns.
        title: The title.
        path: The file to save it to: .png, .svg or .pdf.

    Raises:
        ConfigurationError: Where matplotlib is not installed, for labels of another count, and for vectors that do not
            compare.
    """
    cosines, row_labels, column_labels = _compared(queries, documents, rows, columns)
    height, width = len(cosines), len(column_labels)
    left, below = (max(map(len, labels)) * _INCHES_A_LETTER for labels in (row_labels, column_labels))
    figure = new_figure(2 + left + 0.8 * width, 1 + below / 2 + 0.5 * height, "similarity_table")
    axes = figure.subplots()
    image = axes.imshow(cosines, cmap="viridis", aspect="auto", vmin=min(0.0, _least(cosines)), vmax=1.0)
    axes.set_xticks(range(width), column_labels, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(height), row_labels)
    if height * width <= MAX_NUMBERED_CELLS:
        for row, line in enumerate(cosines):
            for column, value in enumerate(line):
                color = "black" if value > 0.6 else "white"
                axes.text(column, row, _number(value), ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, label="cosine")
    if title is not None:
        axes.set_title(title)
    return save(figure, path)


def similarity_table(
    queries: VectorsLike,
    documents: VectorsLike,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> str:
    """The same as text for a terminal, each number shaded by its size; needs no extra."""
    cosines, row_labels, column_labels = _compared(queries, documents, rows, columns)
    cells = [[f"{shade(value)} {_number(value)}" for value in line] for line in cosines]
    names = [str(number + 1) for number in range(len(column_labels))]
    left = max(map(len, row_labels), default=0)
    widths = [max(map(len, (name, *column))) for name, *column in zip(names, *cells, strict=True)]
    lines = [" ".join([" " * left, *(name.rjust(width) for name, width in zip(names, widths, strict=True))])]
    for label, line in zip(row_labels, cells, strict=True):
        lines.append(" ".join([label.ljust(left), *(c.rjust(w) for c, w in zip(line, widths, strict=True))]))
    legend = [f"{name}: {label}" for name, label in zip(names, column_labels, strict=True) if label != name]
    return "\n".join(line.rstrip() for line in [*lines, *legend])


def _compared(
    queries: VectorsLike, documents: VectorsLike, rows: Sequence[str] | None, columns: Sequence[str] | None
) -> tuple[list[list[float]], list[str], list[str]]:
    """The cosines, NaN for a document of zeros, and the labels of rows and columns."""
    asked, found = _vectors(queries), _vectors(documents)
    if not len(asked) or not len(found):
        raise ConfigurationError("a picture of similarity needs at least one query and one document")
    cosines: list[list[float]] = []
    for query in asked:
        scores = dict(found.search(query, k=len(found)))
        cosines.append([scores.get(index, float("nan")) for index in range(len(found))])
    return cosines, _labels("rows", rows, len(asked)), _labels("columns", columns, len(found))


def _vectors(given: VectorsLike) -> Vectors:
    if isinstance(given, Vectors):
        return given
    lists = [item["embedding"] for item in given["data"]] if isinstance(given, Mapping) else given
    numbers = array("f", [number for row in lists for number in row])
    dimensions = len(lists[0]) if len(lists) else 0
    if any(len(row) != dimensions for row in lists):
        raise ConfigurationError("the vectors are of different dimensions")
    return Vectors(numbers.tobytes(), dimensions)


def _labels(name: str, given: Sequence[str] | None, count: int) -> list[str]:
    labels = [str(number + 1) for number in range(count)] if given is None else list(given)
    if len(labels) != count:
        raise ConfigurationError(f"{name} has {len(labels)} labels for {count} vectors")
    return [label if len(label) <= _MOST_LABEL else f"{label[: _MOST_LABEL - 1]}…" for label in labels]


def _least(cosines: Sequence[Sequence[float]]) -> float:
    return min((value for line in cosines for value in line if value == value), default=0.0)


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.2f}"

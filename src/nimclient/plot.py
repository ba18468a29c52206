"""Pictures: how a call over many items went, from the Progress records that its `on_progress` was called with, and how
similar texts are, from their vectors.

Drawing needs matplotlib (`pip install nimclient[plot]`), which is imported when something is drawn.
"""

# pyright: reportUnknownMemberType=false
# matplotlib's own types leave the keyword arguments of what it draws open

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from nimclient.errors import ConfigurationError
from nimclient.records.embeddings import Vectors
from nimclient.records.progress import Progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["pacing", "similarity", "similarity_table"]

MAX_NUMBERED_CELLS = 400  # of a heat map: in more the numbers would not be readable
WINDOWS = 60  # points of the line of throughput


def pacing(events: Iterable[Progress], *, title: str | None = None) -> Figure:
    """Draw how many requests were in flight and how many might be, with throttling marked, above items a second.

    `events` are all records of one call, oldest first: ``events = []; embed_documents(texts, on_progress=events.append)``.
    Returns a Figure: `.savefig("pacing.png")`.

    Raises ConfigurationError where matplotlib is not installed, or for fewer than two events.
    """
    history = list(events)
    if len(history) < 2:
        raise ConfigurationError("a picture needs at least two events of progress")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigurationError("drawing needs matplotlib: install nimclient[plot]") from None
    figure = Figure(figsize=(9, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _draw_limit(upper, history)
    times, rates = throughput(history)
    lower.step(times, rates, where="pre", color="tab:green")
    lower.set(xlabel="seconds", ylabel="items a second", ylim=(0, None))
    if title is not None:
        figure.suptitle(title)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def _draw_limit(axes: Axes, history: Sequence[Progress]) -> None:
    seconds = [event.seconds for event in history]
    axes.plot(seconds, [event.in_flight for event in history], color="tab:blue", alpha=0.35, label="in flight")
    limits = [event.limit for event in history]
    axes.step(seconds, [float("nan") if limit is None else limit for limit in limits], where="post", label="limit")
    marked = throttled(history)
    if marked:
        axes.scatter(
            [event.seconds for event, _ in marked],
            [event.limit or 0 for event, _ in marked],
            [12 + 6 * min(count, 40) for _, count in marked],
            color="tab:red",
            marker="x",
            zorder=3,
            label=f"throttled ({history[-1].refusals} of {history[-1].requests} requests)",
        )
    axes.set(ylabel="requests", ylim=(0, None))
    axes.legend(loc="best")


def throttled(history: Sequence[Progress]) -> list[tuple[Progress, int]]:
    """The events before which requests were throttled, and how many."""
    first = [(history[0], history[0].refusals)] if history[0].refusals else []
    return first + [
        (now, now.refusals - then.refusals) for then, now in pairwise(history) if now.refusals > then.refusals
    ]


def throughput(history: Sequence[Progress]) -> tuple[list[float], list[float]]:
    """The ends of at most WINDOWS equal stretches of time, and the items a second in each."""
    seconds = [event.seconds for event in history]
    begin, end = seconds[0], seconds[-1]
    windows = min(WINDOWS, len(history) - 1)
    times: list[float] = []
    rates: list[float] = []
    then = history[0]
    for number in range(1, windows + 1):
        now = history[min(bisect_left(seconds, begin + (end - begin) * number / windows), len(history) - 1)]
        if now.seconds > then.seconds:
            times.append(now.seconds)
            rates.append((now.done - then.done) / (now.seconds - then.seconds))
            then = now
    return times, rates


# similarity ----------------------------------------------------------------------------------------------------------

VectorsLike: TypeAlias = Vectors | Sequence[Sequence[float]] | Mapping[str, Any]
"""Vectors, lists of numbers, or what `Vectors.to_dict` gives and JSON keeps."""

_SHADES = " ░▒▓█"
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
        queries: Vectors, lists of numbers, or `Vectors.to_dict()` as JSON has kept it.
        documents: The same, of as many dimensions.
        rows: What to write beside the rows; None: their numbers.
        columns: What to write below the columns.
        title: Above it all.
        path: Where to save it, by its ending: .png, .svg or .pdf.

    Raises:
        ConfigurationError: Where matplotlib is not installed, for labels of another count, and for vectors that do not
            compare.
    """
    cosines, row_labels, column_labels = _compared(queries, documents, rows, columns)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigurationError(
            "drawing needs matplotlib: install nimclient[plot], or print(similarity_table(…))"
        ) from None
    height, width = len(cosines), len(column_labels)
    left, below = (max(map(len, labels)) * _INCHES_A_LETTER for labels in (row_labels, column_labels))
    figure = Figure(figsize=(2 + left + 0.8 * width, 1 + below / 2 + 0.5 * height), layout="constrained")
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
    if path is not None:
        figure.savefig(path)
    return figure


def similarity_table(
    queries: VectorsLike,
    documents: VectorsLike,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> str:
    """The same as text for a terminal, each number with a shade of its size; needs nothing installed."""
    cosines, row_labels, column_labels = _compared(queries, documents, rows, columns)
    cells = [[f"{_shade(value)} {_number(value)}" for value in line] for line in cosines]
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
    """The cosines, NaN for a document that is zero throughout, and the labels of rows and columns."""
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


def _shade(value: float) -> str:
    """A character that is the darker the nearer a cosine is to 1."""
    return _SHADES[0] if value != value else _SHADES[min(max(int(value * len(_SHADES)), 0), len(_SHADES) - 1)]

"""How a call over many items went, from the Progress records that its `on_progress` was called with."""

# pyright: reportUnknownMemberType=false
# matplotlib's own types leave the keyword arguments of what it draws open

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from nimclient.plot._figure import new_figure, save
from nimclient.plot._source import Events, events_of, objects_of
from nimclient.plot._text import shaded_table
from nimclient.records.progress import Progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOWS = 60  # points of the line of throughput
ROWS = 12  # of a table


def pacing(events: Events, *, title: str | None = None, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw how many requests were in flight and how many might be, with throttling marked, above items a second.

    `events` are all records of one call, oldest first: ``events = []; embed_documents(texts, on_progress=events.append)``;
    or their JSON objects, or the name of a file of them (``nimclient embed … --json > events.jsonl``). `path` saves it, by
    its ending: .png, .svg or .pdf. Returns a Figure.

    Raises ConfigurationError where matplotlib is not installed, or for fewer than two events.
    """
    history = events_of(objects_of(events))
    figure = new_figure(9, 6, "pacing_table")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _draw_limit(upper, history)
    times, rates = rates_of(history)
    lower.step(times, rates, where="pre", color="tab:green")
    lower.set(xlabel="seconds", ylabel="items a second", ylim=(0, None))
    if title is not None:
        figure.suptitle(title)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return save(figure, path)


def pacing_table(events: Events) -> str:
    """The same as text for a terminal, each number with a shade of its size; needs nothing installed."""
    history = events_of(objects_of(events))
    rows: list[list[float | None]] = []
    for then, now in windows(history, ROWS):
        rate = (now.done - then.done) / (now.seconds - then.seconds)
        rows.append([now.seconds, now.in_flight, now.limit, now.refusals - then.refusals, rate])
    return shaded_table(("seconds", "in flight", "limit", "throttled", "items/s"), rows, (0, 0, 1, 2))


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


def windows(history: Sequence[Progress], count: int) -> list[tuple[Progress, Progress]]:
    """The first and the last event of at most so many equal stretches of time."""
    seconds = [event.seconds for event in history]
    begin, end = seconds[0], seconds[-1]
    count = min(count, len(history) - 1)
    found: list[tuple[Progress, Progress]] = []
    then = history[0]
    for number in range(1, count + 1):
        now = history[min(bisect_left(seconds, begin + (end - begin) * number / count), len(history) - 1)]
        if now.seconds > then.seconds:
            found.append((then, now))
            then = now
    return found


def rates_of(history: Sequence[Progress]) -> tuple[list[float], list[float]]:
    """The ends of at most WINDOWS equal stretches of time, and the items a second in each."""
    found = windows(history, WINDOWS)
    rates = [(now.done - then.done) / (now.seconds - then.seconds) for then, now in found]
    return [now.seconds for _, now in found], rates

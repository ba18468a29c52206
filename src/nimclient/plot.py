"""Pictures of what a call over many items did, from the Progress records that its `on_progress` was called with.

Drawing needs matplotlib (`pip install nimclient[plot]`), which is imported when something is drawn.
"""

# pyright: reportUnknownMemberType=false
# matplotlib's own types leave the keyword arguments of what it draws open

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from nimclient.errors import ConfigurationError
from nimclient.records.progress import Progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["pacing"]

WINDOWS = 60  # points of the line of throughput


def pacing(events: Iterable[Progress], *, title: str | None = None) -> Figure:
    """Draw how many requests were in flight and how many might be, with refusals marked, above items a second.

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
    marked = refused(history)
    if marked:
        axes.scatter(
            [event.seconds for event, _ in marked],
            [event.limit or 0 for event, _ in marked],
            [12 + 6 * min(count, 40) for _, count in marked],
            color="tab:red",
            marker="x",
            zorder=3,
            label=f"refusals ({history[-1].refusals} of {history[-1].requests} requests)",
        )
    axes.set(ylabel="requests", ylim=(0, None))
    axes.legend(loc="best")


def refused(history: Sequence[Progress]) -> list[tuple[Progress, int]]:
    """The events before which requests were refused, and how many."""
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

"""Latency and throughput: over the levels of a benchmark, over the time of a call, or of one job beside the other."""

# pyright: reportUnknownMemberType=false
# matplotlib's own types leave the keyword arguments of what it draws open

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nimclient.errors import ConfigurationError
from nimclient.plot._figure import new_figure, save
from nimclient.plot._progress import ROWS, WINDOWS, windows
from nimclient.plot._source import Measured, Series, events_of, level_values, objects_of, runs_of
from nimclient.plot._text import shaded_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LATENCIES = {
    "time_to_first_token": "time to first token (ms)",
    "inter_token_latency": "inter token latency (ms)",
    "request_latency": "request latency (ms)",
}
_THROUGHPUTS = {
    "request_throughput": "requests/s",
    "output_token_throughput": "output tokens/s",
    "input_token_throughput": "input tokens/s",
}
_PERCENTILES = ("p50", "p90", "p99")


def latency(measured: Measured, *, title: str | None = None, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw latencies: of a benchmark by concurrency (p50, p90, p99), of a call over many items by time (p50, p95).

    `measured` is what ``nimclient bench --json`` prints, or events of progress as `pacing` takes them, or the name of a
    file of either. `path` saves it, by its ending: .png, .svg or .pdf. Returns a Figure.

    Raises ConfigurationError where matplotlib is not installed, and for what has no latencies.
    """
    return _draw(_latencies(measured, WINDOWS), title, path, "latency_table")


def throughput(measured: Measured, *, title: str | None = None, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw requests and tokens a second: of a benchmark by concurrency, of a call by time, of the reports of jobs by run.

    `measured` is what `latency` takes, or reports of jobs (`JobReport`, or their JSON objects).

    Raises ConfigurationError where matplotlib is not installed, and for what has no throughput.
    """
    return _draw(_throughputs(measured, WINDOWS), title, path, "throughput_table")


def benchmark(measured: Measured, *, title: str | None = None, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw latency and throughput in one picture: what ``nimclient bench --plot FILE`` saves."""
    upper, lower = _latencies(measured, WINDOWS), _throughputs(measured, WINDOWS)
    both = Series(
        upper.x_label, upper.x, {**upper.lines, **lower.lines}, {**upper.values, **lower.values}, upper.discrete
    )
    return _draw(both, title, path, "latency_table")


def latency_table(measured: Measured) -> str:
    """What `latency` draws as text for a terminal, each number with a shade of its size; needs nothing installed."""
    return _table(_latencies(measured, ROWS))


def throughput_table(measured: Measured) -> str:
    """What `throughput` draws as text for a terminal, each number with a shade of its size; needs nothing installed."""
    return _table(_throughputs(measured, ROWS))


def _latencies(measured: Measured, points: int) -> Series:
    """ConfigurationError for what has none."""
    objects = objects_of(measured)
    found = runs_of(objects)
    if found is None:
        ends = [now for _, now in windows(events_of(objects), points)]
        title, names = "request latency (ms)", ("p50", "p95")
        values = [[_milliseconds(now.latency_p50), _milliseconds(now.latency_p95)] for now in ends]
        return Series("seconds", [now.seconds for now in ends], {title: names}, {title: values}, discrete=False)
    runs, x_label = found
    values_of = {title: level_values(runs, name, _PERCENTILES) for name, title in _LATENCIES.items()}
    values_of = {title: rows for title, rows in values_of.items() if any(row[0] is not None for row in rows)}
    if not values_of:
        raise ConfigurationError("there are no latencies in this")
    return Series(x_label, _places(runs, x_label), dict.fromkeys(values_of, _PERCENTILES), values_of)


def _throughputs(measured: Measured, points: int) -> Series:
    objects = objects_of(measured)
    found = runs_of(objects)
    values: dict[str, list[list[float | None]]]
    if found is None:
        stretches = windows(events_of(objects), points)
        spans = [now.seconds - then.seconds for then, now in stretches]
        values = {
            "items/s": [[(now.done - then.done) / s] for (then, now), s in zip(stretches, spans, strict=True)],
            "tokens/s": [
                [None if now.tokens is None or then.tokens is None else (now.tokens - then.tokens) / s]
                for (then, now), s in zip(stretches, spans, strict=True)
            ],
        }
        places = [now.seconds for _, now in stretches]
        return Series("seconds", places, dict.fromkeys(values, ("",)), values, discrete=False)
    runs, x_label = found
    if x_label == "run":
        seconds = [max(run["seconds"], 1e-9) for run in runs]
        rows = [run["succeeded"] + run["failed"] - run["resumed"] for run in runs]
        values = {
            "items/s": [[count / s] for count, s in zip(rows, seconds, strict=True)],
            "tokens/s": [
                [None if run["tokens"] is None else run["tokens"] / s] for run, s in zip(runs, seconds, strict=True)
            ],
        }
    else:
        values = {title: level_values(runs, name, ("avg",)) for name, title in _THROUGHPUTS.items()}
    values = {title: rows for title, rows in values.items() if any(row[0] for row in rows)}
    return Series(x_label, _places(runs, x_label), dict.fromkeys(values, ("",)), values)


def _places(runs: Sequence[Any], x_label: str) -> list[float]:
    return [run[x_label] for run in runs] if x_label == "concurrency" else [float(n + 1) for n in range(len(runs))]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _draw(series: Series, title: str | None, path: str | os.PathLike[str] | None, table: str) -> Figure:
    count = len(series.lines)
    across = 1 if count == 1 else 2 if count in (2, 4) else 3
    down = -(-count // across)
    figure = new_figure(1 + 4 * across, 1 + 3 * down, table)
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, name in zip(panels, series.lines, strict=False):
        _draw_panel(axes, series, name)
    for axes in panels[count:]:
        axes.set_visible(False)
    if title is not None:
        figure.suptitle(title)
    return save(figure, path)


def _draw_panel(axes: Axes, series: Series, name: str) -> None:
    places = range(len(series.x)) if series.discrete else series.x
    for line, label in enumerate(series.lines[name]):
        values = [row[line] for row in series.values[name]]
        numbers = [float("nan") if value is None else value for value in values]
        axes.plot(places, numbers, marker="o" if series.discrete else "", label=label)
    if series.discrete:
        axes.set_xticks(range(len(series.x)), [f"{place:g}" for place in series.x])
    largest = max((value for row in series.values[name] for value in row if value is not None), default=0.0)
    axes.set(title=name, xlabel=series.x_label, ylim=(0, 1.15 * largest or 1.0))
    axes.grid(alpha=0.3)
    if len(series.lines[name]) > 1:
        axes.legend(loc="best")


def _table(series: Series) -> str:
    """A table for each title with several lines, and one for all those with one."""
    single = [title for title, names in series.lines.items() if len(names) == 1]
    tables = [_columns(series, [title], names) for title, names in series.lines.items() if title not in single]
    return "\n\n".join([*tables, *([_columns(series, single, single)] if single else [])])


def _columns(series: Series, titles: Sequence[str], heads: Sequence[str]) -> str:
    rows: list[list[float | None]] = []
    for number, place in enumerate(series.x):
        rows.append([place, *(value for title in titles for value in series.values[title][number])])
    groups = range(len(heads)) if list(heads) == list(titles) else [0] * len(heads)
    table = shaded_table([series.x_label, *heads], rows, groups)
    return table if list(heads) == list(titles) else f"{titles[0]}\n{table}"

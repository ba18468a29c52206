"""The live table of a running job, for terminals. Importing it needs rich."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nimclient.cli.figures import Rates, RecentRates, amount, clock, latency
from nimclient.cli.text import printable
from nimclient.records import Progress

FRAME_SECONDS = 0.25
BAR_WIDTH = 30
BESIDE_BAR = 52  # "1,234,567 of 9,999,999 texts (12.3 %)  0:12:34 left"


class LiveTable:
    """Redrawn in place a few times a second; the final message is printed below its last state."""

    interval = FRAME_SECONDS

    def __init__(self, console: Console, label: str, unit: str, subject: Callable[[], str] = str) -> None:
        self._console = console
        self._label = label
        self._unit = unit
        self._subject = subject
        self._pace = RecentRates()
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._live.start()

    @classmethod
    def on(cls, stream: TextIO, label: str, unit: str, subject: Callable[[], str] = str) -> Self:
        """A table on a terminal."""
        return cls(Console(file=stream, highlight=False), label, unit, subject)

    def show(self, progress: Progress | None, seconds: float) -> None:
        """Redraw the table."""
        rates = None if progress is None else self._pace.rates(progress, seconds)
        width = min(BAR_WIDTH, max(self._console.width - BESIDE_BAR, 5))
        table = drawn(self._label, self._unit, progress, rates, seconds, width)
        if progress is not None and (subject := self._subject()):
            table = Group(Text(printable(subject), style="dim", no_wrap=True, overflow="ellipsis"), table)
        self._live.update(table, refresh=True)

    def message(self, kind: str, text: str, facts: Mapping[str, Any]) -> None:
        """Print a line."""
        self._console.print(Text(printable(text)))

    def close(self) -> None:
        """Keep the last state on the screen."""
        self._live.stop()


def drawn(
    label: str, unit: str, progress: Progress | None, rates: Rates | None, seconds: float, width: int = BAR_WIDTH
) -> Group:
    """A heading, a bar and two pairs of columns."""
    heading = Text.assemble((printable(label), "bold"), f"  {clock(seconds)}")
    if progress is None or rates is None:
        return Group(heading, Text("starting: reading the source and finding the model", style="dim"))
    rest = "" if rates.eta is None else f"  {clock(rates.eta)} left"
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=progress.total or None, completed=progress.done, width=width, pulse=progress.total is None),
        Text(f"{amount(progress, unit)}{rest}"),
    )
    return Group(heading, bar, _numbers(unit, progress, rates))


def _numbers(unit: str, progress: Progress, rates: Rates) -> Table:
    table = Table.grid(padding=(0, 2))
    for style in ("dim", "cyan", "dim", "cyan"):
        table.add_column(style=style, justify="right" if style == "cyan" else "left", min_width=8)
    rows = (
        (f"{unit}/s", f"{rates.texts:,.0f}", "in flight", str(progress.in_flight)),
        (
            "tokens/s",
            "–" if rates.tokens is None else f"{rates.tokens:,.0f}",
            "limit",
            "–" if progress.limit is None else str(progress.limit),
        ),
        ("requests", f"{progress.requests:,}", "throttled", f"{progress.refusals:,}"),
        ("failed", f"{progress.failed:,}", "retries", f"{progress.retries:,}"),
        ("p50", latency(progress.latency_p50), "p95", latency(progress.latency_p95)),
    )
    for left, value, right, other in rows:
        failing = left == "failed" and progress.failed
        table.add_row(left, Text(value, style="bold red" if failing else ""), right, other)
    return table

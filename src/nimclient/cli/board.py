"""What is seen of a running job: a live table on a terminal, else a line every few seconds, or events for machines.

A board is shown the latest Progress now and then (`interval` seconds apart), and at the end how it went.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from attrs import frozen

from nimclient.cli.show import printable
from nimclient.records import Progress

PACE_SECONDS = 15.0
LINE_SECONDS = 5.0
EVENT_SECONDS = 1.0


@frozen
class Rates:
    """How fast it goes just now, a second; `eta` is in seconds, None where nothing comes or the total is unknown."""

    texts: float
    tokens: float
    eta: float | None


class Pace:
    """The rates of the last seconds: what a person who watches wants to know. A Progress has those of the whole run."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def rates(self, progress: Progress, seconds: float) -> Rates:
        """After `seconds`, having been asked before."""
        seen = self._seen
        if not seen:
            seen.append((seconds - progress.seconds, progress.resumed, 0))  # when the run began
        seen.append((seconds, progress.done, progress.tokens))
        while len(seen) > 2 and seen[1][0] <= seconds - PACE_SECONDS:
            seen.popleft()
        since, done, tokens = seen[0]
        passed = max(seconds - since, 1e-3)
        texts = (progress.done - done) / passed
        left = None if progress.total is None else max(progress.total - progress.done, 0)
        eta = None if left is None or (left and not texts) else left / texts if left else 0.0
        return Rates(texts, (progress.tokens - tokens) / passed, eta)


class Board(Protocol):
    """Shows how a job goes."""

    interval: float

    def show(self, progress: Progress | None, seconds: float) -> None:
        """How far it is, `seconds` after its start; None before anything has come of it."""
        ...

    def message(self, kind: str, text: str, facts: Mapping[str, Any]) -> None:
        """What is to be said at the end: a line for people; for machines an event of that kind, with the facts."""
        ...

    def close(self) -> None:
        """Show nothing more of the progress."""
        ...


class Lines:
    """A line every few seconds: for files and pipes, and for terminals without rich."""

    interval = LINE_SECONDS

    def __init__(self, stream: TextIO, label: str, unit: str) -> None:
        self._stream = stream
        self._label = label
        self._unit = unit
        self._pace = Pace()

    def show(self, progress: Progress | None, seconds: float) -> None:
        """One line."""
        if progress is None:
            self._say(f"{self._label}: starting ({clock(seconds)})")
        else:
            self._say(f"{self._label}: {sentence(progress, self._pace.rates(progress, seconds), self._unit)}")

    def message(self, kind: str, text: str, facts: Mapping[str, Any]) -> None:
        """The text."""
        self._say(text)

    def _say(self, text: str) -> None:
        self._stream.write(f"{printable(text)}\n")
        self._stream.flush()

    def close(self) -> None:
        """There is nothing to take away."""


class Events:
    """A JSON object a line: {"event": "progress", …} about once a second, at the end another one."""

    interval = EVENT_SECONDS

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: Progress | None = None

    def show(self, progress: Progress | None, seconds: float) -> None:
        """All of a Progress, once."""
        if progress is not None and progress is not self._last:
            self._last = progress
            self._say({"event": "progress", **progress.to_dict()})

    def message(self, kind: str, text: str, facts: Mapping[str, Any]) -> None:
        """An event of its own kind."""
        self._say({"event": kind, "text": text, **facts})

    def _say(self, value: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(value) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """There is nothing to take away."""


def board_for(stream: TextIO, label: str, unit: str) -> Board:
    """For people: a live table on a terminal where rich is installed, else lines."""
    if stream.isatty():
        try:
            from nimclient.cli.board_rich import LiveTable
        except ImportError:
            pass
        else:
            return LiveTable.on(stream, label, unit)
    return Lines(stream, label, unit)


def sentence(progress: Progress, rates: Rates, unit: str) -> str:
    """How far it is, in one line."""
    parts = [
        amount(progress, unit),
        f"{rates.texts:,.0f} {unit}/s",
        f"{rates.tokens:,.0f} tokens/s",
        f"{in_flight(progress)} in flight",
        f"p50 {latency(progress.latency_p50)}, p95 {latency(progress.latency_p95)}",
    ]
    for number, name in ((progress.failed, "failed"), (progress.refusals, "throttled"), (progress.retries, "retried")):
        if number:
            parts.append(f"{number:,} {name}")
    if rates.eta is not None:
        parts.append(f"{clock(rates.eta)} left")
    return ", ".join(parts)


def amount(progress: Progress, unit: str) -> str:
    """How many are done, of how many if that is known."""
    if progress.total is None:
        return f"{progress.done:,} {unit}"
    return f"{progress.done:,} of {progress.total:,} {unit} ({percent(progress)})"


def percent(progress: Progress) -> str:
    """The share that is done; 100 % only when all is."""
    if not progress.total or progress.done >= progress.total:
        return "100 %"
    return f"{min(progress.done / progress.total, 0.999) * 100:.1f} %"


def in_flight(progress: Progress) -> str:
    """Requests in flight, and the limit if there is one."""
    return f"{progress.in_flight}" + (f" of {progress.limit}" if progress.limit is not None else "")


def latency(seconds: float | None) -> str:
    """A latency in milliseconds, a long one in seconds."""
    if seconds is None:
        return "–"
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"

"""What is seen of a running job: a live table on a terminal, else a line every few seconds, or events for machines.

A board is shown the latest Progress now and then (`interval` seconds apart), and at the end how it went.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from nimclient.cli.figures import RecentRates, clock, sentence
from nimclient.cli.text import printable
from nimclient.records import Progress

LINE_SECONDS = 5.0
EVENT_SECONDS = 1.0


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
        self._pace = RecentRates()

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

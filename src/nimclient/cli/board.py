"""Displays a running job: a live table on a terminal, else a line every few seconds, or JSON events.

A board gets the latest Progress every `interval` seconds, and the result at the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

from nimclient.cli.figures import RecentRates, clock, sentence
from nimclient.cli.text import is_screen, printable
from nimclient.records import Progress

LINE_SECONDS = 5.0
EVENT_SECONDS = 1.0


class Board(Protocol):
    """Displays the progress of a job."""

    interval: float

    def show(self, progress: Progress | None, seconds: float) -> None:
        """Show the progress `seconds` after the start; None before the first one."""
        ...

    def message(self, kind: str, text: str, facts: Mapping[str, Any]) -> None:
        """Show the final message: a line of text, or an event of this kind with the facts."""
        ...

    def close(self) -> None:
        """Stop showing progress."""
        ...


class Lines:
    """A line every few seconds: for files and pipes, and for terminals without rich."""

    interval = LINE_SECONDS

    def __init__(self, stream: TextIO, label: str, unit: str, subject: Callable[[], str] = str) -> None:
        self._stream = stream
        self._subject = subject
        self._introduced = False
        self._label = label
        self._unit = unit
        self._pace = RecentRates()

    def show(self, progress: Progress | None, seconds: float) -> None:
        """Print one line."""
        if progress is None:
            self._say(f"{self._label}: starting ({clock(seconds)})")
        else:
            if not self._introduced and (subject := self._subject()):
                self._say(f"{self._label}: {subject}")
            self._introduced = True
            self._say(f"{self._label}: {sentence(progress, self._pace.rates(progress, seconds), self._unit)}")

    def message(self, kind: str, text: str, facts: Mapping[str, Any]) -> None:
        """Print the text."""
        self._say(text)

    def _say(self, text: str) -> None:
        self._stream.write(f"{printable(text)}\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing to clean up."""


class Events:
    """One JSON object per line: {"event": "progress", …} about once a second, and another event at the end."""

    interval = EVENT_SECONDS

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: Progress | None = None

    def show(self, progress: Progress | None, seconds: float) -> None:
        """Print each Progress once."""
        if progress is not None and progress is not self._last:
            self._last = progress
            self._say({"event": "progress", **progress.to_dict()})

    def message(self, kind: str, text: str, facts: Mapping[str, Any]) -> None:
        """Print an event of this kind."""
        self._say({"event": kind, "text": text, **facts})

    def _say(self, value: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(value) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing to clean up."""


def board_for(stream: TextIO, label: str, unit: str, subject: Callable[[], str] = str) -> Board:
    """The board for people: a live table on a screen if rich is installed, else lines."""
    if is_screen(stream):
        try:
            from nimclient.cli.board_rich import LiveTable
        except ImportError:
            pass
        else:
            return LiveTable.on(stream, label, unit, subject)
    return Lines(stream, label, unit, subject)

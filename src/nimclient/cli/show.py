"""Human-readable output: lines, search hits, streamed text, tables and progress, on one stream.

`Plain` writes aligned text and a line of progress every few seconds. If the stream is a screen and rich is
installed, `writer_for` returns the writer of `show_rich` instead.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TextIO

from nimclient.cli.text import MARKS, NAME_WIDTH, Advance, Hit, Writer, are_numbers, is_screen, printable

PROGRESS_SECONDS = 2.0
MARKDOWN_WIDTH = 20
"""Columns below which Markdown loses words: the cells of a table, the lines of code."""


class Plain:
    """Aligned text: for pipes and files, and for terminals without rich."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._screen = is_screen(stream)
        self._controls = not self._terminal and stream is not sys.stderr  # a log is read on a terminal, too

    @property
    def can_dim(self) -> bool:
        """See Writer."""
        return self._screen

    def aside(self, text: str) -> None:
        """Text, dimmed on a screen."""
        if self._screen:
            self._stream.write(f"\x1b[2m{printable(text)}\x1b[0m")
            self._stream.flush()
        else:
            self.piece(text)

    def line(self, text: str = "") -> None:
        """One line."""
        self.piece(f"{text}\n")

    def heading(self, text: str) -> None:
        """One line with an empty one above."""
        self.line(f"\n{text}")

    def piece(self, text: str) -> None:
        """Text unchanged; on a terminal and on standard error without control characters."""
        self._stream.write(text if self._controls else printable(text))
        self._stream.flush()

    def hits(self, hits: Sequence[Hit]) -> None:
        """Score, name and first line in columns."""
        width = max((len(hit.name) for hit in hits), default=0)
        for hit in hits:
            self.line(f"  {hit.score:.3f}  {hit.name:<{width}}  {hit.summary}")

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Two columns, the second aligned to the right."""
        left, right = (max(map(len, column)) for column in zip(*rows, strict=True))
        for name, value in rows:
            self.line(f"  {name:<{left}}  {value:>{right}}")

    def columns(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, in_pipes: bool = False) -> None:
        """Columns as wide as their widest cell; headings on a terminal only, unless `in_pipes`."""
        shown = [header, *rows] if self._terminal or in_pipes else list(rows)
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        aligned = [str.rjust if are_numbers(column) else str.ljust for column in zip(*rows, strict=True)]
        for row in shown:
            cells = (align(cell, width) for align, cell, width in zip(aligned, row, widths, strict=True))
            self.line("  ".join(cells).rstrip())

    def finding(self, state: str, name: str, text: str, remedy: str) -> None:
        """State and name in columns."""
        self.line(f"  {MARKS[state]:<6}  {name:<{NAME_WIDTH}}  {text}")
        if remedy:
            self.line(f"  {'':<6}  {'':<{NAME_WIDTH}}  → {remedy}")

    @contextmanager
    def progress(self, label: str, unit: str) -> Generator[Advance]:
        """A line every few seconds, and one at the end."""
        started = last = self._clock()
        shown = -1

        def advance(done: int, total: int) -> None:
            nonlocal last, shown
            now = self._clock()
            if done == total or now - last >= PROGRESS_SECONDS:
                last, shown = now, done
                self.line(progress_line(label, unit, done, total, now - started))

        yield advance


def writer_for(stream: TextIO) -> Writer:
    """A writer for this stream: rich on a screen if it is installed, else plain."""
    if is_screen(stream):
        try:
            from nimclient.cli.show_rich import Rich
        except ImportError:
            pass
        else:
            return Rich.on(stream)
    return Plain(stream)


def answer_writer(stream: TextIO) -> Writer:
    """A writer for the answer of a model: its Markdown is rendered by rich on a screen of some width, else unchanged."""
    if is_screen(stream) and shutil.get_terminal_size().columns >= MARKDOWN_WIDTH:
        try:
            from nimclient.cli.show_rich import MarkdownWriter
        except ImportError:
            pass
        else:
            return MarkdownWriter.on(stream)
    return writer_for(stream)


def progress_line(label: str, unit: str, done: int, total: int, seconds: float) -> str:
    """The progress as text."""
    rate = f", {done / seconds:,.0f} {unit}/s" if seconds > 0 else ""
    return f"{label}: {done:,} of {total:,} {unit}{rate}"

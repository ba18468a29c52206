"""Shared by all writers of the command line: their protocol, search hits, and text without terminal control."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TextIO

from attrs import frozen

MARKS = {"ok": "ok", "note": "–", "failed": "FAILED"}


NAME_WIDTH = 10


Advance = Callable[[int, int], None]
"""Called with the number done, and the total."""


@frozen
class Hit:
    """One search result: the name of the text, its cosine with the query, and its first line."""

    name: str
    score: float
    summary: str


class Writer(Protocol):
    """Writes to one stream."""

    @property
    def can_dim(self) -> bool:
        """Whether secondary text looks different: on a screen it is dimmed."""
        ...

    def aside(self, text: str) -> None:
        """Secondary text, like `piece`: dimmed on a terminal."""
        ...

    def line(self, text: str = "") -> None:
        """One line."""
        ...

    def heading(self, text: str) -> None:
        """A heading, with an empty line above."""
        ...

    def piece(self, text: str) -> None:
        """Text as it comes, at once and without a line break."""
        ...

    def hits(self, hits: Sequence[Hit]) -> None:
        """Search results, one a line."""
        ...

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Two columns: names and values."""
        ...

    def columns(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, in_pipes: bool = False) -> None:
        """A list with a heading for each column, one row per line. `in_pipes`: headings there as well."""
        ...

    def finding(self, state: str, name: str, text: str, remedy: str) -> None:
        """A result ("ok", "note", "failed") on one line, and its remedy on another."""
        ...

    def progress(self, label: str, unit: str) -> AbstractContextManager[Advance]:
        """Show progress during the block."""
        ...


def is_screen(stream: TextIO) -> bool:
    """Whether a stream is a terminal with colors that can redraw what it shows; a dumb one, as in Emacs, cannot."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


_NUMBER = re.compile(r"[\d,.]+%?|–")


def are_numbers(cells: Sequence[str]) -> bool:
    """Whether a column of a table is one of numbers, which are aligned to the right."""
    return bool(cells) and all(map(_NUMBER.fullmatch, cells))


_BIDI = (
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)  # embeddings, overrides and isolates reorder the surrounding text
_CONTROLS = {code: None for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), *_BIDI) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Text without control characters other than line breaks and tabs, and without those that change its direction."""
    return text.translate(_CONTROLS)

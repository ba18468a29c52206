"""The same with rich, for terminals: colors, a live progress bar, a framed table. Importing it needs rich."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Self, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.live import Live
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from nimclient.cli.text import MARKS, NAME_WIDTH, Advance, Hit, are_numbers, printable

_COLOURS = {"ok": "green", "note": "dim", "failed": "bold red"}
_AFTER_SPACE = re.compile(r"(?<=\s)")


class Rich:
    """Writes to one rich console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._word = ""  # the beginning of a possibly incomplete word
        self._column = 0

    @classmethod
    def on(cls, stream: TextIO) -> Self:
        """A writer for a terminal."""
        return cls(Console(file=stream, highlight=False))

    @property
    def can_dim(self) -> bool:
        """See Writer."""
        return self._console.is_terminal

    def aside(self, text: str) -> None:
        """Text as it comes, dimmed, wrapped between words."""
        self._flow(text, "dim")

    def line(self, text: str = "") -> None:
        """One line, wrapped between words; it ends the pieces before it."""
        self._write(self._word)
        self._word = ""
        self._column = 0
        self._console.print(Text(printable(text)))

    def heading(self, text: str) -> None:
        """One bold line with an empty one above."""
        self._console.print(Text(f"\n{printable(text)}", style="bold"))

    def piece(self, text: str) -> None:
        """Text as it comes, wrapped between words."""
        self._flow(text, "")

    def _flow(self, text: str, style: str) -> None:
        """Write what is whole; a word that may go on is held back."""
        *whole, self._word = _AFTER_SPACE.split(self._word + printable(text).expandtabs(4))
        for word in whole:
            self._write(word, style)
        self._console.file.flush()

    def _write(self, word: str, style: str = "") -> None:
        """Write a word and the white space after it, on a new line if it does not fit."""
        letters = word.rstrip()
        if self._column and self._column + cell_len(letters) > self._console.width:
            self._put("\n")
            self._column = 0
        self._column += cell_len(word)
        if word.endswith("\n") or self._column > self._console.width:
            word = f"{letters}\n"
            self._column = 0
        self._put(word, style)

    def _put(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), end="", soft_wrap=True)

    def hits(self, hits: Sequence[Hit]) -> None:
        """Score, name and first line in columns, each cut to one line."""
        width = max((len(hit.name) for hit in hits), default=0)
        for hit in hits:
            name, summary = printable(f"{hit.name:<{width}}"), printable(hit.summary)
            text = Text.assemble((f"  {hit.score:.3f}", "cyan"), "  ", (name, "green"), "  ", summary)
            text.truncate(self._console.width, overflow="ellipsis")
            self._console.print(text)

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """A framed table of two columns."""
        table = Table(box=box.ROUNDED, show_header=False)
        table.add_column()
        table.add_column(justify="right", style="cyan")
        for name, value in rows:
            table.add_row(Text(printable(name)), Text(printable(value)))
        self._console.print(table)

    def columns(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, in_pipes: bool = False) -> None:
        """A table with headings; long cells are wrapped."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name, cells in zip(header, zip(*rows, strict=True), strict=True):
            table.add_column(name, overflow="fold", justify="right" if are_numbers(cells) else "left")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self._console.print(table)

    def finding(self, state: str, name: str, text: str, remedy: str) -> None:
        """State and name in columns, the text wrapped beside them."""
        line = Text.assemble((f"{MARKS[state]:<6}  ", _COLOURS[state]), f"{name:<{NAME_WIDTH}}")
        words = Text(printable(text))
        if remedy:
            words.append(f"\n→ {printable(remedy)}", style="bold")
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_row(Text.assemble("  ", line), words)
        self._console.print(grid)

    @contextmanager
    def progress(self, label: str, unit: str) -> Generator[Advance]:
        """A bar with counts, rate and remaining time; it stays on the screen."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(f"{unit} {{task.fields[rate]}}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(label, total=None, rate="")

            def advance(done: int, total: int) -> None:
                seconds = bar.tasks[0].elapsed
                bar.update(task, completed=done, total=total, rate=f"({done / seconds:,.0f}/s)" if seconds else "")

            yield advance


_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.M)
_BLANK = re.compile(r"\n[ \t]*\n")


def end_of_block(text: str) -> int | None:
    """The end of the first block of Markdown: after a blank line outside a fence; None while it may continue."""
    fence = _FENCE.search(text)
    blank = _BLANK.search(text)
    while blank is not None:
        if fence is None or blank.start() < fence.start():
            return blank.end()
        closing = re.compile(rf"^ {{0,3}}{fence[1]}[`~]*[ \t]*$", re.M).search(text, fence.end())
        if closing is None:
            return None
        fence = _FENCE.search(text, closing.end())
        blank = _BLANK.search(text, closing.end())
    return None


class _Tail:
    """The last lines of something, as many as the screen has: a terminal cannot redraw those above, and shows them twice."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._whole, options, pad=False)
        for line in lines[-max(console.height - 1, 1) :]:
            yield from line
            yield Segment.line()


class MarkdownWriter(Rich):
    """Renders Markdown that comes in pieces: a block is redrawn as it grows, and final when the next one begins."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._block = ""
        self._live: Live | None = None

    def piece(self, text: str) -> None:
        """A piece of Markdown."""
        self._block += printable(text)
        while (end := end_of_block(self._block)) is not None:
            self._finish(self._block[:end])
            self._block = self._block[end:]
        if self._block.strip():
            self._draw(self._block)

    def line(self, text: str = "") -> None:
        """End the Markdown, and print a line."""
        if text:
            self.piece(text)
        if self._block.strip():
            self._finish(self._block)
        self._block = ""

    def _draw(self, block: str, *, is_final: bool = False) -> None:
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=8)
            self._live.start()
        whole = Constrain(Markdown(block), self._console.width - 2)  # room for the ^C that a terminal echoes
        self._live.update(whole if is_final else _Tail(whole))

    def _finish(self, block: str) -> None:
        self._draw(block, is_final=True)
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._console.print()

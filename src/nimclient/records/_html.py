"""Records as tables: HTML for notebooks, plain text for terminals."""

from __future__ import annotations

from collections.abc import Sequence

MAX_ROWS = 10
_MOST_TEXT = 80


def html_table(head: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> str:
    """A table of the first rows; every text in it is escaped, and a long one cut."""
    from html import escape

    lines = [f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>"] if head else []
    lines += [f"<tr>{''.join(f'<td>{escape(_cell(value))}</td>' for value in row)}</tr>" for row in rows[:MAX_ROWS]]
    return f"<table><caption>{escape(caption)}{escape(_more(rows))}</caption>{''.join(lines)}</table>"


def text_table(head: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> str:
    """The same as text in columns."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows[:MAX_ROWS])]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n  ".join([f"{caption}{_more(rows)}", *lines])


def _more(rows: Sequence[object]) -> str:
    return f" (the first {MAX_ROWS})" if len(rows) > MAX_ROWS else ""


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"

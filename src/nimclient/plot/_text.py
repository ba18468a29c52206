"""Tables for terminals: every number with a shade of its size."""

from __future__ import annotations

from collections.abc import Sequence

_SHADES = " ░▒▓█"


def shade(share: float) -> str:
    """A character that is the darker the nearer a share is to 1; none for NaN."""
    return _SHADES[0] if share != share else _SHADES[min(max(int(share * len(_SHADES)), 0), len(_SHADES) - 1)]


def shaded_table(heads: Sequence[str], rows: Sequence[Sequence[float | None]], groups: Sequence[int]) -> str:
    """A heading, then rows; all but the first column are shaded by the largest number of their group."""
    largest: dict[int, float] = {}
    for row in rows:
        for value, group in zip(row[1:], groups, strict=True):
            largest[group] = max(largest.get(group, 0.0), value or 0.0)
    cells = [
        [_number(row[0]), *(_cell(value, largest[group]) for value, group in zip(row[1:], groups, strict=True))]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)).rstrip() for line in [heads, *cells])


def _cell(value: float | None, largest: float) -> str:
    return f"{shade(0.0 if value is None or not largest else value / largest)} {_number(value)}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}" if value >= 1 else f"{value:.3f}"

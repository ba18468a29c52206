"""What the pictures of the guide share: their colors, light and dark, and the SVG around what is drawn."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

WIDTH, MARGIN = 760, 20
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 } .note { font-size: 11px }
rect, circle { fill: #afb8c1 } line { stroke: #1f2328 } .ours { fill: #76b900 } .gap { fill: #d1242f; opacity: 0.2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } rect, circle { fill: #59636e } line { stroke: #e6edf3 }
.ours { fill: #76b900 } .gap { fill: #d1242f } }
"""


def drawn(title: str, lines: Iterable[str], height: float) -> str:
    """A picture as SVG, as wide as a page of the guide."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">'
    return "\n".join([head, f"<title>{title}</title>", f"<style>{STYLE}</style>", *lines, "</svg>", ""])


def keep(figures: Any, results: Path, picture: str, place: Path) -> None:
    """Keep the figures of a picture as JSON, and the picture."""
    results.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
    place.write_text(picture, encoding="utf-8")


def text(words: str, x: float, y: float, *, note: bool = True, right: bool = False) -> str:
    """Words of the picture, small ones as a rule; `right`: they end at x."""
    kind, anchor = ' class="note"' if note else "", ' text-anchor="end"' if right else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}"{anchor}>{words}</text>'


def shares(seconds: Sequence[float], longest: float, count: int) -> list[float]:
    """The share of times within each of so many equal steps up to `longest`; the last step has those above it, too."""
    counts = [0] * count
    for each in seconds:
        counts[min(int(count * each / longest), count - 1)] += 1
    return [one / len(seconds) for one in counts]


def bars(heights: Sequence[float], left: float, bottom: float, *, ours: bool) -> list[str]:
    """Bars side by side from x = `left` to the margin on the right, none for 0. `ours`: in our color."""
    kind, step = ' class="ours"' if ours else "", (WIDTH - left - MARGIN) / len(heights)
    return [
        f'<rect{kind} x="{left + place * step:.1f}" y="{bottom - height:.1f}" width="{step - 2:.1f}" height="{height:.1f}"/>'
        for place, height in enumerate(heights)
        if height
    ]

"""The picture of speed in the README: `python -m benchmarks.picture RESULTS.json` keeps the summaries and draws them.

Results are what `nox -s bench` wrote. The summaries go to benchmarks/published.json, the picture to docs/_static/speed.svg;
without a file it is drawn again from the summaries that are kept.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import orjson

PUBLISHED = Path(__file__).parent / "published.json"
PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "speed.svg"
PANELS = {
    "chat-32": "a chat request, 32 in flight (µs)",
    "stream": "a token of a stream (µs)",
    "documents-64": "an embedding of 1024 numbers, 32 in flight (µs)",
}
WIDTH, LABELS, BAR, GAP, TITLE = 760, 190, 18, 6, 34
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 } .note { font-size: 11px }
rect { fill: #afb8c1 } .ours { fill: #76b900 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } rect { fill: #59636e } .ours { fill: #76b900 } }
"""


def kept(document: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of the results: machine, settings, and the summaries of the three scenarios that are drawn."""
    summaries = [summary for summary in document["summaries"] if summary["scenario"] in PANELS and summary["cpu"]]
    return {"machine": document["machine"], "options": document["options"], "summaries": summaries}


def picture(document: Mapping[str, Any]) -> str:
    """The picture as SVG: a panel for each scenario, a bar for each client, the shortest first."""
    lines: list[str] = []
    top = 0
    for scenario, title in PANELS.items():
        bars = [(s["peer"], s["cpu"]["median"]) for s in document["summaries"] if s["scenario"] == scenario]
        lines.append(f'<text class="title" x="0" y="{top + 20}">CPU of the client for {escape(title)}</text>')
        lines += panel(sorted(bars, key=lambda bar: bar[1]), top + TITLE)
        top += TITLE + len(bars) * (BAR + GAP) + 10
    machine, options = document["machine"], document["options"]
    busy = ", on a busy machine" if any(summary["shared"] for summary in document["summaries"]) else ""
    note = (
        f"{machine['cpu']}, {machine['python']}, {options['started_at'][:10]}, medians of {options['runs']} runs{busy}"
    )
    lines.append(
        f'<text class="note" x="0" y="{top + 14}">{escape(note)}; floor: a hand-written loop over aiohttp</text>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 24}" width="{WIDTH}" role="img">'
    alternative = "<title>CPU time of nimclient beside a hand-written loop and other clients</title>"
    return "\n".join([head, alternative, f"<style>{STYLE}</style>", *lines, "</svg>", ""])


def panel(bars: Sequence[tuple[str, float]], top: int) -> Iterator[str]:
    """One bar a client."""
    longest = max(value for _, value in bars)
    for row, (peer, value) in enumerate(bars):
        y = top + row * (BAR + GAP)
        width = max((WIDTH - LABELS - 70) * value / longest, 1)
        ours = ' class="ours"' if peer == "nimclient" else ""
        yield f'<text x="{LABELS - 8}" y="{y + 13}" text-anchor="end">{escape(peer)}</text>'
        yield f'<rect{ours} x="{LABELS}" y="{y}" width="{width:.0f}" height="{BAR}" rx="2"/>'
        yield f'<text x="{LABELS + width + 8:.0f}" y="{y + 13}">{value:,.{0 if value >= 100 else 1}f}</text>'


def main(arguments: Sequence[str]) -> None:
    """Keep the summaries of a file of results, where one is named, and draw the picture."""
    if arguments:
        document = kept(orjson.loads(Path(arguments[0]).read_bytes()))
        PUBLISHED.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    PICTURE.write_text(picture(orjson.loads(PUBLISHED.read_bytes())), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

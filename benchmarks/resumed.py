"""The picture of a resumed stream in the guide: `python -m benchmarks.resumed` reads one from two simulators and draws it.

The first replica resets its stream after eight tokens; the second one brings the rest.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from nimclient import AsyncClient
from nimclient.simulator import Simulator

PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "resumed.svg"
QUESTION = "Oslo is the capital of Norway, and lies at the end of a long fjord. What is the capital of Norway?"
WIDTH, LABELS, ROW, TOP = 760, 120, 34, 30
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .note { font-size: 11px } .seen { fill: #76b900 }
rect, circle { fill: #afb8c1 } .gap { fill: #d1242f; opacity: 0.2 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } rect, circle { fill: #59636e } .seen { fill: #76b900 } }
"""


async def measured() -> tuple[list[float], int, float]:
    """When each token came, in seconds; how many came from the first replica; how long the gap was."""
    first = Simulator(models=["m"], dialect="vllm", faults="reset@8=1", ttft=0.1, itl=0.02)
    second = Simulator(models=["m"], dialect="vllm", ttft=0.1, itl=0.02)
    times: list[float] = []
    async with first, second, AsyncClient(base_url=[first.base_url, second.base_url], dialect="vllm") as client:
        await client.warm(2)
        while True:  # until the first replica is chosen
            times.clear()
            start = time.perf_counter()
            stream = client.chat.stream(QUESTION, model="m", resume=1, max_tokens=100)
            async for chunk in stream:
                if chunk.text:
                    times.append(time.perf_counter() - start)
            meta = (await stream.final()).meta
            assert meta is not None
            if meta.resumed:
                return times, 8, meta.timings.gaps[0]


def picture(times: Sequence[float], before: int, gap: float) -> str:
    """The picture as SVG: a dot for each token, in the rows of the replicas and in that of the stream."""
    scale = (WIDTH - LABELS - 20) / times[-1]
    rows = {"replica 1": times[:before], "replica 2": times[before:], "the stream": times}
    lines = [
        f"<title>A stream of {len(times)} tokens that is resumed after {before}</title>",
        f"<style>{STYLE}</style>",
    ]
    left, right = (LABELS + scale * times[at] for at in (before - 1, before))
    lines.append(f'<rect class="gap" x="{left:.1f}" y="{TOP - 12}" width="{right - left:.1f}" height="{3 * ROW}"/>')
    lines.append(f'<text class="note" x="{left:.1f}" y="12">a gap of {gap * 1000:.0f} ms</text>')
    for number, (name, tokens) in enumerate(rows.items()):
        y = TOP + number * ROW
        kind = ' class="seen"' if name == "the stream" else ""
        lines.append(f'<text x="{LABELS - 14}" y="{y + 9}" text-anchor="end">{name}</text>')
        lines += [f'<circle{kind} cx="{LABELS + scale * moment:.1f}" cy="{y + 5}" r="4"/>' for moment in tokens]
    bottom = TOP + 3 * ROW + 6
    lines.append(f'<text class="note" x="{LABELS}" y="{bottom}">0 s</text>')
    lines.append(f'<text class="note" x="{WIDTH - 20}" y="{bottom}" text-anchor="end">{times[-1]:.2f} s</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 10}" width="{WIDTH}" role="img">'
    return "\n".join([head, *lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(*asyncio.run(measured())), encoding="utf-8")

"""The picture of a resumed stream in the guide: `python -m benchmarks.resumed` reads one from two simulators and draws it.

The first replica resets its stream after eight tokens; the second one brings the rest. The clock is virtual.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from benchmarks.drawing import MARGIN, WIDTH, drawn, keep, text
from benchmarks.virtual import jumping
from nimclient import AsyncClient
from nimclient.simulator import Simulator

RESULTS = Path(__file__).with_name("resumed.json")
PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "resumed.svg"
QUESTION = "Oslo is the capital of Norway, and lies at the end of a long fjord. What is the capital of Norway?"
LABELS, ROW, TOP = 120, 34, 30


async def measured() -> tuple[list[float], int, float]:
    """When each token came, in seconds; how many came from the first replica; how long the gap was."""
    loop = asyncio.get_running_loop()
    with jumping(loop):
        first = Simulator(models=["m"], dialect="vllm", faults="reset@8=1", ttft=0.1, itl=0.02)
        second = Simulator(models=["m"], dialect="vllm", ttft=0.1, itl=0.02)
        async with first, second, AsyncClient(base_url=[first.base_url, second.base_url], dialect="vllm") as client:
            while True:  # until the first replica is chosen
                times: list[float] = []
                start = loop.time()
                stream = client.chat.stream(QUESTION, model="m", resume=1, max_tokens=100)
                async for chunk in stream:
                    if chunk.text:
                        times.append(round(loop.time() - start, 4))
                meta = (await stream.final()).meta
                assert meta is not None
                if meta.resumed:
                    return times, 8, round(meta.timings.gaps[0], 4)


def picture(times: Sequence[float], before: int, gap: float) -> str:
    """The picture as SVG: a dot for each token, in the rows of the replicas and in that of the stream."""
    scale = (WIDTH - LABELS - MARGIN) / times[-1]
    rows = {"replica 1": times[:before], "replica 2": times[before:], "the stream": times}
    left, right = (LABELS + scale * times[at] for at in (before - 1, before))
    lines = [f'<rect class="gap" x="{left:.1f}" y="{TOP - 12}" width="{right - left:.1f}" height="{3 * ROW}"/>']
    lines.append(text(f"a gap of {gap * 1000:.0f} ms", left, 12))
    for number, (name, tokens) in enumerate(rows.items()):
        y = TOP + number * ROW
        kind = ' class="ours"' if name == "the stream" else ""
        lines.append(text(name, LABELS - 14, y + 9, note=False, right=True))
        lines += [f'<circle{kind} cx="{LABELS + scale * moment:.1f}" cy="{y + 5}" r="4"/>' for moment in tokens]
    bottom = TOP + 3 * ROW + 6
    lines += [text("0 s", LABELS, bottom), text(f"{times[-1]:.2f} s", WIDTH - MARGIN, bottom, right=True)]
    return drawn(f"A stream of {len(times)} tokens that is resumed after {before}", lines, bottom + 10)


if __name__ == "__main__":
    figures = asyncio.run(measured())
    keep(figures, RESULTS, picture(*figures), PICTURE)

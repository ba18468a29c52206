"""Users before bulk: `python -m benchmarks.users [--seconds 40] [--publish]`.

A chat a second over a simulator of sixteen slots: alone, beside a batch of the same client, and beside the batch of a client
that knows nothing of it. The clock is virtual, as in benchmarks/affinity.py. `--publish` keeps the figures and draws the
picture of the guide, docs/_static/users.svg.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.drawing import WIDTH, drawn, keep, text
from benchmarks.virtual import jumping
from nimclient import AsyncClient
from nimclient.simulator import Simulator

RESULTS = Path(__file__).with_name("users.json")
PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "users.svg"
MODEL = "meta/llama-3.1-8b-instruct"
SLOTS, TTFT = 16, 0.15
ROWS = ("alone", "beside its own bulk", "beside another client's")
LABELS, TOP, ROW = 170, 16, 92


async def measure(row: str, seconds: int) -> dict[str, Any]:
    """When each chat was sent and how long its first token took, in seconds, and how many of the batch were answered."""
    with jumping(asyncio.get_running_loop()):
        clock = asyncio.get_running_loop().time
        async with (
            Simulator(slots=SLOTS, ttft=TTFT) as sim,
            AsyncClient(base_url=sim.base_url, model=MODEL) as client,
            AsyncClient(base_url=sim.base_url, model=MODEL) as stranger,
        ):
            done = 0
            start = clock()

            async def bulk(of: AsyncClient) -> None:
                nonlocal done
                texts = ("hello" for _ in iter(lambda: clock() - start < seconds, False))
                async for _ in of.chat.as_completed(texts, max_tokens=1):
                    done += 1

            async def chats() -> list[tuple[float, float]]:
                times: list[tuple[float, float]] = []
                for second in range(seconds):
                    await asyncio.sleep(max(start + second - clock(), 0.0))
                    async with client.chat.stream("hi", max_tokens=1) as stream:
                        meta = (await stream.final()).meta
                    assert meta is not None
                    assert meta.timings.ttft is not None
                    times.append((float(second), round(meta.timings.ttft, 4)))
                return times

            busy = None if row == ROWS[0] else asyncio.create_task(bulk(client if row == ROWS[1] else stranger))
            times = await chats()
            if busy is not None:
                await busy
            return {"chats": times, "bulk_per_second": done / (clock() - start)}


def picture(figures: Mapping[str, Any]) -> str:
    """The picture as SVG: a dot for each chat, the higher the longer its first token took."""
    runs, seconds = figures["runs"], figures["seconds"]
    longest = max(ttft for run in runs.values() for _, ttft in run["chats"])
    lines: list[str] = []
    for number, (name, run) in enumerate(runs.items()):
        bottom = TOP + (number + 1) * ROW - 14
        half = median(ttft for _, ttft in run["chats"])
        lines.append(text(name, LABELS - 14, bottom - 26, note=False, right=True))
        words = f"median {half * 1000:.0f} ms"
        words += f", {run['bulk_per_second']:.0f} a second" if run["bulk_per_second"] else ""
        lines.append(text(words, LABELS - 14, bottom - 10, right=True))
        lines.append(f'<line x1="{LABELS}" y1="{bottom}" x2="{WIDTH - 20}" y2="{bottom}" opacity="0.3"/>')
        kind = ' class="ours"' if name == ROWS[1] else ""
        for second, ttft in run["chats"]:
            x, y = LABELS + 6 + second * (WIDTH - LABELS - 32) / seconds, bottom - 4 - ttft / longest * (ROW - 26)
            lines.append(f'<circle{kind} cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    bottom = TOP + 3 * ROW
    lines.append(text("0 s", LABELS, bottom))
    lines.append(text(f"{seconds} s", WIDTH - 20, bottom, right=True))
    settings = f"a chat a second; the highest dot is {longest * 1000:.0f} ms; "
    settings += f"{SLOTS} slots, {TTFT * 1000:.0f} ms a request, virtual time"
    lines.append(text(settings, LABELS, bottom + 18))
    return drawn("Time to the first token of a chat a second, alone and beside bulk", lines, bottom + 26)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and keep what is asked to be kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.users", description="Users before bulk.")
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args(arguments)
    runs: dict[str, Any] = {}
    for row in ROWS:
        run = runs[row] = asyncio.run(measure(row, options.seconds))
        times = sorted(ttft for _, ttft in run["chats"])
        words = f"ttft p50 {median(times) * 1000:.0f} ms, p99 {times[int(0.99 * (len(times) - 1))] * 1000:.0f} ms"
        print(row.ljust(24), words, f"bulk {run['bulk_per_second']:.1f} a second", flush=True)
    if options.publish:
        figures = {"seconds": options.seconds, "slots": SLOTS, "ttft": TTFT, "runs": runs}
        keep(figures, RESULTS, picture(figures), PICTURE)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Prefix affinity: `python -m benchmarks.affinity [--conversations 600] [--turns 10] [--publish]`.

Conversations side by side, whose users think for some seconds before each turn, over four simulators with a prefill cost
and a prefix cache that holds a quarter of them and a little more: by least load, with affinity="prefix", with affinity while
one replica is killed in mid-run; and over one large replica that caches all. The clock
is virtual: it stands while programs compute and jumps where they would wait. So the figures are those of the servers' times
and of the choices, whatever the machine does. The decision is timed in CPU time. `--publish` keeps the figures and draws the
picture of the guide, docs/_static/affinity.svg.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.drawing import MARGIN, WIDTH, bars, drawn, keep, shares, text
from benchmarks.virtual import jumping
from nimclient import AsyncClient, RetryPolicy
from nimclient._engine.affinity import prefix_of, seed_of, weight
from nimclient.errors import NimError
from nimclient.simulator import Simulator

RESULTS = Path(__file__).with_name("affinity.json")
PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "affinity.svg"
MODEL = "meta/llama-3.1-8b-instruct"
TTFT, ITL, PREFILL, THINKING = 0.02, 0.4, 8_000, 5.0
CACHED, ENDLESS = 900, 100_000_000  # tokens a conversation of a quarter (which has 800 at its end), tokens
SYSTEM = "You answer questions about the handbook. " * 20
RUNS = {  # affinity, replicas, whether one is killed
    "one large": (None, 1, False),
    "least load": (None, 4, False),
    "prefix": ("prefix", 4, False),
    "prefix, one killed": ("prefix", 4, True),
}
COUNTS, TOP, LABELS, ROW = 20, 24, 150, 110


def handbook(number: int, words: int) -> str:
    """What a user says first: a text of its own, the same in every run."""
    source = random.Random(number)
    return " ".join(f"w{source.randrange(5000)}" for _ in range(words))


async def converse(client: AsyncClient, number: int, turns: int, seen: list[Any]) -> None:
    """One conversation: every turn repeats all that was said before. Adds what its turns took, or the error."""
    messages: list[dict[str, str]] = [{"role": "system", "content": SYSTEM}]
    thinking = random.Random(number)
    for turn in range(turns):
        await asyncio.sleep(thinking.uniform(0.0, 2.0 * THINKING))
        messages.append({"role": "user", "content": handbook(number * 100 + turn, 300 if turn == 0 else 30)})
        try:
            async with client.chat.stream(messages, max_tokens=3) as stream:
                reply = await stream.final()
        except NimError as error:
            seen.append(error)
            return
        assert reply.meta is not None
        seen.append((reply.usage, reply.meta.timings.ttft))
        messages.append({"role": "assistant", "content": reply.text})


async def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run: the cached share of prompts, requests of the busiest by the mean, seconds to first tokens."""
    affinity, count, kills = RUNS[name]
    seen: list[Any] = []
    cache = ENDLESS if count == 1 else options.conversations // 4 * CACHED
    with jumping(asyncio.get_running_loop()):
        async with AsyncExitStack() as stack:
            sims = [
                await stack.enter_async_context(
                    Simulator(dialect="vllm", ttft=TTFT, itl=ITL, prefill_rate=PREFILL, prefix_cache=cache)
                )
                for _ in range(count)
            ]
            client = await stack.enter_async_context(
                AsyncClient(
                    base_url=[sim.base_url for sim in sims],
                    model=MODEL,
                    dialect="vllm",
                    affinity=affinity,
                    retry=RetryPolicy(resume=1),
                )
            )
            conversations = [converse(client, number, options.turns, seen) for number in range(options.conversations)]
            together = asyncio.gather(*conversations)
            if kills:
                await asyncio.sleep(options.turns / 2 * THINKING)
                await sims[-1].aclose()
            await together
            arrived = [sum(request.method == "POST" for request in sim.requests) for sim in sims]
    answered = [one for one in seen if not isinstance(one, NimError)]
    cached = sum((usage.prompt_tokens_details or {}).get("cached_tokens", 0) for usage, _ in answered)
    return {
        "cached": cached / sum(usage.prompt_tokens for usage, _ in answered),
        "busiest": max(arrived) / (sum(arrived) / count),
        "failed": len(seen) - len(answered),
        "ttfts": sorted(round(ttft, 4) for _, ttft in answered),
    }


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a process of its own."""
    return asyncio.run(measure(name, options))


def decision() -> float:
    """Microseconds of CPU to find the replica of a conversation among eight."""
    fields = {"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": handbook(1, 300)}]}
    seeds = [seed_of(f"http://10.0.0.{i}:8000/v1") for i in range(8)]
    best = inf
    for _ in range(20):  # the least of several: other programs disturb the processor's caches
        began = time.process_time()
        for _ in range(200):
            prefix = prefix_of(fields, {}) or 0
            max(seeds, key=lambda seed: weight(prefix, seed))
        best = min(best, time.process_time() - began)
    return best / 200 * 1e6


def picture(figures: Mapping[str, Any]) -> str:
    """The picture as SVG: how the times to the first token are spread, by least load and with affinity."""
    shown = ("least load", "prefix")
    longest = max(figures["runs"][name]["spread_to"] for name in shown)
    highest = max(max(figures["runs"][name]["spread"]) for name in shown)
    lines: list[str] = []
    for number, name in enumerate(shown):
        run, bottom = figures["runs"][name], TOP + (number + 1) * ROW - 20
        label = 'affinity="prefix"' if name == "prefix" else name
        lines.append(text(label, LABELS - 14, bottom - 40, note=False, right=True))
        lines.append(text(f"{100 * run['cached']:.0f} % cached", LABELS - 14, bottom - 24, right=True))
        heights = [share / highest * (ROW - 34) for share in run["spread"]]
        lines += bars(heights, LABELS, bottom, ours=name == "prefix")
        at, top = LABELS + run["ttft_p50"] / longest * (WIDTH - LABELS - MARGIN), bottom - ROW + 18
        lines.append(f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{bottom}"/>')
        lines.append(text(f"median {run['ttft_p50'] * 1000:.0f} ms", at + 5, top + 8))
    bottom = TOP + 2 * ROW
    lines += [text("0 ms", LABELS, bottom), text(f"{longest * 1000:.0f} ms", WIDTH - MARGIN, bottom, right=True)]
    settings = f"{figures['conversations']} conversations of {figures['turns']} turns, four simulated replicas, "
    lines.append(text(f"{settings}{PREFILL:,} prompt tokens a second, virtual time", LABELS, bottom + 18))
    return drawn("Time to the first token with and without prefix affinity", lines, bottom + 26)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and keep what is asked to be kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.affinity", description="Prefix affinity.")
    for name, value in (("conversations", 600), ("turns", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {**vars(options), "runs": {}}
    del figures["publish"]
    with ProcessPoolExecutor(len(RUNS)) as processes:
        results = dict(zip(RUNS, processes.map(run, RUNS, [options] * len(RUNS)), strict=True))
    for name, found in results.items():
        ttfts = found.pop("ttfts")
        found |= {"ttft_p50": median(ttfts), "ttft_p99": ttfts[int(0.99 * (len(ttfts) - 1))]}
        figures["runs"][name] = {**found, "ttfts": ttfts}
        print(name.ljust(20), " ".join(f"{key} {value:.3f}" for key, value in found.items()), flush=True)
    longest = max(each["ttft_p99"] for each in figures["runs"].values()) * 1.1
    for each in figures["runs"].values():
        each["spread"], each["spread_to"] = shares(each.pop("ttfts"), longest, COUNTS), longest
    runs = figures["runs"]
    print(
        f"hits beside one large replica: {runs['prefix']['cached'] / runs['one large']['cached']:.3f} (wanted: ≥ 0.9)"
    )
    print(
        f"ttft p50 beside least load: {runs['prefix']['ttft_p50'] / runs['least load']['ttft_p50']:.3f} (wanted: ≤ 0.6)"
    )
    figures["decision_us"] = decision()
    print(f"decision among 8 replicas: {figures['decision_us']:.1f} µs of CPU (wanted: ≤ 10)")
    if options.publish:
        keep(figures, RESULTS, picture(figures), PICTURE)


if __name__ == "__main__":
    main(sys.argv[1:])

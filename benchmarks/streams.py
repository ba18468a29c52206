"""Many calm streams at once on one core: `python -m benchmarks.streams [--streams 2000] [--burst]`.

They begin within two seconds, or with `--burst` all at once, and bring a token every quarter of a second. Prints how long the
slowest took beside the median, and how much memory an open stream takes, against their targets.
"""

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import orjson

from benchmarks import canned, machine
from benchmarks.harness import run_python
from benchmarks.scale_child import status
from benchmarks.server import running_server

TOKENS = 24
SPREAD = 2.0  # seconds
MOST_RATIO = 2.0
MOST_KILOBYTES = 20.0


@dataclass(frozen=True, slots=True)
class Run:
    """What one process saw: the seconds of each stream from its call to its end, and memory and CPU in all."""

    seconds: list[float]
    memory_kb: int
    cpu_seconds: float
    tokens: int = TOKENS

    @property
    def ratio(self) -> float:
        """The slowest stream against the median."""
        return max(self.seconds) / median(self.seconds)

    @property
    def kilobytes(self) -> float:
        """Memory of an open stream."""
        return self.memory_kb / len(self.seconds)

    @property
    def microseconds(self) -> float:
        """CPU a token, opening included."""
        return self.cpu_seconds / (len(self.seconds) * self.tokens) * 1e6

    @property
    def reached(self) -> bool:
        """Whether both targets are met."""
        return self.ratio <= MOST_RATIO and self.kilobytes <= MOST_KILOBYTES


async def measure(url: str, count: int, tokens: int, spread: float) -> dict[str, object]:
    """Open so many streams over some seconds, read them to their ends; the memory is that when the last one is open."""
    from nimclient import AsyncClient, Limits

    everything = canned.answer_text(tokens)
    opened = 0
    all_open = asyncio.Event()

    async def one(delay: float) -> float:
        nonlocal opened
        await asyncio.sleep(delay)
        began = time.perf_counter()
        parts: list[str] = []
        async with client.chat.stream("hi", max_tokens=tokens) as stream:
            opened += 1
            if opened == count:
                all_open.set()
            async for chunk in stream:
                parts.append(chunk.text)
        if "".join(parts) != everything:
            raise ValueError("the answer is not what the server sent")
        return time.perf_counter() - began

    async with AsyncClient(base_url=url, model=canned.CALM_MODEL, limits=Limits(concurrency=None)) as client:
        await client.chat.stream("hi", max_tokens=1).final()
        gc.collect()
        before, cpu = status("VmRSS"), time.process_time()
        streams = [asyncio.create_task(one(spread * number / count)) for number in range(count)]
        await all_open.wait()
        memory = status("VmRSS") - before
        seconds = await asyncio.gather(*streams)
        return {"seconds": seconds, "memory_kb": memory, "cpu_seconds": time.process_time() - cpu, "tokens": tokens}


def run_once(count: int, tokens: int = TOKENS, *, burst: bool = False) -> Run:
    """One process against a server of its own."""
    how = ["--streams", str(count), "--tokens", str(tokens), *(["--burst"] if burst else [])]
    with running_server() as url:
        return Run(**orjson.loads(run_python("-m", "benchmarks.streams", "--child", url, *how, seconds=60)))


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description="Many streams at once.")
    parser.add_argument("--streams", type=int, default=2_000, help="how many (default 2,000)")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"of each (default {TOKENS})")
    parser.add_argument("--burst", action="store_true", help="begin them all at once")
    parser.add_argument("--child", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(
            orjson.dumps(
                asyncio.run(measure(options.child, options.streams, options.tokens, 0.0 if options.burst else SPREAD))
            ).decode()
        )
        return
    run = run_once(options.streams, options.tokens, burst=options.burst)
    about = machine.describe()
    print(
        f"{about['cpu']}, {about['cores']} cores, {about['python']}: {options.streams} streams of {options.tokens} tokens"
    )
    shown = f"slowest {max(run.seconds):.2f} s, median {median(run.seconds):.2f} s"
    print(f"{shown}: × {run.ratio:.2f} (at most × {MOST_RATIO:.0f})")
    print(f"memory: {run.kilobytes:.1f} kB a stream (at most {MOST_KILOBYTES:.0f})")
    print(f"client CPU: {run.microseconds:.0f} µs a token, opening included")


if __name__ == "__main__":
    main(sys.argv[1:])

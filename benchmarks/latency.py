"""How much of a slow server's throughput a client gets: `python -m benchmarks.latency [--concurrency 16] [--seconds 5]`.

The canned server answers each request after 50 ms, however many there are. With so many requests of so many texts at once,
concurrency × batch / latency texts a second is all there is, where the latency is what the floor sees of a lone request for
one text; nimclient (`embed_documents`, `embed_stream`) and a loop over the floor with as many tasks are measured against it.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median

from benchmarks import canned, scenarios
from benchmarks.runners import floor
from benchmarks.server import running_server
from nimclient import AsyncClient

LEAST = 0.95


async def latency(url: str) -> float:
    """Seconds that a request for one text takes when it is alone: the middle of twenty."""
    seconds: list[float] = []
    async with floor.connect(url, canned.SLOW_MODEL) as client:
        for _ in range(20):
            began = time.perf_counter()
            await client.embed(["a"])
            seconds.append(time.perf_counter() - began)
    return median(seconds)


async def by_floor(url: str, texts: list[str], batch: int, concurrency: int) -> None:
    """As many tasks as requests may be under way, each with slices of its own."""
    async with floor.connect(url, canned.SLOW_MODEL) as client:
        starts = iter(range(0, len(texts), batch))

        async def work() -> None:
            for start in starts:
                await client.embed(texts[start : start + batch])

        await asyncio.gather(*(work() for _ in range(concurrency)))


async def by_documents(url: str, texts: list[str], batch: int, concurrency: int) -> None:
    """embed_documents: all vectors in one buffer."""
    async with AsyncClient(base_url=url, model=canned.SLOW_MODEL) as client:
        vectors = await client.embeddings.embed_documents(texts, batch_size=batch, concurrency=concurrency)
    if len(vectors) != len(texts):
        raise ValueError(f"{len(vectors)} vectors for {len(texts)} texts")


async def by_stream(url: str, texts: list[str], batch: int, concurrency: int) -> None:
    """embed_stream: batches as they come."""
    done = 0
    async with AsyncClient(base_url=url, model=canned.SLOW_MODEL) as client:
        stream = client.embeddings.embed_stream(texts, batch_size=batch, concurrency=concurrency)
        async for part in stream:
            done += len(part)
    if done != len(texts):
        raise ValueError(f"{done} vectors for {len(texts)} texts")


WAYS: dict[str, Callable[[str, list[str], int, int], Awaitable[None]]] = {
    "floor": by_floor,
    "embed_documents": by_documents,
    "embed_stream": by_stream,
}


def main(arguments: Sequence[str]) -> None:
    """Measure every way in turn, print the share of the ideal throughput."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--concurrency", type=int, default=16, help="requests at once (default 16)")
    parser.add_argument("--batch", type=int, default=64, help="texts a request (default 64)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a run would take at best (default 5)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each way (default 3)")
    options = parser.parse_args(arguments)
    rounds = round(options.seconds / canned.SLOW_SECONDS)
    texts = scenarios.texts(rounds * options.concurrency * options.batch)
    shares: dict[str, list[float]] = {name: [] for name in WAYS}
    with running_server() as url:
        lone = asyncio.run(latency(url))
        ideal = options.concurrency * options.batch / lone
        for run in range(options.runs):
            for name, way in WAYS.items():
                began, cpu = time.perf_counter(), time.process_time()
                asyncio.run(way(url, texts, options.batch, options.concurrency))
                seconds, used = time.perf_counter() - began, time.process_time() - cpu
                shares[name].append(len(texts) / seconds / ideal)
                print(f"run {run + 1} {name}: {shares[name][-1]:.1%}, CPU {used / seconds:.0%}", file=sys.stderr)
    print(
        f"{options.concurrency} requests of {options.batch} texts, {lone * 1000:.1f} ms each: {ideal:,.0f} texts/s at best"
    )
    for name, values in shares.items():
        verdict = "" if name == "floor" else f"  ≥ {LEAST:.0%}  {'reached' if median(values) >= LEAST else 'missed'}"
        print(f"  {name:16} {median(values):6.1%}  {min(values):.1%}–{max(values):.1%}{verdict}")


if __name__ == "__main__":
    main(sys.argv[1:])

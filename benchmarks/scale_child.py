"""One measured process: embeds so many short texts through embed_stream, throws the vectors away, and prints as JSON what it
cost and how its memory went.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from benchmarks import canned
from nimclient import AsyncClient, EmbeddedBatch

WARM_UP_TEXTS = 2_000
SAMPLES = 200


def texts(count: int) -> Iterator[str]:
    """Short texts, made one by one: the source must not cost memory of its own."""
    return (f"Passage {position}: the quick brown fox jumps over a lazy dog." for position in range(count))


def status(name: str) -> int:
    """A figure of this process's memory in kB: VmRSS now, VmHWM at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def check(batch: EmbeddedBatch) -> None:
    """Raise ValueError unless the vectors are those that the server sent: what loses data would look fast."""
    last = len(batch.indexes) - 1
    right = batch.vectors[0][0] == canned.vector(0)[0] and batch.vectors[last][-1] == canned.vector(last)[-1]
    if not right or batch.failures or batch.vectors.dimensions != canned.DIMENSIONS:
        raise ValueError(f"the vectors from {batch.indexes[0]} on are not what the server sent")


async def measure(client: AsyncClient, count: int) -> dict[str, object]:
    """Embed `count` texts. Samples are (texts, seconds of CPU, kB of memory) so far."""
    samples: list[tuple[int, float, int]] = []
    done = 0
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    async with client.embeddings.embed_stream(texts(count)) as batches:
        async for batch in batches:
            check(batch)
            if batch.indexes[0] != done:
                raise ValueError(f"the batch after text {done} begins with text {batch.indexes[0]}")
            done += len(batch.indexes)
            if done * SAMPLES // count > len(samples):
                samples.append((done, time.process_time() - cpu, status("VmRSS")))
    used = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    if done != count:
        raise ValueError(f"{done} vectors for {count} texts")
    return {"texts": done, **used, "peak_kb": status("VmHWM"), "samples": samples}


async def main(url: str, count: str) -> None:
    """Warm up, measure, print."""
    async with AsyncClient(base_url=url, model=canned.MODEL) as client:
        await measure(client, WARM_UP_TEXTS)
        print(orjson.dumps(await measure(client, int(count))).decode())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

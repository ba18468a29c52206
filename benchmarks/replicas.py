"""Replicas on real sockets: `python -m benchmarks.replicas [--requests 2000] [--concurrency 16]`.

Four simulators in processes of their own, one 20 times slower; then four alike, one of which is killed in mid-run; then
four alike, one with the load of other clients, that report their load or not. Prints who got how many requests, p50 of the
healthy ones, p99 of all, and how many calls failed. Exit code 1 when the 99th percentile is above twice that median, or
with reports above half of that without, or a call failed.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median, quantiles

import orjson

from nimclient import AsyncClient, AttemptEvent, RetryPolicy
from nimclient.errors import NimError

TTFT = 0.05
SLOWER = 20
SLOTS, FOREIGN = 8, 32
NO_REPORTS = {"endpoint-load-metrics-format": "none"}


@contextmanager
def simulators(
    delays: Sequence[float], flags: Sequence[str] = (), last: Sequence[str] = ()
) -> Iterator[tuple[list[str], list[subprocess.Popen[str]]]]:
    """Simulators that answer after so many seconds: their URLs, and their processes. `last`: flags of the last one only."""
    command = [sys.executable, "-m", "nimclient", "simulate", "--port", "0", "--json", *flags, "--ttft"]
    started = [
        subprocess.Popen(
            [*command, str(delay), *(last if number == len(delays) - 1 else ())],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for number, delay in enumerate(delays)
    ]
    try:
        yield [orjson.loads(one.stdout.readline())["base_url"] for one in started if one.stdout], started
    finally:
        for one in started:
            one.kill()
            one.wait()
            if one.stdout:
                one.stdout.close()


async def measure(
    urls: list[str],
    requests: int,
    concurrency: int,
    kill: tuple[int, subprocess.Popen[str]] | None = None,
    *,
    reports: bool = True,
) -> tuple[dict[str, list[float]], Counter[str], int]:
    """Seconds of each call by the replica that answered it, requests by replica, and the number of failed calls."""
    seconds: dict[str, list[float]] = {url: [] for url in urls}
    attempts: Counter[str] = Counter()
    failed = 0
    left = iter(range(requests))

    def count(event: AttemptEvent) -> None:
        attempts[event.url.removesuffix("/chat/completions")] += 1

    async def caller(client: AsyncClient) -> None:
        nonlocal failed
        for number in left:
            if kill is not None and number == kill[0]:
                kill[1].kill()
            began = time.perf_counter()
            try:
                reply = await client.chat.create("hello", max_tokens=1)
            except NimError as error:
                failed += 1
                print(f"failed: {error}", file=sys.stderr)
            else:
                assert reply.meta is not None
                seconds[reply.meta.url.removesuffix("/chat/completions")].append(time.perf_counter() - began)

    retry = RetryPolicy(attempts=3)
    async with AsyncClient(
        base_url=urls,
        model="meta/llama-3.1-8b-instruct",
        retry=retry,
        on_attempt=count,
        dialect="vllm",
        headers={} if reports else NO_REPORTS,
    ) as client:
        await client._core.transport()
        if not reports:
            for replica in client._core.replicas.members:
                replica.load_paths = []
        await asyncio.gather(*(caller(client) for _ in range(concurrency)))
    return seconds, attempts, failed


def main(arguments: Sequence[str]) -> int:
    """Measure both, print, and say whether it is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replicas", description="Replicas on real sockets.")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args(arguments)

    with simulators([TTFT] * 3 + [TTFT * SLOWER]) as (urls, _):
        seconds, _, failed = asyncio.run(measure(urls, options.requests, options.concurrency))
    healthy = [one for url in urls[:3] for one in seconds[url]]
    every = [one for part in seconds.values() for one in part]
    p50, p99 = median(healthy), quantiles(every, n=100)[98]
    print(f"one of four {SLOWER} × slower ({options.requests} calls, {options.concurrency} at once)")
    print(f"  answered by each: {[len(seconds[url]) for url in urls]}")
    print(f"  p50 of the healthy {p50 * 1000:.1f} ms, p99 of all {p99 * 1000:.1f} ms: {p99 / p50:.2f} × (wanted: ≤ 2)")

    with simulators([TTFT] * 4) as (urls, processes):
        kill = options.requests // 3, processes[3]
        killed, attempts, lost = asyncio.run(measure(urls, options.requests, options.concurrency, kill))
    print(f"one of four killed at call {kill[0]}")
    print(f"  answered by each: {[len(killed[url]) for url in urls]}, sent to each: {[attempts[url] for url in urls]}")
    print(f"  failed calls: {failed + lost} (wanted: 0)")

    p99s = []
    for reports in (False, True):
        with simulators([TTFT] * 4, ["--dialect", "vllm", "--slots", str(SLOTS)], ["--foreign", str(FOREIGN)]) as (
            urls,
            _,
        ):
            found = asyncio.run(measure(urls, options.requests, options.concurrency, reports=reports))
        lost += found[2]
        p99s.append(quantiles([one for part in found[0].values() for one in part], n=100)[98])
        print(
            f"one of four with {FOREIGN} foreign requests on its {SLOTS} slots, {'reported' if reports else 'hidden'}"
        )
        print(f"  answered by each: {[len(found[0][url]) for url in urls]}, p99 of all {p99s[-1] * 1000:.1f} ms")
    print(f"  {p99s[1] / p99s[0]:.2f} × (wanted: ≤ 0.5)")
    return int(p99 > 2 * p50 or failed + lost > 0 or p99s[1] > p99s[0] / 2)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

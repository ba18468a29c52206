"""Prefix affinity: `python -m benchmarks.affinity [--conversations 600] [--turns 10] [--concurrency 32]`.

Four simulators in processes of their own, with a prefix cache and a prefill that takes time; conversations of several
turns, side by side, first by least load, then with affinity="prefix", then with affinity while one replica is killed.
Prints the share of cached tokens beside that of one replica that is infinitely large, the load of the busiest replica
beside the mean, the median time to first token, failed calls, and microseconds of a decision.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.replicas import simulators
from nimclient import AsyncClient, AttemptEvent, RetryPolicy
from nimclient._engine.affinity import prefix_of, weight
from nimclient.errors import NimError

PREFILL, CACHE = 20_000, 400_000
SYSTEM = "You answer questions about the handbook. " * 20


def handbook(number: int, words: int) -> str:
    """What a user tells first: a text of its own, the same in every run."""
    source = random.Random(number)
    return " ".join(f"w{source.randrange(5000)}" for _ in range(words))


async def converse(client: AsyncClient, number: int, turns: int, seen: list[Any]) -> None:
    """One conversation: every turn repeats all that was said before."""
    messages: list[dict[str, str]] = [{"role": "system", "content": SYSTEM}]
    for turn in range(turns):
        messages.append({"role": "user", "content": handbook(number * 100 + turn, 300 if turn == 0 else 30)})
        try:
            async with client.chat.stream(messages, max_tokens=20) as stream:
                reply = await stream.final()
        except NimError as error:
            seen.append(error)
            return
        assert reply.meta is not None
        seen.append((reply.usage, reply.meta.timings.ttft))
        messages.append({"role": "assistant", "content": reply.text})


async def measure(
    urls: Sequence[str],
    options: argparse.Namespace,
    affinity: Any,
    victim: subprocess.Popen[str] | None = None,
) -> dict[str, float]:
    """Figures of one run over these servers."""
    attempts: Counter[str] = Counter()
    seen: list[Any] = []

    def count(event: AttemptEvent) -> None:
        attempts[event.url] += 1

    numbers = iter(range(options.conversations))

    async def user(client: AsyncClient) -> None:
        for number in numbers:
            if victim is not None and number == options.conversations // 2:
                victim.kill()
            await converse(client, number, options.turns, seen)

    retry = RetryPolicy(attempts=5, first_delay=0.05)
    async with AsyncClient(base_url=list(urls), affinity=affinity, on_attempt=count, retry=retry) as client:
        client = client.with_options(
            model="nvidia/llama-3.3-nemotron-super-49b-v1.5", defaults={"chat": {"thinking": False}}
        )
        async with asyncio.TaskGroup() as group:
            for _ in range(options.concurrency):
                group.create_task(user(client))
    answered = [one for one in seen if not isinstance(one, NimError)]
    cached = sum((usage.prompt_tokens_details or {}).get("cached_tokens", 0) for usage, _ in answered)
    return {
        "cached": cached / sum(usage.prompt_tokens for usage, _ in answered),
        "busiest": max(attempts.values()) / (sum(attempts.values()) / len(urls)),
        "ttft_ms": 1000 * median(ttft for _, ttft in answered),
        "failed": len(seen) - len(answered),
    }


def decision() -> float:
    """Microseconds to find the replica of a conversation among eight."""
    fields = {"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": handbook(1, 300)}]}
    urls = [f"http://10.0.0.{i}:8000/v1" for i in range(8)]
    began = time.process_time()
    for _ in range(2000):
        prefix = prefix_of(fields) or b""
        max(urls, key=lambda url: weight(prefix, url))
    return (time.process_time() - began) / 2000 * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.affinity", description="Prefix affinity.")
    for name, value in (("conversations", 600), ("turns", 10), ("concurrency", 32)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    flags = ["--prefill-rate", str(PREFILL), "--prefix-cache", str(CACHE)]
    runs = (("one large", None, 1), ("least load", None, 4), ("prefix", "prefix", 4), ("one killed", "prefix", 4))
    for name, affinity, count in runs:
        size = ["--prefix-cache", "100000000"] if count == 1 else []
        with simulators([0.02] * count, [*flags, *size]) as (urls, programs):
            victim = programs[-1] if name == "one killed" else None
            figures = asyncio.run(measure(urls, options, affinity, victim))
        print(name.ljust(12), " ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)
    print(f"decision among 8 replicas: {decision():.1f} µs", file=sys.stdout)


if __name__ == "__main__":
    main()

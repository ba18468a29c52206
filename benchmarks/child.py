"""One measured process: imports one peer, warms up, repeats one scenario, prints what it used as one line of JSON."""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable

import orjson

from benchmarks import runners, scenarios

WARM_UP_SHARE = 0.25


async def repeat(call: Callable[[], Awaitable[object]], seconds: float) -> int:
    """Call again and again until the wall time has passed; returns how many calls were made."""
    calls = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        await call()
        calls += 1
    return calls


async def measure(peer: str, scenario: scenarios.Scenario, url: str, seconds: float) -> dict[str, float]:
    """The units, the CPU (user and system, all threads) and the wall time of one run."""
    async with runners.load(peer).connect(url, scenario.model) as client:
        call = scenarios.bind(scenario, client)
        scenarios.check(scenario, await call())
        await repeat(call, seconds * WARM_UP_SHARE)
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        calls = await repeat(call, seconds)
        used = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    return {"units": calls * scenario.units_per_call, **used}


def main(peer: str, scenario: str, url: str, seconds: str) -> None:
    """Measure and print."""
    result = asyncio.run(measure(peer, scenarios.BY_NAME[scenario], url, float(seconds)))
    print(orjson.dumps(result).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])

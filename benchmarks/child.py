"""One measured process: imports one peer, warms up, repeats one scenario, prints what it used as one line of JSON."""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine

import orjson

from benchmarks import runners, scenarios

WARM_UP_SHARE = 0.25
ROUNDS = 10
"""Parts of a run, of which the one that took the least CPU a unit counts: what else a machine or its host does makes others
slower, never one faster."""


async def repeat(call: Callable[[], Awaitable[object]], seconds: float, in_flight: int) -> int:
    """Call again and again, so many at once, until the wall time has passed; returns how many calls were made."""
    end = time.perf_counter() + seconds

    async def one_after_another() -> int:
        calls = 0
        while time.perf_counter() < end:
            await call()
            calls += 1
        return calls

    return sum(await asyncio.gather(*(one_after_another() for _ in range(in_flight))))


async def measure(peer: str, scenario: scenarios.Scenario, url: str, seconds: float) -> dict[str, float]:
    """The units, the CPU (user and system, all threads) and the wall time of the best round of one run."""
    in_flight = scenarios.side_by_side(scenario)
    async with runners.load(peer).connect(url, scenario.model) as client:
        call = scenarios.bind(scenario, client)
        scenarios.check(scenario, await call())
        await repeat(call, seconds * WARM_UP_SHARE, in_flight)
        gc.collect()
        rounds: list[dict[str, float]] = []
        began = time.perf_counter()
        while time.perf_counter() < began + seconds:
            cpu, wall = time.process_time(), time.perf_counter()
            units = await repeat(call, seconds / ROUNDS, in_flight) * scenario.units_per_call
            used = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
            rounds.append({"units": units, **used})
    return min(rounds, key=lambda used: used["cpu_seconds"] / used["units"])


def run_in(loop: str, main: Coroutine[object, object, dict[str, float]]) -> dict[str, float]:
    """Run on the loop that the scenario asks for."""
    if loop == "uvloop":
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)


def main(peer: str, scenario: str, url: str, seconds: str) -> None:
    """Measure and print."""
    chosen = scenarios.BY_NAME[scenario]
    result = run_in(chosen.loop, measure(peer, chosen, url, float(seconds)))
    print(orjson.dumps(result).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])

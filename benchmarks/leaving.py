"""How long a server works for somebody who has gone: `python -m benchmarks.leaving [--url URL --model M] [--turns 20]`.

Without a URL that of a simulator. The server's /metrics (vLLM's or Dynamo's) say how many requests are in flight; a time ends
with the first look that finds none, so it includes one look, which is printed, too.
"""

import argparse
import asyncio
import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from statistics import median

from nimclient import AsyncClient, Timeouts
from nimclient.errors import NimError
from nimclient.simulator import Simulator, SimulatorThread

IN_FLIGHT = re.compile(
    r"^(?:vllm:num_requests_(?:running|waiting)|dynamo_frontend_inflight_requests)\{[^}]*\} ([\d.]+)", re.M
)
LONG = 1000  # tokens
STAY = 0.3  # seconds


async def plain(client: AsyncClient) -> object:
    """A plain answer."""
    return await client.chat.create("hi", max_tokens=LONG, extra_body={"ignore_eos": True})


async def stream(client: AsyncClient) -> object:
    """A stream."""
    return await client.chat.stream("hi", max_tokens=LONG, extra_body={"ignore_eos": True}).final()


async def batch(client: AsyncClient) -> object:
    """Eight answers at once."""
    return await client.chat.batch(["hi"] * 8, max_tokens=LONG, extra_body={"ignore_eos": True})


async def in_flight(watcher: AsyncClient) -> float:
    """How many requests the server has."""
    return sum(map(float, IN_FLIGHT.findall(str(await watcher.request("GET", "/metrics")))))


async def leave(url: str, model: str | None, call: Callable[[AsyncClient], Awaitable[object]], way: str) -> AsyncClient:
    """Begin a call and leave it; returns the client, whose call has just ended."""
    client = AsyncClient(base_url=url, model=model, timeouts=Timeouts(total=STAY if way == "deadline" else None))
    task = asyncio.ensure_future(call(client))
    await asyncio.sleep(STAY)
    if way == "cancel":
        task.cancel()
    elif way == "aclose":
        await client.aclose()
    with contextlib.suppress(asyncio.CancelledError, NimError):
        await task
    return client


async def measure(url: str, model: str | None, turns: int) -> AsyncIterator[tuple[str, str, list[float]]]:
    """For each call and way of leaving it, the seconds until nothing is in flight."""
    async with AsyncClient(base_url=url, model=model) as watcher:
        await in_flight(watcher)
        for call in (plain, stream, batch):
            for way in ("cancel", "aclose", "deadline"):
                seconds: list[float] = []
                for _ in range(turns):
                    client = await leave(url, model, call, way)
                    began = time.perf_counter()
                    while await in_flight(watcher):
                        pass
                    seconds.append(time.perf_counter() - began)
                    await client.aclose()
                yield call.__name__, way, seconds
        seconds = []
        for _ in range(turns):
            began = time.perf_counter()
            await in_flight(watcher)
            seconds.append(time.perf_counter() - began)
        yield "one look", "", seconds


async def print_all(url: str, model: str | None, turns: int) -> None:
    """Print medians and maxima."""
    async for call, way, seconds in measure(url, model, turns):
        print(f"{call:9}{way:9} median {median(seconds) * 1e3:6.1f} ms, slowest {max(seconds) * 1e3:6.1f} ms")


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaving", description="Until the slot is free.")
    parser.add_argument("--url", help="a running vLLM or Dynamo (default: a simulator)")
    parser.add_argument("--model", help="its model")
    parser.add_argument("--turns", type=int, default=20, help="how often each (default 20)")
    options = parser.parse_args(arguments)
    if options.url:
        asyncio.run(print_all(options.url, options.model, options.turns))
        return
    with SimulatorThread(Simulator(slots=8, ttft=0.1, itl=0.01)) as url:
        asyncio.run(print_all(url, options.model, options.turns))


if __name__ == "__main__":
    main(sys.argv[1:])

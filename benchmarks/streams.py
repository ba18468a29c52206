"""Many calm streams at once on one core: `python -m benchmarks.streams [--streams 2000] [--burst] [--peer floor]`.

They begin within two seconds, or with `--burst` all at once, and bring four tokens a second, or as many as `--pace` says.
Prints how long the slowest took beside the median, and how much memory an open stream takes at most, against their targets;
what a bare connection of asyncio takes ("sockets") is measured in the same way and subtracted. `--servers` are processes;
with `--native` there is one in C, which sends 200,000 tokens a second to 10,000 connections from one core.
"""

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

import orjson

from benchmarks import canned, machine
from benchmarks.harness import run_python
from benchmarks.native import running_native
from benchmarks.scale_child import status
from benchmarks.server import SECONDS_BETWEEN_TOKENS, running_server

TOKENS = 24
SPREAD = 2.0  # seconds
MOST_RATIO = 2.0
MOST_KILOBYTES = 20.0  # of a stream in all
MOST_BEYOND = 10.0  # of a stream beyond its socket
LOOK = 0.1  # seconds between two looks at the memory
PACES = {4: canned.CALM_MODEL, 20: canned.BRISK_MODEL}

Stream: TypeAlias = Callable[[int], Awaitable[str]]
"""Streams an answer of so many tokens and returns its text."""


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


@asynccontextmanager
async def ours(url: str, model: str) -> AsyncIterator[Stream]:
    """nimclient without a limit of its own, and with time to open so many connections on a busy machine."""
    from benchmarks.runners.nimclient_runner import NimClient
    from nimclient import AsyncClient, Limits, Timeouts

    limits, timeouts = Limits(concurrency=None), Timeouts(connect=60)
    async with AsyncClient(base_url=url, model=model, limits=limits, timeouts=timeouts) as client:
        yield NimClient(client).stream


@asynccontextmanager
async def floor(url: str, model: str) -> AsyncIterator[Stream]:
    """A loop over aiohttp, written by hand."""
    from benchmarks.runners.floor import connect

    async with connect(url, model) as peer:
        yield peer.stream


@asynccontextmanager
async def openai(url: str, model: str) -> AsyncIterator[Stream]:
    """openai-python, whose pool of 1,000 connections is widened: beyond it streams would wait for others to end."""
    import httpx
    from openai import AsyncOpenAI

    from benchmarks.runners.openai_runner import OpenAI

    http = httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=None)
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, http_client=http) as client:
        yield OpenAI(client, model).stream


class Bare(asyncio.Protocol):
    """A connection that sends one request and counts the events of its answer; `ended` has their number."""

    __slots__ = ("_events", "_request", "_transport", "ended")

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._events = 0
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count, and close after the last event."""
        self._events += data.count(b"data: {")
        if data.endswith(canned.LAST_HTTP_CHUNK):
            self._transport.close()
            self.ended.set_result(self._events)


@asynccontextmanager
async def sockets(url: str, model: str) -> AsyncIterator[Stream]:
    """Connections of asyncio, with nothing around them."""
    host, port = url.removeprefix("http://").split(":")
    loop = asyncio.get_running_loop()

    async def stream(tokens: int) -> str:
        body = orjson.dumps({"model": model, "messages": [], "max_tokens": tokens, "stream": True})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        _, protocol = await loop.create_connection(lambda: Bare(head.encode() + body), host, int(port))
        events = await protocol.ended
        return canned.answer_text(events - 3)  # of the role, of the finish reason and of the usage

    yield stream


PEERS = {"nimclient": ours, "floor": floor, "openai": openai, "sockets": sockets}


async def measure(peer: str, urls: Sequence[str], count: int, tokens: int, spread: float, model: str) -> Run:
    """Open so many streams over some seconds and read them to their ends."""
    everything = canned.answer_text(tokens)

    async def one(stream: Stream, delay: float) -> float:
        await asyncio.sleep(delay)
        began = time.perf_counter()
        if await stream(tokens) != everything:
            raise ValueError("the answer is not what the server sent")
        return time.perf_counter() - began

    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(PEERS[peer](url, model)) for url in urls]
        for stream in streams:
            await stream(1)
        gc.collect()
        before, cpu = status("VmRSS"), time.process_time()
        highest = before
        running = [
            asyncio.create_task(one(streams[number % len(streams)], spread * number / count)) for number in range(count)
        ]
        while (await asyncio.wait(running, timeout=LOOK))[1]:
            highest = max(highest, status("VmRSS"))
        seconds = [task.result() for task in running]
        return Run(seconds, highest - before, time.process_time() - cpu, tokens)


def run_once(
    count: int,
    tokens: int = TOKENS,
    *,
    peer: str = "nimclient",
    spread: float = SPREAD,
    pace: int = 4,
    servers: int = 1,
    native: bool = False,
) -> Run:
    """One process against servers of its own.

    Args:
        count: How many streams.
        tokens: Of each.
        peer: Who reads them.
        spread: Seconds within which they begin.
        pace: Tokens a second.
        servers: Processes that send them.
        native: Whether a server in C sends them instead.
    """
    options = {"peer": peer, "streams": count, "tokens": tokens, "pace": pace, "spread": spread}
    how = [f"--{name}={value}" for name, value in options.items()]
    with ExitStack() as stack:
        if native:
            model = PACES[pace]
            scripts = {f'"max_tokens":{number}': canned.paced_writes(model, number) for number in (tokens, 1)}
            urls = stack.enter_context(running_native(scripts, SECONDS_BETWEEN_TOKENS[model]))
        else:
            urls = ",".join(stack.enter_context(running_server()) for _ in range(servers))
        return Run(**orjson.loads(run_python("-m", "benchmarks.streams", "--child", urls, *how, seconds=240)))


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description="Many streams at once.")
    parser.add_argument("--streams", type=int, default=2_000, help="how many (default 2,000)")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"of each (default {TOKENS})")
    parser.add_argument("--pace", type=int, choices=PACES, default=4, help="tokens a second (default 4)")
    parser.add_argument(
        "--spread", type=float, default=SPREAD, help=f"seconds within which they begin (default {SPREAD:g})"
    )
    parser.add_argument("--burst", action="store_true", help="begin them all at once")
    parser.add_argument("--peer", choices=PEERS, default="nimclient", help="who reads them (default nimclient)")
    parser.add_argument("--servers", type=int, default=1, help="processes that send them (default 1)")
    parser.add_argument("--native", action="store_true", help="send them by one server in C, which takes a C compiler")
    parser.add_argument("--child", metavar="URLS", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    count, tokens, pace = options.streams, options.tokens, options.pace
    spread = 0.0 if options.burst else options.spread
    if options.child:
        run = asyncio.run(measure(options.peer, options.child.split(","), count, tokens, spread, PACES[pace]))
        print(orjson.dumps(run).decode())
        return
    how = {"spread": spread, "pace": pace, "servers": options.servers, "native": options.native}
    run = run_once(count, tokens, peer=options.peer, **how)
    bare = run_once(count, tokens, peer="sockets", **how)
    about = machine.describe()
    print(f"{about['cpu']}, {about['cores']} cores, {about['python']}")
    print(f"{options.peer}: {count} streams of {tokens} tokens, {pace} a second{'' if spread else ', all at once'}")
    shown = f"slowest {max(run.seconds):.2f} s, median {median(run.seconds):.2f} s"
    print(f"{shown}: × {run.ratio:.2f} (at most × {MOST_RATIO:.0f})")
    beyond = run.kilobytes - bare.kilobytes
    print(f"memory: {run.kilobytes:.1f} kB a stream (at most {MOST_KILOBYTES:.0f})")
    print(f"of it beyond a bare connection of {bare.kilobytes:.1f}: {beyond:.1f} kB (at most {MOST_BEYOND:.0f})")
    print(
        f"client CPU: {run.microseconds:.0f} µs a token, opening included (a bare connection {bare.microseconds:.0f})"
    )


if __name__ == "__main__":
    main(sys.argv[1:])

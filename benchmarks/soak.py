"""Long runs of one client: what a call leaves behind, and whether every call ends and is counted on both sides.

    python -m benchmarks.soak --calls 100000 --streams 10000 --minutes 30

The first part has no faults and looks at memory and descriptors; the second has faults in 5 % of all requests and compares
the books of client and server. It fails where a bound does not hold.
"""

import argparse
import asyncio
import gc
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

from benchmarks.soak_server import Server, running_server, usage_of
from nimclient import AsyncClient, RetryPolicy, Timeouts
from nimclient.errors import NimError

WORKERS = 32
WARM_UP = 0.2  # of the calls of the first part
MAX_BYTES = 1000  # a call may leave behind
NOISE = 2**23  # bytes: what the memory of a process differs by, whatever it does
SHARE = 0.05  # of the requests that meet a fault
SETTINGS = {
    "model": "m",
    "retry": RetryPolicy(first_delay=0.01, max_delay=0.05),
    "timeouts": Timeouts(connect=60, headers=60, idle=1, total=None),
}


def resident() -> int:
    """Bytes of memory of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


class Books:
    """What came of the calls, by kind; the tokens of those that were answered."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.tokens = 0

    async def note(self, call: int, made: Awaitable[int | None]) -> None:
        """Await a call and note how it ends. Anything but an answer and an error of ours ends the soak."""
        self.counts["calls"] += 1
        try:
            tokens = await made
        except NimError as error:
            self.counts[type(error).__name__] += 1
            self.counts["errors"] += 1
        else:
            assert tokens == usage_of(call)["total_tokens"], f"call {call} has the answer of another: {tokens} tokens"
            self.counts["answers"] += 1
            self.tokens += tokens


async def chat(client: AsyncClient, call: int) -> int | None:
    """One plain chat; its tokens."""
    reply = await client.chat.create("hi", user=str(call), max_tokens=8)
    assert reply.text == f"re {call}", reply.text
    return reply.usage and reply.usage.total_tokens


async def stream(client: AsyncClient, call: int) -> int | None:
    """One streamed chat, read to its end; its tokens."""
    async with client.chat.stream("hi", user=str(call), max_tokens=8) as opened:
        texts = [chunk.text async for chunk in opened]
        reply = await opened.final()
    assert "".join(texts) == f"re {call}", texts
    return reply.usage and reply.usage.total_tokens


async def embed(client: AsyncClient, call: int) -> int | None:
    """One embedding of eight texts; its tokens."""
    answer = await client.embeddings.create([f"{call} {place}" for place in range(8)], user=str(call))
    assert [vector[0] for vector in answer.vectors] == list(range(8))
    return answer.usage and answer.usage.total_tokens


Kind = Callable[[AsyncClient, int], Awaitable[int | None]]


async def run(client: AsyncClient, calls: Iterator[int], kinds: Iterator[Kind], books: Books) -> None:
    """Several at the same time, until there are no more calls."""

    async def work() -> None:
        for call in calls:
            await books.note(call, next(kinds)(client, call))

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work())


def repeat(kinds: tuple[Kind, ...]) -> Iterator[Kind]:
    """The kinds in turn, for ever."""
    while True:
        yield from kinds


async def leaves_nothing(server: Server, kind: Kind, calls: int) -> tuple[float, int]:
    """Bytes that a call leaves behind after the warm-up, and the descriptors that are more than before."""
    books = Books()
    numbers = iter(range(calls))
    warm = int(calls * WARM_UP)
    async with AsyncClient(base_url=server.url, **SETTINGS) as client:
        await run(client, iter([next(numbers) for _ in range(warm)]), repeat((kind,)), books)
        memory, files = resident(), descriptors()
        await run(client, numbers, repeat((kind,)), books)
        grown = (resident() - memory) / (calls - warm)
        more = descriptors() - files
    assert books.counts["answers"] == calls, books.counts
    return grown, more


def until(moment: float) -> Iterator[int]:
    """Numbers of calls until this moment."""
    for call in count():
        if time.monotonic() >= moment:
            return
        yield call


async def mixed(server: Server, seconds: float) -> tuple[Books, int]:
    """Chats, streams and embeddings under faults; the books, and the descriptors that are left open."""
    books = Books()
    files = descriptors()
    async with AsyncClient(base_url=server.url, **SETTINGS) as client:
        kinds = repeat((chat, chat, chat, stream, embed))
        await run(client, until(time.monotonic() + seconds), kinds, books)
    return books, descriptors() - files


def compare(books: Books, server: Server) -> None:
    """The books of both sides: each call ended once; each answer was sent by the server, and no other was."""
    counts = books.counts
    assert counts["answers"] + counts["errors"] == counts["calls"], counts
    assert counts["answers"] == server.books["answered"], (counts, server.books)
    assert books.tokens == server.books["tokens"], (books.tokens, server.books)


def main(arguments: list[str] | None = None) -> None:
    """Both parts; prints a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=30)
    given = parser.parse_args(arguments)
    for kind, calls in ((chat, given.calls), (stream, given.streams)):
        with running_server(0.0) as quiet:
            grown, more = asyncio.run(leaves_nothing(quiet, kind, calls))
        print(f"{calls} calls of {kind.__name__}: {grown:.0f} bytes a call, {more} descriptors more", flush=True)
        assert grown * calls < max(MAX_BYTES * calls, NOISE)
        assert more <= 0
    with running_server(SHARE) as faulty:
        books, left = asyncio.run(mixed(faulty, 60 * given.minutes))
    kinds = ", ".join(f"{number} {name}" for name, number in sorted(books.counts.items()))
    sent = ", ".join(f"{number} {name}" for name, number in sorted(faulty.books.items()))
    print(f"{given.minutes} minutes with faults: {kinds}; {books.tokens} tokens; {left} descriptors left")
    print(f"the server: {sent}")
    compare(books, faulty)
    assert left <= 0


if __name__ == "__main__":
    main()

"""Users beside bulk: `python -m benchmarks.users [--seconds 60] [--slots 16] [--sockets] [--publish]`.

A chat a second, streamed, beside a batch that never ends, against a simulator that works on sixteen requests at once and
lets the others wait in order: alone, beside the client's own batch, and beside the same batch of a client of its own, which
does not know of the users. By default the clock is virtual: it stands while programs compute and jumps where they would
wait, so the figures are those of the server's times and of the client's choices, whatever the machine does. With `--sockets`
the simulator is a process of its own and the clock a real one, for the async and the blocking client. `--publish` keeps the
figures of the virtual clock and draws the picture of the guide, docs/_static/users.svg.
"""

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.drawing import MARGIN, WIDTH, bars, drawn, keep, shares, text
from benchmarks.replicas import simulators
from benchmarks.virtual import jumping
from nimclient import AsyncClient, Client, Limits
from nimclient.simulator import Simulator

RESULTS = Path(__file__).with_name("users.json")
PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "users.svg"
MODEL = "meta/llama-3.1-8b-instruct"
TTFT, ITL = 0.15, 0.01
TOKENS = 16  # of a user's answer
WARM = 30.0  # seconds after which users are counted: by then the client knows the server
MOST, LEAST = 1.2, 0.9  # wanted: the 99th percentile by that of an idle server, and the share that bulk keeps
LIMITS = Limits(concurrency=None)
COUNTS, TOP, LABELS, ROW = 40, 24, 170, 76


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: users, bulk or both; how many of bulk at once, by the slots (None: the client finds out)."""

    users: bool = True
    bulk: bool = True
    by_slots: float | None = None
    other: bool = False  # bulk is another client's


CASES = {
    "idle": Case(bulk=False),
    "bulk alone": Case(users=False),
    "own bulk": Case(),
    "own bulk, as many at once as slots": Case(by_slots=1),
    "own bulk, twice as many at once": Case(by_slots=2),
    "another client's bulk": Case(other=True),
}


def prompts() -> Iterator[str]:
    """Endless; they are answered with what they say, so answers differ in length."""
    return ("word " * (5 + 10 * (number % 3)) for number in count())


class Seen:
    """When users came and how long they waited for a first token, and when answers of bulk came, in seconds."""

    def __init__(self) -> None:
        self.ttfts: list[tuple[float, float]] = []
        self.answers: list[float] = []

    def figures(self, since: float, until: float) -> dict[str, Any]:
        """The median, the 99th percentile and all of the waits; answers a second, of the time that counts."""
        ttfts = sorted(ttft for came, ttft in self.ttfts if since <= came < until)
        answers = sum(since <= moment < until for moment in self.answers)
        found: dict[str, Any] = {"bulk_per_second": answers / (until - since)}
        if ttfts:
            found |= {"ttft_p50": ttfts[len(ttfts) // 2], "ttft_p99": ttfts[int(0.99 * (len(ttfts) - 1))]}
        return {**found, "ttfts": [round(ttft, 4) for ttft in ttfts]}


async def user(client: AsyncClient, seen: Seen, began: float) -> None:
    """One chat."""
    came = time.monotonic()
    async with client.chat.stream("word " * TOKENS) as stream:
        async for _ in stream:
            seen.ttfts.append((came - began, time.monotonic() - came))
            break
        await stream.final()


async def bulk(client: AsyncClient, seen: Seen, began: float, concurrency: int | None) -> None:
    """A batch that ends when it is cancelled."""
    async with client.chat.as_completed(prompts(), concurrency=concurrency) as replies:
        async for _ in replies:
            seen.answers.append(time.monotonic() - began)


async def measure(case: Case, url: str, seconds: float, slots: int) -> dict[str, Any]:
    """The figures of one case, with the async client."""
    seen = Seen()
    at_once = None if case.by_slots is None else round(case.by_slots * slots)
    async with AsyncExitStack() as stack:
        client, other = [
            await stack.enter_async_context(AsyncClient(base_url=url, model=MODEL, limits=LIMITS)) for _ in range(2)
        ]
        await client.chat.create("hi")
        began = time.monotonic()
        running = (
            asyncio.create_task(bulk(other if case.other else client, seen, began, at_once)) if case.bulk else None
        )
        chats: list[asyncio.Task[None]] = []
        for number in range(round(WARM + seconds)):
            await asyncio.sleep(max(began + number - time.monotonic(), 0.0))
            if case.users:
                chats.append(asyncio.create_task(user(client, seen, began)))
        await asyncio.sleep(1.0)
        await asyncio.gather(*chats)
        if running is not None:
            running.cancel()
            await asyncio.wait([running])
    return seen.figures(WARM, WARM + seconds)


async def measure_virtually(name: str, seconds: float, slots: int) -> dict[str, Any]:
    """The same by a virtual clock, which the simulator shares."""
    with jumping(asyncio.get_running_loop()):
        async with Simulator(ttft=TTFT, itl=ITL, slots=slots, keep_requests=1) as server:
            return await measure(CASES[name], server.base_url, seconds, slots)


def run(name: str, seconds: float, slots: int) -> dict[str, Any]:
    """`measure_virtually` in a process of its own."""
    return asyncio.run(measure_virtually(name, seconds, slots))


def measure_blocking(case: Case, url: str, seconds: float, slots: int) -> dict[str, Any]:
    """The figures of one case, with the blocking client: bulk in a thread, users in this one."""
    seen, ended = Seen(), threading.Event()
    at_once = None if case.by_slots is None else round(case.by_slots * slots)
    with ExitStack() as stack:
        client, other = [stack.enter_context(Client(base_url=url, model=MODEL, limits=LIMITS)) for _ in range(2)]
        client.chat.create("hi")
        began = time.monotonic()

        def work() -> None:
            with (other if case.other else client).chat.as_completed(prompts(), concurrency=at_once) as replies:
                for _ in replies:
                    seen.answers.append(time.monotonic() - began)
                    if ended.is_set():
                        return

        thread = threading.Thread(target=work)
        if case.bulk:
            thread.start()
        for number in range(round(WARM + seconds)):
            time.sleep(max(began + number - time.monotonic(), 0.0))
            came = time.monotonic()
            if case.users:
                with client.chat.stream("word " * TOKENS) as stream:
                    next(iter(stream))
                    seen.ttfts.append((came - began, time.monotonic() - came))
                    stream.final()
        ended.set()
        if case.bulk:
            thread.join()
    return seen.figures(WARM, WARM + seconds)


def over_sockets(seconds: float, slots: int) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """The figures of both clients, each case against a simulator of its own in another process."""
    flags = ("--slots", str(slots), "--itl", str(ITL))
    for kind in ("async", "blocking"):
        found: dict[str, dict[str, Any]] = {}
        for name, case in CASES.items():
            with simulators([TTFT], flags) as (urls, _):
                if kind == "async":
                    found[name] = asyncio.run(measure(case, urls[0], seconds, slots))
                else:
                    found[name] = measure_blocking(case, urls[0], seconds, slots)
        yield kind, found


def shown(runs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for each case: times to the first token by those of an idle server, and what bulk keeps."""
    idle, alone = runs["idle"], runs["bulk alone"]
    for name, each in runs.items():
        line = name.ljust(40)
        if each["ttfts"]:
            p50, p99 = (each[key] * 1000 for key in ("ttft_p50", "ttft_p99"))
            line += f"first token {p50:4.0f} ms, p99 {p99:4.0f} ms = {each['ttft_p99'] / idle['ttft_p99']:.2f} × idle"
        if each["bulk_per_second"]:
            line += f"  bulk {each['bulk_per_second']:.1f}/s, {each['bulk_per_second'] / alone['bulk_per_second']:.0%}"
        yield line


def picture(figures: Mapping[str, Any]) -> str:
    """The picture as SVG: how the times to the first token are spread on an idle server, beside bulk and beside another's."""
    rows = ("idle", "own bulk", "another client's bulk")
    runs = figures["runs"]
    longest = max(runs[name]["ttfts"][-1] for name in rows) * 1.05
    alone = runs["bulk alone"]["bulk_per_second"]
    lines: list[str] = []
    for number, name in enumerate(rows):
        each, bottom = runs[name], TOP + (number + 1) * ROW - 20
        lines.append(text(name, LABELS - 14, bottom - 22, note=False, right=True))
        if each["bulk_per_second"]:
            lines.append(text(f"bulk keeps {each['bulk_per_second'] / alone:.0%}", LABELS - 14, bottom - 6, right=True))
        heights = [share * (ROW - 30) for share in shares(each["ttfts"], longest, COUNTS)]
        lines += bars(heights, LABELS, bottom, ours=name == "own bulk")
        at = LABELS + each["ttft_p99"] / longest * (WIDTH - LABELS - MARGIN)
        lines.append(f'<line x1="{at:.1f}" y1="{bottom - ROW + 26}" x2="{at:.1f}" y2="{bottom}"/>')
        near_end = at > WIDTH - 120
        label = f"99 of 100 within {each['ttft_p99'] * 1000:.0f} ms"
        lines.append(text(label, at + (-5 if near_end else 5), bottom - ROW + 34, right=near_end))
    bottom = TOP + len(rows) * ROW
    lines += [text("0 ms", LABELS, bottom), text(f"{longest * 1000:.0f} ms", WIDTH - MARGIN, bottom, right=True)]
    settings = f"A chat a second for {figures['seconds']:.0f} seconds, a simulated server of {figures['slots']} slots"
    lines.append(text(f"{settings}, virtual time", LABELS, bottom + 18))
    return drawn("Time to the first token of users beside bulk", lines, bottom + 26)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and keep what is asked to be kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.users", description="Users beside bulk.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of users, one a second (default 60)")
    parser.add_argument("--slots", type=int, default=16, help="of the simulator (default 16)")
    parser.add_argument("--sockets", action="store_true", help="a real clock, the simulator in another process")
    parser.add_argument("--publish", action="store_true", help="keep the figures and draw the picture")
    options = parser.parse_args(arguments)
    print(f"wanted: at most {MOST} × idle, and bulk keeps at least {LEAST:.0%}")
    if options.sockets:
        for kind, runs in over_sockets(options.seconds, options.slots):
            print(f"{kind} client", *shown(runs), sep="\n", flush=True)
        return
    with ProcessPoolExecutor(2) as processes:
        found = processes.map(run, CASES, [options.seconds] * len(CASES), [options.slots] * len(CASES))
        runs = dict(zip(CASES, found, strict=True))
    print(*shown(runs), sep="\n")
    if options.publish:
        figures = {"seconds": options.seconds, "slots": options.slots, "runs": runs}
        keep(figures, RESULTS, picture(figures), PICTURE)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Users beside bulk: `python -m benchmarks.users [--seconds 60] [--slots 16] [--sockets] [--publish]`.

A chat a second, streamed, beside a batch that never ends, against a simulator that works on sixteen requests at once and
lets the others wait in order: alone, beside the client's own batch, and beside the same batch of a client of its own, which
does not know of the users. By default the clock is virtual: it stands while programs compute and jumps where they would
wait, so the figures are those of the server's times and of the client's choices, whatever the machine does. With `--sockets`
the simulator is a process of its own and the clock a real one, for the async and the blocking client: one run of each, where
the cases take turns of half a minute, so that what else the machine does counts for all of them. `--publish` keeps the
figures of the virtual clock and draws the picture of the guide, docs/_static/users.svg.
"""

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
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
TURN = 32  # seconds of a turn over sockets
SETTLED = 12  # seconds of it that do not count: bulk makes room for ten after a user
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
TURNS = ("idle", "own bulk", "bulk alone", "another client's bulk")


def prompts() -> Iterator[str]:
    """Endless; they are answered with what they say, so answers differ in length."""
    return ("word " * (5 + 10 * (number % 3)) for number in count())


class Seen:
    """When users came and how long they waited for a first token, and when answers of bulk came, in seconds."""

    def __init__(self) -> None:
        self.ttfts: list[tuple[float, float]] = []
        self.answers: list[float] = []

    def figures(self, *spans: tuple[float, float]) -> dict[str, Any]:
        """The median, the 99th percentile and all of the waits; answers a second, of the times that count."""
        ttfts = sorted(ttft for came, ttft in self.ttfts if within(came, spans))
        answers = sum(within(moment, spans) for moment in self.answers)
        found: dict[str, Any] = {"bulk_per_second": answers / sum(end - begin for begin, end in spans)}
        if ttfts:
            found |= {"ttft_p50": ttfts[len(ttfts) // 2], "ttft_p99": ttfts[int(0.99 * (len(ttfts) - 1))]}
        return {**found, "ttfts": [round(ttft, 4) for ttft in ttfts]}


def within(moment: float, spans: Sequence[tuple[float, float]]) -> bool:
    """Whether one of them has it."""
    return any(begin <= moment < end for begin, end in spans)


async def user(client: AsyncClient, seen: Seen, began: float) -> None:
    """One chat."""
    came = time.monotonic()
    async with client.chat.stream("word " * TOKENS) as stream:
        async for _ in stream:
            seen.ttfts.append((came - began, time.monotonic() - came))
            break
        await stream.final()


async def bulk(
    client: AsyncClient, seen: Seen, began: float, concurrency: int | None = None, gate: asyncio.Event | None = None
) -> None:
    """A batch that ends when it is cancelled, and rests while its gate is closed."""

    async def source() -> AsyncIterator[str]:
        for prompt in prompts():
            if gate is not None:
                await gate.wait()
            yield prompt

    async with client.chat.as_completed(source(), concurrency=concurrency) as replies:
        async for _ in replies:
            seen.answers.append(time.monotonic() - began)


async def measure(case: Case, url: str, seconds: float, slots: int) -> dict[str, Any]:
    """The figures of one case, by itself."""
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
    return seen.figures((WARM, WARM + seconds))


async def measure_virtually(name: str, seconds: float, slots: int) -> dict[str, Any]:
    """The same by a virtual clock, which the simulator shares."""
    with jumping(asyncio.get_running_loop()):
        async with Simulator(ttft=TTFT, itl=ITL, slots=slots, keep_requests=1) as server:
            return await measure(CASES[name], server.base_url, seconds, slots)


def run(name: str, seconds: float, slots: int) -> dict[str, Any]:
    """`measure_virtually` in a process of its own."""
    return asyncio.run(measure_virtually(name, seconds, slots))


def turn(second: int) -> str:
    """Whose turn it is: first the client gets to know the server, beside users."""
    return TURNS[(second - int(WARM)) // TURN % len(TURNS)] if second >= WARM else "own bulk"


def open_for(case: Case, gates: Sequence[asyncio.Event | threading.Event]) -> None:
    """Open the gate of the bulk that runs in this case, the client's own or the other's, and close the rest."""
    for gate, is_open in zip(gates, (case.bulk and not case.other, case.other), strict=True):
        gate.set() if is_open else gate.clear()


def by_turns(seen: Seen, rounds: int) -> dict[str, dict[str, Any]]:
    """The figures of each case."""
    begins = [(name, WARM + (each * len(TURNS) + at) * TURN) for each in range(rounds) for at, name in enumerate(TURNS)]
    return {
        name: seen.figures(*((begin + SETTLED, begin + TURN) for whose, begin in begins if whose == name))
        for name in TURNS
    }


async def take_turns(url: str, rounds: int) -> dict[str, dict[str, Any]]:
    """The figures of the cases, with the async client."""
    seen, gates = Seen(), (asyncio.Event(), asyncio.Event())
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncClient(base_url=url, model=MODEL, limits=LIMITS)) for _ in gates
        ]
        await clients[0].chat.create("hi")
        began = time.monotonic()
        running = [
            asyncio.create_task(bulk(client, seen, began, gate=gate))
            for client, gate in zip(clients, gates, strict=True)
        ]
        chats: list[asyncio.Task[None]] = []
        for second in range(int(WARM) + rounds * len(TURNS) * TURN):
            await asyncio.sleep(max(began + second - time.monotonic(), 0.0))
            case = CASES[turn(second)]
            open_for(case, gates)
            if case.users:
                chats.append(asyncio.create_task(user(clients[0], seen, began)))
        await asyncio.gather(*chats)
        for task in running:
            task.cancel()
        await asyncio.wait(running)
    return by_turns(seen, rounds)


def take_turns_blocking(url: str, rounds: int) -> dict[str, dict[str, Any]]:
    """The figures of the cases, with the blocking client: bulk in threads, users in this one."""
    seen, gates, ended = Seen(), (threading.Event(), threading.Event()), threading.Event()

    def source(gate: threading.Event) -> Iterator[str]:
        for prompt in prompts():
            gate.wait()
            yield prompt

    def work(client: Client, gate: threading.Event) -> None:
        with client.chat.as_completed(source(gate)) as replies:
            for _ in replies:
                seen.answers.append(time.monotonic() - began)
                if ended.is_set():
                    return

    with ExitStack() as stack:
        clients = [stack.enter_context(Client(base_url=url, model=MODEL, limits=LIMITS)) for _ in gates]
        clients[0].chat.create("hi")
        began = time.monotonic()
        threads = [threading.Thread(target=work, args=each) for each in zip(clients, gates, strict=True)]
        for thread in threads:
            thread.start()
        for second in range(int(WARM) + rounds * len(TURNS) * TURN):
            time.sleep(max(began + second - time.monotonic(), 0.0))
            case = CASES[turn(second)]
            open_for(case, gates)
            if case.users:
                came = time.monotonic()
                with clients[0].chat.stream("word " * TOKENS) as stream:
                    next(iter(stream))
                    seen.ttfts.append((came - began, time.monotonic() - came))
                    stream.final()
        ended.set()
        for gate in gates:
            gate.set()
        for thread in threads:
            thread.join()
    return by_turns(seen, rounds)


def over_sockets(rounds: int, slots: int) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """The figures of both clients, each against a simulator of its own in another process."""
    flags = ("--slots", str(slots), "--itl", str(ITL))
    with simulators([TTFT], flags) as (urls, _):
        yield "async", asyncio.run(take_turns(urls[0], rounds))
    with simulators([TTFT], flags) as (urls, _):
        yield "blocking", take_turns_blocking(urls[0], rounds)


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
        for kind, runs in over_sockets(max(round(options.seconds / (TURN - SETTLED)), 1), options.slots):
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

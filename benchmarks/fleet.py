"""Eight processes with one share against a server with slots, then one with a rate; three of them are killed with SIGKILL.

`python -m benchmarks.fleet [--seconds 40] [--json FILE]`. The server counts: what it answered for which process, and what it
throttled. Its room is occupied by waiting, not by work, so that the figures hold on a busy machine as far as they can. The
best is what the server has room for: slots / seconds a request, or its rate.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from aiohttp import web

from nimclient import AsyncClient, Limits, RetryPolicy

PROCESSES, KILLED, SLOTS, SECONDS, RPM = 8, 3, 64, 0.5, 600
FIRST, SECOND = (0.3, 0.5), (0.6, 0.98)  # shares of the time: before the kills, and after them


class FleetServer:
    """Embeds one text a request in some time, with `slots` or `rpm`; what is more is throttled. It knows who asks."""

    def __init__(self, slots: int | None, rpm: float | None) -> None:
        self.slots = slots
        self.rpm = rpm
        self.answered: list[tuple[float, str]] = []
        self.throttled: Counter[str] = Counter()
        self.running = 0
        self.seen: set[str] = set()
        self.all_here = asyncio.Event()
        self._level = 30.0  # of a bucket of 30 requests: what is saved up is not what is measured
        self._at = time.monotonic()

    def admits(self) -> bool:
        """Whether there is room for another request."""
        if self.rpm is None:
            return self.slots is None or self.running < self.slots
        now = time.monotonic()
        self._level, self._at = min(30.0, self._level + (now - self._at) * self.rpm / 60), now
        if self._level < 1:
            return False
        self._level -= 1
        return True

    async def embed(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/embeddings."""
        who = request.headers.get("x-process", "")
        body = await request.json()
        if not self.admits():
            self.throttled[who] += 1
            return web.json_response({"error": {"message": "too many requests", "code": 429}}, status=429)
        self.running += 1
        try:
            await asyncio.sleep(SECONDS * random.lognormvariate(-0.045, 0.3))
        finally:
            self.running -= 1
        self.answered.append((time.monotonic(), who))
        self.seen.add(who)
        if len(self.seen) == PROCESSES:
            self.all_here.set()
        data = [{"index": index, "embedding": [0.5, 0.25]} for index, _ in enumerate(body["input"])]
        return web.json_response({"data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}})


@dataclass
class Figures:
    """What the server counted. Shares are of the best; `fair`: the fewest answers of a process over the most."""

    name: str
    shared: bool
    before: float
    after: float
    fair_before: float
    fair_after: float
    rejected: float
    leaked: int
    answers: int
    by_process: list[int] = field(default_factory=list)


async def run(
    name: str, seconds: float, *, shared: bool, slots: int | None = None, rpm: float | None = None
) -> Figures:
    """One run with all processes."""
    server = FleetServer(slots, rpm)
    app = web.Application()
    app.router.add_post("/v1/embeddings", server.embed)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with tempfile.TemporaryDirectory() as folder:
        share = folder if shared else ""
        processes = [start(url, share, number) for number in range(PROCESSES)]
        try:
            await server.all_here.wait()
            began = time.monotonic()
            await asyncio.sleep(0.5 * seconds)
            for process in processes[1 : 1 + 2 * KILLED : 2]:
                process.send_signal(signal.SIGKILL)
            await asyncio.sleep(0.5 * seconds)
            leaked = leaks(Path(folder)) if shared else 0
        finally:
            for process in processes:
                process.kill()
                process.wait()
            await runner.cleanup()
    best = rpm / 60 if rpm is not None else (slots or 0) / SECONDS
    return figures(name, server, began, seconds, best, shared, leaked)


def start(url: str, share: str, number: int) -> subprocess.Popen[bytes]:
    """A process of the fleet."""
    return subprocess.Popen([sys.executable, "-m", "benchmarks.fleet", "--child", url, share, str(number)])


def leaks(folder: Path) -> int:
    """Slots in the shared file of processes that are dead."""
    held = 0
    for path in folder.glob("*.pace"):
        routes = json.loads(path.read_bytes().partition(b"\n")[0].partition(b" ")[2])["routes"]
        for name, member in routes["embedding"]["members"].items():
            held += member[0] if not (folder / f"{name}.member").exists() else 0
        held += max(len(routes["embedding"]["members"]) - (PROCESSES - KILLED), 0)
    return held


def figures(
    name: str, server: FleetServer, began: float, seconds: float, best: float, shared: bool, leaked: int
) -> Figures:
    """From the server's counts. Processes that the kill ended are not compared after it."""
    parts = []
    for begin, end in (FIRST, SECOND):
        span = (began + begin * seconds, began + end * seconds)
        counts = Counter(who for at, who in server.answered if span[0] <= at < span[1])
        alive = [str(n) for n in range(PROCESSES) if begin < 0.5 or n not in range(1, 1 + 2 * KILLED, 2)]
        mine = [counts[who] for who in alive]
        mean = sum(mine) / len(mine)
        parts.append((sum(counts.values()) / (span[1] - span[0]) / best, max(abs(n - mean) for n in mine) / mean, mine))
    throttled, answers = sum(server.throttled.values()), len(server.answered)
    return Figures(
        name,
        shared,
        parts[0][0],
        parts[1][0],
        parts[0][1],
        parts[1][1],
        throttled / max(throttled + answers, 1),
        leaked,
        answers,
        by_process=parts[0][2] + parts[1][2],
    )


def texts() -> Iterator[str]:
    """Without end."""
    for number in count():
        yield f"text {number}"


async def child(url: str, share: str, number: str) -> None:
    """One process of the fleet: embeds until it is killed."""
    client = AsyncClient(
        "k",
        url,
        model="m",
        headers={"x-process": number},
        retry=RetryPolicy(patience=600),
        limits=Limits(share=share or None),
        dialect="nim",
        trust_env=False,
    )
    async with client, client.embeddings.embed_stream(texts(), batch_size=1) as stream:
        async for _ in stream:
            pass


def table(runs: Sequence[Figures]) -> str:
    """As Markdown."""
    lines = [
        "| server | share | of the best, 8 processes | of the best, 5 left | furthest from the mean | rejected | leaked |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in runs:
        far, shared = max(one.fair_before, one.fair_after), "yes" if one.shared else "no"
        figures = f"{one.before:.0%} | {one.after:.0%} | {far:.0%} | {one.rejected:.1%} | {one.leaked}"
        lines.append(f"| {one.name} | {shared} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for, and print the table."""
    if sys.argv[1:2] == ["--child"]:
        asyncio.run(child(*sys.argv[2:5]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=["slots", "rate"])
    parser.add_argument("--alone", action="store_true", help="also without a share")
    args = parser.parse_args()
    runs = []
    for shared in (True, False) if args.alone else (True,):
        if args.only != "rate":
            runs.append(asyncio.run(run(f"{SLOTS} slots", args.seconds, shared=shared, slots=SLOTS)))
        if args.only != "slots":
            runs.append(asyncio.run(run(f"{RPM} a minute", 2 * args.seconds, shared=shared, rpm=RPM)))
        print(runs[-1], file=sys.stderr)
    print(f"{PROCESSES} processes, {KILLED} of them killed; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(table(runs))
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(one) for one in runs], indent=1))


if __name__ == "__main__":
    main()

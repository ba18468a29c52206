"""Self-tuning concurrency against the simulator: `python -m benchmarks.pacing [--case NAME]... [--draw JSON]`.

For each kind of server the job is run with `concurrency=None` and with fixed numbers around what the server has room for;
throughput after the first tenth of the job (of the server that counts requests: after what it had saved up) is compared with
the best of them. Prints a table, writes JSON, and draws the limit over time with refusals marked (needs matplotlib).
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from aiohttp import web

from benchmarks import machine
from nimclient import AsyncClient, Limits, RetryPolicy
from nimclient.errors import ConfigurationError
from nimclient.records.progress import Progress
from nimclient.simulator import Simulator

LEAST = 0.85  # of the best fixed limit
MODEL = "nvidia/nv-embedqa-e5-v5"


class Refusing(Simulator):
    """A simulator that refuses what is beyond its slots; from `halves[0]` to `halves[1]` seconds it has half of them."""

    def __init__(self, slots: int, seconds: float, halves: tuple[float, float] = (0.0, 0.0)) -> None:
        super().__init__(ttft=seconds, embedding_dimensions=8, keep_requests=1)
        self._most = slots
        self._halves = halves
        self._running = 0
        self._first: float | None = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        self._first = self._first or now
        begin, end = self._halves
        if self._running >= (self._most // 2 if begin <= now - self._first < end else self._most):
            return web.json_response({"error": {"message": "no slot", "code": 429}}, status=429)
        self._running += 1
        try:
            return await super()._serve(request)
        finally:
            self._running -= 1


@dataclass(frozen=True, slots=True)
class Case:
    """A server, a job, and the fixed numbers it is compared with; `saved`: requests that it takes beyond its rate."""

    name: str
    make: Callable[[], Simulator]
    requests: int
    fixed: tuple[int, ...]
    saved: int = 0

    @property
    def skipped(self) -> int:
        """Answers that come before the measurement begins."""
        return max(self.requests // 10, self.saved)


SECONDS, SLOTS, RPM = 0.2, 24, 600
CASES = (
    Case("refuses", lambda: Refusing(SLOTS, SECONDS), 2400, (18, 24, 30)),
    Case(
        "queues",
        lambda: Simulator(ttft=SECONDS, slots=SLOTS, embedding_dimensions=8, keep_requests=1),
        2400,
        (18, 24, 48),
    ),
    Case("halves", lambda: Refusing(SLOTS, SECONDS, (7.0, 15.0)), 2400, (12, 18, 24)),
    Case(
        "counts",
        lambda: Simulator(ttft=SECONDS, rpm=RPM, embedding_dimensions=8, keep_requests=1),
        1600,
        (2, 6),  # three would still live on what was saved up when the job ends
        saved=1000,
    ),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One job: what `on_progress` told."""

    case: str
    concurrency: int | None
    events: list[Progress]

    def throughput(self, skipped: int) -> float:
        """Answers a second after so many."""
        first = next(event for event in self.events if event.done >= skipped)
        last = self.events[-1]
        return (last.done - first.done) / (last.seconds - first.seconds)

    @property
    def refused(self) -> float:
        """The share of the requests."""
        return self.events[-1].refusals / self.events[-1].requests


async def run(case: Case, concurrency: int | None) -> Run:
    """Embed as many texts as requests are wanted, one a request."""
    events: list[Progress] = []
    async with case.make() as server:
        client = AsyncClient(
            base_url=server.base_url, model=MODEL, retry=RetryPolicy(patience=300), limits=Limits(concurrency=None)
        )
        async with client:
            texts = [f"text {number}" for number in range(case.requests)]
            await client.embeddings.embed_documents(
                texts, batch_size=1, concurrency=concurrency, on_progress=events.append
            )
    return Run(case.name, concurrency, events)


def measure(cases: Sequence[Case]) -> list[Run]:
    """All runs, with a line on standard error for each."""
    runs = []
    for case in cases:
        for concurrency in (None, *case.fixed):
            done = asyncio.run(run(case, concurrency))
            rate = done.throughput(case.skipped)
            print(
                f"{case.name} {concurrency or 'self-tuning'}: {rate:.1f}/s, {done.refused:.1%} refused", file=sys.stderr
            )
            runs.append(done)
    return runs


def table(cases: Sequence[Case], runs: Sequence[Run]) -> str:
    """A line for each kind of server."""
    lines = ["| server | self-tuning, /s | best fixed, /s | share | wanted | refused |", "|---|---|---|---|---|---|"]
    for case in cases:
        own = [run for run in runs if run.case == case.name]
        tuned = next(run for run in own if run.concurrency is None)
        best = max((run for run in own if run.concurrency is not None), key=lambda run: run.throughput(case.skipped))
        rate, most = tuned.throughput(case.skipped), best.throughput(case.skipped)
        verdict = "" if rate >= LEAST * most else ", missed"
        lines.append(
            f"| {case.name} | {rate:.1f} | {most:.1f} ({best.concurrency}) | {rate / most:.0%} | ≥ {LEAST:.0%}{verdict} "
            f"| {tuned.refused:.1%} |"
        )
    return "\n".join(lines)


def draw(runs: Sequence[Run], path: Path) -> list[Path]:
    """A picture of each self-tuned job."""
    from nimclient import plot

    pictures = []
    for run in runs:
        if run.concurrency is None:
            picture = path.with_name(f"{path.stem}-{run.case}.png")
            plot.pacing(run.events, title=f"A server that {run.case}, concurrency=None").savefig(picture, dpi=110)
            pictures.append(picture)
    return pictures


def main(arguments: Sequence[str]) -> None:
    """Measure, or take an earlier result; print, write, draw."""
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description="Self-tuning beside fixed limits.")
    parser.add_argument("--case", action="append", choices=names, help="measure only this; may be repeated")
    parser.add_argument("--draw", type=Path, metavar="JSON", help="only print and draw an earlier result")
    options = parser.parse_args(arguments)
    path: Path = options.draw or Path(__file__).parent / "results" / f"pacing-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    if options.draw:
        saved = orjson.loads(path.read_bytes())["runs"]
        runs = [Run(run["case"], run["concurrency"], [Progress(**event) for event in run["events"]]) for run in saved]
    else:
        runs = measure([case for case in CASES if case.name in (options.case or names)])
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"machine": machine.describe(), "runs": [as_json(run) for run in runs]}
        path.write_bytes(orjson.dumps(document))
    measured = {run.case for run in runs}
    print(table([case for case in CASES if case.name in measured], runs))
    print(f"Results: {path}")
    try:
        print("Pictures:", *draw(runs, path))
    except ConfigurationError as error:
        print(f"No pictures: {error}")


def as_json(run: Run) -> dict[str, object]:
    """A run as it is written down."""
    fields = ("done", "total", "requests", "tokens", "seconds", "in_flight", "limit", "refusals")
    events = [{name: getattr(event, name) for name in fields} for event in run.events]
    return {"case": run.case, "concurrency": run.concurrency, "events": events}


if __name__ == "__main__":
    main(sys.argv[1:])

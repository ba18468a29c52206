"""The command: `python -m benchmarks [--scenario NAME]... [--peer NAME]... [--runs 5] [--seconds 1.0] [--quick]`, and
`python -m benchmarks --markdown RESULTS.json`."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson

from benchmarks import machine, page, report
from benchmarks.harness import run_all
from benchmarks.runners import MODULES
from benchmarks.runs import Run
from benchmarks.scenarios import ALL, BY_NAME
from benchmarks.server import running_servers

QUICK_RUNS, QUICK_SECONDS = 2, 0.2


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The options, with `--quick` already applied."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Client CPU beside the floor and peers.")
    parser.add_argument("--scenario", action="append", choices=list(BY_NAME), help="measure only this; may be repeated")
    parser.add_argument("--peer", action="append", choices=list(MODULES), help="measure only this; may be repeated")
    parser.add_argument("--runs", type=int, default=5, help="processes of each peer in each scenario (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="the least wall time of a run (default 1.0)")
    parser.add_argument("--json", type=Path, help="where the results go (default benchmarks/results/<timestamp>.json)")
    parser.add_argument("--quick", action="store_true", help="see that it works: two runs of 0.2 s, too short to trust")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="RESULTS",
        help="measure nothing: write the tables of docs/benchmarks.md from the JSON of a run",
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.runs, options.seconds = QUICK_RUNS, QUICK_SECONDS
    return options


def default_path(now: datetime) -> Path:
    """A file of its own for every measurement."""
    return Path(__file__).parent / "results" / f"{now:%Y%m%dT%H%M%SZ}.json"


def measure(options: argparse.Namespace) -> list[Run]:
    """All runs, with a line on standard error for each; those that there are when Ctrl-C ends it."""
    chosen = [scenario for scenario in ALL if scenario.name in (options.scenario or BY_NAME)]
    peers = options.peer or list(MODULES)
    runs: list[Run] = []
    with contextlib.suppress(KeyboardInterrupt), running_servers() as servers:
        for run in run_all(chosen, peers, servers=servers, turns=options.runs, seconds=options.seconds):
            outcome = run.failure or f"{run.cpu_seconds:.2f} s CPU in {run.wall_seconds:.2f} s"
            print(f"{run.scenario} {run.turn + 1}/{options.runs} {run.peer}: {outcome}", file=sys.stderr)
            runs.append(run)
    return runs


def main(arguments: Sequence[str]) -> None:
    """Measure, print the table, write the JSON."""
    options = parse_arguments(arguments)
    if options.markdown is not None:
        page.renew(orjson.loads(options.markdown.read_bytes()))
        return
    now = datetime.now(UTC)
    described = machine.describe()
    runs = measure(options)
    summaries = report.summarize_all(runs)
    print(f"{described['cpu']}, {described['cores']} cores, {described['python']}\n")
    print(report.table(summaries))
    settings = {"runs": options.runs, "seconds": options.seconds, "started_at": now.isoformat(timespec="seconds")}
    path = options.json or default_path(now)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(report.document(described, settings, runs, summaries), option=orjson.OPT_INDENT_2))
    print(f"Results: {path}")
    if any(run.shared for run in runs):
        print("Some runs shared the machine with something else, however often they were repeated: do not quote those.")


if __name__ == "__main__":
    main(sys.argv[1:])

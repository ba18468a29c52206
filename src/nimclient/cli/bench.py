"""`nimclient bench`: how fast a server answers with a number of requests at once, in the terms of NVIDIA's AIPerf."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio

from nimclient import RetryPolicy
from nimclient.cli.bench_figures import STATISTICS, SUMMARY, figures, sentence, summary, table
from nimclient.cli.bench_load import Level, Load, load_for, measure
from nimclient.cli.chat_question import given_options
from nimclient.cli.connection import make_client
from nimclient.cli.failures import UsageError, in_options
from nimclient.cli.show import writer_for

ONCE = RetryPolicy(attempts=1)
REQUESTS_PER_SLOT, MIN_REQUESTS = 4, 20
BUSY = 0.8  # of a core: from there on the client is part of what is measured
PICTURES = (".png", ".svg", ".pdf")


def run(args: argparse.Namespace) -> int:
    """Measure each level, show it; 1 where a request failed."""
    if args.plot is not None:
        _check_picture(Path(args.plot))
    result = anyio.run(_bench, args)
    runs: list[Mapping[str, Any]] = result["runs"]
    if args.json:
        print(json.dumps(result))
    elif len(runs) > 1:
        data = writer_for(sys.stdout)
        data.heading("all levels")
        data.columns(SUMMARY, summary(runs), in_pipes=True)
    if args.plot is not None and any(run["request_count"]["avg"] for run in runs):
        from nimclient import plot

        plot.benchmark(result, path=args.plot)
        writer_for(sys.stderr).line(f"nimclient: plot saved to {args.plot}")
    return int(any(run["error_request_count"]["avg"] for run in runs))


def _check_picture(path: Path) -> None:
    """UsageError for a picture that could not be written after all the work."""
    if path.suffix.lower() not in PICTURES:
        raise UsageError(f"--plot {path}: a picture ends in {', '.join(PICTURES)}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.parent}")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: install nimclient[plot]")


async def _bench(args: argparse.Namespace) -> dict[str, Any]:
    words = writer_for(sys.stderr)
    runs: list[dict[str, Any]] = []
    async with make_client(args, model=args.model, retry=ONCE) as client:
        load = load_for(args, client, given_options(args.option))
        model = await _warm_up(load) or args.model
        words.line(f"{client.base_url}: {args.kind}, {model or 'the model of the server'}")
        for concurrency in args.concurrency:
            requests = args.requests or max(MIN_REQUESTS, REQUESTS_PER_SLOT * concurrency)
            await client.warm(min(concurrency, requests))
            cpu = time.process_time()
            with words.progress(f"concurrency {concurrency}", "requests") as advance:
                level = await measure(load, concurrency, requests, advance)
            busy = (time.process_time() - cpu) / level.seconds
            runs.append(figures(concurrency, level.samples, level.errors.total(), level.seconds))
            _show(args, runs[-1], level, busy)
    return {"base_url": client.base_url, "model": model, "kind": args.kind, "runs": runs}


async def _warm_up(load: Load) -> str | None:
    """Send one request that is not counted, which shows whether anything works; returns the model that answered."""
    try:
        return (await load.send()).model
    except TypeError as error:  # an option that there is not
        raise UsageError(in_options(str(error))) from error


def _show(args: argparse.Namespace, run: Mapping[str, Any], level: Level, busy: float) -> None:
    """Print the figures of a level, unless JSON is wanted, its errors, and a note if the client itself was the limit."""
    data, words = writer_for(sys.stdout), writer_for(sys.stderr)
    if not args.json:
        data.heading(sentence(run))
        if rows := table(run):
            data.columns(("", *STATISTICS), rows, in_pipes=True)
    for text, count in sorted(level.errors.items(), key=lambda pair: -pair[1])[:3]:
        words.line(f"nimclient: {count:,} failed: {text}")
    if busy > BUSY:
        words.line(
            f"nimclient: the benchmark itself used {busy:.0%} of a core, so this machine limits these figures, too; "
            "for more load run several in parallel"
        )

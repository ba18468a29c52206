"""Runs peers in turn (A B C A B C …), every run in a process of its own and in the same clean environment."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

import orjson

from benchmarks.runners import BLOCKING, ONLY_EMBED, STARTS
from benchmarks.runs import Run
from benchmarks.scenarios import Scenario
from benchmarks.server import ROOT

FIXED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
SPARE_SECONDS = 60.0


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a measured process: no BLAS threads, bytecode kept, nothing sent through a proxy."""
    kept = {
        name: value
        for name, value in environ.items()
        if name != "PYTHONDONTWRITEBYTECODE" and not name.lower().endswith("_proxy")
    }
    return kept | FIXED


def peers_of(scenario: Scenario, chosen: Sequence[str]) -> list[str]:
    """The chosen peers, led by the one they are compared with."""
    able = [peer for peer in chosen if can_do(peer, scenario)]
    return [scenario.baseline, *(peer for peer in able if peer != scenario.baseline)]


def can_do(peer: str, scenario: Scenario) -> bool:
    """Whether there is such a peer in a scenario at all."""
    if scenario.action == "start":
        return peer in STARTS
    if scenario.over or peer in BLOCKING:
        return bool(scenario.over) and peer in BLOCKING
    return scenario.action == "embed" or peer not in ONLY_EMBED


def run_python(*arguments: str, seconds: float) -> str:
    """Run a fresh interpreter that should take so long, in the clean environment; returns its standard output."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=child_environment(os.environ),
        capture_output=True,
        text=True,
        check=True,
        timeout=2 * seconds + SPARE_SECONDS,
    ).stdout


def children_cpu() -> float:
    """Seconds of CPU of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_starts(peer: str, seconds: float) -> dict[str, float]:
    """Start fresh interpreters that import and construct, until the wall time has passed."""
    code = STARTS[peer]
    run_python("-c", code, seconds=seconds)  # writes the bytecode caches
    starts = 0
    cpu, wall = children_cpu(), time.perf_counter()
    while time.perf_counter() - wall < seconds:
        run_python("-c", code, seconds=seconds)
        starts += 1
    return {
        "units": starts,
        "cpu_seconds": children_cpu() - cpu,
        "wall_seconds": time.perf_counter() - wall,
    }


def measure(scenario: Scenario, peer: str, url: str, seconds: float) -> dict[str, float]:
    """One run of one peer."""
    if scenario.action == "start":
        return measure_starts(peer, seconds)
    line = run_python("-m", "benchmarks.child", peer, scenario.name, url, str(seconds), seconds=seconds)
    result: dict[str, float] = orjson.loads(line)
    return result


def reason(error: subprocess.SubprocessError) -> str:
    """Why a process gave no result, in one line."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no result within {error.timeout:.0f} s"
    lines = (getattr(error, "stderr", None) or "").strip().splitlines()
    return lines[-1] if lines else "no result"


def run_once(scenario: Scenario, peer: str, turn: int, url: str, seconds: float) -> Run:
    """One run of one peer, or why there is none: a peer that fails leaves the others alone."""
    try:
        result = measure(scenario, peer, url, seconds)
    except subprocess.SubprocessError as error:
        return Run(scenario.name, peer, turn, failure=reason(error))
    return Run(
        scenario.name,
        peer,
        turn,
        units=int(result["units"]),
        cpu_seconds=result["cpu_seconds"],
        wall_seconds=result["wall_seconds"],
    )


def run_all(
    scenarios: Sequence[Scenario], peers: Sequence[str], *, url: str, turns: int, seconds: float
) -> Iterator[Run]:
    """All runs, in the order in which they are made."""
    for scenario in scenarios:
        for turn in range(turns):
            for peer in peers_of(scenario, peers):
                yield run_once(scenario, peer, turn, url, seconds * scenario.stretch)

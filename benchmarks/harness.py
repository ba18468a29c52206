"""Runs peers in turn (A B C A B C …), every run in a process of its own and in the same clean environment."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import orjson

from benchmarks.machine import Watch
from benchmarks.runners import ASK_ONCE, BLOCKING, ONLY_CHAT, ONLY_EMBED, OWN_TRUST, STARTS
from benchmarks.runs import Run
from benchmarks.scenarios import Scenario
from benchmarks.server import ROOT, Server, Servers

UNARY = ONLY_CHAT | ONLY_EMBED
"""Peers that do not stream."""

FIXED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
SPARE_SECONDS = 60.0
TRIES = 3
"""How often a run is repeated that shared the machine with something else."""


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
    if scenario.tls and peer in OWN_TRUST:
        return False
    if scenario.is_start:
        return peer in (STARTS if scenario.action == "start" else ASK_ONCE)
    if scenario.over or peer in BLOCKING:
        return bool(scenario.over) and peer in BLOCKING
    return peer not in (ONLY_CHAT if scenario.is_embedding else ONLY_EMBED if scenario.action == "chat" else UNARY)


def run_python(*arguments: str, seconds: float, authority: str | None = None) -> str:
    """Run a fresh interpreter that should take so long, in the clean environment; returns its standard output.

    `authority`: a file with the certificate that signed the server's.
    """
    trust = {} if authority is None else {"SSL_CERT_FILE": authority, "REQUESTS_CA_BUNDLE": authority}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=child_environment(os.environ) | trust,
        capture_output=True,
        text=True,
        check=True,
        timeout=2 * seconds + SPARE_SECONDS,
    ).stdout


def children_cpu() -> float:
    """Seconds of CPU of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_starts(code: str, seconds: float) -> dict[str, float]:
    """Start fresh interpreters with this code, until the wall time has passed; the one that took the least CPU counts."""
    run_python("-c", code, seconds=seconds)  # writes the bytecode caches
    starts: list[tuple[float, float]] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        cpu, wall = children_cpu(), time.perf_counter()
        run_python("-c", code, seconds=seconds)
        starts.append((children_cpu() - cpu, time.perf_counter() - wall))
    least, taken = min(starts)
    return {"units": 1, "cpu_seconds": least, "wall_seconds": taken}


def measure(scenario: Scenario, peer: str, server: Server, seconds: float) -> dict[str, float]:
    """One run of one peer."""
    if scenario.action == "start":
        return measure_starts(STARTS[peer], seconds)
    if scenario.action == "first-call":
        return measure_starts(f"URL, MODEL = {server.url!r}, {scenario.model!r}\n{ASK_ONCE[peer]}", seconds)
    arguments = ("-m", "benchmarks.child", peer, scenario.name, server.url, str(seconds))
    result: dict[str, float] = orjson.loads(run_python(*arguments, seconds=seconds, authority=server.authority))
    return result


def reason(error: subprocess.SubprocessError) -> str:
    """Why a process gave no result, in one line."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no result within {error.timeout:.0f} s"
    lines = (getattr(error, "stderr", None) or "").strip().splitlines()
    return lines[-1] if lines else "no result"


def run_once(scenario: Scenario, peer: str, turn: int, server: Server, seconds: float) -> Run:
    """One run of one peer, or why there is none: a peer that fails leaves the others alone."""
    try:
        result = measure(scenario, peer, server, seconds)
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


def run_undisturbed(scenario: Scenario, peer: str, turn: int, server: Server, seconds: float, watch: Watch) -> Run:
    """One run that had the machine for itself; where it never has, the last one, marked as shared.

    Args:
        scenario: what is measured.
        peer: who is measured.
        turn: which of the repetitions this is.
        server: where the requests go.
        seconds: the least wall time.
        watch: knows how fast this machine is when it is quiet.
    """
    for _ in range(TRIES):
        watch.begin()
        run = run_once(scenario, peer, turn, server, seconds)
        if not watch.was_shared():
            return run
    return replace(run, shared=True)


def run_all(
    scenarios: Sequence[Scenario], peers: Sequence[str], *, servers: Servers, turns: int, seconds: float
) -> Iterator[Run]:
    """All runs, in the order in which they are made."""
    watch = Watch()
    for scenario in scenarios:
        server = servers.tls if scenario.tls else servers.clear
        for turn in range(turns):
            for peer in peers_of(scenario, peers):
                yield run_undisturbed(scenario, peer, turn, server, seconds * scenario.stretch, watch)

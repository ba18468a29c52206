"""A simulator for the commands to talk to, a clean environment, and a hand that runs the command line."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import nimclient
from nimclient.cli import main
from nimclient.cli.corpus import Document, read_corpus
from nimclient.simulator import Simulator, SimulatorThread


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in list(os.environ):
        if name.startswith("NVIDIA_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """The corpus of the demo, which takes its time to read."""
    return read_corpus()


@pytest.fixture
def run(capsys):
    """Run the command line in this process."""

    def run(*argv: str) -> Ran:
        capsys.readouterr()
        code = main(argv)
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture
def sim() -> Iterator[Simulator]:
    thread = SimulatorThread(Simulator())
    with thread:
        yield thread.simulator


@pytest.fixture
def url(sim: Simulator) -> str:
    return sim.base_url


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of a process that finds the same nimclient as this one."""
    paths = [str(Path(nimclient.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def spawn(environment):
    """Start the command line in a process of its own; what is left of them is killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def spawn(*argv: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "nimclient", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        started.append(process)
        return process

    yield spawn
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()

"""A simulator that writes as slowly as a model, and the examples' services as processes of their own."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nimclient.simulator import Simulator, SimulatorThread
from servers.process import ServerProcess

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SWITCH = "NIMCLIENT_TEST_FRAMEWORKS"

Start = Callable[..., ServerProcess]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without the session's installations there is nothing to import."""
    if not os.environ.get(SWITCH) and collection_path.name.startswith("test_"):
        return True
    return None


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A NIM that writes twenty tokens a second."""
    simulator = Simulator(itl=0.05)
    with SimulatorThread(simulator):
        yield simulator


@pytest.fixture
def environment(simulator: Simulator) -> dict[str, str]:
    """The environment of the examples: the server's address, and warnings for resources that are not closed."""
    return {"NVIDIA_BASE_URL": simulator.base_url, "PYTHONWARNINGS": "default::ResourceWarning"}


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts a service in the folder of the examples; at the end it is stopped, and must have had nothing to complain of."""
    started: list[ServerProcess] = []

    def run(*command: str | Path, **more: str) -> ServerProcess:
        log = tmp_path / f"{Path(command[0]).name}-{len(started)}.log"
        path = os.pathsep.join(filter(None, [str(EXAMPLES), os.environ.get("PYTHONPATH")]))
        process = ServerProcess(command, {**environment, "PYTHONPATH": path, **more}, log)
        started.append(process)
        return process

    yield run
    for process in started:
        process.stop(10)
    for process in started:
        assert complaints(process.log.read_text()) == []


def announced(process: ServerProcess, words: str) -> str:
    """The URL that a service says after these words, once it listens."""
    pattern = re.compile(re.escape(words) + r" (http://[\d.:]+)")
    process.wait_until(lambda: pattern.search(process.log.read_text()) is not None, 150)
    found = pattern.search(process.log.read_text())
    assert found is not None
    return found[1] + "/"


def complaints(words: str) -> list[str]:
    """Lines of a log that speak of something left behind; not of the frameworks' own files and listening sockets."""
    bad = (
        "Traceback",
        "Unclosed",
        "unclosed transport",
        "raddr",
        "was not closed",
        "never retrieved",
        "different loop",
    )
    return [line for line in words.splitlines() if any(word in line for word in bad)]

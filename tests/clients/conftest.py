"""Other people's clients against the simulator: nimclient's own is only below one of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nimclient.simulator import Simulator, SimulatorThread

SWITCH = "NIMCLIENT_TEST_CLIENTS"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without the session's installations there is nothing to import."""
    if not os.environ.get(SWITCH) and collection_path.name.startswith("test_"):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Other people's libraries warn as they like."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """A self-hosted NIM with every model of the catalog."""
    simulator = Simulator()
    with SimulatorThread(simulator):
        yield simulator


@pytest.fixture
def url(simulator: Simulator) -> str:
    """Its base URL, with /v1."""
    return simulator.base_url

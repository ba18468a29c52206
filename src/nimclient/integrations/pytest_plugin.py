"""The pytest plugin: fixtures that give tests a NIM to talk to. It comes with the package and is loaded by pytest.

The simulator runs in a thread of its own, so the fixtures need no plugin for async tests and work under every event loop:
pytest-asyncio in either mode, `pytest.mark.anyio`, none at all. Nothing is imported until a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nimclient.simulator import Simulator


@pytest.fixture
def nim_simulator() -> Iterator[Simulator]:
    """A running simulator, for async tests and others: `AsyncClient(base_url=nim_simulator.base_url)`."""
    from nimclient.simulator import Simulator, SimulatorThread

    simulator = Simulator()
    with SimulatorThread(simulator):
        yield simulator


@pytest.fixture
def nim_simulator_url(nim_simulator: Simulator) -> str:
    """The base URL of that simulator: `Client(base_url=nim_simulator_url)`."""
    return nim_simulator.base_url

"""The pytest plugin: fixtures with a simulated NIM. It is included in the package and loaded by pytest.

The simulator runs in its own thread, so the fixtures need no async plugin and work with every event loop:
pytest-asyncio in either mode, `pytest.mark.anyio`, or none. Nothing is imported until a test uses a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nimclient.simulator import Simulator


@pytest.fixture
def nim_simulator() -> Iterator[Simulator]:
    """A running simulator, for any tests: `AsyncClient(base_url=nim_simulator.base_url)`."""
    from nimclient.simulator import Simulator, SimulatorThread

    simulator = Simulator()
    with SimulatorThread(simulator):
        yield simulator


@pytest.fixture
def nim_simulator_url(nim_simulator: Simulator) -> str:
    """The base URL of that simulator: `Client(base_url=nim_simulator_url)`."""
    return nim_simulator.base_url

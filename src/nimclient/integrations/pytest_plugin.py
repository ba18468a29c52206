"""The pytest plugin: fixtures that give tests a NIM to talk to. It comes with the package and is loaded by pytest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nimclient.simulator import Simulator


def _async_fixture() -> Callable[[Callable[..., Any]], Any]:
    """pytest-asyncio's decorator; pytest's own where it is not installed and there are no async tests to serve."""
    try:
        from pytest_asyncio import fixture
    except ImportError:
        return pytest.fixture
    return fixture


@_async_fixture()
async def nim_simulator() -> AsyncIterator[Simulator]:
    """A simulator in the test's own event loop: `AsyncClient(base_url=nim_simulator.base_url)`."""
    from nimclient.simulator import Simulator

    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
def nim_simulator_url() -> Iterator[str]:
    """The base URL of a simulator in a thread of its own, for code that blocks: `Client(base_url=nim_simulator_url)`."""
    from nimclient.simulator import SimulatorThread

    with SimulatorThread() as url:
        yield url

"""A running simulator and a plain client for it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from nimclient.simulator import Simulator

from .raw import CATALOG, RawClient


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(models=["mine/own", *CATALOG]) as sim:
        yield sim


@pytest.fixture
def raw(sim: Simulator, session: aiohttp.ClientSession) -> RawClient:
    return RawClient(sim, session)

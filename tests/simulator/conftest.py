"""A running simulator and a hand to talk to it with."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from nimclient.simulator import Simulator

from .hand import Hand


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(models=["mine/own"]) as sim:
        yield sim


@pytest.fixture
def hand(sim: Simulator, session: aiohttp.ClientSession) -> Hand:
    return Hand(sim, session)

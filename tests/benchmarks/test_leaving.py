"""The benchmark of leaving early measures what it says."""

import asyncio

import pytest

from benchmarks.leaving import measure
from nimclient.simulator import Simulator

pytestmark = pytest.mark.usefixtures("virtual_time")


async def test_every_call_is_left_in_every_way() -> None:
    """Three calls, three ways and one look; each call was in flight when it was left, and its slots were free afterwards."""
    async with Simulator(slots=8, itl=0.05) as simulator:
        results = [result async for result in measure(simulator.base_url, None, 1)]
        assert [(call, way) for call, way, _ in results][::3] == [
            ("plain", "cancel"),
            ("stream", "cancel"),
            ("batch", "cancel"),
            ("one look", ""),
        ]
        assert all(len(seconds) == 1 for _, _, seconds in results)
        chats = [request for request in simulator.requests if request.path.endswith("/chat/completions")]
        assert len(chats) == 3 + 3 + 3 * 8
        assert all(chat.disconnected and 0 < chat.tokens < 20 for chat in chats)
        assert simulator.running == 0
        await asyncio.sleep(0)

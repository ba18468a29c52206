"""Users before bulk: a plain call never waits behind the client's own batch, embeddings or jobs; bulk leaves it room."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Limits
from support.held import Held
from support.server import FaultServer, Stall
from support.wire import chat, chunk, head, token

MakeClient = Callable[..., AsyncClient]
SLOTS = 4


def script(server: FaultServer, bulk: Held, users: Held) -> None:
    """Requests of bulk and of users are held apart, so that a test answers either."""

    def answer(request: Any) -> list[Any]:
        is_bulk = "bulk" in str(request.json["messages"])
        return [(bulk if is_bulk else users).hold, chat()]

    server.script(answer)


def seen(server: FaultServer, word: str) -> int:
    """How many requests with this word the server has received."""
    return sum(word in str(request.json["messages"]) for request in server.requests)


@pytest.mark.parametrize("concurrency", [None, 2 * SLOTS])
async def test_bulk_leaves_a_slot_for_a_plain_call(
    server: FaultServer, make_client: MakeClient, concurrency: int | None
) -> None:
    """With all slots that bulk may have in use, a plain call is sent at once: it does not wait for the pool."""
    client = make_client(limits=Limits(concurrency=SLOTS))
    bulk, users = Held(), Held()
    script(server, bulk, users)
    batch = asyncio.create_task(client.chat.batch(["bulk"] * 12, concurrency=concurrency))
    await server.until(lambda: seen(server, "bulk") == SLOTS - 1)
    asked = asyncio.create_task(client.chat.create("plain"))
    await server.until(lambda: seen(server, "plain") == 1)
    users.release_all()
    meta = (await asked).meta
    assert meta is not None
    assert meta.timings.queue == 0
    bulk.release_all()
    assert len(await batch) == 12
    assert bulk.most == SLOTS - 1


async def test_a_released_slot_goes_to_a_plain_call_first(server: FaultServer, make_client: MakeClient) -> None:
    """Where more plain calls come than slots were left, they are before all of bulk that waits longer already."""
    client = make_client(limits=Limits(concurrency=SLOTS))
    bulk, users = Held(), Held()
    script(server, bulk, users)
    batch = asyncio.create_task(client.chat.batch(["bulk"] * 12, concurrency=12))
    await server.until(lambda: seen(server, "bulk") == SLOTS - 1)
    asked = [asyncio.create_task(client.chat.create("plain")) for _ in range(3)]
    for answered in range(2):
        await server.until(lambda answered=answered: seen(server, "plain") == answered + 1)
        bulk.release_one()
    await server.until(lambda: seen(server, "plain") == 3)
    assert seen(server, "bulk") == SLOTS - 1  # no other one was sent meanwhile
    users.release_all()
    bulk.release_all()
    await asyncio.gather(batch, *asked)


async def test_bulk_yields_what_the_server_works_on(server: FaultServer, make_client: MakeClient) -> None:
    """With a plain stream in flight, a batch of a fixed concurrency has one request less in flight: the sum is the same."""
    client = make_client()
    bulk = Held()
    server.script([head() + chunk(token("a")), Stall()], [bulk.hold, chat()])
    async with client.chat.stream("plain"):
        batch = asyncio.create_task(client.chat.batch(["bulk"] * 12, concurrency=SLOTS))
        await server.until(lambda: seen(server, "bulk") == SLOTS - 1)
        bulk.release_all()
        assert len(await batch) == 12
    assert bulk.most == SLOTS - 1


async def test_bulk_alone_has_all_that_it_was_given(server: FaultServer, make_client: MakeClient) -> None:
    """Without plain calls a fixed concurrency is what is in flight."""
    client = make_client()
    bulk = Held()
    server.script([bulk.hold, chat()])
    batch = asyncio.create_task(client.chat.batch(["bulk"] * 12, concurrency=SLOTS))
    await server.until(lambda: seen(server, "bulk") == SLOTS)
    bulk.release_all()
    assert len(await batch) == 12
    assert bulk.most == SLOTS

"""What is dropped without being closed: streams, clients, clients in cycles. Sockets are closed; nothing piles up."""

import asyncio
import gc
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nimclient import AsyncClient, Client, Limits
from support.leaks import assert_idle, open_files, pools, stray_tasks
from support.memory import allocations
from support.server import FaultServer, Request, Stall
from support.until import until
from support.wire import MODEL, chat, chunk, head, token

MakeClient = Callable[..., AsyncClient]
STREAMS = int(os.environ.get("NIMCLIENT_TEST_ABANDONED", "300"))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Forgotten streams may warn here; what they say is kept. (A recorded warning would keep its stream.)"""
    words: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", ResourceWarning)
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_: words.append(str(message)))
        yield words


def reply(request: Request) -> Any:
    return [head() + chunk(token("a")), Stall()] if request.json.get("stream") else chat()


async def abandon(client: AsyncClient) -> None:
    """Open a stream, read a piece, and forget it."""
    stream = await client.chat.stream("hi")
    await anext(stream)


async def test_abandoned_streams(server: FaultServer, make_client: MakeClient, told: list[str]) -> None:
    """Streams that are opened, begun and forgotten give back slot, connection, task and memory; each warns once."""
    client = make_client(limits=Limits(concurrency=4))
    server.script(reply)

    async def many(count: int) -> None:
        for _ in range(count):
            async with asyncio.timeout(60):  # all slots are taken where they are not given back
                await abandon(client)
            server.requests.clear()
        await server.until(lambda: server.open == 0)

    await many(50)
    gc.collect()
    files = open_files()
    told.clear()
    with allocations() as in_use:
        await many(STREAMS)
        gc.collect()
        assert in_use() < 2**20
    assert len(told) == STREAMS
    assert set(told) == {f"a stream from {server.url}/chat/completions was not closed"}
    told.clear()
    gc.collect()
    assert_idle(client)
    assert stray_tasks() == []
    assert open_files() <= files
    assert (await client.chat.create("hi")).text == "Hello"


def test_abandoned_blocking_streams(far: FaultServer, told: list[str]) -> None:
    """The same with Client, whose streams are dropped in another thread than the one that their connection lives in."""
    far.script(reply)
    with Client(base_url=far.url, model=MODEL, limits=Limits(concurrency=4)) as client:

        def many(count: int) -> None:
            for _ in range(count):
                stream = client.chat.stream("hi", timeout=5)
                next(stream)
                del stream
                far.requests.clear()
            assert until(lambda: far.open == 0)

        many(50)
        gc.collect()
        files = open_files()
        told.clear()
        with allocations() as in_use:
            many(STREAMS)
            gc.collect()
            assert in_use() < 2**20
        assert len(told) == STREAMS
        told.clear()
        gc.collect()
        assert until(lambda: open_files() <= files)
        assert client.chat.create("hi").text == "Hello"


async def test_a_stream_that_an_exception_keeps(server: FaultServer, make_client: MakeClient, told: list[str]) -> None:
    """A stream in the frames of an exception lives as long as that; then its connection is closed."""
    client = make_client()
    server.script(reply)

    async def fail() -> None:
        stream = await client.chat.stream("hi")
        await anext(stream)
        raise ZeroDivisionError

    try:
        await fail()
    except ZeroDivisionError as error:
        kept = error
    gc.collect()
    await asyncio.sleep(0.02)
    assert server.open == 1
    del kept
    await server.until(lambda: server.open == 0)
    assert len(told) == 1


class Owner:
    """Somebody's object that holds a client and is held by it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        client.owner = self


async def test_a_client_in_a_cycle(server: FaultServer) -> None:
    """A client in a reference cycle is collected in a running loop; its connections are closed there, quietly."""
    server.script(chat())
    owner = Owner(AsyncClient(base_url=server.url, model=MODEL))
    await owner.client.chat.create("hi")
    pool = pools(owner.client)[0]
    connector = pool.connector
    del owner, pool
    assert server.open == 1
    gc.collect()
    await server.until(lambda: server.open == 0)
    assert connector.closed
    assert stray_tasks() == []


def test_a_blocking_client_in_a_cycle(far: FaultServer) -> None:
    """The same for Client: its connections, in the background loop, are closed when it is collected."""
    far.script(chat())
    owner = Owner(Client(base_url=far.url, model=MODEL))
    owner.client.chat.create("hi")
    assert far.open == 1
    del owner
    gc.collect()
    assert until(lambda: far.open == 0)


def test_a_client_in_a_cycle_after_its_loop(far: FaultServer) -> None:
    """And for a client whose loop has ended by the time it is collected: nothing is left for the collector to do."""
    far.script(chat())
    owner = Owner(AsyncClient(base_url=far.url, model=MODEL))
    asyncio.run(owner.client.chat.create("hi"))
    assert until(lambda: far.open == 0)
    del owner
    gc.collect()


def test_many_clients(far: FaultServer) -> None:
    """Clients that are made, used once and dropped by the hundred leave neither descriptors nor memory behind."""
    far.script(chat())

    async def many(count: int) -> None:
        for _ in range(count):
            await AsyncClient(base_url=far.url, model=MODEL).chat.create("hi")
            gc.collect()

    asyncio.run(many(20))
    assert until(lambda: far.open == 0)
    files = open_files()
    with allocations() as in_use:
        asyncio.run(many(100))
        assert until(lambda: far.open == 0)
        assert in_use() < 2**20
    assert until(lambda: open_files() <= files)

"""client.warm: connections that are there before the first call."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Client, Timeouts
from nimclient.errors import ClientClosedError
from nimclient.testing import FakeTransport
from support.server import FaultServer, Request
from support.wire import chat

MakeClient = Callable[..., AsyncClient]


async def test_connections_are_there_before_the_first_call(server: FaultServer, client: AsyncClient) -> None:
    """Three are opened, nothing is sent; three calls at once use them, and none of them connects."""
    together = asyncio.Barrier(3)

    def reply(request: Request) -> Any:
        return [together.wait, chat()]

    server.script(reply)
    assert await client.warm(3) == 3
    assert (server.connections, server.requests) == (3, [])
    replies = await asyncio.gather(*(client.chat.create("hi") for _ in range(3)))
    assert [reply.meta.timings.connect for reply in replies if reply.meta] == [None] * 3
    assert server.connections == 3


async def test_open_connections_count(server: FaultServer, client: AsyncClient) -> None:
    """Connections that are idle already are among those that are open then."""
    server.script(chat())
    await client.chat.create("hi")
    assert await client.warm(2) == 2
    assert server.connections == 2
    assert await client.warm(0) == 0


async def test_they_are_spread_over_the_replicas(server: FaultServer, make_client: MakeClient) -> None:
    """Each replica gets its share; one that cannot be reached is not counted and raises nothing."""
    async with FaultServer() as other:
        client = make_client([server.url, other.url])
        assert await client.warm(5) == 5
        assert (server.connections, other.connections) == (3, 2)
        await client.aclose()
    client = make_client([server.url, other.url])
    assert await client.warm(4) == 2


def test_tls_is_done(far_tls: FaultServer, ca_file: str) -> None:
    """The handshake is over when it returns, and the blocking client has the method, too."""
    with Client(base_url=far_tls.url, verify=ca_file, model="m") as client:
        assert client.warm(2) == 2
        reply = client.chat.create("hi")
        assert reply.meta is not None
        assert reply.meta.timings.connect is None
    with Client(base_url=far_tls.url, model="m") as client:  # whose certificate it does not trust
        assert client.warm(2) == 0


async def test_one_that_is_not_made_in_time(make_client: MakeClient, server: FaultServer) -> None:
    """A handshake that hangs is given up after `Timeouts.connect`."""
    never = asyncio.Event()
    server.on_accept = [never.wait]
    client = make_client(server.url.replace("http:", "https:"), timeouts=Timeouts(connect=0.05))
    assert await client.warm(2) == 0
    never.set()


async def test_a_cancelled_warm_up_leaves_nothing(make_client: MakeClient, server: FaultServer) -> None:
    """Cancelled while it connects it closes what it has opened."""
    never = asyncio.Event()
    server.on_accept = [never.wait]
    client = make_client(server.url.replace("http:", "https:"))
    task = asyncio.create_task(client.warm(3))
    await server.until(lambda: server.connections == 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    never.set()
    await server.until(lambda: server.open == 0)


async def test_closed_clients_and_other_transports(server: FaultServer, make_client: MakeClient) -> None:
    """A closed client raises ClientClosedError; a transport without the method opens nothing."""
    client = make_client()
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await client.warm(1)
    assert await AsyncClient(base_url="http://fake", transport=FakeTransport([])).warm(3) == 0

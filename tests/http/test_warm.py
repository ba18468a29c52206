"""client.warm: connections that are there before the first call."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nimclient import AsyncClient, Client, Timeouts
from nimclient.errors import ClientClosedError, ConfigurationError
from nimclient.testing import FakeTransport
from support.server import Close, FaultServer, Request, ServerThread
from support.tunnel import tunnel
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


async def calls_that_open_none(client: AsyncClient, server: FaultServer, count: int) -> None:
    """So many calls at once, each on a connection that was there."""
    together = asyncio.Barrier(count)
    server.script(lambda request: [together.wait, chat()])
    replies = await asyncio.gather(*(client.chat.create("hi") for _ in range(count)))
    assert [reply.meta.timings.connect for reply in replies if reply.meta] == [None] * count
    assert server.connections == count


async def test_handshakes_side_by_side(tls_server: FaultServer, make_client: MakeClient, ca_file: str) -> None:
    """Eight handshakes are over before the first call, and eight calls at once make no other."""
    client = make_client(tls_server.url, verify=ca_file)
    assert await client.warm(8) == 8
    await tls_server.until(lambda: tls_server.connections == 8)
    assert tls_server.requests == []
    await calls_that_open_none(client, tls_server, 8)


async def test_through_a_proxy(server: FaultServer, make_client: MakeClient) -> None:
    """For a plain URL the connections go to the proxy, which hears nothing before the first call."""
    client = make_client("http://nim.test:8000", proxy=server.url.removesuffix("/v1"))
    assert await client.warm(3) == 3
    await server.until(lambda: server.connections == 3)
    assert server.requests == []
    await calls_that_open_none(client, server, 3)
    assert {request.path for request in server.requests} == {"http://nim.test:8000/v1/chat/completions"}


async def test_through_the_tunnel_of_a_proxy(tls_server: FaultServer, make_client: MakeClient, ca_file: str) -> None:
    """For an https URL the tunnels are dug and the handshakes in them are over."""
    async with tunnel(tls_server.port) as (port, tunnels):
        client = make_client(tls_server.url, proxy=f"http://127.0.0.1:{port}", verify=ca_file)
        assert await client.warm(3) == 3
        assert (tunnels, tls_server.requests) == ([b"CONNECT"] * 3, [])
        await calls_that_open_none(client, tls_server, 3)
        assert len(tunnels) == 3
        await client.aclose()


async def test_a_proxy_that_is_not_there(server: FaultServer, make_client: MakeClient) -> None:
    """A proxy that cannot be reached or digs no tunnel opens none, and raises nothing."""
    async with FaultServer() as gone:
        pass
    assert await make_client("http://nim.test", proxy=gone.url.removesuffix("/v1")).warm(2) == 0
    server.script(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert await make_client("https://nim.test", proxy=server.url.removesuffix("/v1")).warm(2) == 0


async def test_a_server_that_closes_idle_connections(server: FaultServer, client: AsyncClient) -> None:
    """What a server has closed in the meantime is not used: the first calls open others, and none fails."""
    closing = asyncio.Event()
    server.on_accept = [closing.wait, Close()]
    server.script(chat())
    assert await client.warm(3) == 3
    closing.set()
    await server.until(lambda: server.open == 0)
    server.on_accept = []
    replies = await asyncio.gather(*(client.chat.create("hi") for _ in range(3)))
    assert [reply.text for reply in replies] == ["Hello"] * 3
    assert server.connections == 6
    assert await client.warm(3) == 3
    assert server.connections == 6


def test_the_blocking_client_and_replicas() -> None:
    """The blocking client warms two replicas alike, and its calls in threads open none."""
    with ServerThread() as one, ServerThread() as two:
        together = threading.Barrier(4)
        for server in (one, two):
            server.script(lambda request: [lambda: asyncio.to_thread(together.wait), chat()])
        with Client(base_url=[one.url, two.url], model="m") as client, ThreadPoolExecutor(4) as pool:
            assert client.warm(4) == 4
            assert {reply.text for reply in pool.map(client.chat.create, ["hi"] * 4)} == {"Hello"}
            assert (one.connections, two.connections) == (2, 2)


@pytest.mark.parametrize(
    ("count", "words"), [(-1, "must be at least 0"), ("8", "not str"), (2.5, "not float"), (True, "bool")]
)
async def test_what_is_no_number_of_connections(
    server: FaultServer, client: AsyncClient, count: Any, words: str
) -> None:
    """A ConfigurationError says what is wrong with it, and nothing is opened."""
    with pytest.raises(ConfigurationError, match=words):
        await client.warm(count)
    assert server.connections == 0

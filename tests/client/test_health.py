"""client.health.wait_ready: patient with a server that comes up, true to its deadline with one that does not."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Client
from nimclient.errors import AuthenticationError, ConfigurationError, ConnectError, RequestTimeoutError
from nimclient.simulator import Simulator
from support.server import Close, FaultServer, ServerThread, Stall
from support.virtual_time import takes
from support.wire import answer, error, http

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]


async def test_it_waits_until_the_server_is_ready(server: FaultServer, client: AsyncClient) -> None:
    """503, 500, a lost connection and a 404 of a proxy are all states that pass."""
    server.script(error(503, "loading"), error(500), [Close()], answer({}, 404), answer({"status": "ready"}))
    server.script(answer({}, 404), path="/health")
    server.script(answer({}, 404), path="/v1/models")
    assert await client.health.wait_ready(timeout=20) is None
    assert server.count("/v1/health/ready") == 5
    assert server.count("/health") == 1


async def test_it_asks_less_and_less_often(server: FaultServer, client: AsyncClient) -> None:
    """The pauses between the questions double."""
    pauses = (0.1, 0.2, 0.4)
    for number in range(1, len(pauses) + 1):
        server.script(*[error(503)] * number, answer({}))
        with takes(sum(pauses[:number])):
            await client.health.wait_ready(timeout=None)


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ([Stall()], "total"),
        (error(503, "still loading"), r"still loading .* 503"),
        ([Close()], "connection"),
        (http(b"", 404), "404"),
    ],
    ids=["silent", "503", "lost", "404"],
)
async def test_the_deadline_is_kept(server: FaultServer, client: AsyncClient, script: Any, state: str) -> None:
    """A server that never gets ready, or accepts and never answers, is given up on time; the error names its last state."""
    server.script(script)
    with takes(0.5), pytest.raises(RequestTimeoutError, match=rf"not ready within 0\.5 s; last: .*{state}") as caught:
        await client.health.wait_ready(timeout=0.5)
    assert (caught.value.phase, caught.value.seconds) == ("total", 0.5)
    assert caught.value.attempts >= 1
    assert caught.value.__cause__ is not None


async def test_a_server_that_is_not_there_yet(make_client: MakeClient) -> None:
    """Refused connections are waited for: the server is started while somebody waits."""
    async with Simulator() as first:
        port = first._address[1]
    client = make_client(f"http://127.0.0.1:{port}")
    waiting = asyncio.create_task(client.health.wait_ready(timeout=30))
    await asyncio.sleep(0.15)
    assert not waiting.done()
    async with Simulator(port=port):
        await waiting
        assert client.dialect == "nim"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_not_waited_for(server: FaultServer, client: AsyncClient, status: int) -> None:
    """What no waiting mends is raised at once."""
    server.script(error(status))
    with pytest.raises(AuthenticationError):
        await client.health.wait_ready(timeout=30)
    assert len(server.requests) == 1


async def test_tls_trouble_is_not_waited_for(server: FaultServer, make_client: MakeClient) -> None:
    """Nor is a server that speaks no TLS."""
    server.script(answer({}))
    client = make_client(f"https://127.0.0.1:{server.port}")
    server.on_accept = [b"HTTP/1.1 400 Bad Request\r\n\r\n", Close()]
    with pytest.raises(ConnectError) as caught:
        await client.health.wait_ready(timeout=30)
    assert caught.value.kind == "tls"


@pytest.mark.parametrize("timeout", [-1, True, "5", float("nan")], ids=str)
async def test_times_that_are_none(client: AsyncClient, timeout: Any) -> None:
    """A time limit is a number of seconds."""
    with pytest.raises(ConfigurationError, match="timeout takes seconds"):
        await client.health.wait_ready(timeout=timeout)


async def test_no_time_is_one_try(server: FaultServer, client: AsyncClient) -> None:
    """A limit of zero still asks, and says at once that there was no time."""
    server.script(answer({}))
    with pytest.raises(RequestTimeoutError):
        await client.health.wait_ready(timeout=0)


async def test_cancelling(server: FaultServer, client: AsyncClient) -> None:
    """Somebody who waits can be cancelled."""
    server.script([Stall()])
    waiting = asyncio.create_task(client.health.wait_ready())
    await server.until(lambda: len(server.requests) == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_the_blocking_client_waits_too() -> None:
    """Client.health.wait_ready is the same, blocking."""
    with ServerThread() as server, Client(base_url=server.url) as client:
        server.script(error(503), answer({}))
        assert client.health.wait_ready(timeout=10) is None
        assert len(server.requests) == 2


@pytest.mark.parametrize("dialect", ["nim", "vllm", "dynamo"])
async def test_each_kind_of_server_is_asked_where_it_answers(dialect: str) -> None:
    """The first question tells which health route the server has, and the next one goes straight there."""
    async with Simulator(dialect=dialect) as sim, AsyncClient(base_url=sim.base_url) as client:
        assert client.dialect is None
        await client.health.wait_ready(timeout=10)
        assert client.dialect == (None if dialect == "vllm" else dialect)  # an empty 200 may be anybody's
        assert await client.health.live()
        before = len(sim.requests)
        assert await client.health.ready()
        assert await client.health.live()
        paths = [request.path for request in sim.requests[before:]]
    routes = {"nim": ["/v1/health/ready", "/v1/health/live"], "vllm": ["/health"] * 2, "dynamo": ["/health", "/live"]}
    assert paths == routes[dialect]

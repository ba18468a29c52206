"""Pools of connections: reuse, staleness, slots, one per event loop, and their end with the client or the loop."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Limits, RetryPolicy, Timeouts
from nimclient.errors import (
    ClientClosedError,
    ConnectionLostError,
    RateLimitError,
    RequestTimeoutError,
)
from support.server import Close, FaultServer, Pause, Request, Reset, Stall
from support.virtual_time import takes
from support.wire import DONE, HELLO, MODEL, answer, chat, chunk, embedded, error, head, token

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
ONCE = RetryPolicy(attempts=1)


# reuse -----------------------------------------------------------------------------------------------------------


async def test_calls_in_a_row_use_one_connection(server: FaultServer, client: AsyncClient) -> None:
    """Twenty calls of all kinds use one connection; only the first has a connect time."""

    def reply(request: Request) -> bytes:
        return chat() if "chat" in request.path else answer(embedded(["1"]))

    server.script(reply)
    first = await client.chat.create("hi")
    assert first.meta is not None
    assert first.meta.timings.connect is not None
    for _ in range(10):
        again = await client.chat.create("hi")
        await client.embeddings.create(["1"])
        assert again.meta is not None
        assert again.meta.timings.connect is None
    assert (server.connections, len(server.requests)) == (1, 21)


async def test_connection_close_is_obeyed(server: FaultServer, client: AsyncClient) -> None:
    """After an answer with Connection: close the next call has a connection of its own, and no retry."""
    server.script(chat().replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    for _ in range(3):
        reply = await client.chat.create("hi")
        assert reply.meta is not None
        assert reply.meta.attempts == 1
    assert (server.connections, len(server.requests)) == (3, 3)


async def test_a_server_that_closes_after_each_answer(server: FaultServer, client: AsyncClient) -> None:
    """A pooled connection that the server has closed costs no error; every request is processed once."""
    server.script([chat(), Close()])
    for _ in range(30):
        assert (await client.chat.create("hi")).text == "Hello"
    assert len(server.requests) == 30


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["FIN", "RST"])
@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_stale_connection_is_replaced_once(
    server: FaultServer, make_client: MakeClient, end: Any, attempts: int
) -> None:
    """A pooled connection that dies under a request: one more try on a fresh one, which the policy does not count."""
    client = make_client(retry=RetryPolicy(attempts=attempts, first_delay=0.01))
    server.script(chat("a"), [end], chat("b"))
    assert (await client.chat.create("hi")).text == "a"
    reply = await client.chat.create("hi")
    assert reply.text == "b"
    assert (server.connections, len(server.requests)) == (2, 3)


async def test_only_one_stale_connection_is_replaced_freely(server: FaultServer, make_client: MakeClient) -> None:
    """When the fresh connection breaks as well the policy decides."""
    client = make_client(retry=ONCE)
    server.script(chat(), [Close()])
    await client.chat.create("hi")
    with pytest.raises(ConnectionLostError) as caught:
        await client.chat.create("hi")
    assert caught.value.reused is False
    assert len(server.requests) == 3


async def test_a_stream_on_a_stale_connection(server: FaultServer, make_client: MakeClient) -> None:
    """Opening a stream replaces a stale connection, too."""
    client = make_client(retry=ONCE)
    server.script(chat(), [Reset()], HELLO)
    await client.chat.create("hi")
    assert (await client.chat.stream("hi").final()).text == "Hello"


async def test_a_closed_connection_in_the_pool_goes_unnoticed(server: FaultServer, client: AsyncClient) -> None:
    """A connection that was closed while it was idle is not even tried."""
    server.script([chat(), Close()])
    await client.chat.create("hi")
    await asyncio.sleep(0.02)
    reply = await client.chat.create("hi")
    assert reply.meta is not None
    assert reply.meta.attempts == 1


# slots -----------------------------------------------------------------------------------------------------------


async def test_connections_leave_descriptors_for_files(
    server: FaultServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `ulimit -n` of 34 two calls are in flight at once, whatever `Limits` says; the others wait for their turn."""
    monkeypatch.setattr("resource.getrlimit", lambda what: (34, 34))
    server.script([Pause(0.01), chat()])
    client = make_client()
    replies = await asyncio.gather(*(client.chat.create("hi") for _ in range(6)))
    assert [reply.text for reply in replies] == ["Hello"] * 6
    assert server.connections == 2


async def test_the_pool_limit(server: FaultServer, make_client: MakeClient) -> None:
    """When all slots are taken for longer than the pool limit: RequestTimeoutError with phase pool, and no request."""
    client = make_client(limits=Limits(concurrency=1), timeouts=Timeouts(pool=0.1))
    server.script([head() + chunk(token("a")), Stall()], chat())
    async with client.chat.stream("hi"):
        with takes(0.1), pytest.raises(RequestTimeoutError) as caught:
            await client.chat.create("hi")
        assert (caught.value.phase, caught.value.attempts, len(server.requests)) == ("pool", 1, 1)
    assert (await client.chat.create("hi")).text == "Hello"


async def test_the_total_limit_holds_in_the_queue(server: FaultServer, make_client: MakeClient) -> None:
    """Waiting for a slot counts against `total`."""
    client = make_client(limits=Limits(concurrency=1))
    server.script([head() + chunk(token("a")), Stall()])
    async with client.chat.stream("hi"):
        with pytest.raises(RequestTimeoutError) as caught:
            await client.chat.create("hi", timeout=0.05)
        assert caught.value.phase == "total"


async def test_no_more_requests_than_slots(server: FaultServer, make_client: MakeClient) -> None:
    """With three slots the server never sees more than three requests at once, and all are answered in time."""
    client = make_client(limits=Limits(concurrency=3))
    now = most = 0

    async def enter() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    server.script([enter, chat()])
    replies = await asyncio.gather(*(client.chat.create("hi") for _ in range(20)))
    assert (most, server.connections) == (3, 3)
    queues = [reply.meta.timings.queue for reply in replies if reply.meta]
    assert queues.count(0) == 3
    assert max(filter(None, queues)) > 0.03


async def test_copies_share_the_slots(server: FaultServer, make_client: MakeClient) -> None:
    """A with_options copy uses the pool of its original."""
    client = make_client(limits=Limits(concurrency=1), timeouts=Timeouts(pool=0.05))
    copy = client.with_options(headers={"X-Copy": "1"})
    server.script([head() + chunk(token("a"))] + [Pause(0.1), chunk(DONE), b"0\r\n\r\n"], chat())
    async with client.chat.stream("hi") as stream:
        with pytest.raises(RequestTimeoutError):
            await copy.chat.create("hi")
        await stream.final()
    assert (await copy.chat.create("hi")).text == "Hello"
    assert server.connections == 1
    assert server.requests[1].headers["x-copy"] == "1"


# the end ---------------------------------------------------------------------------------------------------------


async def test_a_closed_client_takes_no_calls(server: FaultServer, make_client: MakeClient) -> None:
    """After aclose() calls raise ClientClosedError, before any use and after; closing again does nothing."""
    server.script(chat())
    for warm in (False, True):
        client = make_client()
        if warm:
            await client.chat.create("hi")
        await client.aclose()
        await client.aclose()
        for call in (client.chat.create("hi"), client.embeddings.create(["a"]), client.chat.stream("hi").final()):
            with pytest.raises(ClientClosedError):
                await call
    await server.until(lambda: server.open == 0)
    assert len(server.requests) == 1


async def test_closing_ends_calls_under_way(server: FaultServer, make_client: MakeClient) -> None:
    """Calls that wait for an answer, a slot or another attempt end with ClientClosedError when the client is closed."""
    client = make_client(limits=Limits(concurrency=2), retry=RetryPolicy(first_delay=0.05, max_delay=0.05))
    server.script(error(503), [Stall()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.random", lambda: 1.0)
        calls = [asyncio.create_task(client.chat.create("hi")) for _ in range(5)]
        await asyncio.sleep(0.03)
        with takes(0):
            await client.aclose()
            results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [ClientClosedError] * 5


async def test_closing_ends_streams_under_way(server: FaultServer, make_client: MakeClient) -> None:
    """A stream that is being read when its client is closed ends with an error that has the text so far."""
    client = make_client()
    server.script([head() + chunk(token("a")), Stall()])
    stream = await client.chat.stream("hi")
    rest = asyncio.create_task(stream.final())
    await asyncio.sleep(0.02)
    await client.aclose()
    with pytest.raises(ClientClosedError) as caught:
        await rest
    assert caught.value.partial is not None
    assert caught.value.partial.text == "a"


async def test_closing_ends_a_plain_body_under_way(server: FaultServer, make_client: MakeClient) -> None:
    """A call whose answer is half there when the client is closed ends with ClientClosedError."""
    client = make_client()
    server.script([chat()[:-5], Stall()])
    call = asyncio.create_task(client.chat.create("hi"))
    await asyncio.sleep(0.03)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(call, 1)


async def test_closing_while_a_connection_is_made(make_client: MakeClient, server: FaultServer) -> None:
    """A call that is in a TLS handshake when its client is closed does not outlive it."""
    server.on_accept = [Pause(0.1), Close()]
    client = make_client(server.url.replace("http:", "https:"))
    call = asyncio.create_task(client.chat.create("hi"))
    await asyncio.sleep(0.03)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(call, 1)


async def test_closing_a_copy_closes_nothing(server: FaultServer, client: AsyncClient) -> None:
    """with_options copies leave the connections alone when they are closed; they end with their original."""
    server.script(chat())
    copy = client.with_options(timeouts=5)
    async with copy:
        await copy.chat.create("hi")
    assert (await copy.chat.create("hi")).text == "Hello"
    assert (await client.chat.create("hi")).text == "Hello"
    assert server.connections == 1
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await copy.chat.create("hi")


async def test_with_options_changes_only_the_copy(server: FaultServer, client: AsyncClient) -> None:
    """Retry, headers and model of a copy are its own."""
    server.script(error(429))
    copy = client.with_options(retry=ONCE, model="other", headers={"X-A": "b"}).with_options(headers={"X-C": "d"})
    with pytest.raises(RateLimitError):
        await copy.chat.create("hi")
    assert len(server.requests) == 1
    assert server.requests[0].json["model"] == "other"
    assert (server.requests[0].headers["x-a"], server.requests[0].headers["x-c"]) == ("b", "d")
    with pytest.raises(RateLimitError):
        await client.chat.create("hi")
    assert len(server.requests) == 4
    assert server.requests[1].json["model"] == MODEL
    assert "x-a" not in server.requests[1].headers

"""Closing a client while its calls run: each of them ends at once with ClientClosedError, whatever it waits for."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Limits, RetryPolicy
from nimclient.errors import ClientClosedError
from support.leaks import assert_idle
from support.server import FaultServer, Request, Stall
from support.virtual_time import takes
from support.wire import DONE, answer, chat, chunk, embedded, error, head, http, token

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
PATIENT = RetryPolicy(attempts=5, max_retry_after=60)


def play(request: Request) -> Any:
    """An answer to what has "ok" in it, a stream that begins and stops, a rejection for half a minute; else silence."""
    if request.method == "GET":
        return [Stall()]
    body = request.json
    if request.path.endswith("embeddings") and body["input"] == ["later"]:
        return error(503, "no", "Retry-After: 30")
    if request.path.endswith("embeddings"):
        return answer(embedded(body["input"])) if body["input"] == ["1"] else [Stall()]
    text = body["messages"][-1]["content"]
    if body.get("stream"):
        return [head() + chunk(token("Hel")), Stall()]
    if text == "poll":
        return http(b"", 202, "NVCF-REQID: 12345678-1234-1234-1234-123456789012", "NVCF-STATUS: pending-evaluation")
    if text == "later":
        return error(503, "no", "Retry-After: 30")
    return chat("fine") if text == "ok" else [Stall()]


async def silence(client: AsyncClient) -> Any:
    return await client.chat.create("silence")


async def later(client: AsyncClient) -> Any:
    return await client.chat.create("later")


async def whole_stream(client: AsyncClient) -> Any:
    return await client.chat.stream("go on").final()


async def read_stream(client: AsyncClient) -> Any:
    async with client.chat.stream("go on") as stream:
        return [chunk async for chunk in stream]


async def batch(client: AsyncClient) -> Any:
    return await client.chat.batch(["ok", "silence", "later"])


async def batch_return(client: AsyncClient) -> Any:
    return await client.chat.batch(["ok", "silence", "later"], on_error="return")


async def batch_collect(client: AsyncClient) -> Any:
    return await client.chat.batch((text for text in ["ok", "silence", "later"]), on_error="collect")


async def endless(client: AsyncClient) -> Any:
    async def source() -> AsyncIterator[str]:
        while True:
            yield "later"

    async with client.chat.as_completed(source(), concurrency=2, on_error="return") as replies:
        return [reply async for reply in replies]


async def documents(client: AsyncClient) -> Any:
    return await client.embeddings.embed_documents(["1", "2"], batch_size=1)


async def embed_stream(client: AsyncClient) -> Any:
    async with client.embeddings.embed_stream(["1", "2", "later"], batch_size=1) as batches:
        return [batch async for batch in batches]


async def refused_documents(client: AsyncClient) -> Any:
    return await client.embeddings.embed_documents(["later", "later"], batch_size=1)


async def polled(client: AsyncClient) -> Any:
    return await client.infer("/v1/infer", {"messages": [{"content": "poll"}]})


async def events(client: AsyncClient) -> Any:
    stream = await client.request("POST", "/v1/x", json={"messages": [{"content": "x"}], "stream": True}, stream=True)
    return [event async for event in stream]


async def wait_ready(client: AsyncClient) -> Any:
    return await client.health.wait_ready(timeout=60)


async def ready(client: AsyncClient) -> Any:
    return await client.health.ready()


async def model_list(client: AsyncClient) -> Any:
    return await client.with_options().models.list()


CALLS = [
    silence,
    later,
    whole_stream,
    read_stream,
    batch,
    batch_return,
    batch_collect,
    endless,
    documents,
    embed_stream,
    refused_documents,
    polled,
    events,
    wait_ready,
    ready,
    model_list,
]


@pytest.mark.parametrize("call", CALLS, ids=lambda f: f.__name__)
async def test_a_running_call_ends(
    server: FaultServer, make_client: MakeClient, call: Callable[[AsyncClient], Any]
) -> None:
    """Unary calls, streams, batches and slices, waiting for an answer, a stream or the next attempt: all end at once."""
    server.script(play)
    client = make_client(retry=PATIENT)
    running = asyncio.create_task(call(client))
    await server.until(lambda: len(server.requests) >= 1)
    await asyncio.sleep(0.03)
    assert not running.done()
    with takes(0):
        await client.aclose()
        with pytest.raises(ClientClosedError) as caught:
            await asyncio.wait_for(running, 1)
    assert running.cancelling() == 0
    if call in (whole_stream, read_stream):
        assert caught.value.partial is not None
        assert caught.value.partial.text == "Hel"
    if call in (batch, documents):
        assert [index for index, _ in caught.value.completed] == [0]
    with pytest.raises(ClientClosedError):
        await call(client)


async def test_a_call_that_waits_for_a_slot_ends(server: FaultServer, make_client: MakeClient) -> None:
    """A call in the queue of the pool ends like those that hold its slots."""
    server.script(play)
    client = make_client(limits=Limits(concurrency=1))
    calls = [asyncio.create_task(silence(client)) for _ in range(3)]
    await server.until(lambda: len(server.requests) == 1)
    await client.aclose()
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 1)
    assert [type(result) for result in results] == [ClientClosedError] * 3


async def test_a_call_that_waits_for_its_turn_ends(server: FaultServer, make_client: MakeClient) -> None:
    """A call that waits for the rate limit sends nothing after the client was closed."""
    server.script(chat())
    client = make_client(limits=Limits(requests_per_minute=1))
    await client.chat.create("hi")
    waiting = asyncio.create_task(client.chat.create("hi"))
    await asyncio.sleep(0.02)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(waiting, 1)
    assert len(server.requests) == 1


async def test_a_connection_that_nobody_accepts(make_client: MakeClient) -> None:
    """A call whose connection is not there yet does not wait for its time limit."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    with contextlib.closing(full):
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        client = make_client(f"http://127.0.0.1:{port}/v1")
        running = asyncio.create_task(client.chat.create("hi"))
        await asyncio.sleep(0.05)
        assert not running.done()
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await asyncio.wait_for(running, 1)
        for filler in fillers:
            filler.close()


async def test_a_stream_between_two_reads(server: FaultServer, make_client: MakeClient) -> None:
    """A stream that is not being read gives what has arrived, then the error; its text is in `.partial`."""
    server.script([head() + chunk(token("a")) + chunk(token("b")), Stall()])
    client = make_client()
    stream = await client.chat.stream("hi")
    assert (await anext(stream)).text == "a"
    await client.aclose()
    assert (await anext(stream)).text == "b"
    for _ in range(2):
        with pytest.raises(ClientClosedError) as caught:
            await anext(stream)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "ab"
    assert_idle(client)


async def test_a_stream_that_was_complete_stays_so(server: FaultServer, make_client: MakeClient) -> None:
    """The client may be closed once an answer is complete, although the end of its body has not come."""
    server.script([head() + chunk(token("a", "stop")) + chunk(DONE), Stall()])
    client = make_client()
    whole = asyncio.create_task(client.chat.stream("hi").final())
    await server.until(lambda: len(server.requests) == 1)
    await asyncio.sleep(0.02)
    await client.aclose()
    assert (await whole).text == "a"


async def test_a_hundred_calls(server: FaultServer, make_client: MakeClient) -> None:
    """Closing with a hundred calls in flight takes no two seconds; two may close it at the same time."""
    server.script(play)
    client = make_client()
    calls = [asyncio.create_task(silence(client)) for _ in range(100)]
    await server.until(lambda: len(server.requests) == 100, 10)
    with takes(0):
        await asyncio.gather(client.aclose(), client.aclose())
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {ClientClosedError}


async def test_another_cancellation_wins(server: FaultServer, make_client: MakeClient) -> None:
    """A call that is cancelled by its caller in the moment in which the client is closed ends cancelled."""
    server.script(play)
    client = make_client()
    running = asyncio.create_task(silence(client))
    await server.until(lambda: len(server.requests) == 1)
    running.cancel()
    await client.aclose()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_wait_for_a_server_ends(
    server: FaultServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wait_ready ends between two of its questions."""
    monkeypatch.setattr("nimclient._resources.health.FIRST_DELAY", 30.0)
    server.script(error(503))
    client = make_client()
    waiting = asyncio.create_task(client.health.wait_ready())
    await server.until(lambda: len(server.requests) >= 1)
    await asyncio.sleep(0.05)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(waiting, 1)

"""Cancelling calls at every await: CancelledError passes unchanged and nothing is left behind."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Limits, RetryPolicy
from nimclient.errors import NimError, RequestTimeoutError
from support.cancelling import cancel_everywhere
from support.leaks import assert_idle, assert_no_strays, replicas
from support.server import FaultServer, Pause, Request, Stall
from support.wire import DONE, END, HELLO, ROLE, answer, chat, chunk, embedded, error, head, token

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]


def reply(request: Request) -> Any:
    """Answers that take their time, so that every await of the client suspends."""
    body = request.json
    if request.path.endswith("embeddings"):
        return [Pause(0.002), answer(embedded(body["input"]))]
    if body.get("stream"):
        return [
            Pause(0.002),
            head() + chunk(ROLE),
            Pause(0.002),
            chunk(token("Hel")),
            Pause(0.002),
            chunk(token("lo", "stop")),
            Pause(0.002),
            chunk(DONE),
            Pause(0.002),
            END,
        ]
    raw = chat()
    return [Pause(0.002), raw[:30], Pause(0.002), raw[30:-5], Pause(0.002), raw[-5:]]


async def create(client: AsyncClient) -> str:
    return (await client.chat.create("hi")).text


async def in_a_block(client: AsyncClient) -> str:
    async with client.chat.stream("hi") as stream:
        return "".join([piece async for piece in stream.text_stream])


async def final(client: AsyncClient) -> str:
    return (await client.chat.stream("hi").final()).text


async def closed_early(client: AsyncClient) -> str:
    async with client.chat.stream("hi") as stream:
        async for _ in stream:
            break
    return ""


async def embed(client: AsyncClient) -> Any:
    return len(await client.embeddings.embed_documents([str(i) for i in range(6)], batch_size=2, concurrency=2))


@pytest.mark.parametrize("pool", ["warm", "cold"])
@pytest.mark.parametrize("call", [create, in_a_block, final, closed_early], ids=lambda f: f.__name__)
async def test_cancelled_at_every_await(
    server: FaultServer, make_client: MakeClient, call: Callable[[AsyncClient], Any], pool: str
) -> None:
    """Wherever a call is cancelled, CancelledError comes out, the only slot of the pool is free, and no task is left."""
    server.script(reply)
    client = make_client(limits=Limits(concurrency=1))
    current = client

    def begin() -> Any:
        nonlocal current
        if pool == "cold":
            current = make_client(limits=Limits(concurrency=1))
        return call(current)

    async def after() -> None:
        assert_idle(current)
        async with asyncio.timeout(1):
            assert await create(current) == "Hello"
        assert_idle(current)
        if current is not client:
            await current.aclose()
        for _ in range(20):
            await asyncio.sleep(0)

    await create(client)
    points = await cancel_everywhere(begin, after)
    assert points >= (2 if pool == "warm" else 3)
    await client.aclose()
    await assert_no_strays()
    assert server.open <= 1


@pytest.mark.parametrize(
    ("script", "options"),
    [
        (error(503), {"retry": RetryPolicy(attempts=5, first_delay=5, max_delay=5)}),
        (error(503, "busy", "Retry-After: 5"), {}),
        ([Stall()], {}),
        ([head(), Stall()], {}),
        (chat()[:-5], {}),
    ],
    ids=["backing off", "Retry-After", "no head", "no body", "half a body"],
)
async def test_cancelled_while_it_waits(
    server: FaultServer, make_client: MakeClient, script: Any, options: dict[str, Any]
) -> None:
    """A call that waits for the server or for its next attempt is cancelled at once."""
    client = make_client(limits=Limits(concurrency=1), **options)
    server.script(script if isinstance(script, list) else [script])
    for call in (create, final):
        task = asyncio.create_task(call(client))
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(0.2):
                await task
        assert task.cancelled()
        assert_idle(client)
    server.script(chat())
    assert await create(client) == "Hello"


async def test_cancelled_in_the_queue_of_the_pool(server: FaultServer, make_client: MakeClient) -> None:
    """A call that is cancelled while it waits for a slot leaves its place to the next one."""
    client = make_client(limits=Limits(concurrency=1))
    server.script([head() + chunk(token("a")), Stall()], chat())
    async with client.chat.stream("hi"):
        tasks = [asyncio.create_task(create(client)) for _ in range(3)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.sleep(0)
        tasks[1].cancel()
    assert await tasks[2] == "Hello"
    results = await asyncio.gather(*tasks[:2], return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2


async def test_cancelled_twice(server: FaultServer, make_client: MakeClient) -> None:
    """A second cancellation one turn of the loop later changes nothing."""
    client = make_client(limits=Limits(concurrency=1))
    server.script([head() + chunk(token("a")), Stall()])
    for call in (create, final):
        for turns in range(4):
            task = asyncio.create_task(call(client))
            await asyncio.sleep(0.01)
            task.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert_idle(client)
    server.script(chat())
    assert await create(client) == "Hello"


async def test_a_time_limit_of_the_caller(server: FaultServer, client: AsyncClient) -> None:
    """asyncio.timeout around a call raises the caller's TimeoutError, not one of ours."""
    server.script([Stall()])
    for call in (create, final):
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await call(client)
        assert not isinstance(caught.value, NimError)


async def test_our_time_limit_within_the_callers(server: FaultServer, client: AsyncClient) -> None:
    """A limit of ours that is reached inside asyncio.timeout leaves the caller's alone."""
    server.script([Stall()])
    async with asyncio.timeout(1) as scope:
        with pytest.raises(RequestTimeoutError):
            await client.chat.create("hi", timeout=0.03)
        await asyncio.sleep(0)
    assert not scope.expired()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_server_notices_a_cancelled_call(server: FaultServer, client: AsyncClient) -> None:
    """Cancelling closes the connection at once: generation does not continue without a reader."""
    server.script([head() + chunk(token("a")), Stall()])
    task = asyncio.create_task(create(client))
    await asyncio.sleep(0.02)
    task.cancel()
    await server.until(lambda: server.open == 0, 0.5)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_embedding_job_cancelled_at_any_time(server: FaultServer, make_client: MakeClient) -> None:
    """Wherever its slices are, a cancelled embed_documents leaves the only slot free and no task behind."""
    client = make_client(limits=Limits(concurrency=1))
    server.script(reply)
    for step in range(30):
        task = asyncio.create_task(embed(client))
        await asyncio.sleep(step / 2000)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled() or task.result() == 6
        assert_idle(client)
        assert await create(client) == "Hello"


async def test_cancelling_an_embedding_job_cancels_its_slices(server: FaultServer, client: AsyncClient) -> None:
    """All requests of a cancelled embed_documents are dropped; no task of it is left."""
    server.script([Stall()])
    texts = [str(i) for i in range(8)]
    task = asyncio.create_task(client.embeddings.embed_documents(texts, batch_size=1, concurrency=4))
    await server.until(lambda: len(server.requests) == 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until(lambda: server.open == 0)
    assert_idle(client)


async def test_a_stream_in_a_task_group(server: FaultServer, client: AsyncClient) -> None:
    """A stream that a sibling's failure cancels is closed; the sibling's error is what comes out."""
    server.script([head() + chunk(token("a")), Stall()])

    async def fail() -> None:
        await asyncio.sleep(0.03)
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(final(client))
            group.create_task(fail())
    assert [type(error_) for error_ in caught.value.exceptions] == [ZeroDivisionError]
    await server.until(lambda: server.open == 0)


async def test_hello_after_all(server: FaultServer, client: AsyncClient) -> None:
    """The stream of these tests is a good one."""
    server.script(HELLO)
    assert await final(client) == "Hello"


@pytest.mark.parametrize("call", [create, in_a_block, final, closed_early, embed], ids=lambda f: f.__name__)
async def test_no_cancelled_call_is_outstanding(
    server: FaultServer, make_client: MakeClient, call: Callable[[AsyncClient], Any]
) -> None:
    """With replicas, one of them dead: wherever a call is cancelled, nothing is outstanding at any replica after it."""
    server.script(reply)
    client = make_client(["http://127.0.0.1:9/v1", server.url])
    books = replicas(client)

    async def after() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        assert_idle(client)
        assert [(len(replica.open), replica.probe) for replica in books] == [(0, None), (0, None)]
        books[0].ejected_until = 0.0  # the next call tries it

    await create(client)
    assert await cancel_everywhere(lambda: call(client), after, deep=call is embed) >= 3
    await assert_no_strays()

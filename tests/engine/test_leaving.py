"""Whoever leaves frees the server's slot at once: its GPU works for nobody who has gone.

The simulator counts the tokens that it generates. It shares loop and clock with the client, so the times are exact.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from nimclient import AsyncClient, Timeouts
from nimclient.errors import ClientClosedError, NimError, RequestTimeoutError
from nimclient.simulator import Simulator
from support.leaks import assert_idle
from support.virtual_time import takes

pytestmark = pytest.mark.usefixtures("virtual_time")

FREE = 0.1  # seconds
TTFT, ITL = 1.0, 0.05
LONG: dict[str, Any] = {"max_tokens": 2000, "extra_body": {"ignore_eos": True}}
TEXTS = ["one", "two", "three", "four", "five", "six"]

began: WeakKeyDictionary[Simulator, float] = WeakKeyDictionary()

Call = Callable[[AsyncClient], Awaitable[object]]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A server of four slots that generates twenty tokens a second, the first one after a second."""
    async with Simulator(slots=4, ttft=TTFT, itl=ITL, models=["m"]) as simulator:
        began[simulator] = time.monotonic()
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncClient]:
    """Its client."""
    async with AsyncClient(base_url=simulator.base_url, model="m") as client:
        yield client


async def plain(client: AsyncClient) -> object:
    return await client.chat.create("hi", **LONG)


async def completion(client: AsyncClient) -> object:
    return await client.completions.create("hi", **LONG)


async def stream(client: AsyncClient) -> object:
    async with client.chat.stream("hi", **LONG) as stream:
        return [chunk async for chunk in stream]


async def final(client: AsyncClient) -> object:
    return await client.chat.stream("hi", **LONG).final()


async def unclosed(client: AsyncClient) -> object:
    """A loop over a stream without a block around it."""
    return [piece async for piece in client.chat.stream("hi", **LONG).text_stream]


async def turn(client: AsyncClient) -> object:
    return await client.chat.conversation().send("hi", **LONG)


async def parsed(client: AsyncClient) -> object:
    return await client.chat.parse("hi", dict[str, list[int]], **LONG)


async def batch(client: AsyncClient) -> object:
    return await client.chat.batch(TEXTS, **LONG)


async def as_completed(client: AsyncClient) -> object:
    return [reply async for reply in client.chat.as_completed(TEXTS, **LONG)]


async def documents(client: AsyncClient) -> object:
    return await client.embeddings.embed_documents(TEXTS, batch_size=1)


async def embed_stream(client: AsyncClient) -> object:
    return [batch async for batch in client.embeddings.embed_stream(TEXTS, batch_size=1)]


async def rerank(client: AsyncClient) -> object:
    return await client.rerank("hi", TEXTS, batch_size=1)


ONE: list[Call] = [plain, completion, stream, final, unclosed, turn, parsed, rerank]  # its first slice goes alone
MANY: list[Call] = [batch, as_completed, documents, embed_stream]
SHORT = (parsed, documents, embed_stream, rerank)


async def busy(simulator: Simulator, call: Call, seconds: float = 0.0) -> None:
    """Wait until the call holds its slots, and some seconds more."""
    while simulator.running < (4 if call in MANY else 1):
        await asyncio.sleep(0.01)
    await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def freed(simulator: Simulator) -> AsyncIterator[None]:
    """Hold that after this block all slots are free at once, and one more token a request was generated at most."""
    tokens = max(int((time.monotonic() - began[simulator] - TTFT) / ITL), 0) + 1
    with takes(FREE, at_most=True):
        yield
        while simulator.running or simulator.waiting:
            await asyncio.sleep(0.01)
    assert max(request.tokens for request in simulator.requests) <= tokens + 1
    assert all(request.disconnected for request in simulator.requests)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 3.0], ids=["at once", "before the first token", "in the answer"])
@pytest.mark.parametrize("call", [*ONE, *MANY], ids=lambda call: call.__name__)
async def test_cancelled(simulator: Simulator, client: AsyncClient, call: Call, seconds: float) -> None:
    """A cancelled call frees its slots, and those that it was waiting for, wherever it is."""
    if call in SHORT:
        seconds = min(seconds, 0.5)
    task = asyncio.ensure_future(call(client))
    await busy(simulator, call, seconds)
    async with freed(simulator):
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert_idle(client)


@pytest.mark.parametrize("limit", [0.6, 3.0], ids=["before the first token", "in the answer"])
@pytest.mark.parametrize("call", [*ONE, *MANY], ids=lambda call: call.__name__)
async def test_a_deadline(simulator: Simulator, client: AsyncClient, call: Call, limit: float) -> None:
    """`Timeouts.total` frees the slots when it ends the call."""
    if call in SHORT:
        limit = 0.6
    task = asyncio.ensure_future(call(client.with_options(timeouts=Timeouts(total=limit))))
    await asyncio.sleep(limit - 0.02)
    async with freed(simulator):
        await asyncio.wait([task])
        assert isinstance(task.exception(), RequestTimeoutError)
    assert_idle(client)


@pytest.mark.parametrize("seconds", [0.5, 3.0], ids=["before the first token", "in the answer"])
@pytest.mark.parametrize("call", [*ONE, *MANY], ids=lambda call: call.__name__)
async def test_the_client_is_closed(simulator: Simulator, call: Call, seconds: float) -> None:
    """Closing the client from another task frees all slots of all its calls."""
    client = AsyncClient(base_url=simulator.base_url, model="m")
    if call in SHORT:
        seconds = 0.5
    task = asyncio.ensure_future(call(client))
    await busy(simulator, call, seconds)
    async with freed(simulator):
        await client.aclose()
        await asyncio.wait([task])
        assert isinstance(task.exception(), (ClientClosedError, NimError))


@pytest.mark.parametrize("seconds", [0.5, 3.0], ids=["before the first token", "in the answer"])
@pytest.mark.parametrize("kind", ["stream", "as_completed", "embed_stream"])
async def test_closed_by_another_task(simulator: Simulator, client: AsyncClient, kind: str, seconds: float) -> None:
    """`aclose()` from another task frees the slots of what is being read, before its first token, too."""
    opened: Any = {
        "stream": lambda: client.chat.stream("hi", **LONG),
        "as_completed": lambda: client.chat.as_completed(TEXTS, **LONG),
        "embed_stream": lambda: client.embeddings.embed_stream(TEXTS, batch_size=1),
    }[kind]()

    async def read() -> object:
        return [one async for one in opened]

    task = asyncio.ensure_future(read())
    await busy(simulator, stream if kind == "stream" else as_completed, 0.5 if kind == "embed_stream" else seconds)
    async with freed(simulator):
        await opened.aclose()
        await asyncio.wait([task])
        assert task.exception() is not None
    assert_idle(client)


async def test_a_loop_that_is_left(simulator: Simulator, client: AsyncClient) -> None:
    """The end of the block after `break` frees the slot."""
    async with client.chat.stream("hi", **LONG) as answer:
        async for _ in answer:
            break
        holds = freed(simulator)
        await holds.__aenter__()
    await holds.__aexit__(None, None, None)


async def test_a_stream_that_is_forgotten(simulator: Simulator, client: AsyncClient) -> None:
    """A stream without a block frees the slot when it is garbage-collected, with a ResourceWarning."""
    answer = client.chat.stream("hi", **LONG)
    await anext(answer)
    with pytest.warns(ResourceWarning):
        async with freed(simulator):
            del answer
    assert_idle(client)


async def test_while_it_waits_for_a_slot(simulator: Simulator, client: AsyncClient) -> None:
    """A call that the server has in its queue leaves the queue."""
    first = [asyncio.ensure_future(plain(client)) for _ in range(4)]
    await busy(simulator, batch)
    fifth = asyncio.ensure_future(plain(client))
    while not simulator.waiting:
        await asyncio.sleep(0.01)
    with takes(FREE, at_most=True):
        fifth.cancel()
        while simulator.waiting:
            await asyncio.sleep(0.01)
    for task in first:
        task.cancel()
    await asyncio.wait([*first, fifth])


@pytest.mark.parametrize(
    "way", ["cancel", *(pytest.param(way, marks=pytest.mark.slow) for way in ("deadline", "close"))]
)
async def test_an_accepted_request(way: str) -> None:
    """A call that polls stops polling at once; the platform, which no request can tell, drops the work by itself.

    Until the response with 202 the request is an ordinary one: closing it cancels the work.
    """
    async with Simulator(dialect="hosted", slots=1, itl=1.0, faults=["accepted"]) as platform:
        client = AsyncClient("nvapi-x", platform.base_url, model="meta/llama-3.1-8b-instruct")
        timeouts = Timeouts(total=5.0 if way == "deadline" else None)
        task = asyncio.ensure_future(plain(client.with_options(timeouts=timeouts)))
        await asyncio.sleep(4.9)
        assert platform.running == 1
        polls = len(platform.requests)
        if way == "cancel":
            task.cancel()
        elif way == "close":
            await client.aclose()
        with takes(0.2, at_most=True):
            await asyncio.wait([task])
        assert task.cancelled() or isinstance(task.exception(), (ClientClosedError, RequestTimeoutError))
        await asyncio.sleep(61)
        assert len(platform.requests) == polls >= 2
        assert platform.running == 0
        await client.aclose()


async def test_before_it_is_accepted() -> None:
    """Within its window a request of the hosted platform is cancelled by closing it."""
    async with (
        Simulator(dialect="hosted", slots=1, itl=1.0) as platform,
        AsyncClient("nvapi-x", platform.base_url, model="meta/llama-3.1-8b-instruct") as client,
    ):
        began[platform] = time.monotonic()
        task = asyncio.ensure_future(plain(client))
        await busy(platform, plain, 20)
        async with freed(platform):
            task.cancel()
            await asyncio.wait([task])

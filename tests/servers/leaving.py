"""Leaving a call early, and what a real server says of it in its metrics."""

import asyncio
import re
from collections.abc import Awaitable, Callable

from nimclient import AsyncClient
from nimclient.errors import ClientClosedError

IN_FLIGHT = re.compile(
    r"^(?:vllm:num_requests_(?:running|waiting)|dynamo_frontend_inflight_requests)\{.*\} (\d+)", re.M
)
GENERATED = re.compile(r"^(?:vllm:generation_tokens_total|dynamo_frontend_output_tokens_total)\{.*\} (\d+)", re.M)
LONG = 1500  # tokens

Call = Callable[[AsyncClient], Awaitable[object]]
CALLS: dict[str, Call] = {
    "plain": lambda client: client.chat.create("hello", max_tokens=LONG, ignore_eos=True),
    "stream": lambda client: client.chat.stream("hello", max_tokens=LONG, ignore_eos=True).final(),
    "batch": lambda client: client.chat.batch(["a", "b", "c", "d"], max_tokens=LONG, ignore_eos=True),
}


async def metric(client: AsyncClient, pattern: re.Pattern[str]) -> int:
    """The sum of the server's metrics of this name."""
    return sum(map(int, pattern.findall(await client.request("GET", "/metrics"))))


async def leave(client: AsyncClient, watcher: AsyncClient, call: Call, way: str) -> None:
    """Begin a call and leave it when tokens come; when the server has nothing in flight it generates no more."""
    before = await metric(watcher, GENERATED)
    task = asyncio.ensure_future(call(client))
    while await metric(watcher, GENERATED) < before + 4:
        await asyncio.sleep(0.01)
    if way == "cancel":
        task.cancel()
    await client.aclose()
    await asyncio.wait([task])
    assert task.cancelled() or isinstance(task.exception(), ClientClosedError)
    while await metric(watcher, IN_FLIGHT):
        await asyncio.sleep(0.01)
    generated = await metric(watcher, GENERATED) - before
    assert generated < LONG
    reply = await watcher.chat.create("hello", max_tokens=2, ignore_eos=True)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 2
    while (now := await metric(watcher, GENERATED)) < before + generated + 2:
        await asyncio.sleep(0.01)
    assert now == before + generated + 2

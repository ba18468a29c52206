"""Streams of the real vLLM are resumed: text, token ids, finish_reason and usage equal those of an uninterrupted stream."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from nimclient import AsyncClient, ChatCompletion
from servers.vllm import KEY, MODEL, SWITCH, Vllm

if not os.environ.get(SWITCH):
    pytest.skip("it takes 2.5 GB: `nox -s vllm` installs vLLM and runs these", allow_module_level=True)

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]
GREEDY: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}, "temperature": 0}
TEXT = {"return_token_ids": False}


@asynccontextmanager
async def cutter(url: str, events: int) -> AsyncIterator[str]:
    """Stands between client and server: closes its first connection after so many events. Yields its own URL."""
    left = [events]

    async def connected(client: ByteStream) -> None:
        cut = left.pop() if left else None
        server = await anyio.connect_tcp("127.0.0.1", urlsplit(url).port or 80)
        async with client, server, anyio.create_task_group() as tasks:
            tasks.start_soon(pipe, client, server, None)
            await pipe(server, client, cut)
            tasks.cancel_scope.cancel()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, connected)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/v1"
        tasks.cancel_scope.cancel()


async def pipe(source: ByteStream, target: ByteStream, events: int | None) -> None:
    """Pass bytes on, up to so many events."""
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while events is None or events > 0:
            data = await source.receive()
            if events is not None and (count := data.count(b"\n\n")):
                if count >= events:
                    data = b"\n\n".join(data.split(b"\n\n")[:events]) + b"\n\n"
                events -= min(count, events)
            await target.send(data)


def facts(reply: ChatCompletion) -> tuple[Any, ...]:
    """What must be equal."""
    choice, usage = reply.choices[0], reply.usage
    assert usage is not None
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    return reply.text, choice.finish_reason, choice.stop_reason, counts, choice.extra.get("token_ids")


@pytest.mark.parametrize(
    "options",
    [{"max_tokens": 24}, {"max_tokens": 24, "stop": ["never said", "nor this"]}, {"max_tokens": 200}],
    ids=["limit", "stop", "long"],
)
async def test_a_stream_interrupted_at_every_event(vllm: Vllm, options: dict[str, Any]) -> None:
    """By token ids the rest is exact wherever the stream is cut: inside characters too, of which random words are full."""
    async with AsyncClient(KEY, vllm.base_url, model=MODEL) as client:
        whole = await client.chat.stream("hello", return_token_ids=True, **GREEDY, **options).final()
    resumed = 0
    for events in range(2, min(len(whole.choices[0].extra["token_ids"]), 24) + 1):
        async with (
            cutter(vllm.base_url, events) as url,
            AsyncClient(KEY, url, model=MODEL) as client,
        ):
            reply = await client.chat.stream("hello", resume=1, **GREEDY, **options).final()
            assert reply.meta is not None
            resumed += reply.meta.resumed
            if reply.usage is None:  # a busy server puts tokens together: it was cut between the end and the usage
                assert (reply.text, reply.meta.resumed) == (whole.text, 0)
            else:
                assert facts(reply) == facts(whole), events
    assert resumed > 10  # others were cut before their first text, which was held back, or behind their end


async def test_by_text(vllm: Vllm) -> None:
    """Without token ids the chat continues its last message; text and counts are equal where the text ends with a token."""
    async with AsyncClient(KEY, vllm.base_url, model=MODEL) as client:
        options = {**GREEDY, "max_tokens": 12}
        whole = await client.chat.stream("hello", **options).final()
        async with cutter(vllm.base_url, 5) as url, AsyncClient(KEY, url, model=MODEL, dialect="vllm") as cut:
            reply = await cut.chat.stream("hello", resume=1, **TEXT, **options).final()
    assert whole.usage is not None
    assert reply.usage is not None
    assert reply.meta is not None
    assert reply.meta.resumed == 1
    assert reply.usage.completion_tokens == whole.usage.completion_tokens


async def test_a_server_that_is_stopped_and_started_again(vllm: Vllm, tmp_path: Path) -> None:
    """The answer that it was writing is finished by the new process, with the same tokens."""
    options = {**GREEDY, "max_tokens": 400}
    async with AsyncClient(KEY, vllm.base_url, model=MODEL) as client:
        whole = await client.chat.stream("hello", return_token_ids=True, **options).final()
    server = Vllm(tmp_path)
    async with AsyncClient(KEY, server.base_url, model=MODEL) as client:
        with server:
            stream = await client.chat.stream("hello", resume=1, **options)
            seen = "".join([(await anext(stream)).text for _ in range(20)])
        with server:
            reply = await stream.final()
    assert reply.meta is not None
    assert reply.meta.resumed == 1
    assert whole.text.startswith(seen)
    assert facts(reply) == facts(whole)

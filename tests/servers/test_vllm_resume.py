"""Streams of the real vLLM are resumed: text, token ids, finish_reason and usage equal those of an uninterrupted stream."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from nimclient import AsyncClient, ChatCompletion
from servers.vllm import KEY, MODEL, Vllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]
GREEDY: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}, "temperature": 0}
TEXT = {"return_token_ids": False}


class Cutter:
    """Stands between client and server, and closes its first connection after so many events of a stream."""

    def __init__(self, url: str, events: int) -> None:
        self.port = urlsplit(url).port
        self.left = events
        self.used = False
        self.server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.server is not None
        self.server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cuts, self.used = not self.used, True
        to, back = (reader, writer), await asyncio.open_connection("127.0.0.1", self.port)
        sending = asyncio.create_task(self._pipe(to[0], back[1]))
        with suppress(OSError):
            await (self._cut(back[0], writer) if cuts else self._pipe(back[0], writer))
        sending.cancel()
        for each in (writer, back[1]):
            each.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _cut(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.left:
            writer.write(await reader.readuntil(b"\n\n"))
            self.left -= 1
        await writer.drain()


def facts(reply: ChatCompletion) -> tuple[Any, ...]:
    """What must be equal."""
    choice, usage = reply.choices[0], reply.usage
    assert usage is not None
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    return reply.text, choice.finish_reason, choice.stop_reason, counts, choice.extra.get("token_ids")


@pytest.mark.parametrize(
    "options",
    [{"max_tokens": 24}, {"max_tokens": 24, "stop": ["never said", "nor this"]}, {"max_tokens": 1500}],
    ids=["limit", "stop", "long"],
)
async def test_a_stream_interrupted_at_every_event(vllm: Vllm, options: dict[str, Any]) -> None:
    """By token ids the rest is exact wherever the stream is cut: inside characters too, of which random words are full."""
    async with AsyncClient(KEY, vllm.base_url, model=MODEL) as client:
        whole = await client.chat.stream("hello", return_token_ids=True, **GREEDY, **options).final()
    for events in range(2, min(len(whole.choices[0].extra["token_ids"]), 24) + 1):
        async with (
            Cutter(vllm.base_url, events) as cutter,
            AsyncClient(KEY, cutter.url, model=MODEL) as client,
        ):
            reply = await client.chat.stream("hello", resume=1, **GREEDY, **options).final()
            assert facts(reply) == facts(whole), events
            assert reply.meta is not None
            assert reply.meta.resumed == 1


async def test_by_text(vllm: Vllm) -> None:
    """Without token ids the chat continues its last message; text and counts are equal where the text ends with a token."""
    async with AsyncClient(KEY, vllm.base_url, model=MODEL) as client:
        options = {**GREEDY, "max_tokens": 12}
        whole = await client.chat.stream("hello", **options).final()
        async with Cutter(vllm.base_url, 5) as cutter, AsyncClient(KEY, cutter.url, model=MODEL, dialect="vllm") as cut:
            reply = await cut.chat.stream("hello", resume=1, **TEXT, **options).final()
    assert whole.usage is not None
    assert reply.usage is not None
    assert reply.meta is not None
    assert reply.meta.resumed == 1
    assert reply.usage.completion_tokens == whole.usage.completion_tokens

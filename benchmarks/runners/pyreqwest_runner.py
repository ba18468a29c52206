"""pyreqwest, an HTTP client written in Rust, with orjson: what an engineer writes by hand over it. It only chats here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from pyreqwest.client import Client, ClientBuilder

from benchmarks.runners import Rows


@dataclass(frozen=True, slots=True)
class Pyreqwest:
    """One client and where it sends."""

    client: Client
    url: str
    model: str

    async def stream(self, tokens: int) -> str:
        """Not measured."""
        raise NotImplementedError("only chats here")

    async def embed(self, texts: list[str]) -> Rows:
        """Not measured."""
        raise NotImplementedError("only chats here")

    async def documents(self, texts: list[str], batch: int, in_flight: int) -> Rows:
        """Not measured."""
        raise NotImplementedError("only chats here")

    async def embed_stream(self, texts: list[str], batch: int, in_flight: int) -> int:
        """Not measured."""
        raise NotImplementedError("only chats here")

    async def chat(self, tokens: int) -> str:
        """Ask once without streaming and return the text."""
        body = {"model": self.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens}
        request = self.client.post(f"{self.url}/v1/chat/completions").header("Content-Type", "application/json")
        response = await request.body_bytes(orjson.dumps(body)).build().send()
        text: str = orjson.loads(memoryview(await response.bytes()))["choices"][0]["message"]["content"]
        return text


@asynccontextmanager
async def connect(url: str, model: str) -> AsyncIterator[Pyreqwest]:
    """Open one client for all calls."""
    async with ClientBuilder().build() as client:
        yield Pyreqwest(client, url, model)

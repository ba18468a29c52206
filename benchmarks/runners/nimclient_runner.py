"""nimclient with its defaults, in the way its documentation shows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.runners import Rows
from nimclient import AsyncClient


@dataclass(frozen=True, slots=True)
class NimClient:
    """One client, which knows its model."""

    client: AsyncClient

    async def stream(self, tokens: int) -> str:
        """Stream one chat answer and return its text."""
        parts: list[str] = []
        async with self.client.chat.stream("hi", max_tokens=tokens) as stream:
            async for chunk in stream:
                parts.append(chunk.text)
        return "".join(parts)

    async def embed(self, texts: list[str]) -> Rows:
        """Embed the texts in one request."""
        return (await self.client.embeddings.create(texts)).vectors.numpy()

    async def chat(self, tokens: int) -> str:
        """Ask once without streaming and return the text."""
        return (await self.client.chat.create("hi", max_tokens=tokens)).text


@asynccontextmanager
async def connect(url: str, model: str) -> AsyncIterator[NimClient]:
    """Open one client for all calls."""
    async with AsyncClient(base_url=url, model=model) as client:
        yield NimClient(client)

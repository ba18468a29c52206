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

    async def documents(self, texts: list[str], batch: int, in_flight: int) -> Rows:
        """Embed the texts, `batch` a request, `in_flight` requests side by side, into one matrix."""
        vectors = await self.client.embeddings.embed_documents(texts, batch_size=batch, concurrency=in_flight)
        return vectors.numpy()

    async def embed_stream(self, texts: list[str], batch: int, in_flight: int) -> int:
        """The same, each batch dropped as soon as it is there; returns how many vectors came."""
        count = 0
        async for part in self.client.embeddings.embed_stream(texts, batch_size=batch, concurrency=in_flight):
            count += len(part.vectors)
        return count

    async def chat(self, tokens: int) -> str:
        """Ask once without streaming and return the text."""
        return (await self.client.chat.create("hi", max_tokens=tokens)).text


@asynccontextmanager
async def connect(url: str, model: str) -> AsyncIterator[NimClient]:
    """Open one client for all calls."""
    async with AsyncClient(base_url=url, model=model) as client:
        yield NimClient(client)

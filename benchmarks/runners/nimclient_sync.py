"""nimclient's blocking client in the way its documentation shows. Its coroutines block: nothing else runs in their loop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.runners import Rows
from nimclient import Client


@dataclass(frozen=True, slots=True)
class NimClientSync:
    """One client, which knows its model."""

    client: Client

    async def stream(self, tokens: int) -> str:
        """Stream one chat answer and return its text."""
        parts: list[str] = []
        with self.client.chat.stream("hi", max_tokens=tokens) as stream:
            for chunk in stream:
                parts.append(chunk.text)
        return "".join(parts)

    async def embed(self, texts: list[str]) -> Rows:
        """Embed the texts in one request."""
        return self.client.embeddings.create(texts, input_type="passage").vectors

    async def documents(self, texts: list[str], batch: int, in_flight: int) -> Rows:
        """Not measured."""
        raise NotImplementedError("streams and chats here")

    async def embed_stream(self, texts: list[str], batch: int, in_flight: int) -> int:
        """Not measured."""
        raise NotImplementedError("streams and chats here")

    async def chat(self, tokens: int) -> str:
        """Ask once without streaming and return the text."""
        return self.client.chat.create("hi", max_tokens=tokens).text


@asynccontextmanager
async def connect(url: str, model: str) -> AsyncIterator[NimClientSync]:
    """Open one client for all calls."""
    with Client(base_url=url, model=model) as client:
        yield NimClientSync(client)

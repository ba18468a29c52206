"""baseten-performance-client, which is written in Rust: all texts of a call in one request, the result as an array."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from baseten_performance_client import PerformanceClient, RequestProcessingPreference

from benchmarks.runners import Rows


@dataclass(frozen=True, slots=True)
class Baseten:
    """One client and its model."""

    client: PerformanceClient
    model: str

    async def stream(self, tokens: int) -> str:
        """It has none."""
        raise NotImplementedError("baseten-performance-client does not stream")

    async def embed(self, texts: list[str]) -> Rows:
        """Embed the texts in one request."""
        return await self.documents(texts, len(texts), 1)

    async def documents(self, texts: list[str], batch: int, in_flight: int) -> Rows:
        """Embed the texts, `batch` a request, `in_flight` requests side by side, into one array."""
        how = RequestProcessingPreference(
            batch_size=batch, max_concurrent_requests=in_flight, max_chars_per_request=2**20
        )
        rows: Rows = (await self.client.async_embed(texts, self.model, preference=how)).numpy()
        return rows

    async def embed_stream(self, texts: list[str], batch: int, in_flight: int) -> int:
        """The same: it hands out everything at once; returns how many vectors came."""
        return len(await self.documents(texts, batch, in_flight))

    async def chat(self, tokens: int) -> str:
        """It has none."""
        raise NotImplementedError("baseten-performance-client does not chat")


@asynccontextmanager
async def connect(url: str, model: str) -> AsyncIterator[Baseten]:
    """Build one."""
    yield Baseten(PerformanceClient(url, "x"), model)

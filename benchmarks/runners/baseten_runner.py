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
        one = RequestProcessingPreference(batch_size=len(texts), max_concurrent_requests=1, max_chars_per_request=2**20)
        answer = await self.client.async_embed(texts, self.model, preference=one)
        rows: Rows = answer.numpy()
        return rows

    async def chat(self, tokens: int) -> str:
        """It has none."""
        raise NotImplementedError("baseten-performance-client does not chat")


@asynccontextmanager
async def connect(url: str, model: str) -> AsyncIterator[Baseten]:
    """Build one."""
    yield Baseten(PerformanceClient(url, "x"), model)

"""openai-python in the way its documentation shows, without retries, with its default embedding encoding."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from openai import AsyncOpenAI

from benchmarks.runners import in_slices


@dataclass(frozen=True, slots=True)
class OpenAI:
    """One client and its model."""

    client: AsyncOpenAI
    model: str

    async def stream(self, tokens: int) -> str:
        """Stream one chat answer and return its text."""
        parts: list[str] = []
        async with await self.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=tokens,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            async for chunk in stream:
                if chunk.choices and (content := chunk.choices[0].delta.content):
                    parts.append(content)
        return "".join(parts)

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """Embed the texts in one request."""
        answer = await self.client.embeddings.create(model=self.model, input=texts)
        return [item.embedding for item in answer.data]

    async def documents(self, texts: list[str], batch: int, in_flight: int) -> list[list[float]]:
        """Embed the texts, `batch` a request, `in_flight` requests side by side."""
        return [row async for rows in in_slices(self.embed, texts, batch, in_flight) for row in rows]

    async def embed_stream(self, texts: list[str], batch: int, in_flight: int) -> int:
        """The same; returns how many vectors came."""
        return len(await self.documents(texts, batch, in_flight))

    async def chat(self, tokens: int) -> str:
        """Ask once without streaming and return the text."""
        answer = await self.client.chat.completions.create(
            model=self.model, messages=[{"role": "user", "content": "hi"}], max_tokens=tokens
        )
        return answer.choices[0].message.content or ""


@asynccontextmanager
async def connect(url: str, model: str) -> AsyncIterator[OpenAI]:
    """Open one client for all calls."""
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        yield OpenAI(client, model)

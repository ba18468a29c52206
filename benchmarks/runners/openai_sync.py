"""openai-python's blocking client in the way its documentation shows, without retries."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from openai import OpenAI


@dataclass(frozen=True, slots=True)
class OpenAISync:
    """One client and its model."""

    client: OpenAI
    model: str

    async def stream(self, tokens: int) -> str:
        """Stream one chat answer and return its text."""
        parts: list[str] = []
        with self.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=tokens,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            for chunk in stream:
                if chunk.choices and (content := chunk.choices[0].delta.content):
                    parts.append(content)
        return "".join(parts)

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """Embed the texts in one request."""
        answer = self.client.embeddings.create(model=self.model, input=texts)
        return [item.embedding for item in answer.data]

    async def documents(self, texts: list[str], batch: int, in_flight: int) -> list[list[float]]:
        """Not measured."""
        raise NotImplementedError("streams and chats here")

    async def embed_stream(self, texts: list[str], batch: int, in_flight: int) -> int:
        """Not measured."""
        raise NotImplementedError("streams and chats here")

    async def chat(self, tokens: int) -> str:
        """Ask once without streaming and return the text."""
        answer = self.client.chat.completions.create(
            model=self.model, messages=[{"role": "user", "content": "hi"}], max_tokens=tokens
        )
        return answer.choices[0].message.content or ""


@asynccontextmanager
async def connect(url: str, model: str) -> AsyncIterator[OpenAISync]:
    """Open one client for all calls."""
    with OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        yield OpenAISync(client, model)

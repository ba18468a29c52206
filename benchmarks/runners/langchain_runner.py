"""langchain-nvidia-ai-endpoints in the way its documentation shows, with all texts of a call in one request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from langchain_nvidia_ai_endpoints import ChatNVIDIA, NVIDIAEmbeddings

from benchmarks.runners import in_slices


@dataclass(frozen=True, slots=True)
class LangChain:
    """One chat model and one embedder."""

    chat_model: ChatNVIDIA
    embedder: NVIDIAEmbeddings

    async def stream(self, tokens: int) -> str:
        """Stream one chat answer and return its text."""
        return "".join([str(chunk.content) async for chunk in self.chat_model.astream("hi", max_tokens=tokens)])

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """Embed the texts in one request."""
        return await self.embedder.aembed_documents(texts)

    async def documents(self, texts: list[str], batch: int, in_flight: int) -> list[list[float]]:
        """Embed the texts, `batch` a request, `in_flight` requests side by side."""
        return [row async for rows in in_slices(self.embed, texts, batch, in_flight) for row in rows]

    async def embed_stream(self, texts: list[str], batch: int, in_flight: int) -> int:
        """The same; returns how many vectors came."""
        return len(await self.documents(texts, batch, in_flight))

    async def chat(self, tokens: int) -> str:
        """Ask once without streaming and return the text."""
        return str((await self.chat_model.ainvoke("hi", max_tokens=tokens)).content)


@asynccontextmanager
async def connect(url: str, model: str) -> AsyncIterator[LangChain]:
    """Build both."""
    base = f"{url}/v1"
    yield LangChain(
        ChatNVIDIA(base_url=base, model=model, api_key="x"),
        NVIDIAEmbeddings(base_url=base, model=model, api_key="x", max_batch_size=4096),
    )

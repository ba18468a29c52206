"""A client that talks to a simulator with plain aiohttp, and names the tests share."""

import json
from typing import Any, NamedTuple

import aiohttp

from nimclient.simulator import Simulator
from nimclient.simulator.catalog import served_models

CATALOG = list(served_models())
CHAT = "meta/llama-3.1-8b-instruct"
EMBED = "nvidia/nv-embedqa-e5-v5"
SYMMETRIC = "baai/bge-m3"
RANK = "nvidia/llama-nemotron-rerank-1b-v2"
PARIS = "Paris is the capital of France. Rome lies in Italy. What is the capital of France?"


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any


class RawClient:
    """Sends requests to one simulator and decodes what comes."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session

    @property
    def root(self) -> str:
        return self.sim.base_url.removesuffix("/v1")

    async def post(self, path: str, body: Any, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(self.root + path, json=body, headers=sent) as response:
            return Answer(response.status, await response.json(), response.headers)

    async def get(self, path: str) -> Answer:
        async with self.session.get(self.root + path) as response:
            return Answer(response.status, await response.json(), response.headers)

    async def chat(self, content: Any = PARIS, **options: Any) -> Answer:
        messages = options.pop("messages", None) or [{"role": "user", "content": content}]
        return await self.post("/v1/chat/completions", {"model": CHAT, "messages": messages, **options})

    async def complete(self, prompt: Any = "one two three", **options: Any) -> Answer:
        return await self.post("/v1/completions", {"model": CHAT, "prompt": prompt, **options})

    async def embed(self, texts: Any = "hello world", **options: Any) -> Answer:
        return await self.post("/v1/embeddings", {"model": EMBED, "input_type": "query", "input": texts, **options})

    async def rank(self, query: str, passages: list[str], **options: Any) -> Answer:
        body = {"model": RANK, "query": {"text": query}, "passages": [{"text": text} for text in passages], **options}
        return await self.post("/v1/ranking", body)

    async def stream(self, path: str, body: Any) -> list[Any]:
        """The events of a stream: decoded JSON, and the text "[DONE]" as it is."""
        async with self.session.post(self.root + path, json={"stream": True, **body}) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            text = (await response.read()).decode()
        events = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
        return [event if event == "[DONE]" else json.loads(event) for event in events]

    async def stream_chat(self, content: Any = PARIS, **options: Any) -> list[Any]:
        messages = [{"role": "user", "content": content}]
        return await self.stream("/v1/chat/completions", {"model": CHAT, "messages": messages, **options})

"""The peers: each module does the same three calls in the way its users would write them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Protocol, TypeVar


class Rows(Protocol):
    """A matrix in whatever form a peer hands out: an array, nimclient's Vectors, a list of lists."""

    def __len__(self) -> int: ...
    def __getitem__(self, position: int, /) -> "Row": ...
    def __iter__(self) -> "Iterator[Row]": ...


class Row(Protocol):
    """One vector of a matrix."""

    def __len__(self) -> int: ...
    def __getitem__(self, position: int, /) -> float: ...


class Peer(Protocol):
    """An open client that can do what the scenarios ask."""

    async def stream(self, tokens: int) -> str:
        """Stream one chat answer and return its text."""
        ...

    async def embed(self, texts: list[str]) -> Rows:
        """Embed the texts in one request."""
        ...

    async def documents(self, texts: list[str], batch: int, in_flight: int) -> Rows:
        """Embed the texts, `batch` a request, `in_flight` requests side by side, into one matrix."""
        ...

    async def embed_stream(self, texts: list[str], batch: int, in_flight: int) -> int:
        """The same, each vector dropped as soon as it is there; returns how many came."""
        ...

    async def chat(self, tokens: int) -> str:
        """Ask once without streaming and return the text."""
        ...


T = TypeVar("T")


async def in_slices(
    embed: Callable[[list[str]], Awaitable[T]], texts: list[str], batch: int, in_flight: int
) -> AsyncIterator[T]:
    """What a user writes who has a call for one request: tasks that take slices, and the answers in order.

    Args:
        embed: sends one request.
        texts: all texts.
        batch: texts a request.
        in_flight: how many requests run at once.
    """
    limit = asyncio.Semaphore(in_flight)

    async def one(start: int) -> T:
        async with limit:
            return await embed(texts[start : start + batch])

    for answer in await asyncio.gather(*(one(start) for start in range(0, len(texts), batch))):
        yield answer


class Runner(Protocol):
    """A module of this package."""

    def connect(self, url: str, model: str) -> AbstractAsyncContextManager[Peer]:
        """Open a client for the server at this URL."""
        ...


MODULES = {
    "floor": "floor",
    "floor-checked": "floor_checked",
    "nimclient": "nimclient_runner",
    "nimclient-stdlib": "nimclient_stdlib",
    "openai": "openai_runner",
    "langchain-nvidia": "langchain_runner",
    "baseten": "baseten_runner",
    "pyreqwest": "pyreqwest_runner",
    "nimclient-sync": "nimclient_sync",
    "openai-sync": "openai_sync",
}
"""The peers with a client, and their modules."""

ONLY_EMBED = frozenset({"floor-checked", "nimclient-stdlib", "baseten"})
"""Peers that are there for embeddings alone."""

BLOCKING = frozenset({"nimclient-sync", "openai-sync"})
"""Peers that block: compared with each other, and ours with the client that does not."""

ONLY_CHAT = frozenset({"pyreqwest"})
"""Peers that send plain requests: an HTTP client in another language, with what a chat needs written over it."""

OWN_TRUST = frozenset({"baseten", "pyreqwest"})
"""Peers that do not take the certificates of the environment."""

THREADED = frozenset({"baseten", "pyreqwest"})
"""Peers that do their work in threads of their own: more CPU than wall time is theirs, not a helper's that spins."""

STARTS = {
    "bare": "pass",
    "floor": "import aiohttp, orjson",
    "nimclient": 'from nimclient import AsyncClient; AsyncClient(base_url="http://127.0.0.1:1")',
    "openai": 'from openai import AsyncOpenAI; AsyncOpenAI(base_url="http://127.0.0.1:1/v1", api_key="x")',
}
"""Code for a fresh interpreter that imports a peer and constructs its client."""

ASK_ONCE = {
    "floor": """
import asyncio, aiohttp, orjson
async def main():
    async with aiohttp.ClientSession() as session:
        body = orjson.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]})
        headers = {"Content-Type": "application/json"}
        async with session.post(URL + "/v1/chat/completions", data=body, headers=headers) as response:
            assert orjson.loads(await response.read())["choices"][0]["message"]["content"]
asyncio.run(main())""",
    "nimclient": """
import asyncio
from nimclient import AsyncClient
async def main():
    async with AsyncClient(base_url=URL, model=MODEL) as client:
        assert (await client.chat.create("hi")).text
asyncio.run(main())""",
    "openai": """
import asyncio
from openai import AsyncOpenAI
async def main():
    async with AsyncOpenAI(base_url=URL + "/v1", api_key="x") as client:
        answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
        assert answer.choices[0].message.content
asyncio.run(main())""",
}
"""Code for a fresh interpreter that imports a peer and asks one question; URL and MODEL are put before it."""


def load(peer: str) -> Runner:
    """Import the runner of one peer, and with it that peer alone."""
    return import_module(f"benchmarks.runners.{MODULES[peer]}")

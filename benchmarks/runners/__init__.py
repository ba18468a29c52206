"""The peers: each module does the same three calls in the way its users would write them."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Protocol


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

    async def chat(self, tokens: int) -> str:
        """Ask once without streaming and return the text."""
        ...


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
    "nimclient-sync": "nimclient_sync",
    "openai-sync": "openai_sync",
}
"""The peers with a client, and their modules."""

ONLY_EMBED = frozenset({"floor-checked", "nimclient-stdlib", "baseten"})
"""Peers that are there for embeddings alone."""

BLOCKING = frozenset({"nimclient-sync", "openai-sync"})
"""Peers that block: compared with each other, and ours with the client that does not."""

THREADED = frozenset({"baseten"})
"""Peers that do their work in threads of their own: more CPU than wall time is theirs, not a helper's that spins."""

STARTS = {
    "bare": "pass",
    "floor": "import aiohttp, orjson",
    "nimclient": 'from nimclient import AsyncClient; AsyncClient(base_url="http://127.0.0.1:1")',
    "openai": 'from openai import AsyncOpenAI; AsyncOpenAI(base_url="http://127.0.0.1:1/v1", api_key="x")',
}
"""Code for a fresh interpreter that imports a peer and constructs its client."""


def load(peer: str) -> Runner:
    """Import the runner of one peer, and with it that peer alone."""
    return import_module(f"benchmarks.runners.{MODULES[peer]}")

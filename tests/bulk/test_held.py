"""Requests of large texts: bytes bound what is in flight, as counts do, in every call and job over many items."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pyarrow
import pyarrow.parquet
import pytest

from nimclient import AsyncClient
from nimclient.jobs import BatchJob, EmbedJob, MapJob
from nimclient.testing import FakeRequest, FakeTransport
from support.wire import chat_body, vectors

SIZE = 10_000
ROWS = 40
MOST = 5 * SIZE

Run = Callable[[AsyncClient, Path], Awaitable[Any]]


class Server:
    """Answers late, after it has got so many requests, and counts the bytes of the bodies that it has at a time."""

    def __init__(self, wanted: int = 1) -> None:
        self.now = self.most = self.answered = 0
        self.wanted = wanted
        self.complete = anyio.Event()

    async def answer(self, request: FakeRequest) -> Any:
        size = len(request.body or b"")
        self.now, self.most = self.now + size, max(self.most, self.now + size)
        self.wanted -= 1
        if not self.wanted:
            self.complete.set()
        await self.complete.wait()
        await anyio.sleep(0.01)
        self.now -= size
        body: Any = request.json
        self.answered += len(body.get("input", [0]))
        return vectors([[1.0, 2.0]] * len(body["input"])) if "input" in body else chat_body()

    def client(self) -> AsyncClient:
        return AsyncClient("k", "http://fake", model="m", transport=FakeTransport(self.answer))


def text(number: int) -> str:
    return f"{number:05d}".ljust(SIZE, "x")


def texts() -> Iterator[str]:
    return map(text, range(ROWS))


async def later() -> AsyncIterator[str]:
    for one in texts():
        await anyio.lowlevel.checkpoint()
        yield one


async def read(batches: Any) -> None:
    async with batches:
        async for _ in batches:
            pass


def table(folder: Path) -> Path:
    pyarrow.parquet.write_table(pyarrow.table({"text": list(texts())}), folder / "rows.parquet")
    return folder / "rows.parquet"


def lines(folder: Path, record: Callable[[int], Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record(number)) + "\n" for number in range(ROWS)))
    return path


def row(number: int) -> Any:
    return {"text": text(number)}


def request(number: int) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": text(number)}]}
    return {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}


WAYS: dict[str, Run] = {
    "documents": lambda c, _: c.embeddings.embed_documents(list(texts()), batch_size=1),
    "stream": lambda c, _: read(c.embeddings.embed_stream(texts(), batch_size=1)),
    "async": lambda c, _: read(c.embeddings.embed_stream(later(), batch_size=1, ordered=False)),
    "concurrency": lambda c, _: read(c.embeddings.embed_stream(texts(), batch_size=1, concurrency=ROWS)),
    "slices": lambda c, _: read(c.embeddings.embed_stream(texts(), batch_size=2)),
    "job": lambda c, f: EmbedJob(lines(f, row), f / "out", format="npy", batch_size=1).run(c),
    "parquet": lambda c, f: EmbedJob(table(f), f / "out", batch_size=1).run(c),
    "map": lambda c, f: MapJob("{text}", lines(f, row), f / "out.jsonl").run(c),
    "batch": lambda c, f: BatchJob(lines(f, request), f / "out.jsonl").run(c),
}


@pytest.mark.parametrize("way", WAYS)
async def test_bytes_in_flight_are_bounded(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests may be in flight, they have at most HELD_BYTES together and one item more; none is lost."""
    monkeypatch.setattr("nimclient._bulk.workers.HELD_BYTES", MOST)
    server = Server()
    async with server.client() as client:
        await WAYS[way](client, tmp_path)
    assert server.answered == ROWS
    assert server.most <= MOST + 2.2 * SIZE


async def test_ordinary_texts_wait_for_no_bytes() -> None:
    """The bound is for large texts: of ordinary ones as many requests are in flight as the concurrency allows."""
    server = Server(ROWS)
    async with server.client() as client:
        await client.embeddings.embed_documents(list(texts()), batch_size=1, concurrency=ROWS)
    assert server.most > ROWS * SIZE


async def test_what_is_larger_than_the_bound_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that are larger than the bound are sent one after the other."""
    monkeypatch.setattr("nimclient._bulk.workers.HELD_BYTES", SIZE // 2)
    server = Server()
    async with server.client() as client:
        await client.embeddings.embed_documents(list(texts())[:5], batch_size=1)
    assert server.answered == 5
    assert server.most < 2 * SIZE

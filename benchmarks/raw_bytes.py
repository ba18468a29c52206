"""What a vector costs as raw bytes and in base64: `python -m benchmarks.raw_bytes [--texts 64000] [--turns 7] [--batch 64]`.

Client CPU in microseconds a vector of 1024 float32, `--batch` texts a request, in turns in one process against the canned
server in another: the least of the turns. embed_documents and embed_stream with both encodings, and what lies under them:
`kernel` receives the same bytes with recv_into into one buffer of a request's size, `aiohttp` reads them by hand with a
session, each request's copied into one array. Prints JSON.
"""

import argparse
import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import orjson

from benchmarks import canned
from benchmarks.runners import in_slices
from benchmarks.server import running_server
from nimclient import AsyncClient

RAW = "bytes_only"
ENCODINGS = (RAW, "base64")
CONCURRENCY = 4
ROW = 4 * canned.DIMENSIONS
PIECE = 256 * 1024


async def by_documents(client: AsyncClient, texts: Sequence[str], batch: int, encoding: str) -> int:
    """All vectors in one buffer; returns its bytes."""
    vectors = await client.embeddings.embed_documents(
        texts, encoding_format=encoding, batch_size=batch, concurrency=CONCURRENCY
    )
    return vectors.buffer.nbytes


async def by_stream(client: AsyncClient, texts: Sequence[str], batch: int, encoding: str) -> int:
    """Batches as they come; returns their bytes."""
    stream = client.embeddings.embed_stream(texts, encoding_format=encoding, batch_size=batch, concurrency=CONCURRENCY)
    return sum([batch.vectors.buffer.nbytes async for batch in stream])


def request_of(texts: Sequence[str]) -> bytes:
    """The body of a request."""
    return orjson.dumps({"model": canned.MODEL, "input": texts, "encoding_format": RAW})


async def by_kernel(url: str, texts: Sequence[str], batch: int) -> int:
    """The bytes of the responses, heads and chunks included, received into one buffer again and again."""
    where = urlsplit(url)
    buffer = memoryview(bytearray(len(canned.embeddings_response(canned.MODEL, batch, RAW))))
    size = 0
    with socket.create_connection((where.hostname, where.port)) as connection:
        for start in range(0, len(texts), batch):
            part = texts[start : start + batch]
            body = request_of(part)
            head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            got, length = 0, len(canned.embeddings_response(canned.MODEL, len(part), RAW))
            while got < length:
                got += connection.recv_into(buffer[got : got + PIECE])
            size += len(part) * ROW
    return size


async def by_aiohttp(session: aiohttp.ClientSession, url: str, texts: Sequence[str], batch: int) -> int:
    """One array for all vectors, a few requests at once."""
    matrix = np.empty((len(texts), canned.DIMENSIONS), np.float32)

    async def one(part: list[str]) -> int:
        async with session.post(f"{url}/v1/embeddings", data=request_of(part)) as response:
            rows = np.frombuffer(await response.read(), np.float32).reshape(len(part), -1)
        start = int(part[0])
        matrix[start : start + len(part)] = rows
        return rows.nbytes

    return sum([size async for size in in_slices(one, list(texts), batch, CONCURRENCY)])


async def measure(url: str, count: int, turns: int, batch: int) -> dict[str, float]:
    """The least CPU of each way and encoding, in microseconds a vector."""
    texts = [f"{number:08d}" for number in range(count)]
    least: dict[str, float] = {}
    async with AsyncClient("k", url, model=canned.MODEL) as client, aiohttp.ClientSession() as session:
        ways: dict[str, Callable[[], Awaitable[int]]] = {
            "kernel": partial(by_kernel, url, texts, batch),
            "aiohttp": partial(by_aiohttp, session, url, texts, batch),
        }
        for work in (by_documents, by_stream):
            for encoding in ENCODINGS:
                ways[f"{work.__name__[3:]} {encoding}"] = partial(work, client, texts, batch, encoding)
        for _ in range(turns):
            for name, way in ways.items():
                began = time.process_time()
                size = await way()
                used = (time.process_time() - began) / count * 1e6
                if size != ROW * count:
                    raise ValueError(f"{size} bytes for {count} vectors")
                least[name] = round(min(used, least.get(name, used)), 2)
    return least


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=64_000)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    with running_server() as url:
        print(
            orjson.dumps(
                asyncio.run(measure(url, args.texts, args.turns, args.batch)), option=orjson.OPT_INDENT_2
            ).decode()
        )


if __name__ == "__main__":
    main()

"""What a vector costs as raw bytes and in base64: `python -m benchmarks.raw_bytes [--texts 64000] [--turns 7] [--batch 64]`.

Client CPU of embed_documents and embed_stream in microseconds a vector of 1024 float32, `--batch` texts a request, both
encodings in turns in one process against the canned server in another: the least of the turns. Prints JSON.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence

import orjson

from benchmarks import canned
from benchmarks.server import running_server
from nimclient import AsyncClient

ENCODINGS = ("bytes_only", "base64")
CONCURRENCY = 4


async def by_documents(client: AsyncClient, texts: Sequence[str], encoding: str, batch: int) -> int:
    """All vectors in one buffer; returns its bytes."""
    vectors = await client.embeddings.embed_documents(
        texts, encoding_format=encoding, batch_size=batch, concurrency=CONCURRENCY
    )
    return vectors.buffer.nbytes


async def by_stream(client: AsyncClient, texts: Sequence[str], encoding: str, batch: int) -> int:
    """Batches as they come; returns their bytes."""
    stream = client.embeddings.embed_stream(texts, encoding_format=encoding, batch_size=batch, concurrency=CONCURRENCY)
    return sum([batch.vectors.buffer.nbytes async for batch in stream])


async def measure(url: str, count: int, turns: int, batch: int) -> dict[str, float]:
    """The least CPU of each way and encoding, in microseconds a vector."""
    texts = [f"passage {number}" for number in range(count)]
    least: dict[str, float] = {}
    async with AsyncClient("k", url, model=canned.MODEL) as client:
        for _ in range(turns):
            for work in (by_documents, by_stream):
                for encoding in ENCODINGS:
                    began = time.process_time()
                    size = await work(client, texts, encoding, batch)
                    used = (time.process_time() - began) / count * 1e6
                    if size != 4 * canned.DIMENSIONS * count:
                        raise ValueError(f"{size} bytes for {count} vectors")
                    name = f"{work.__name__[3:]} {encoding}"
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

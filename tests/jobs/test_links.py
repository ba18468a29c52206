"""Links and pipes in the place of every file that a job, a merge, a cache or the command line writes.

Whoever may write in a shared folder could put them there. What a link points at stays as it is, a pipe is not waited for: the
work ends with a clear error, or puts its own file in their place. Only an output that the caller names may be a link.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError, JobStoreError, NimError
from nimclient.jobs import BatchJob, EmbedJob, JobReport, MapJob, merge_shards
from support.jobs import write_documents
from support.server import FaultServer, Request
from support.wire import answer, chat, embedded, error

MakeClient = Callable[..., AsyncClient]
KINDS = ("link", "pipe")


class Trap:
    """A link to a file that must not change, or a pipe that nobody reads or writes."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.precious = folder / "precious"
        self.precious.write_text("12345")
        self.kind = kind

    def put(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(self.precious) if self.kind == "link" else os.mkfifo(path)

    def held(self) -> bool:
        return self.precious.read_text() == "12345"


@pytest.fixture(params=KINDS)
def trap(tmp_path: Path, request: pytest.FixtureRequest) -> Trap:
    return Trap(tmp_path, request.param)


async def done(job: Any, client: AsyncClient) -> JobReport | NimError:
    """The report of a job, or its error."""
    try:
        return await job.run(client)
    except (JobStoreError, ConfigurationError) as error:
        return error


def embed(request: Request) -> bytes:
    """A vector of the number in each text; the fifth is rejected."""
    texts = [text.rpartition(" ")[2] for text in request.json["input"]]
    return error(400, "no such text") if "4" in texts else answer(embedded(texts))


FILES = [
    "job.lock",
    "manifest.json",
    "manifest.json.tmp",
    "checkpoint.sqlite",
    "checkpoint.sqlite-wal",
    "checkpoint.sqlite-shm",
    "checkpoint.sqlite-journal",
    "open-00000.f32",
    "failures.jsonl",
    "failures.jsonl.tmp",
    *(f"part-00000.{end}" for end in ("jsonl", "jsonl.tmp", "npy", "npy.tmp", "ids.jsonl", "parquet", "parquet.tmp")),
]


@pytest.mark.parametrize(
    "shard",
    [
        pytest.param(None, id="before the job"),
        pytest.param((0, 2), id="while a shard runs", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", FILES)
async def test_the_folder_of_an_embed_job(
    server: FaultServer, client: AsyncClient, tmp_path: Path, trap: Trap, name: str, shard: Any
) -> None:
    """Every file of it: a JobStoreError that names the folder, or vectors that are all there."""
    suffix = "" if shard is None else "-00000-of-00002"
    first, dot, rest = name.partition(".")
    place = tmp_path / "out" / (f"part{suffix}-00000" if first == "part-00000" else f"{first}{suffix}")
    place = place.with_name(f"{place.name}{dot}{rest}")
    if shard is None:
        trap.put(place)

    def embed_and_put(request: Request) -> bytes:
        if shard is not None and not (place.is_symlink() or place.is_fifo()):
            trap.put(place)
        return embed(request)

    server.script(embed_and_put)
    write_documents(tmp_path / "docs.jsonl", 6)
    format: Any = next((form for form in ("npy", "parquet") if form in name), "jsonl")
    options: dict[str, Any] = {"id": "id", "format": format, "batch_size": 1, "shard": shard}
    outcome = await done(EmbedJob(tmp_path / "docs.jsonl", tmp_path / "out", **options), client)
    if isinstance(outcome, JobReport):
        assert (outcome.succeeded, outcome.failed) == ((5, 1) if shard is None else (2, 1))
        manifest = json.loads((tmp_path / "out" / f"manifest{suffix}.json").read_text())
        assert sum(part["rows"] for part in manifest["parts"]) == outcome.succeeded
    else:
        assert str(tmp_path / "out") in str(outcome)
    assert trap.held()


@pytest.mark.parametrize("name", ["manifest.json", "manifest.json.tmp", "failures.jsonl", "failures.jsonl.tmp"])
async def test_the_files_of_a_merge(
    server: FaultServer, client: AsyncClient, tmp_path: Path, trap: Trap, name: str
) -> None:
    """They are made again."""
    server.script(embed)
    write_documents(tmp_path / "docs.jsonl", 6)
    for index in range(2):
        await EmbedJob(tmp_path / "docs.jsonl", tmp_path / "out", id="id", batch_size=1, shard=(index, 2)).run(client)
    trap.put(tmp_path / "out" / name)
    assert merge_shards(tmp_path / "out").failed == 1
    for path in ("manifest.json", "failures.jsonl"):
        assert (tmp_path / "out" / path).is_file()
        assert not (tmp_path / "out" / path).is_symlink()
    assert trap.held()


def batch(tmp_path: Path) -> BatchJob:
    bodies = [{"messages": [{"role": "user", "content": text}]} for text in ("a", "bad")]
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", **body}}
        for number, body in enumerate(bodies)
    ]
    (tmp_path / "requests.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return BatchJob(tmp_path / "requests.jsonl", tmp_path / "answers.jsonl")


def asked(tmp_path: Path) -> MapJob:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "bad"}\n')
    return MapJob("{text}", tmp_path / "rows.jsonl", tmp_path / "answers.jsonl")


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.errors.jsonl", "answers.errors.jsonl.tmp"])
@pytest.mark.parametrize("job", [batch, asked])
async def test_the_files_of_jobs_that_append_answers(
    server: FaultServer, client: AsyncClient, tmp_path: Path, trap: Trap, job: Any, name: str
) -> None:
    """The output may be a link, to a file with answers; a pipe, or a link beside the output, is an error that names it."""
    server.script(lambda request: error(400, "bad") if b"bad" in request.body else chat())
    trap.put(tmp_path / name)
    if name == "answers.jsonl" and trap.kind == "link":
        trap.precious.write_text("")
        report = await job(tmp_path).run(client)
        assert (report.succeeded, len(trap.precious.read_text().splitlines())) == (1, 1)
        return
    outcome = await done(job(tmp_path), client)
    if isinstance(outcome, JobReport):
        assert (outcome.succeeded, outcome.failed) == (1, 1)
    else:
        assert name in str(outcome)
    assert trap.held()


@pytest.mark.parametrize("job", [batch, asked])
async def test_an_output_that_is_a_link_to_itself(client: AsyncClient, tmp_path: Path, job: Any) -> None:
    """It leads nowhere, and is named."""
    (tmp_path / "answers.jsonl").symlink_to("answers.jsonl")
    with pytest.raises(JobStoreError, match=r"answers\.jsonl"):
        await job(tmp_path).run(client)


@pytest.mark.parametrize("name", [f"vectors.sqlite{end}" for end in ("", "-wal", "-shm", "-journal")])
async def test_the_file_of_a_cache(
    server: FaultServer, client: AsyncClient, tmp_path: Path, trap: Trap, name: str
) -> None:
    """The call fails before anything is sent, and says which file it is."""
    server.script(embed)
    trap.put(tmp_path / "cache" / name)
    with pytest.raises(NimError, match=rf"a symbolic link, a pipe or a folder is in its place: remove it: .*{name}'"):
        await client.embeddings.embed_documents(["text 1"], cache=tmp_path / "cache")
    assert server.requests == []
    assert trap.held()

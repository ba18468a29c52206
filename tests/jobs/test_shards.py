"""Shards: n jobs embed every n-th row each into one folder, and their manifests become one."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError, JobMismatchError, JobStoreError
from nimclient.jobs import EmbedJob, MapJob, merge_shards
from nimclient.jobs.shards import Shard, shard_from
from support.jobs import table_of, write_documents
from support.server import FaultServer, Request
from support.wire import answer, chat, embedded, error, vectors

MakeClient = Callable[..., AsyncClient]
COUNT = 3


def embed(request: Request) -> bytes:
    """A vector of the number in each text."""
    return answer(embedded([text.rpartition(" ")[2] for text in request.json["input"]]))


class Folder:
    """A source of 20 documents, and the folder for its vectors."""

    def __init__(self, path: Path) -> None:
        self.source = path / "docs.jsonl"
        self.path = path / "vectors"
        self.documents = write_documents(self.source, 20)

    def job(self, index: int, count: int = COUNT, source: Any = None, **options: Any) -> EmbedJob:
        options = {"id": "id", "format": "jsonl", "batch_size": 2, "concurrency": 2, **options}
        return EmbedJob(source or self.source, self.path, shard=(index, count), **options)

    def manifest(self, name: str = "manifest") -> Any:
        return json.loads((self.path / f"{name}.json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("format", ["jsonl", "npy", "parquet"])
async def test_shards_write_what_one_job_writes(
    server: FaultServer, client: AsyncClient, folder: Folder, tmp_path: Path, format: Any
) -> None:
    """Rows, ids, indexes and vectors of all parts are those of the whole; the merged manifest names every part."""
    server.script(embed)
    whole = EmbedJob(folder.source, tmp_path / "whole", id="id", format=format)
    await whole.run(client)
    server.requests.clear()
    reports = [await folder.job(index, format=format).run(client) for index in range(COUNT)]
    assert [report.total for report in reports] == [7, 7, 6]
    sent = [text for request in server.requests for text in request.json["input"]]
    assert sorted(sent) == sorted(document["text"] for document in folder.documents)
    assert table_of(folder.path) == table_of(tmp_path / "whole")
    assert not (folder.path / "manifest.json").exists()
    report = merge_shards(folder.path)
    assert (report.status, report.total, report.succeeded) == ("complete", 20, 20)
    manifest, expected = folder.manifest(), json.loads((tmp_path / "whole" / "manifest.json").read_text())
    parts = manifest.pop("parts")
    assert manifest.pop("shards") == COUNT
    assert manifest == {name: value for name, value in expected.items() if name != "parts"}
    assert sum(part["rows"] for part in parts) == 20
    names = {name for part in parts for name in part["files"]}
    assert names == {path.name for path in folder.path.glob("part-*")}
    assert f"part-00002-of-00003-00000.{format}" in names


@pytest.mark.parametrize("kind", ["csv", "txt", "parquet", "list", "async"])
async def test_every_source_has_shards(
    server: FaultServer, client: AsyncClient, folder: Folder, tmp_path: Path, kind: str
) -> None:
    """Files of every format, and iterables, of which the other rows are passed over."""
    texts = [document["text"] for document in folder.documents]
    source: Any = tmp_path / f"docs.{kind}"
    if kind == "csv":
        source.write_text("text\n" + "\n".join(texts))
    elif kind == "txt":
        source.write_text("\n\n".join(texts))
    elif kind == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"text": texts}), source)
    elif kind == "list":
        source = texts

    async def items() -> Any:
        for text in texts:
            yield text

    server.script(embed)
    for index in range(COUNT):
        await folder.job(index, source=items() if kind == "async" else source, id=None).run(client)
    rows = table_of(folder.path)
    assert [(index, name) for index, name, _ in rows] == [(number, str(number)) for number in range(20)]
    assert merge_shards(folder.path).status == "complete"


async def test_each_shard_resumes_by_itself(server: FaultServer, client: AsyncClient, folder: Folder) -> None:
    """What a shard has finished is not sent again, whatever became of the others; failures have the source's numbers."""

    def choosy(request: Request) -> bytes:
        return error(400, "poison") if "document number 7" in request.json["input"] else embed(request)

    server.script(embed, error(401))
    with pytest.raises(Exception, match="401"):
        await folder.job(1, concurrency=1).run(client)
    server.script(choosy)
    reports = [await folder.job(index).run(client) for index in range(COUNT)]
    assert [(report.resumed, report.failed) for report in reports] == [(0, 0), (2, 1), (0, 0)]
    report = merge_shards(folder.path)
    assert (report.status, report.succeeded, report.failed) == ("partial", 19, 1)
    assert report.failures_path is not None
    failure = json.loads(report.failures_path.read_text())
    assert (failure["index"], failure["id"], failure["line"]) == (7, "doc-7", 8)
    server.requests.clear()
    server.script(embed)
    with folder.source.open("a") as file:
        print(json.dumps({"id": "doc-20", "text": "document number 20"}), file=file)
    with pytest.raises(JobMismatchError, match=r"belongs to a job with input.digest"):
        await folder.job(2).run(client)


async def test_iterables_are_compared_shard_by_shard(server: FaultServer, client: AsyncClient, folder: Folder) -> None:
    """A source that has changed is named by the numbers of the source."""
    server.script(embed)
    texts = [document["text"] for document in folder.documents]
    await folder.job(1, source=texts, id=None).run(client)
    assert (await folder.job(1, source=texts, id=None).run(client)).resumed == 7
    with pytest.raises(JobMismatchError, match="it ends after 13 rows, and the job has finished row 16"):
        await folder.job(1, source=texts[:11], id=None).run(client)
    texts[4] = "another 4"
    with pytest.raises(JobMismatchError, match="rows 1 to 4 were another text"):
        await folder.job(1, source=texts, id=None).run(client)


async def test_a_folder_has_one_number_of_shards(server: FaultServer, client: AsyncClient, folder: Folder) -> None:
    """Another number, or the whole job, is a mismatch before anything is sent; so is the other way round."""
    server.script(embed)
    await folder.job(1).run(client)
    server.requests.clear()
    for job in (folder.job(1, 4), folder.job(0, 1)):
        with pytest.raises(JobMismatchError, match="belongs to a job of 3 shards"):
            await job.run(client)
    whole = Folder(folder.source.parent)
    whole.path = folder.path.with_name("whole")
    await whole.job(0, 1).run(client)
    with pytest.raises(JobMismatchError, match="belongs to a job of 1 shards, not 3"):
        await whole.job(0).run(client)


async def test_what_does_not_belong_together_is_not_merged(
    server: FaultServer, client: AsyncClient, folder: Folder
) -> None:
    """Shards that are missing, that have not ended, that differ, or that have lost a part."""
    server.script(embed)
    with pytest.raises(ConfigurationError, match="does not exist"):
        merge_shards(folder.path)
    await folder.job(1).run(client)
    with pytest.raises(JobMismatchError, match="lacks 2 of 3 shards: 0, 2; run them"):
        merge_shards(folder.path)
    await folder.job(0, truncate="END").run(client)
    server.script(embed, error(401))
    with pytest.raises(Exception, match="401"):
        await folder.job(2, concurrency=1).run(client)
    with pytest.raises(JobMismatchError, match=r'parameters.truncate "END", not null of shard 1 of 3'):
        merge_shards(folder.path)
    for path in folder.path.glob("*-00000-of-*"):
        path.unlink()
    server.script(lambda request: answer(vectors([[1.0, 2.0, 3.0]] * len(request.json["input"]))))
    await folder.job(0).run(client)
    with pytest.raises(JobMismatchError, match="dimensions 3, not 2 of shard 1 of 3"):
        merge_shards(folder.path)
    for path in folder.path.glob("*-00000-of-*"):
        path.unlink()
    server.script(embed)
    await folder.job(0).run(client)
    with pytest.raises(JobMismatchError, match=r"shard 2 of 3 in .* has not ended .it is 'stopped'"):
        merge_shards(folder.path)
    await folder.job(2).run(client)
    assert merge_shards(folder.path).status == "complete"
    part = next(folder.path.glob("part-00001-*"))
    os.truncate(part, 10)
    with pytest.raises(JobMismatchError, match=r"part-00001-of-00003-00000.jsonl of shard 1 of 3 has 10 bytes instead"):
        merge_shards(folder.path)
    (folder.path / "manifest-00001-of-00003.json").write_text("{")
    with pytest.raises(JobStoreError, match="is damaged"):
        merge_shards(folder.path)
    (folder.path / "manifest-00000-of-00002.json").write_text("{}")
    with pytest.raises(JobMismatchError, match="of several jobs: of 2 and of 3"):
        merge_shards(folder.path)


BROKEN: list[dict[str, Any]] = [
    {"succeeded": "7"},
    {"succeeded": True},
    {"failed": None},
    {"total": -1},
    {"parts": 5},
    {"parts": ["part-00000"]},
    {"parts": [{"files": ["a"]}]},
    {"served_models": None},
    {"served_models": [5]},
]


@pytest.mark.parametrize("change", BROKEN, ids=map(str, BROKEN))
async def test_a_damaged_manifest_is_not_merged(
    server: FaultServer, client: AsyncClient, folder: Folder, change: dict[str, Any]
) -> None:
    """Whatever is in it that no job writes, it is named and nothing is written."""
    server.script(embed)
    for index in range(2):
        await folder.job(index, 2).run(client)
    path = folder.path / "manifest-00001-of-00002.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(JobStoreError, match=r"manifest-00001-of-00002\.json is damaged"):
        merge_shards(folder.path)
    assert not (folder.path / "manifest.json").exists()


@pytest.mark.parametrize("line", [b"[]\n", b"{}\n", b'{"index": "1"}\n', b"\xff\n", b'{"index": 1\n'])
async def test_damaged_failures_are_not_merged(
    server: FaultServer, client: AsyncClient, folder: Folder, line: bytes
) -> None:
    """A line that is no failure is named."""
    server.script(lambda request: error(400))
    for index in range(2):
        await folder.job(index, 2).run(client)
    (folder.path / "failures-00000-of-00002.jsonl").write_bytes(line)
    with pytest.raises(JobStoreError, match=r"failures-00000-of-00002\.jsonl is damaged \(line 1\)"):
        merge_shards(folder.path)


@pytest.mark.parametrize("name", ["manifest-00001-of-00002.json", "failures-00001-of-00002.jsonl"])
async def test_a_pipe_is_not_waited_for(server: FaultServer, client: AsyncClient, folder: Folder, name: str) -> None:
    """Merging reads regular files only."""
    server.script(lambda request: error(400))
    for index in range(2):
        await folder.job(index, 2).run(client)
    (folder.path / name).unlink()
    os.mkfifo(folder.path / name)
    with pytest.raises(JobStoreError, match="not a regular file"):
        merge_shards(folder.path)


@pytest.mark.slow
async def test_more_shards_than_rows(server: FaultServer, client: AsyncClient, folder: Folder) -> None:
    """A shard without rows is complete, and has no part."""
    server.script(embed)
    reports = [await folder.job(index, 25).run(client) for index in range(25)]
    assert [report.total for report in reports] == [1] * 20 + [0] * 5
    assert {report.status for report in reports} == {"complete"}
    assert merge_shards(folder.path).total == 20
    assert len(table_of(folder.path)) == 20


async def test_a_map_has_shards(server: FaultServer, client: AsyncClient, folder: Folder) -> None:
    """Each with its answers in a file of its own, under the numbers of the source."""
    server.script(lambda request: chat(request.json["messages"][0]["content"]))
    output = folder.path.with_name("answers.jsonl")
    for index in range(COUNT):
        job = MapJob("{text}?", folder.source, output, shard=(index, COUNT))
        assert (await job.run(client)).total == (7, 7, 6)[index]
        assert (await job.run(client)).requests == 0
    assert not output.exists()
    files = sorted(path.name for path in output.parent.glob("answers*"))
    assert files == [f"answers-0000{index}-of-00003.jsonl" for index in range(COUNT)]
    answers = {}
    for name in files:
        for line in (output.parent / name).read_text().splitlines():
            answers[json.loads(line)["index"]] = json.loads(line)["text"]
    assert answers == {number: f"document number {number}?" for number in range(20)}


@pytest.mark.parametrize("shard", [(3, 3), (-1, 3), (0, 0), (0,), "0/3", 1, (True, 2), (0.0, 2)])
def test_shards_that_cannot_be(folder: Folder, shard: Any) -> None:
    """They are found when the job is made."""
    with pytest.raises(ConfigurationError, match="shard takes"):
        EmbedJob(folder.source, folder.path, format="npy", shard=shard)


def test_the_shard_of_a_command_line() -> None:
    """As i/n, or from the environment of an indexed Job."""
    assert shard_from("3/8", {}) == (3, 8)
    assert shard_from("auto", {"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "8"}) == (0, 8)
    for text, environment in (
        ("3", {}),
        ("8/8", {}),
        ("-1/8", {}),
        ("a/b", {}),
        ("auto", {}),
        ("auto", {"JOB_COMPLETION_INDEX": "1"}),
        ("auto", {"JOB_COMPLETION_INDEX": "8", "JOB_COMPLETIONS": "8"}),
    ):
        with pytest.raises(ConfigurationError, match="shard"):
            shard_from(text, environment)


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_every_row_is_in_one_shard(rows: int, count: int) -> None:
    """And a shard knows how many it has, and the number of each."""
    shards = [Shard(index, count) for index in range(count)]
    assert sorted(number for shard in shards for number in shard.of(range(rows))) == list(range(rows))
    for shard in shards:
        own = list(shard.of(range(rows)))
        assert len(own) == shard.share(rows)
        assert [shard.number(row) for row in range(len(own))] == own

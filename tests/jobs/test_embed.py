"""EmbedJob: whatever stops it, it continues where it was, and nothing is lost or paid twice."""

import asyncio
import errno
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from anyio import to_thread

from nimclient import AsyncClient, Client, Progress, RetryPolicy
from nimclient.errors import (
    AuthenticationError,
    BatchError,
    ConfigurationError,
    JobMismatchError,
    JobStoreError,
    ModelNotFoundError,
    NimError,
    RateLimitError,
    ServerError,
)
from nimclient.jobs import EmbedJob, JobReport, files, store
from nimclient.jobs.files import FolderLock
from nimclient.jobs.running import SerialWorker
from nimclient.simulator import Simulator
from support.cancelling import cancel_everywhere
from support.jobs import table_of
from support.leaks import settings_of
from support.server import FaultServer, Request
from support.slow import mostly_slow
from support.wire import MODEL, answer, embedded, error, http

MakeClient = Callable[..., AsyncClient]
NO_PREFIX: Any = {"embedding": {"prefix": ""}}


def embed(request: Request) -> bytes:
    return answer(embedded(request.json["input"]))


def refusing(status: int, *bad: str, words: str = "bad text") -> Callable[[Request], bytes]:
    """A server that rejects requests with one of these texts in it."""

    def script(request: Request) -> bytes:
        poison = [text for text in request.json["input"] if text in bad]
        return error(status, words) if poison else embed(request)

    return script


def sent(server: FaultServer) -> list[str]:
    """All texts that the server was sent."""
    return [text for request in server.requests for text in request.json["input"]]


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def rows(count: int) -> list[tuple[int, str, int]]:
    """(index, id, first number of the vector) as they should be."""
    return [(number, str(number), number) for number in range(count)]


def found(folder: Path) -> list[tuple[int, str, int]]:
    return [(index, name, int(memoryview(vector).cast("f")[0])) for index, name, vector in table_of(folder)]


def failures(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "vectors"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "docs.txt"
    path.write_text("\n".join(numbers(100)))
    return path


Make = Callable[..., EmbedJob]


@pytest.fixture
def make(source: Path, output: Path) -> Make:
    """A job over a hundred texts that are numbers, ten to a request."""

    def make(given: Any = source, output: Path = output, **options: Any) -> EmbedJob:
        return EmbedJob(given, output, **{"format": "npy", "batch_size": 10, "concurrency": 2, **options})

    return make


async def test_a_job_embeds_every_row(server: FaultServer, client: AsyncClient, make: Make, output: Path) -> None:
    """The report counts what was done; the vectors are where they belong."""
    server.script(embed)
    report = await make().run(client)
    assert (report.status, report.total, report.succeeded, report.failed) == ("complete", 100, 100, 0)
    assert (report.resumed, report.requests, report.tokens, report.failures_path) == (0, 10, 100, None)
    assert report.seconds > 0
    assert report.to_dict()["failures_path"] is None
    assert found(output) == rows(100)
    assert {request.json["input_type"] for request in server.requests} == {"passage"}


@pytest.mark.parametrize("name", ["docs.csv", "docs.parquet", "docs.jsonl"])
async def test_files_of_every_kind_into_parquet(
    server: FaultServer, client: AsyncClient, output: Path, tmp_path: Path, name: str
) -> None:
    """The format that is meant where none is said; ids are those of the file."""
    path = tmp_path / name
    if name == "docs.csv":
        path.write_text("n,body\n" + "".join(f"id{n},{n}\n" for n in range(20)))
    elif name == "docs.jsonl":
        path.write_text("".join(json.dumps({"n": f"id{n}", "body": str(n)}) + "\n" for n in range(20)))
    else:
        pq.write_table(pa.table({"n": [f"id{n}" for n in range(20)], "body": numbers(20)}), path)
    server.script(embed)
    report = await EmbedJob(path, output, text="body", id="n").run(client)
    assert report.status == "complete"
    assert [file.name for file in output.glob("part-*")] == ["part-00000.parquet"]
    assert found(output) == [(n, f"id{n}", n) for n in range(20)]


async def test_a_job_that_is_done_sends_nothing(server: FaultServer, client: AsyncClient, make: Make) -> None:
    """Running it again tells the same, and that all of it was there."""
    server.script(embed)
    await make().run(client)
    count = len(server.requests)
    report = await make().run(client)
    assert (report.status, report.total, report.resumed, report.requests) == ("complete", 100, 100, 0)
    assert len(server.requests) == count


async def test_options_go_with_every_request(server: FaultServer, client: AsyncClient, make: Make) -> None:
    """Those that are named and those that are not."""
    server.script(embed)
    await make(input_type="query", truncate="END", dimensions=2, user="me", extra_body={"x": 1}).run(client)
    body = server.requests[0].json
    assert (body["input_type"], body["truncate"], body["dimensions"], body["user"], body["x"]) == (
        "query",
        "END",
        2,
        "me",
        1,
    )


async def test_bad_rows_and_bad_texts_are_listed_and_the_rest_succeeds(
    server: FaultServer, client: AsyncClient, make: Make, output: Path, tmp_path: Path
) -> None:
    """With index, id, line and the words of who rejected them; they are not sent again by the next run."""
    path = tmp_path / "docs.jsonl"
    lines = [json.dumps({"id": f"n{n}", "text": str(n)}) for n in range(20)]
    lines[3], lines[7] = "nonsense", json.dumps({"id": "n7"})
    path.write_text("\n".join(lines))
    server.script(refusing(400, "12"))
    report = await make(path, id="id").run(client)
    assert (report.status, report.total, report.succeeded, report.failed) == ("partial", 20, 17, 3)
    assert report.failures_path == output / "failures.jsonl"
    assert [(f["index"], f["id"], f["line"], f["type"]) for f in failures(output)] == [
        (3, "3", 4, "DecodeError"),
        (7, "n7", 8, "ConfigurationError"),
        (12, "n12", 13, "BadRequestError"),
    ]
    assert "bad text" in failures(output)[2]["error"]
    assert failures(output)[2]["text"] == "12"
    assert found(output) == [(n, f"n{n}", n) for n in range(20) if n not in (3, 7, 12)]
    count = len(server.requests)
    again = await make(path, id="id").run(client)
    assert (again.status, again.failed, again.resumed) == ("partial", 3, 20)
    assert len(server.requests) == count


NAMED = [{"id": f"n{n}", "body": str(n)} for n in range(300)]


@pytest.mark.parametrize("kind", ["jsonl", "mappings", "stdin"])
async def test_a_wrong_name_of_the_text_field_stops_at_once(
    server: FaultServer, client: AsyncClient, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The error names the fields of the first row; nothing is sent, and the right name may be given to the same folder."""
    server.script(embed)
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in NAMED))

    async def run(**names: str) -> JobReport:
        source: Any = {"jsonl": path, "mappings": iter(NAMED), "stdin": "-"}[kind]
        with path.open() as file:
            monkeypatch.setattr(sys, "stdin", file)
            return await make(source, **names).run(client)

    with pytest.raises(
        ConfigurationError, match=r"no field 'text'; the first row.* has 'id', 'body': name one of .*text="
    ):
        await run()
    with pytest.raises(
        ConfigurationError, match=r"no field 'key'; the first row.* has 'id', 'body': name one of .*id="
    ):
        await run(text="body", id="key")
    assert server.requests == []
    report = await run(text="body", id="id")
    assert (report.status, report.total) == ("complete", 300)


async def test_a_field_of_something_else_stops_at_once(
    server: FaultServer, client: AsyncClient, make: Make, tmp_path: Path
) -> None:
    """A field that holds an object in every row is the wrong one: the error names the others, and nothing is sent."""
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(f"{json.dumps({'meta': {'n': n}, 'body': 'x'})}\n" for n in range(300)))
    with pytest.raises(ConfigurationError, match=r"not a value of type dict; the first row.* has 'meta', 'body': name"):
        await make(path, text="meta").run(client)
    assert server.requests == []


async def test_rows_without_the_field_among_others_fail_alone(
    server: FaultServer, client: AsyncClient, make: Make
) -> None:
    """Some of the first, too: the name is right when one row has it."""
    server.script(embed)
    report = await make([{"other": 1}] * 3 + [{"text": "1"}] + [{"other": 1}] * 200).run(client)
    assert (report.status, report.succeeded, report.failed) == ("partial", 1, 203)


async def test_one_id_that_is_no_unicode_fails_alone(
    server: FaultServer, client: AsyncClient, make: Make, output: Path, tmp_path: Path
) -> None:
    """A lone surrogate in an iterable or in JSON, a byte that is no UTF-8 in CSV: the job comes to its end."""
    server.script(embed)
    report = await make([("a", "1"), ("\ud83d", "2"), ("c", "3")]).run(client)
    assert (report.status, report.succeeded, report.failed) == ("partial", 2, 1)
    assert [failure["index"] for failure in failures(output)] == [1]
    path = tmp_path / "docs.jsonl"
    path.write_text(r"""{"id":"a","text":"1"}
{"id":"b\ud83d","text":"2"}
{"id":"c","text":"3\udc00"}
{"id":"d \ud83d\ude00","text":"4"}
""")
    report = await EmbedJob(path, tmp_path / "lines", id="id", format="npy").run(client)
    assert (report.status, report.succeeded, report.failed) == ("partial", 2, 2)
    path = tmp_path / "docs.csv"
    path.write_bytes(b"id,text\na,1\n\xff,2\nc,3\n")
    report = await EmbedJob(path, tmp_path / "other", id="id", format="npy").run(client)
    assert (report.status, report.succeeded, report.failed) == ("partial", 2, 1)


async def test_a_job_of_nothing_but_failures_has_failed(server: FaultServer, client: AsyncClient, make: Make) -> None:
    """It does not raise: each row has its reason."""
    server.script(error(400, "bad text"))
    report = await make(["1", "2"]).run(client)
    assert (report.status, report.succeeded, report.failed) == ("failed", 0, 2)


async def test_what_failed_for_a_reason_that_may_pass_is_tried_again(
    server: FaultServer, client: AsyncClient, make: Make, output: Path
) -> None:
    """The next run sends it, and only it."""
    server.script(refusing(500, "55", words="oops"))
    report = await make().run(client)
    assert (report.status, report.failed) == ("partial", 1)
    server.requests.clear()
    server.script(embed)
    report = await make().run(client)
    assert (report.status, report.resumed, report.succeeded) == ("complete", 99, 100)
    assert sent(server) == ["55"]
    assert found(output) == rows(100)
    assert not (output / "failures.jsonl").exists()


async def test_many_bad_rows_do_not_pile_up(server: FaultServer, client: AsyncClient, make: Make, output: Path) -> None:
    """They are written down before there are many of them."""
    server.script(embed)
    report = await make(["" for _ in range(2500)] + ["1"]).run(client)
    assert (report.failed, report.succeeded) == (2500, 1)
    assert found(output) == [(2500, "2500", 1)]


async def test_an_empty_source_is_complete(server: FaultServer, client: AsyncClient, make: Make) -> None:
    """There is nothing that could fail."""
    report = await make([]).run(client)
    assert (report.status, report.total) == ("complete", 0)


# what stops a job ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (error(401, "no such key"), AuthenticationError),
        (error(404, "The model `x` does not exist."), ModelNotFoundError),
    ],
)
async def test_a_wrong_key_or_model_stops_the_job_at_once(
    server: FaultServer, client: AsyncClient, make: Make, output: Path, refusal: bytes, kind: type[NimError]
) -> None:
    """What is finished is kept, and the next run continues."""
    server.script(embed, embed, refusal)
    with pytest.raises(kind):
        await make(concurrency=1).run(client)
    assert len(server.requests) == 3
    assert json.loads((output / "manifest.json").read_text())["status"] == "stopped"
    server.script(embed)
    report = await make().run(client)
    assert (report.status, report.resumed) == ("complete", 20)
    assert found(output) == rows(100)


async def test_an_outage_stops_the_job_when_its_patience_is_spent(
    server: FaultServer, make_client: MakeClient, make: Make, output: Path
) -> None:
    """No row counts as failed for it."""
    server.script(embed, error(429, "slow down"))
    client = make_client(retry=RetryPolicy(first_delay=0.01, max_delay=0.01, patience=0.05))
    with pytest.raises(RateLimitError):
        await make(concurrency=1).run(client)
    server.script(embed)
    report = await make().run(client)
    assert (report.status, report.resumed) == ("complete", 10)


async def test_a_gateway_without_its_server_is_waited_for(
    server: FaultServer, make_client: MakeClient, make: Make, output: Path
) -> None:
    """502, 504 and Cloudflare's own statuses say nothing of the texts: they are sent again, and none is blamed."""
    pages = [error(502, "Bad Gateway"), error(504, "upstream request timeout"), error(503, "no healthy upstream")]
    pages += [
        http(b"<html>error code: %d</html>" % status, status, type="text/html") for status in (521, 522, 523, 530)
    ]
    server.script(embed, *pages * 3, embed)
    client = make_client(retry=RetryPolicy(first_delay=0.001, max_delay=0.001))
    report = await make(concurrency=1).run(client)
    assert (report.status, report.failed) == ("complete", 0)
    assert found(output) == rows(100)
    server.script(error(502, "Bad Gateway"))
    with pytest.raises(ServerError) as caught:
        await make(numbers(50), output=output.with_name("more")).run(
            make_client(retry=RetryPolicy(first_delay=0.001, max_delay=0.001, patience=0.02))
        )
    assert caught.value.status == 502
    assert not (output.with_name("more") / "failures.jsonl").exists()


async def test_a_retry_after_within_the_patience_is_waited_for(
    server: FaultServer, make_client: MakeClient, make: Make, output: Path
) -> None:
    """However far above `max_retry_after`, which is for plain calls; one beyond the patience ends the job at once."""
    server.script(error(429, "slow down", "Retry-After: 0.05"), embed)
    report = await make(concurrency=1).run(make_client(retry=RetryPolicy(max_retry_after=0.01)))
    assert report.status == "complete"
    server.script(error(429, "slow down", "Retry-After: 901"))
    with pytest.raises(RateLimitError):
        await make(numbers(10), output=output.with_name("more")).run(make_client())


async def test_vectors_of_another_model_are_told_and_recorded(
    server: FaultServer, make_client: MakeClient, make: Make, output: Path
) -> None:
    """Within a run and in a later one; the manifest names them all, and a strict client stops."""

    def serve(model: str) -> Callable[[Request], bytes]:
        return lambda request: answer({**embedded(request.json["input"]), "model": model})

    server.script(*[serve("old")] * 3, error(401, "no"))
    with pytest.raises(AuthenticationError):
        await make(concurrency=1).run(make_client())
    server.script(serve("new"))
    with pytest.raises(JobMismatchError, match=r"the model 'new', where those that .* are of 'old'"):
        await make(concurrency=1).run(make_client(strict=True))
    with pytest.warns(UserWarning, match=r"the model 'new', where those that .* are of 'old'") as caught:
        report = await make(concurrency=1).run(make_client())
    assert len(caught) == 1
    assert report.status == "complete"
    assert json.loads((output / "manifest.json").read_text())["served_models"] == ["old", "new"]


async def test_a_job_waits_longer_than_other_calls(server: FaultServer, make_client: MakeClient) -> None:
    """Without a patience of the client's it is 900 s."""
    from nimclient.jobs.running import patient

    assert settings_of(patient(make_client())).retry.patience == 900.0
    own = make_client(retry=RetryPolicy(patience=5))
    assert patient(own) is own


async def test_texts_that_fail_one_after_the_other_stop_the_job(
    server: FaultServer, client: AsyncClient, make: Make
) -> None:
    """A server that throttles everything is not asked a million times."""
    server.script(error(400, "bad text"))
    with pytest.raises(BatchError, match="consecutive texts failed"):
        await make(numbers(1000)).run(client)
    assert len(server.requests) < 500


async def test_an_error_of_the_source_keeps_what_was_read(
    server: FaultServer, client: AsyncClient, make: Make, output: Path
) -> None:
    """It is raised as it is; the same source, mended, continues behind it."""

    def broken() -> Iterator[str]:
        yield from numbers(25)
        raise KeyError("gone")

    server.script(embed)
    with pytest.raises(KeyError):
        await make(broken()).run(client)
    assert len(sent(server)) == 25
    report = await make(numbers(100)).run(client)
    assert report.resumed == 25
    assert sorted(map(int, sent(server))) == list(range(100))
    assert found(output) == rows(100)


async def test_on_progress_that_raises_stops_the_job(server: FaultServer, client: AsyncClient, make: Make) -> None:
    """Its error is raised, what was reported before is kept."""

    def refuse(progress: Progress) -> None:
        raise ZeroDivisionError

    server.script(embed)
    with pytest.raises(ZeroDivisionError):
        await make().run(client, on_progress=refuse)
    assert (await make().run(client)).resumed >= 10


async def test_progress_counts_what_is_on_the_disk(server: FaultServer, client: AsyncClient, make: Make) -> None:
    """Earlier runs included; the total is that of the file."""
    told: list[Progress] = []
    server.script(*[embed] * 4, error(401, "no"))
    with pytest.raises(AuthenticationError):
        await make(concurrency=1).run(client)
    server.script(embed)
    await make().run(client, on_progress=told.append)
    assert [progress.done for progress in told] == [50, 60, 70, 80, 90, 100, 100]
    assert {(progress.total, progress.resumed, progress.failed) for progress in told} == {(100, 40, 0)}
    assert told[-1].requests == 6
    assert told[-1].tokens == 60


# cancellation ----------------------------------------------------------------------------------------------------


async def test_cancellation_keeps_what_is_finished(
    server: FaultServer, client: AsyncClient, make: Make, output: Path
) -> None:
    """The next run sends only the rest."""
    server.script(embed)

    def stop(progress: Progress) -> None:
        if progress.done >= 50:
            scope.cancel()

    with anyio.CancelScope() as scope:
        await make().run(client, on_progress=stop)
    assert scope.cancelled_caught
    assert json.loads((output / "manifest.json").read_text())["status"] == "stopped"
    before = len(sent(server))
    report = await make().run(client)
    assert report.resumed >= 50
    assert len(sent(server)) - before == 100 - report.resumed
    assert found(output) == rows(100)


@pytest.mark.slow
async def test_cancellation_at_every_suspension_point(server: FaultServer, client: AsyncClient, tmp_path: Path) -> None:
    """Wherever it comes: the folder is free again, nothing is half written, and the job comes to its end."""
    server.script(embed)
    runs = 0

    def job() -> EmbedJob:
        return EmbedJob(numbers(30), tmp_path / str(runs), format="jsonl", batch_size=10, concurrency=2)

    async def after_each() -> None:
        nonlocal runs
        report = await job().run(client)
        assert (report.status, report.total) == ("complete", 30)
        assert found(tmp_path / str(runs)) == rows(30)
        runs += 1

    await job().run(client)
    await after_each()
    assert await cancel_everywhere(lambda: job().run(client), after_each, most=500) > 10


async def test_cancelled_twice_while_it_writes(
    server: FaultServer, client: AsyncClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio's own cancellation does not wait for threads; the job does: what it was writing is there, the folder free."""
    server.script(embed)
    real = store.Checkpoint.record
    writing = threading.Event()

    def slowly(*args: Any) -> None:
        writing.set()
        time.sleep(0.1)
        real(*args)

    monkeypatch.setattr(store.Checkpoint, "record", slowly)
    task = asyncio.get_running_loop().create_task(make(concurrency=1).run(client))
    while not writing.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.undo()
    assert (await make().run(client)).resumed == 10


async def test_work_that_has_not_begun_is_not_done_when_it_is_cancelled() -> None:
    """Before a thread is free it can be called off."""
    done: list[int] = []
    borrower = object()
    limiter = to_thread.current_default_thread_limiter()
    tokens, limiter.total_tokens = limiter.total_tokens, 1
    try:
        await limiter.acquire_on_behalf_of(borrower)
        with anyio.move_on_after(0.01):
            await SerialWorker().do(done.append, 1)
        limiter.release_on_behalf_of(borrower)
        await SerialWorker().do(done.append, 2)
    finally:
        limiter.total_tokens = tokens
    assert done == [2]


# another job -----------------------------------------------------------------------------------------------------


async def stopped(server: FaultServer, client: AsyncClient, job: EmbedJob) -> None:
    """Run until half of it is done."""
    server.script(*[embed] * 5, error(401, "no"))
    with pytest.raises(AuthenticationError):
        await job.run(client)
    server.script(embed)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "other"}, f'model "{MODEL}", not "other"'),
        ({"input_type": "query"}, 'parameters.input_type "passage", not "query"'),
        ({"format": "jsonl"}, 'parameters.format "npy", not "jsonl"'),
        ({"prefix": "x"}, 'parameters.prefix null, not "x"'),
    ],
)
async def test_other_parameters_are_refused(
    server: FaultServer, client: AsyncClient, make: Make, options: Any, words: str
) -> None:
    """Before anything is sent, and by name."""
    await stopped(server, client, make(concurrency=1))
    count = len(server.requests)
    with pytest.raises(JobMismatchError) as caught:
        await make(**options).run(client)
    assert words in str(caught.value)
    assert len(server.requests) == count
    report = await make().run(client)
    assert (report.status, report.resumed) == ("complete", 50)


async def test_what_leaves_the_vectors_as_they_are_may_change(
    server: FaultServer, client: AsyncClient, make: Make
) -> None:
    """How many at once, and for how long."""
    await stopped(server, client, make(concurrency=1))
    report = await make(batch_size=7, concurrency=3, timeout=50, extra_headers={"x": "y"}).run(client)
    assert (report.status, report.resumed) == ("complete", 50)


async def test_a_changed_file_is_refused(
    server: FaultServer, client: AsyncClient, make: Make, source: Path, output: Path
) -> None:
    """A byte at its end is enough; the file as it was is taken, wherever it lies and whenever it was written."""
    await stopped(server, client, make(concurrency=1))
    content = source.read_text()
    source.write_text(content[:-1] + "8")
    with pytest.raises(JobMismatchError, match=r"input\.digest"):
        await make().run(client)
    moved = source.with_name("moved.txt")
    moved.write_text(content)
    report = await make(moved).run(client)
    assert (report.status, report.resumed) == ("complete", 50)
    assert found(output) == rows(100)


async def test_a_file_that_was_not_touched_is_not_read_again(
    server: FaultServer, client: AsyncClient, make: Make, source: Path
) -> None:
    """Its size and time tell: that is why other content under the same ones goes unnoticed."""
    await stopped(server, client, make(concurrency=1))
    status = source.stat()
    source.write_text(source.read_text()[:-1] + "8")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (await make().run(client)).status == "complete"


async def test_a_source_that_is_an_iterable_is_compared_while_it_is_skipped(
    server: FaultServer, client: AsyncClient, make: Make, output: Path
) -> None:
    """Equal rows are skipped, another text is noticed and named."""
    texts = numbers(100)
    await stopped(server, client, make(texts, concurrency=1))
    with pytest.raises(JobMismatchError, match="rows 10 to 19 were another text"):
        await make([*texts[:15], "changed", *texts[16:]]).run(client)
    with pytest.raises(JobMismatchError, match="rows 0 to 9 were another text, or had another id"):
        await make([("x", texts[0]), *texts[1:]]).run(client)
    with pytest.raises(JobMismatchError, match="it ends after 42 rows, and the job has finished row 49"):
        await make(texts[:42]).run(client)
    with pytest.raises(JobMismatchError, match="it ends after 20 rows, and the job has finished row"):
        await make(texts[:20]).run(client)
    report = await make(texts).run(client)
    assert (report.status, report.resumed) == ("complete", 50)
    assert found(output) == rows(100)


async def test_rows_that_failed_are_compared_too(server: FaultServer, client: AsyncClient, make: Make) -> None:
    """A final failure is of this text and not of another."""
    server.script(refusing(400, "3"))
    await make(["1", "2", "3", ""]).run(client)
    with pytest.raises(JobMismatchError, match="row 2 were another text"):
        await make(["1", "2", "33", ""]).run(client)
    with pytest.raises(JobMismatchError, match="row 3 were another text"):
        await make(["1", "2", "3", "4"]).run(client)
    assert (await make(["1", "2", "3", ""]).run(client)).status == "partial"


async def test_a_file_and_an_iterable_are_different_jobs(server: FaultServer, client: AsyncClient, make: Make) -> None:
    """One has a content that is known, the other has not."""
    await stopped(server, client, make(concurrency=1))
    with pytest.raises(JobMismatchError, match="input "):
        await make(numbers(100)).run(client)


async def test_vectors_of_another_width_are_another_model(server: FaultServer, client: AsyncClient, make: Make) -> None:
    """What the server behind the name sends now does not go among those that are there."""
    await stopped(server, client, make(concurrency=1))
    server.script(lambda request: answer(embedded(request.json["input"], 3)))
    with pytest.raises(JobMismatchError, match="3 dimensions now") as caught:
        await make().run(client)
    index, vector = caught.value.completed[0]
    assert (index, int(vector[0])) == (50, 50)


async def test_the_default_model_is_part_of_the_job(server: FaultServer, make_client: MakeClient, make: Make) -> None:
    """The one that the server lists first."""
    models = {"object": "list", "data": [{"id": "nvidia/nv-embedqa-e5-v5", "object": "model"}]}
    server.script(answer(models), path="/v1/models")
    server.script(embed)
    await make().run(make_client(model=None))
    with pytest.raises(JobMismatchError, match='model "nvidia/nv-embedqa-e5-v5", not "other"'):
        await make(model="other").run(make_client())


# the disk --------------------------------------------------------------------------------------------------------


async def test_a_full_disk_stops_the_job_and_hands_over_what_it_does_not_take(
    server: FaultServer, client: AsyncClient, make: Make, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is tried again and again; with room on the disk the next run sends the rest."""
    server.script(embed)
    real = store.Checkpoint.record
    calls = 0

    def record(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise JobStoreError("no space left")
        real(*args)

    monkeypatch.setattr(store.Checkpoint, "record", record)
    with pytest.raises(JobStoreError) as caught:
        await make(concurrency=1).run(client)
    assert [(index, int(vector[0])) for index, vector in caught.value.completed] == [(n, n) for n in range(30, 40)]
    assert len(server.requests) < 6
    monkeypatch.undo()
    report = await make().run(client)
    assert (report.status, report.resumed) == ("complete", 30)
    assert found(output) == rows(100)


async def test_a_disk_that_fails_at_the_last_step(
    server: FaultServer, client: AsyncClient, make: Make, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are in the checkpoint: the next run makes the part, and sends nothing."""
    server.script(embed)
    real = files.os.fsync

    def fsync(descriptor: int) -> None:
        if ".npy" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(JobStoreError, match="Input/output error"):
        await make().run(client)
    monkeypatch.undo()
    count = len(server.requests)
    assert (await make().run(client)).resumed == 100
    assert len(server.requests) == count
    assert found(output) == rows(100)


async def test_two_processes_on_one_job(server: FaultServer, client: AsyncClient, make: Make, output: Path) -> None:
    """The second is rejected before it sends anything."""
    output.mkdir()
    lock = FolderLock(output)
    with pytest.raises(JobStoreError, match="belongs to a job that is running"):
        await make().run(client)
    assert server.requests == []
    lock.close()
    server.script(embed)
    assert (await make().run(client)).status == "complete"


async def test_files_are_closed_whatever_happens(
    server: FaultServer, client: AsyncClient, make: Make, output: Path
) -> None:
    """After a job that was rejected, too."""
    server.script(embed)
    await make().run(client)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(JobMismatchError):
            await make(model="other").run(client)
        lock = FolderLock(output)
        with pytest.raises(JobStoreError):
            await make().run(client)
        lock.close()
    assert len(os.listdir("/proc/self/fd")) == before


# arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "csv"}, "format is 'csv'; choose one of parquet, npy, jsonl"),
        ({"text": ""}, "text takes the name of a field"),
        ({"id": 5}, "id takes the name of a field"),
        ({"input_type": "document"}, "input_type is 'document'"),
        ({"truncate": "LEFT"}, "truncate is 'LEFT'"),
        ({"dimensions": 0}, "dimensions is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"embedding_type": "int8"}, "a job stores float vectors"),
    ],
)
def test_arguments_that_cannot_work(make: Make, options: Any, words: str) -> None:
    """They are found when the job is made."""
    with pytest.raises(ConfigurationError) as caught:
        make(**options)
    assert words in str(caught.value)


def test_an_output_is_a_path(source: Path) -> None:
    """Nothing else is taken for one."""
    for output in ("", None, 5):
        with pytest.raises(ConfigurationError, match="output takes the path of a folder"):
            EmbedJob(source, output)  # type: ignore[arg-type]


def test_an_unknown_option_is_a_type_error(make: Make) -> None:
    """As for every method."""
    with pytest.raises(TypeError, match=r"EmbedJob\(\) got an unexpected option 'colour'"):
        make(colour="red")


async def test_clients_go_where_they_belong(make: Make) -> None:
    """The error says where."""
    with pytest.raises(TypeError, match="a Client goes to run_sync"):
        await make().run(Client(base_url="http://localhost:1"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="run takes an AsyncClient, not int"):
        await make().run(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an AsyncClient goes to run"):
        make().run_sync(AsyncClient(base_url="http://localhost:1"))  # type: ignore[arg-type]


# blocking --------------------------------------------------------------------------------------------------------


def test_a_blocking_job_advances_its_source_in_the_calling_thread(nim_simulator_url: str, output: Path) -> None:
    """And calls on_progress there: what is bound to a thread works."""
    threads: set[int] = set()

    def texts() -> Iterator[str]:
        for number in range(20):
            threads.add(threading.get_ident())
            yield f"text {number}"

    with Client(base_url=nim_simulator_url) as client:
        report = EmbedJob(texts(), output, format="npy").run_sync(
            client, on_progress=lambda progress: threads.add(threading.get_ident())
        )
    assert isinstance(report, JobReport)
    assert report.succeeded == 20
    assert threads == {threading.get_ident()}


async def test_a_blocking_job_runs_beside_a_loop(nim_simulator_url: str, output: Path) -> None:
    """As in Jupyter: in a thread of its own."""
    with Client(base_url=nim_simulator_url) as client:
        assert EmbedJob(["a", "b"], output, format="npy").run_sync(client).succeeded == 2


async def test_an_error_beside_a_loop_is_raised_as_it_is(nim_simulator_url: str, output: Path) -> None:
    """The portal adds nothing to it."""

    def broken() -> Iterator[str]:
        yield "a"
        raise KeyError("gone")

    with Client(base_url=nim_simulator_url) as client, pytest.raises(KeyError):
        EmbedJob(broken(), output, format="npy").run_sync(client)


def test_ctrl_c_keeps_what_is_finished(nim_simulator_url: str, output: Path) -> None:
    """A blocking job ends with KeyboardInterrupt, and continues when it is run again."""
    code = f"""
import os, signal
from nimclient import Client
from nimclient.jobs import EmbedJob
def interrupt(progress):
    if progress.done == 30:
        os.kill(os.getpid(), signal.SIGINT)
with Client(base_url={nim_simulator_url!r}) as client:
    job = EmbedJob([f"text {{n}}" for n in range(100)], {str(output)!r}, format="npy", batch_size=10, concurrency=1)
    try:
        job.run_sync(client, on_progress=interrupt)
    except KeyboardInterrupt:
        print("interrupted")
    print(job.run_sync(client).resumed)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    words, resumed = done.stdout.split()
    assert words == "interrupted", done.stderr
    assert 30 <= int(resumed) < 100


async def test_standard_input_is_a_source(
    server: FaultServer, client: AsyncClient, make: Make, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was stopped is given the same again; what is done is compared and skipped."""

    async def run(texts: list[str]) -> JobReport:
        reader, writer = os.pipe()
        os.write(writer, "\n".join(texts).encode())
        os.close(writer)
        with os.fdopen(reader) as file:
            monkeypatch.setattr(sys, "stdin", file)
            return await make("-", concurrency=1).run(client)

    server.script(*[embed] * 5, error(401, "no"))
    with pytest.raises(AuthenticationError):
        await run(numbers(100))
    server.script(embed)
    with pytest.raises(JobMismatchError, match="the source has changed"):
        await run(numbers(100)[::-1])
    assert (await run(numbers(100))).resumed == 50
    assert found(output) == rows(100)


async def test_async_iterables_are_sources(server: FaultServer, client: AsyncClient, make: Make, output: Path) -> None:
    """An item at a time, as there is room for it."""

    async def texts() -> AsyncIterator[tuple[str, str]]:
        for number in range(30):
            await asyncio.sleep(0)
            yield f"id-{number}", str(number)

    server.script(embed)
    report = await make(texts()).run(client)
    assert report.succeeded == 30
    assert found(output) == [(number, f"id-{number}", number) for number in range(30)]


async def test_no_more_is_taken_of_a_source_than_is_under_way(
    server: FaultServer, client: AsyncClient, make: Make
) -> None:
    """What a crash would cost is bounded: texts in flight or not on the disk yet are at most concurrency × batch size."""
    taken = 0
    most = 0

    def texts() -> Iterator[str]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield str(number)

    def look(progress: Progress) -> None:
        nonlocal most
        most = max(most, taken - progress.done)

    server.script(embed)
    await make(texts()).run(client, on_progress=look)
    assert 0 < most <= 2 * 10


@pytest.mark.parametrize("format", mostly_slow(["parquet", "npy"], "npy"))
async def test_float16_takes_half_the_space(tmp_path: Path, format: Any) -> None:
    """The parts of a job with float16 have half the bytes, and the numbers of the float32 ones, rounded."""
    texts = numbers(200)
    sizes: dict[str, int] = {}
    tables: dict[str, Any] = {}
    simulator = Simulator(dialect="vllm", models=[MODEL])
    async with simulator, AsyncClient("k", simulator.base_url, model=MODEL, defaults=NO_PREFIX) as client:
        for dtype in ("float32", "float16"):
            folder = tmp_path / dtype
            job = EmbedJob(texts, folder, format=format, embed_dtype=dtype, batch_size=40, concurrency=1)
            report = await job.run(client)
            assert (report.status, report.succeeded, report.tokens) == ("complete", 200, None)
            sizes[dtype] = sum(path.stat().st_size for path in folder.glob(f"part-*.{format}"))
            tables[dtype] = table_of(folder)
            assert json.loads((folder / "manifest.json").read_bytes())["dtype"] == dtype
        other = EmbedJob(texts, tmp_path / "float16", format=format, batch_size=40)
        with pytest.raises(JobMismatchError, match="embed_dtype"):
            await other.run(client)
    assert 0.5 <= sizes["float16"] / sizes["float32"] < 0.52
    for (row, name, wide), (same, again, half) in zip(tables["float32"], tables["float16"], strict=True):
        assert (row, name) == (same, again)
        assert half == struct.pack(f"<{len(wide) // 4}e", *memoryview(wide).cast("f"))
    sent = [request.json for request in simulator.requests if request.json is not None]
    assert [body["encoding_format"] for body in sent] == ["base64", *["bytes_only"] * 9]


async def test_float16_resumes(output: Path) -> None:
    """What a stopped run left in its open part is found again, and belongs to the same part."""
    async with FaultServer() as server:
        server.script(lambda request: embed(request) if len(server.requests) < 3 else error(401))
        async with AsyncClient("k", server.url, model=MODEL) as client:
            job = EmbedJob(numbers(30), output, format="npy", embed_dtype="float16", batch_size=10, concurrency=1)
            with pytest.raises(AuthenticationError):
                await job.run(client)
            assert [path.name for path in output.glob("open-*")] == ["open-00000.f16"]
            server.script(embed)
            report = await job.run(client)
    assert (report.resumed, report.succeeded) == (20, 30)
    assert [struct.unpack("<2e", vector)[0] for _, _, vector in table_of(output)] == list(range(30))


async def test_repeats_and_a_cache(tmp_path: Path) -> None:
    """60 % repeats are 60 % fewer texts sent; another job with the cache sends none; the report counts both."""
    texts = [str(number % 80) for number in range(200)]
    async with FaultServer() as server:
        server.script(embed)
        async with AsyncClient("k", server.url, model=MODEL) as client:
            seen: list[Progress] = []
            job = EmbedJob(texts, tmp_path / "a", format="npy", batch_size=16, cache=tmp_path / "cache")
            report = await job.run(client, seen.append)
            assert len(sent(server)) == 80
            # a text whose vector came before its repeat was read counts as cached
            assert (report.succeeded, report.repeated + report.cached) == (200, 120)
            assert (seen[-1].done, seen[-1].total, seen[-1].repeated) == (200, 200, report.repeated)
            job = EmbedJob(texts[:100], tmp_path / "b", format="npy", cache=tmp_path / "cache")
            again = await job.run(client)
            assert len(sent(server)) == 80
            assert (again.succeeded, again.requests, again.tokens, again.cached + again.repeated) == (100, 0, 0, 100)
            plain = await EmbedJob(texts, tmp_path / "c", format="npy", batch_size=16).run(client)
            assert len(sent(server)) == 160
    assert (plain.repeated, plain.cached) == (120, 0)
    assert table_of(tmp_path / "a") == table_of(tmp_path / "c")
    assert table_of(tmp_path / "b") == table_of(tmp_path / "a")[:100]
    assert found(tmp_path / "a") == [(number, str(number), number % 80) for number in range(200)]

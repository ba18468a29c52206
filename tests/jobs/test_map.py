"""MapJob: a question about every row of a source, each asked once, and its answer on a line of a file."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import frozen

from nimclient import AsyncClient, ChatPrompt, Client, Progress
from nimclient.errors import (
    AuthenticationError,
    BatchError,
    ConfigurationError,
    JobMismatchError,
    JobStoreError,
    ModelNotFoundError,
)
from nimclient.jobs import MapJob
from nimclient.simulator import Simulator
from support.cancelling import cancel_everywhere
from support.server import FaultServer, Request
from support.wire import MODEL, answer, chat, chat_body, error

MakeClient = Callable[..., AsyncClient]
FINISHED = {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}


def question(request: Request) -> Any:
    """What was asked last."""
    return request.json["messages"][-1]["content"]


def echo(request: Request) -> bytes:
    """An answer that tells what was asked."""
    return chat(f"about {question(request)}", **FINISHED)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_index(path: Path) -> dict[int, dict[str, Any]]:
    records = {record["index"]: record for record in lines(path)}
    assert len(records) == len(lines(path)), "a row was answered twice"
    return records


class Rows:
    """A file of rows, and where the answers go."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "rows.jsonl"
        self.output = folder / "answers.jsonl"
        self.errors = folder / "answers.errors.jsonl"
        self.write(*({"id": f"r{number}", "text": f"text {number}"} for number in range(10)))

    def write(self, *rows: Any) -> None:
        self.source.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))

    def job(self, template: Any = "Sum up: {text}", **options: Any) -> MapJob:
        return MapJob(template, self.source, self.output, **{"id": "id", **options})


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(tmp_path)


async def test_every_row_has_its_answer(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """A line an answer: number and id of the row, text, finish reason, model, usage."""
    server.script(echo)
    report = await rows.job(system="Be brief, {id}.", temperature=0, max_tokens=5).run(client)
    assert (report.status, report.total, report.succeeded, report.requests) == ("complete", 10, 10, 10)
    assert (report.tokens, report.truncated, report.failures_path) == (30, 0, None)
    found = by_index(rows.output)
    assert list(found[3]) == ["index", "id", "text", "finish_reason", "model", "usage", "digest"]
    assert found[3]["id"] == "r3"
    assert found[3]["text"] == "about Sum up: text 3"
    assert (found[3]["finish_reason"], found[3]["model"]) == ("stop", MODEL)
    assert found[3]["usage"] == FINISHED["usage"]
    sent = {question(request): request.json for request in server.requests}["Sum up: text 3"]
    assert sent["messages"][0] == {"role": "system", "content": "Be brief, r3."}
    assert (sent["temperature"], sent["max_tokens"], sent["model"]) == (0, 5, MODEL)
    assert not rows.errors.exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl.gz", "txt", "parquet", "pairs", "records", "async"])
async def test_it_takes_the_sources_of_an_embedding_job(
    server: FaultServer, client: AsyncClient, tmp_path: Path, kind: str
) -> None:
    """Files, compressed ones, and iterables; a row that is only a text is the field {text}."""
    records = [{"id": "a", "text": "one"}, {"id": "b", "text": "two {text}"}]
    source: Any = tmp_path / f"rows.{kind}"
    name: str | None = "id"
    if kind == "csv":
        source.write_text("id,other,text\na,x,one\nb,x,two {text}\n")
    elif kind == "jsonl.gz":
        source.write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    elif kind == "txt":
        source.write_text("one\n\ntwo {text}\n")
        name = None
    elif kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.Table.from_pylist(records), source)
    elif kind == "pairs":
        source = [(record["id"], record["text"]) for record in records]
    elif kind == "records":
        source = iter(records)
    else:

        async def texts() -> Any:
            for record in records:
                yield record

        source = texts()
    server.script(echo)
    report = await MapJob("Say {text}", source, tmp_path / "out.jsonl", id=name).run(client)
    assert report.status == "complete"
    found = by_index(tmp_path / "out.jsonl")
    assert [found[index]["text"] for index in (0, 1)] == ["about Say one", "about Say two {text}"]
    assert [found[index]["id"] for index in (0, 1)] == (["0", "1"] if name is None else ["a", "b"])


async def test_values_are_inserted_as_they_are(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """Braces of a row are not expanded; numbers are text, lists and objects JSON; doubled braces are literal."""
    rows.write({"n": 12, "x": [1, {"a": "ü"}], "yes": True, "s": "{n} }{"})
    server.script(echo)
    await rows.job("{n}|{x}|{yes}|{s}|{{n}}", id=None).run(client)
    assert question(server.requests[0]) == '12|[1,{"a":"ü"}]|true|{n} }{|{n}'


async def test_a_prompt_may_hold_messages_of_the_row(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """A placeholder stands for a list of messages in a field."""
    rows.write({"history": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], "q": "why?"})
    prompt = ChatPrompt([("placeholder", "{history}"), ("user", "{q}")])
    server.script(echo)
    await rows.job(prompt, id=None, system="S").run(client)
    sent = [(message["role"], message["content"]) for message in server.requests[0].json["messages"]]
    assert sent == [("system", "S"), ("user", "hi"), ("assistant", "ho"), ("user", "why?")]


async def test_rows_that_cannot_be_asked_fail_alone(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """A missing field, null, a broken line: each is listed with its line and what is wrong; the others are answered."""
    rows.write(
        {"id": "a", "text": "x"},
        {"id": "b", "title": "y"},
        {"id": "c", "text": None},
        "{broken",
        {"id": [], "text": "x"},
        {"id": "f", "text": ""},
    )
    server.script(echo)
    report = await rows.job().run(client)
    assert (report.status, report.succeeded, report.failed, report.requests) == ("partial", 2, 4, 2)
    assert report.failures_path == rows.errors
    failures = by_index(rows.errors)
    assert failures[1]["error"] == "there is no field 'text'"
    assert (failures[1]["id"], failures[1]["line"], failures[1]["type"]) == ("b", 2, "ConfigurationError")
    assert failures[2]["error"] == "the field 'text' has no value (null)"
    assert "not JSON" in failures[3]["error"]
    assert "the id (field 'id') is a value of type list" in failures[4]["error"]
    again = await rows.job().run(client)
    assert (again.resumed, again.requests, again.failed) == (6, 0, 4)


async def test_a_field_that_no_row_has_ends_the_job(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """It names the fields of the first row, and nothing is sent; with the right name the same file is used."""
    rows.write(*({"id": str(number), "text": "x"} for number in range(150)))
    for job, word in ((rows.job("{txet}"), "name those in the template"), (rows.job(id="name"), "name those in id=")):
        with pytest.raises(ConfigurationError, match=rf"the first row \(line 1\) has 'id', 'text': {word}"):
            await job.run(client)
    rows.write({"id": "1", "text": "x"})
    with pytest.raises(ConfigurationError, match="there is no field 'txet'"):
        await rows.job("{txet}").run(client)
    assert not server.requests
    server.script(echo)
    report = await rows.job().run(client)
    assert (report.status, report.failed) == ("complete", 0)
    assert not rows.errors.exists()


async def test_a_row_that_is_a_text_has_one_field(client: AsyncClient, rows: Rows) -> None:
    """A template that names another one ends the job before anything is sent."""
    with pytest.raises(
        ConfigurationError, match="no field 'title'; the first row has 'text': name those in the template"
    ):
        await MapJob("{title}: {text}", ["one", "two"], rows.output).run(client)


async def test_columns_are_looked_up_before_anything_is_sent(client: AsyncClient, tmp_path: Path) -> None:
    """A CSV without a column of that name is an error of the job."""
    (tmp_path / "rows.csv").write_text("id,body\n1,x\n")
    with pytest.raises(ConfigurationError, match="has no column 'text'; it has 'id', 'body'"):
        await MapJob("{text}", tmp_path / "rows.csv", tmp_path / "out.jsonl").run(client)


# typed answers ---------------------------------------------------------------------------------------------------


@frozen
class Verdict:
    mood: Literal["good", "bad"]
    score: int


SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "score": {"type": "integer"}},
    "required": ["mood", "score"],
}


@pytest.mark.parametrize("schema", [Verdict, SCHEMA])
async def test_answers_of_a_schema_are_values(
    server: FaultServer, client: AsyncClient, rows: Rows, schema: Any
) -> None:
    """The value is JSON of that form; an answer that does not fit is a failure with what the model wrote, asked again."""
    texts = {"text 4": '{"mood": "fine", "score": 1}', "text 5": "no"}

    def serve(request: Request) -> bytes:
        return chat(texts.get(question(request), '{"mood": "good", "score": 3}'), **FINISHED)

    server.script(serve)
    report = await rows.job("{text}", schema=schema).run(client)
    assert (report.status, report.failed) == ("partial", 2)
    found = by_index(rows.output)
    assert found[0]["value"] == {"mood": "good", "score": 3}
    assert "text" not in found[0]
    failures = by_index(rows.errors)
    assert failures[4]["type"] == "OutputInvalidError"
    assert failures[5]["text"] == "no"
    sent = server.requests[0].json["response_format"]["json_schema"]["schema"]
    assert sent["properties"].keys() == {"mood", "score"}
    texts.clear()
    again = await rows.job("{text}", schema=schema).run(client)
    assert (again.status, again.resumed, again.requests) == ("complete", 8, 2)


async def test_a_schema_of_a_list(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """What servers want wrapped comes out unwrapped."""
    server.script(chat('{"value": ["a", "b"]}'))
    await rows.job(schema=list[str]).run(client)
    assert by_index(rows.output)[0]["value"] == ["a", "b"]


async def test_an_answer_that_does_not_fit_is_sent_back(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """As often as `retries` says."""
    rows.write({"text": "x"})
    server.script(chat("no"), chat('{"mood": "bad", "score": 1}'))
    report = await rows.job("{text}", id=None, schema=SCHEMA, retries=1).run(client)
    assert report.status == "complete"
    assert len(server.requests) == 2


async def test_answers_that_were_cut_off_are_marked(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """By the finish reason and in the report of every run; with a schema they are failures."""

    def serve(request: Request) -> bytes:
        body = chat_body("so long", **FINISHED)
        body["choices"][0]["finish_reason"] = "length" if "3" in question(request) else "stop"
        return answer(body)

    server.script(serve)
    assert (await rows.job(max_tokens=3).run(client)).truncated == 1
    assert [record["index"] for record in lines(rows.output) if record["finish_reason"] == "length"] == [3]
    assert (await rows.job(max_tokens=3).run(client)).truncated == 1
    rows.output.unlink()
    report = await rows.job(max_tokens=3, schema={"type": "string"}).run(client)
    assert (report.failed, report.truncated) == (1, 0)
    assert by_index(rows.errors)[3]["type"] == "OutputTruncatedError"


async def test_reasoning_and_tool_calls_are_kept(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """Where an answer has them."""
    rows.write({"text": "x"})
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]}
    server.script(
        answer({"model": MODEL, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    )
    await rows.job(id=None).run(client)
    record = by_index(rows.output)[0]
    assert (record["text"], record["reasoning"], record["usage"]) == ("", "hm", None)
    assert record["tool_calls"][0]["function"]["name"] == "f"


# resuming --------------------------------------------------------------------------------------------------------


async def test_a_refusal_is_kept(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """The line of an answer without a text says what the model refused."""
    message = {"role": "assistant", "content": None, "refusal": "I cannot."}
    server.script(answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
    await rows.job().run(client)
    assert (by_index(rows.output)[0]["text"], by_index(rows.output)[0]["refusal"]) == ("", "I cannot.")


async def test_an_answer_without_a_choice_is_a_failure(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """It is no empty text, and is asked for again."""
    server.script(answer({"choices": []}))
    report = await rows.job().run(client)
    assert (report.status, report.failed) == ("failed", 10)
    assert {line["type"] for line in lines(rows.errors)} == {"DecodeError"}
    server.script(echo)
    assert (await rows.job().run(client)).status == "complete"


async def test_numbers_of_any_length(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """They are inserted with all their digits, and so are those of a value written down."""
    number, fraction = "123456789012345678901234567890", "12345678901234567890.125"
    rows.write(f'{{"id": 1, "text": {number}}}', f'{{"id": 2, "text": {fraction}}}', '{"id": 3, "text": 1.50}')
    server.script(echo)
    await rows.job("{text}").run(client)
    assert [by_index(rows.output)[place]["text"] for place in range(3)] == [
        f"about {n}" for n in (number, fraction, "1.5")
    ]
    rows.output.unlink()
    server.script(chat(f'{{"n": {number}}}'))
    await rows.job("{text}", schema={"type": "object", "properties": {"n": {"type": "integer"}}}).run(client)
    assert by_index(rows.output)[0]["value"] == {"n": int(number)}


@pytest.mark.parametrize("index", ["true", "-5", "1.5", "null", "9" * 5000, '"0"', "[0]"])
async def test_a_line_without_the_number_of_a_row(client: AsyncClient, rows: Rows, index: str) -> None:
    """It is not an answer of this job, and is named."""
    rows.output.write_text(f'{{"index":{index},"digest":"x"}}\n')
    with pytest.raises(JobStoreError, match="line 1"):
        await rows.job().run(client)


async def test_it_resumes(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """What is answered is not sent again; rows may have been added at the end; a torn last line is sent again."""
    server.script(echo)
    await rows.job().run(client)
    content = rows.output.read_bytes()
    torn = json.loads(content.splitlines()[-1])["index"]
    rows.output.write_bytes(content[:-4])
    with rows.source.open("a") as file:
        print(json.dumps({"id": "r10", "text": "text 10"}), file=file)
    server.requests.clear()
    report = await rows.job().run(client)
    assert (report.status, report.total, report.resumed, report.requests) == ("complete", 11, 9, 2)
    assert {question(request) for request in server.requests} == {f"Sum up: text {torn}", "Sum up: text 10"}
    assert len(by_index(rows.output)) == 11


async def test_another_job_is_a_mismatch(server: FaultServer, make_client: MakeClient, rows: Rows) -> None:
    """Another template, option, model, schema or row, and rows that are gone; nothing is sent."""
    server.script(echo)
    client = make_client()
    await rows.job().run(client)
    server.requests.clear()
    for job in (
        rows.job("Other: {text}"),
        rows.job(temperature=1),
        rows.job(system="S"),
        rows.job(model="other"),
        rows.job(schema=SCHEMA),
    ):
        with pytest.raises(JobMismatchError, match=r"row 0 is not what .* has an answer to"):
            await job.run(client)
    with pytest.raises(JobMismatchError, match="row 0"):
        await rows.job().run(make_client(defaults={"chat": {"max_tokens": 3}}))
    assert (await rows.job(concurrency=3, timeout=9.0, extra_headers={"x-a": "b"}).run(client)).resumed == 10
    records = [{"id": f"r{number}", "text": f"text {number}"} for number in range(10)]
    rows.write(*records[:4], {"id": "new", "text": "new"}, *records[4:])
    with pytest.raises(JobMismatchError, match="row 4"):
        await rows.job().run(client)
    rows.write(*records[:7])
    with pytest.raises(JobMismatchError, match=r"ends after 7 rows, and .* has an answer to row [789]"):
        await rows.job().run(client)
    assert server.requests == []


async def test_what_the_server_rejects_is_kept_until_the_row_changes(
    server: FaultServer, client: AsyncClient, rows: Rows
) -> None:
    """A text that is too long fails with the server's words and is not asked again; a fault of the server is."""

    def serve(request: Request) -> bytes:
        asked = question(request)
        if asked == "Sum up: text 2":
            return error(400, "This model's maximum context length is 4096 tokens")
        return error(500, "oops") if asked == "Sum up: text 3" else echo(request)

    server.script(serve)
    report = await rows.job().run(client)
    assert (report.status, report.succeeded, report.failed) == ("partial", 8, 2)
    failures = by_index(rows.errors)
    assert failures[2]["type"] == "ContextLengthError"
    assert failures[2]["status"] == 400
    assert "maximum context length" in failures[2]["error"]
    server.requests.clear()
    report = await rows.job().run(client)
    assert {question(request) for request in server.requests} == {"Sum up: text 3"}
    assert (report.resumed, report.failed) == (9, 2)
    rows.write(*({"id": f"r{n}", "text": "short" if n == 2 else f"text {n}"} for n in range(10)))
    server.script(echo)
    report = await rows.job().run(client)
    assert (report.status, report.total, report.resumed, report.failed) == ("complete", 10, 8, 0)
    assert not rows.errors.exists()


async def test_a_failure_of_a_row_that_is_gone(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """It goes with the row; the others stay."""
    rows.write({"id": "a", "text": "x"}, {"id": "b"}, {"id": "c"})
    server.script(echo)
    assert (await rows.job().run(client)).failed == 2
    rows.write({"id": "a", "text": "x"}, {"id": "b"})
    report = await rows.job().run(client)
    assert (report.status, report.total, report.failed) == ("partial", 2, 1)
    assert by_index(rows.errors).keys() == {1}


async def test_a_file_that_holds_something_else_is_not_touched(client: AsyncClient, rows: Rows) -> None:
    """Neither whole lines nor a last one without an end; nor the answers of a batch."""
    for content in ("precious", '{"id": "x"}\n', "[]\n", '{"index":"0","digest":"x"}\n', '{"index":0,"digest":1}\n'):
        rows.output.write_text(content)
        with pytest.raises(JobStoreError, match=r"answers\.jsonl, line 1, is not a result of a map"):
            await rows.job().run(client)
        assert rows.output.read_text() == content


# what ends a job -------------------------------------------------------------------------------------------------


async def test_a_server_that_rejects_everything_is_not_asked_forever(
    server: FaultServer, client: AsyncClient, rows: Rows
) -> None:
    """After the first hundred; where one row was answered it is the rows, and all are asked."""
    rows.write(*({"text": f"text {number}"} for number in range(300)))
    server.script(error(400, "temperature must be a number"))
    with pytest.raises(BatchError, match=r"rejected all of the first 100 requests; .*temperature must be a number"):
        await rows.job(id=None, concurrency=4).run(client)
    assert len(server.requests) < 110
    rows.output.unlink()
    rows.errors.unlink()
    server.script(echo, error(400, "no"))
    report = await rows.job(id=None, concurrency=1).run(client)
    assert (report.succeeded, report.failed) == (1, 299)


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (404, ModelNotFoundError)], ids=["key", "model"]
)
async def test_errors_of_every_request_end_it(
    server: FaultServer, client: AsyncClient, rows: Rows, status: int, kind: type[Exception]
) -> None:
    """They are raised, no row fails, and what is answered is kept."""
    server.script(echo, echo, error(status, "The model `m` does not exist.", type="NotFoundError"))
    with pytest.raises(kind):
        await rows.job(concurrency=1).run(client)
    assert len(lines(rows.output)) == 2
    server.script(echo)
    report = await rows.job().run(client)
    assert (report.status, report.resumed) == ("complete", 2)


async def test_an_iterable_that_fails(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """Its error comes unchanged with the position; what is answered is kept, and compared when it comes again."""

    def source(last: str | None) -> Iterator[str]:
        yield "one"
        yield "two"
        if last is None:
            raise OSError("gone")
        yield last

    server.script(echo)
    with pytest.raises(OSError, match="gone") as caught:
        await MapJob("{text}", source(None), rows.output, concurrency=1).run(client)
    assert caught.value.__dict__["index"] == 2
    report = await MapJob("{text}", source("three"), rows.output).run(client)
    assert (report.total, report.resumed) == (3, 2)
    with pytest.raises(JobMismatchError, match="row 2"):
        await MapJob("{text}", source("four"), rows.output).run(client)


async def test_progress_counts_what_is_on_disk(server: FaultServer, client: AsyncClient, rows: Rows) -> None:
    """With the total of a file, before its end."""
    seen: list[tuple[Progress, int]] = []
    server.script(echo)
    await rows.job(concurrency=2).run(client, lambda progress: seen.append((progress, len(lines(rows.output)))))
    assert [progress.done for progress, _ in seen] == list(range(1, 11))
    assert all(progress.done <= written and progress.total == 10 for progress, written in seen)


@pytest.mark.slow
async def test_cancelling_it_anywhere_keeps_answers_and_leaves_nothing(
    server: FaultServer, make_client: MakeClient, rows: Rows
) -> None:
    """At every suspension point: whole lines, and the next run asks for the rest."""
    server.script(echo)
    client = make_client()
    rows.write(*({"id": str(number), "text": f"text {number}"} for number in range(4)))

    async def check() -> None:
        written = lines(rows.output) if rows.output.exists() else []
        report = await rows.job().run(client)
        assert (report.status, report.total, report.resumed) == ("complete", 4, len(written))
        assert len(by_index(rows.output)) == 4
        rows.output.unlink()

    await check()
    assert await cancel_everywhere(lambda: rows.job(concurrency=2).run(client), check, most=500) > 5


# arguments and blocking ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "options", "words"),
    [
        ("Hello", {}, "names no field of a row"),
        ("{text", {}, "which is not a name; double literal braces"),
        ("{a b}", {}, "which is not a name"),
        ("{text}", {"n": 2}, "a row has one answer"),
        ("{text}", {"id": ""}, "id takes the name of a field"),
        ("{text}", {"concurrency": 0}, "concurrency is 0"),
        ("{text}", {"retries": -1}, "retries is -1"),
        ("{text}", {"schema": object.__new__}, "schema|JSON"),
        ("{text}", {"schema": {}, "response_format": {"type": "json_object"}}, "sets response_format itself"),
    ],
)
def test_arguments_that_cannot_work(rows: Rows, template: str, options: dict[str, Any], words: str) -> None:
    """They are found when the job is made."""
    with pytest.raises(ConfigurationError, match=words):
        rows.job(template, **options)


def test_files_that_cannot_work(rows: Rows, tmp_path: Path) -> None:
    """A source that is not there or has no format, an output that is the source; options that are unknown."""
    for source, output, words in (
        (tmp_path / "missing.jsonl", rows.output, "does not exist"),
        (tmp_path / "rows.xml", rows.output, "format that cannot be read"),
        (rows.source, rows.source, "is the source"),
        (rows.source, "", "output takes the path of a file"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            MapJob("{text}", source, output)
    with pytest.raises(TypeError, match=r"MapJob\(\) got an unexpected option 'temprature' \(did you mean"):
        rows.job(temprature=1)


def test_a_blocking_client_runs_it(rows: Rows, nim_simulator_url: str) -> None:
    """The same report, and the default model of the server."""
    with Client(base_url=nim_simulator_url) as client:
        report = rows.job(max_tokens=5).run_sync(client)
    assert (report.status, report.succeeded) == ("complete", 10)


async def test_the_simulator_answers_in_the_form_of_a_schema(nim_simulator: Simulator, rows: Rows) -> None:
    """In each of ten rows, and typed."""
    async with AsyncClient(base_url=nim_simulator.base_url) as client:
        report = await rows.job(schema=SCHEMA).run(client)
    assert report.status == "complete"
    assert {record["value"]["mood"] for record in lines(rows.output)} <= {"good", "bad"}

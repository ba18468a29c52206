"""BatchJob: requests of OpenAI's batch files, answers in its output format, each request once."""

import errno
import fcntl
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion

from nimclient import AsyncClient, Client, Progress, RetryPolicy
from nimclient.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    JobMismatchError,
    JobStoreError,
    RateLimitError,
    ServerError,
)
from nimclient.jobs import BatchJob, answers
from nimclient.simulator import Simulator
from support.cancelling import cancel_everywhere
from support.jobs import CHAT
from support.jobs import MODEL as EMBEDDING
from support.server import Close, FaultServer, Request
from support.wire import HELLO, answer, chat, error

RANKING = "nvidia/llama-nemotron-rerank-1b-v2"
MakeClient = Callable[..., AsyncClient]


def line(custom_id: Any, url: str = "/v1/chat/completions", method: str = "POST", **body: Any) -> dict[str, Any]:
    body = body or {"model": CHAT, "messages": [{"role": "user", "content": f"What is {custom_id}?"}]}
    return {"custom_id": custom_id, "method": method, "url": url, "body": body}


def echo(request: Request) -> bytes:
    """An answer that tells what was asked."""
    return answer({"asked": request.json, "usage": {"total_tokens": 3}, "choices": [], "data": []})


def read(path: Path) -> dict[str, Any]:
    """The lines of answers by custom_id."""
    records = [json.loads(text) for text in path.read_text().splitlines()]
    by_name = {record["custom_id"]: record for record in records}
    assert len(by_name) == len(records), "a request was answered twice"
    return by_name


class Batch:
    """A file of requests, and where its answers go."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "requests.jsonl"
        self.output = folder / "answers.jsonl"
        self.errors = folder / "answers.errors.jsonl"

    def write(self, *lines: Any) -> None:
        self.source.write_text("".join(f"{text if isinstance(text, str) else json.dumps(text)}\n" for text in lines))

    def job(self, **options: Any) -> BatchJob:
        return BatchJob(self.source, self.output, **options)


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    batch = Batch(tmp_path)
    batch.write(*[line(f"r{number}") for number in range(10)])
    return batch


def asked(server: FaultServer) -> list[str]:
    """The names in what the server was asked."""
    return [request.json["messages"][0]["content"][8:-1] for request in server.requests]


async def test_answers_of_all_kinds_parse_with_the_types_of_openai(batch: Batch, nim_simulator: Simulator) -> None:
    """Chat, completions, embeddings and ranking, mixed in one file, in OpenAI's output format."""
    batch.write(
        line("chat"),
        line("completion", "/v1/completions", model=CHAT, prompt="Once", max_tokens=3),
        line("embedding", "/v1/embeddings", model=EMBEDDING, input=["a", "b"], input_type="query"),
        line("ranking", "/v1/ranking", model=RANKING, query={"text": "q"}, passages=[{"text": "a"}, {"text": "b"}]),
    )
    async with AsyncClient(base_url=nim_simulator.base_url) as client:
        report = await batch.job().run(client)
    assert (report.status, report.total, report.succeeded, report.requests) == ("complete", 4, 4, 4)
    found = read(batch.output)
    for record in found.values():
        assert list(record) == ["id", "custom_id", "response", "error"]
        assert record["id"].startswith("batch_req_")
        assert record["error"] is None
        assert record["response"]["status_code"] == 200
        assert record["response"]["request_id"]
    bodies = {name: record["response"]["body"] for name, record in found.items()}
    chat = ChatCompletion.model_validate(bodies["chat"], strict=True)
    assert chat.choices[0].message.content
    assert Completion.model_validate(bodies["completion"], strict=True).choices[0].text
    vectors = CreateEmbeddingResponse.model_validate(bodies["embedding"], strict=True)
    assert [len(item.embedding) for item in vectors.data] == [1024, 1024]
    assert {row["index"] for row in bodies["ranking"]["rankings"]} == {0, 1}
    assert not batch.errors.exists()


async def test_bodies_are_sent_as_they_are(server: FaultServer, make_client: MakeClient, batch: Batch) -> None:
    """Null, unknown fields and all; what came back is written down as it came."""
    body = {"model": "m", "messages": [], "temperature": None, "new": {"x": [1]}}
    batch.write(line("a", **body))
    server.script(echo)
    report = await batch.job().run(make_client())
    assert server.requests[0].json == body
    assert server.requests[0].path == "/v1/chat/completions"
    assert read(batch.output)["a"]["response"]["body"]["asked"] == body
    assert report.tokens == 3


NUMBERS = (
    b'{"n": 123456789012345678901234567890, "x": 0.1000000000000000055511, "e": 1E300, "s": "\\ud83d\\ude00 1e999",'
    b' "h": 1E400, "m": [-1.0E+999, 1e-999], "l": ' + b"9" * 4000 + b"}"
)


@pytest.mark.parametrize("model", [b'"model": "m", ', b""])
async def test_numbers_of_any_length_are_sent_as_they_are(
    server: FaultServer, make_client: MakeClient, batch: Batch, model: bytes
) -> None:
    """More than 64 bits, more digits than a float has, and exponents beyond it: byte for byte, behind an added model."""
    body = b"{" + model + NUMBERS[1:]
    batch.source.write_bytes(b'{"body":{},"custom_id": "a", "body" : ' + body + b' ,"url": "/v1/chat/completions"}\n')
    server.script(chat())
    report = await batch.job(model="m").run(make_client())
    assert (report.status, report.total) == ("complete", 1)
    assert server.requests[0].body == (body if model else b'{"model":"m",' + body[1:])
    assert server.requests[0].headers["content-type"] == "application/json"


async def test_half_a_character(server: FaultServer, make_client: MakeClient, batch: Batch) -> None:
    """A custom_id that has one comes back as it is, and resumes; a body that has one is a failure of its line alone."""
    halves = ["a\ud83d", "a\ud83e", "\udc00"]
    named = [line(name, model="m", messages=[{"role": "user", "content": "x"}]) for name in halves]
    broken = line("broken", model="m", messages=[{"role": "user", "content": "x\ud83d"}])
    batch.write(*named, broken, line("whole"))
    server.script(*[echo] * 4)
    report = await batch.job().run(make_client())
    assert (report.status, report.succeeded, report.failed) == ("partial", 4, 1)
    assert sorted(read(batch.output)) == sorted([*halves, "whole"])
    error = read(batch.errors)["broken"]["error"]
    assert error["code"] == "ConfigurationError"
    assert error["message"].startswith("body.messages[0].content")
    again = await batch.job().run(make_client())
    assert (again.resumed, again.requests, len(server.requests)) == (5, 0, 4)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1E", b"01E400", b"1E400}"])
async def test_what_is_no_number_is_refused_before_anything_is_sent(
    server: FaultServer, client: AsyncClient, batch: Batch, number: bytes
) -> None:
    """Beside a number that is only too large, too."""
    body = b'{"model": "m", "x": 1E400, "y": ' + number + b"}"
    batch.source.write_bytes(b'{"custom_id": "a", "url": "/v1/chat/completions", "body": ' + body + b"}\n")
    with pytest.raises(ConfigurationError, match="line 1 is not JSON"):
        await batch.job().run(client)
    assert not server.requests


@pytest.mark.parametrize("body", [None, "hi", [1], {"id": "x"}, {"choices": None}])
async def test_a_response_without_an_answer_is_a_failure(
    server: FaultServer, client: AsyncClient, batch: Batch, body: Any
) -> None:
    """A 200 that holds nothing of what was asked for is not written down as an answer."""
    batch.write(line("a"))
    server.script(answer(body))
    report = await batch.job().run(client)
    assert (report.status, report.succeeded, report.failed) == ("failed", 0, 1)


async def test_a_response_that_the_server_ended_early_is_a_failure(
    server: FaultServer, client: AsyncClient, batch: Batch
) -> None:
    """An engine that is shut down answers 200 with what it has; the line is asked again, and is not written down."""
    batch.write(line("a"))
    early = {"choices": [{"index": 0, "message": {"content": "The"}, "finish_reason": "abort"}]}
    server.script(answer(early), chat("The sky"))
    assert (await batch.job().run(client)).status == "complete"
    body = read(batch.output)["a"]["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "The sky"


async def test_a_gateway_that_streams_unasked_has_answered(
    server: FaultServer, client: AsyncClient, batch: Batch
) -> None:
    """Events in answer to a line are put together, as they are for a plain call."""
    batch.write(line("a"))
    server.script(HELLO)
    assert (await batch.job().run(client)).status == "complete"
    body = read(batch.output)["a"]["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "Hello"
    assert body["usage"]["total_tokens"] == 3


async def test_a_body_without_a_model_gets_one(server: FaultServer, make_client: MakeClient, batch: Batch) -> None:
    """That of the job, else that of the client."""
    batch.write(line("a", messages=[]), line("b", model="own", messages=[]))
    server.script(echo)
    await batch.job(model="job").run(make_client(model="client"))
    assert sorted(request.json["model"] for request in server.requests) == ["job", "own"]
    batch.output.unlink()
    server.requests.clear()
    await batch.job().run(make_client(model="client"))
    assert sorted(request.json["model"] for request in server.requests) == ["client", "own"]


async def test_defaults_of_the_client_fill_bodies(server: FaultServer, make_client: MakeClient, batch: Batch) -> None:
    """What a body names stays; `defaults` of its kind that it does not name are added, as the methods would send them."""
    defaults = {
        "chat": {"max_tokens": 5, "temperature": 0, "extra_headers": {"x-a": "b"}},
        "embedding": {"truncate": "END"},
    }
    body = {"model": "m", "messages": [], "temperature": 1}
    batch.write(line("a", **body), line("b", "/v1/embeddings", model="m", input="x"), line("c", seed=10**30, model="m"))
    server.script(echo, echo, echo)
    await batch.job(concurrency=1).run(make_client(defaults=defaults))
    chat, embedding, exact = server.requests
    assert chat.json == {**body, "max_tokens": 5}
    assert chat.headers["x-a"] == "b"
    assert embedding.json == {"model": "m", "input": "x", "truncate": "END"}
    assert exact.body == b'{"max_tokens":5,"temperature":0,"seed": 1000000000000000000000000000000, "model": "m"}'


async def test_a_limit_of_tokens_is_sent_under_one_name(
    server: FaultServer, make_client: MakeClient, batch: Batch
) -> None:
    """A line's own, whichever of its two names the default has: servers reject both at once."""
    batch.write(line("a", model="m", messages=[], max_completion_tokens=9), line("b", model="m", messages=[]))
    server.script(echo)
    await batch.job(concurrency=1).run(make_client(defaults={"chat": {"max_tokens": 5}}))
    own, default = (request.json for request in server.requests)
    assert (own.get("max_completion_tokens"), own.get("max_tokens")) == (9, None)
    assert (default.get("max_completion_tokens"), default.get("max_tokens")) == (None, 5)


async def test_rerank_lines_of_vllm_go_where_they_say(
    server: FaultServer, make_client: MakeClient, batch: Batch
) -> None:
    """Below /v1 or below the root."""
    body = {"model": "m", "query": "q", "documents": ["a"]}
    urls = ["/v1/rerank", "/rerank", "/v2/rerank"]
    batch.write(*[line(url, url, **body) for url in urls])
    server.script(echo)
    await batch.job().run(make_client())
    assert sorted(request.path for request in server.requests) == sorted(urls)


async def test_it_resumes_by_custom_id(server: FaultServer, make_client: MakeClient, batch: Batch) -> None:
    """What is answered is not sent again; new requests may have been added."""
    server.script(echo)
    client = make_client()
    await batch.job().run(client)
    server.requests.clear()
    batch.write(line("r11"), *[line(f"r{number}") for number in reversed(range(10))], line("r12"))
    report = await batch.job().run(client)
    assert (report.status, report.total, report.resumed, report.requests) == ("complete", 12, 10, 2)
    assert sorted(asked(server)) == ["r11", "r12"]
    assert len(read(batch.output)) == 12


async def test_a_job_that_is_done_sends_nothing(server: FaultServer, make_client: MakeClient, batch: Batch) -> None:
    """It tells how it ended."""
    server.script(echo)
    await batch.job().run(make_client())
    report = await batch.job().run(make_client())
    assert (report.status, report.total, report.resumed, report.requests) == ("complete", 10, 10, 0)


async def test_a_torn_last_line_is_dropped(server: FaultServer, make_client: MakeClient, batch: Batch) -> None:
    """Its request is sent again, the others are not."""
    server.script(echo)
    await batch.job().run(make_client())
    content = batch.output.read_bytes()
    torn = json.loads(content.splitlines()[-1])["custom_id"]
    for cut in (1, 5, len(content.splitlines()[-1]) - 3):
        batch.output.write_bytes(content[:-cut])
        server.requests.clear()
        await batch.job().run(make_client())
        assert asked(server) == [torn]
        assert len(read(batch.output)) == 10


async def test_a_file_that_holds_something_else_is_not_touched(make_client: MakeClient, batch: Batch) -> None:
    """Neither whole lines nor a last one without an end."""
    for content in (
        "precious",
        "precious\n",
        '{"id": "x"}\n',
        "[]\n",
        '{"id":1,"custom_id":"a","response":{},"error":{}}\n',
    ):
        batch.output.write_text(content)
        with pytest.raises(JobStoreError, match=r"answers\.jsonl, line 1, is not a result of a batch"):
            await batch.job().run(make_client("http://localhost:1/v1"))
        assert batch.output.read_text() == content


async def test_results_of_another_program_are_no_answers(
    server: FaultServer, make_client: MakeClient, batch: Batch
) -> None:
    """A file that a provider's batch has written, rejected and expired requests among it, stays as it is; nothing is sent."""
    batch.write(*(line(f"r{number}") for number in range(3)))
    rejected = {"status_code": 400, "request_id": "x", "body": {"error": {"message": "bad"}}}
    results = [
        {"id": "batch_req_1", "custom_id": "r0", "response": rejected, "error": None},
        {"id": "batch_req_2", "custom_id": "r1", "response": None, "error": {"code": "batch_expired", "message": "m"}},
    ]
    content = "".join(json.dumps(result) + "\n" for result in results)
    batch.output.write_text(content)
    with pytest.raises(JobMismatchError, match="choose another output"):
        await batch.job().run(make_client())
    assert (server.requests, batch.output.read_text()) == ([], content)


async def test_an_answer_to_another_request_of_that_name_is_a_mismatch(
    server: FaultServer, make_client: MakeClient, batch: Batch
) -> None:
    """The error names it; nothing is sent."""
    server.script(echo)
    client = make_client()
    await batch.job().run(client)
    server.requests.clear()
    lines = [line(f"r{number}") for number in range(10)]
    lines[4]["body"]["temperature"] = 0.5
    batch.write(*lines)
    with pytest.raises(JobMismatchError, match=r"'r4' \(line 5\) was another one when it was answered"):
        await batch.job().run(client)
    batch.write(*lines[6:])
    with pytest.raises(JobMismatchError, match=r"no request 'r\d', which is answered; .* and 3 more"):
        await batch.job().run(client)
    assert server.requests == []


async def test_a_corrected_line_is_sent_again(server: FaultServer, make_client: MakeClient, batch: Batch) -> None:
    """A failure is not an answer: the line may be mended, or taken out; answers still belong to their requests."""
    batch.write(line("a"), line("b"), line("c", "/v1/images"), line("d"))

    def serve(request: Request) -> bytes:
        asked = request.json["messages"][0]["content"]
        return error(400, "no") if asked in ("What is b?", "What is d?") else echo(request)

    server.script(serve)
    report = await batch.job().run(make_client())
    assert (report.succeeded, report.failed) == (1, 3)
    server.requests.clear()
    batch.write(line("a"), line("b", model="m", messages=[{"role": "user", "content": "better"}]), line("c"))
    report = await batch.job().run(make_client())
    assert (report.status, report.total, report.succeeded, report.resumed) == ("complete", 3, 3, 1)
    assert len(server.requests) == 2
    assert not batch.errors.exists()
    batch.write(line("a", model="m", messages=[]), line("b"), line("c"))
    with pytest.raises(JobMismatchError, match=r"'a' .* was another one when it was answered"):
        await batch.job().run(make_client())


def test_a_source_where_the_failures_would_go(tmp_path: Path) -> None:
    """The failures of x.jsonl go to x.errors.jsonl: that file is no source, and is not called damaged."""
    source = tmp_path / "x.errors.jsonl"
    source.write_text(json.dumps(line("a")) + "\n")
    with pytest.raises(ConfigurationError, match=r"x\.errors\.jsonl is where the failures of output .*x\.jsonl go"):
        BatchJob(source, tmp_path / "x.jsonl")


@pytest.mark.parametrize("is_gzip", [False, True])
async def test_a_batch_file_of_other_programs(
    server: FaultServer, make_client: MakeClient, batch: Batch, is_gzip: bool
) -> None:
    """With a byte-order mark and CRLF, compressed or not."""
    content = b"\xef\xbb\xbf" + b"".join(json.dumps(line(f"r{n}")).encode() + b"\r\n" for n in range(3))
    source = batch.source.with_name("requests.jsonl.gz") if is_gzip else batch.source
    source.write_bytes(gzip.compress(content) if is_gzip else content)
    server.script(echo)
    assert (await BatchJob(source, batch.output).run(make_client())).succeeded == 3


async def test_a_batch_file_of_utf_16_is_named(make_client: MakeClient, batch: Batch) -> None:
    """Before anything is sent."""
    batch.source.write_bytes(json.dumps(line("a")).encode("utf-16"))
    with pytest.raises(ConfigurationError, match=r"requests\.jsonl is UTF-16 text"):
        await batch.job().run(make_client("http://localhost:1/v1"))


async def test_a_link_where_the_failures_go_is_not_followed(make_client: MakeClient, batch: Batch) -> None:
    """One where the answers go is, for the caller has named it."""
    precious = batch.source.with_name("precious")
    precious.write_text("")
    batch.errors.symlink_to(precious)
    with pytest.raises(JobStoreError, match=r"answers\.errors\.jsonl.*symbolic link"):
        await batch.job().run(make_client("http://localhost:1/v1"))
    assert precious.read_text() == ""


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (line("r3"), "line 11 repeats the custom_id 'r3' of line 4"),
        ("nonsense", "line 11 is not JSON"),
        ("[]", "line 11 has no custom_id"),
        (line(None), "line 11 has no custom_id"),
        (line(""), "line 11 has no custom_id"),
        (line(5), "line 11 has no custom_id"),
    ],
)
async def test_lines_that_cannot_be_told_apart_are_refused_before_anything_is_sent(
    server: FaultServer, make_client: MakeClient, batch: Batch, bad: Any, words: str
) -> None:
    """The error says which and why, and how many there are."""
    batch.write(*[line(f"r{number}") for number in range(10)], bad, *["nonsense"] * 4)
    with pytest.raises(ConfigurationError) as caught:
        await batch.job().run(make_client())
    assert words in str(caught.value)
    assert "and 2 more" in str(caught.value)
    assert server.requests == []
    assert not batch.errors.exists()


async def test_lines_that_cannot_be_sent_are_failures(
    server: FaultServer, make_client: MakeClient, batch: Batch
) -> None:
    """Each says why; they are listed once, however often the job is run."""
    batch.write(
        line("method", method="GET"),
        line("url", "/v1/images"),
        {**line("body"), "body": [1]},
        line("stream", model="m", messages=[], stream=True),
        line("kind", "/v1/embeddings", model=CHAT, input="a"),
        line("good"),
        "",
    )
    server.script(echo)
    for resumed in (0, 6):
        report = await batch.job().run(make_client())
        assert (report.status, report.total, report.failed, report.resumed) == ("partial", 6, 5, resumed)
        assert report.failures_path == batch.errors
        assert len(server.requests) == 1
        found = {name: record["error"]["message"] for name, record in read(batch.errors).items()}
        assert "it must be POST" in found["method"]
        assert "it must be one of /v1/chat/completions" in found["url"]
        assert found["body"] == "body must be a JSON object"
        assert "cannot be streamed" in found["stream"]
        assert CHAT in found["kind"]


async def test_refusals_have_the_status_and_the_words_of_the_server(
    server: FaultServer, make_client: MakeClient, batch: Batch
) -> None:
    """As OpenAI writes them: a response with its status, and no error. They are final."""
    batch.write(line("a"), line("b"))
    server.script(error(400, "too long"), error(422, "not JSON").replace(b"{", b"["))
    client = make_client()
    report = await batch.job(concurrency=1).run(client)
    assert (report.status, report.failed) == ("failed", 2)
    found = read(batch.errors)
    assert found["a"]["error"] is None
    assert found["a"]["response"]["status_code"] == 400
    assert found["a"]["response"]["body"]["error"]["message"] == "too long"
    assert found["b"]["response"]["status_code"] == 422
    assert "not JSON" in found["b"]["response"]["body"]["error"]["message"]
    assert (await batch.job().run(client)).requests == 0


async def test_what_failed_for_a_reason_that_may_pass_is_sent_again(
    server: FaultServer, make_client: MakeClient, batch: Batch
) -> None:
    """And its failure is gone when it succeeds."""
    batch.write(line("a"))
    server.script(error(500, "oops"))
    client = make_client()
    assert (await batch.job().run(client)).status == "failed"
    assert read(batch.errors)["a"]["response"]["status_code"] == 500
    server.script([Close()])
    assert (await batch.job().run(client)).status == "failed"
    assert read(batch.errors)["a"]["error"]["code"] == "ConnectionLostError"
    server.script(echo)
    report = await batch.job().run(client)
    assert (report.status, report.resumed) == ("complete", 0)
    assert not batch.errors.exists()


async def test_a_model_that_is_not_there_is_asked_for_once(
    server: FaultServer, make_client: MakeClient, batch: Batch
) -> None:
    """Its other requests fail with the same words; those of other models are answered."""
    lines = [line(f"{model}{n}", model=model, messages=[]) for n in range(20) for model in ("good", "gone")]
    batch.write(*lines)

    def serve(request: Request) -> bytes:
        return echo(request) if request.json["model"] == "good" else error(404, "The model `gone` does not exist.")

    server.script(serve)
    report = await batch.job(concurrency=1).run(make_client())
    assert (report.status, report.succeeded, report.failed) == ("partial", 20, 20)
    assert len(server.requests) == 21
    assert {record["response"]["status_code"] for record in read(batch.errors).values()} == {404}


@pytest.mark.parametrize("status", [401, 403])
async def test_a_wrong_key_stops_the_job(
    server: FaultServer, make_client: MakeClient, batch: Batch, status: int
) -> None:
    """It is no failure of a request; what is answered is kept."""
    server.script(echo, echo, error(status, "no"))
    with pytest.raises(AuthenticationError):
        await batch.job(concurrency=1).run(make_client())
    assert len(server.requests) == 3
    assert len(read(batch.output)) == 2
    server.script(echo)
    assert (await batch.job().run(make_client())).resumed == 2


async def test_an_outage_stops_the_job_when_its_patience_is_spent(
    server: FaultServer, make_client: MakeClient, batch: Batch
) -> None:
    """No request counts as failed for it."""
    impatient = RetryPolicy(first_delay=0.01, max_delay=0.01, patience=0.03)
    server.script(echo, error(429, "slow down"))
    with pytest.raises(RateLimitError):
        await batch.job(concurrency=1).run(make_client(retry=impatient))
    with pytest.raises(ConnectError):
        await batch.job(concurrency=1).run(make_client("http://127.0.0.1:9/v1", retry=impatient))
    assert len(read(batch.output)) == 1
    assert not batch.errors.exists()


async def test_a_gateway_without_its_server_is_waited_for(
    server: FaultServer, make_client: MakeClient, batch: Batch
) -> None:
    """502 and 504 fail no request: they are sent again, and an outage that lasts stops the job."""
    server.script(*[error(502, "Bad Gateway"), error(504, "timeout")] * 10, echo)
    quick = RetryPolicy(first_delay=0.001, max_delay=0.001)
    report = await batch.job(concurrency=1).run(make_client(retry=quick))
    assert (report.status, report.succeeded) == ("complete", 10)
    batch.output.unlink()
    server.script(echo, error(504, "timeout"))
    with pytest.raises(ServerError):
        await batch.job(concurrency=2).run(
            make_client(retry=RetryPolicy(first_delay=0.001, max_delay=0.001, patience=0.02))
        )
    assert len(read(batch.output)) == 1
    assert not batch.errors.exists()


async def test_progress_counts_what_is_on_the_disk(server: FaultServer, make_client: MakeClient, batch: Batch) -> None:
    """Earlier runs included."""
    told: list[Progress] = []
    server.script(*[echo] * 4, error(401, "no"))
    with pytest.raises(AuthenticationError):
        await batch.job(concurrency=1).run(make_client())
    server.script(error(400, "no"), echo)

    def look(progress: Progress) -> None:
        told.append(progress)
        assert len(read(batch.output)) + len(read(batch.errors)) == progress.done

    await batch.job(concurrency=1).run(make_client(), on_progress=look)
    assert [(progress.done, progress.failed) for progress in told] == [(done, 1) for done in range(5, 11)]
    assert {(progress.total, progress.resumed, progress.limit) for progress in told} == {(10, 4, 1)}
    assert (told[-1].requests, told[-1].tokens) == (6, 15)


async def test_cancellation_keeps_every_answer_that_came(
    server: FaultServer, make_client: MakeClient, batch: Batch
) -> None:
    """The next run sends the rest."""

    def stop(progress: Progress) -> None:
        if progress.done == 5:
            scope.cancel()

    server.script(echo)
    with anyio.CancelScope() as scope:
        await batch.job(concurrency=2).run(make_client(), on_progress=stop)
    assert scope.cancelled_caught
    kept = len(read(batch.output))
    assert kept >= 5
    server.requests.clear()
    report = await batch.job().run(make_client())
    assert (report.status, report.resumed) == ("complete", kept)
    assert len(asked(server)) == 10 - kept


async def test_cancellation_at_every_suspension_point(
    server: FaultServer, make_client: MakeClient, batch: Batch, tmp_path: Path
) -> None:
    """Wherever it comes: the files are free again, no line is half written, and the job comes to its end."""
    batch.write(*[line(f"r{number}") for number in range(4)])
    server.script(echo)
    client = make_client()
    runs = 0

    def job() -> BatchJob:
        return BatchJob(batch.source, tmp_path / f"{runs}.jsonl", concurrency=2)

    async def after_each() -> None:
        nonlocal runs
        report = await job().run(client)
        assert (report.status, report.total) == ("complete", 4)
        assert len(read(tmp_path / f"{runs}.jsonl")) == 4
        runs += 1

    await after_each()
    assert await cancel_everywhere(lambda: job().run(client), after_each, most=500) > 5


# the disk --------------------------------------------------------------------------------------------------------


async def test_a_disk_that_takes_half_a_line(
    server: FaultServer, make_client: MakeClient, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half is taken back, the error is typed, the next run sends what is missing."""
    server.script(echo)
    real = os.write
    calls = 0

    def write(descriptor: int, data: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 4:
            return real(descriptor, data[:10])
        if calls == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(answers.os, "write", write)
    with pytest.raises(JobStoreError, match=r"No space left on device.*free some space"):
        await batch.job(concurrency=1).run(make_client())
    monkeypatch.undo()
    assert len(read(batch.output)) == 3
    assert (await batch.job().run(make_client())).resumed == 3


async def test_a_sync_that_fails(
    server: FaultServer, make_client: MakeClient, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Syncs come every so many bytes; one that fails is a store error."""
    server.script(echo)
    monkeypatch.setattr(answers, "_SYNC_BYTES", 500)

    def fsync(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("answers.jsonl"):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(answers.os, "fsync", fsync)
    with pytest.raises(JobStoreError, match="Input/output error"):
        await batch.job(concurrency=1).run(make_client())
    monkeypatch.undo()
    assert 1 <= (await batch.job().run(make_client())).resumed < 10


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk(batch: Batch, tmp_path: Path, nim_simulator_url: str) -> None:
    """On a disk of 64 KiB: the typed error, only whole lines, and the rest once there is room."""
    batch.write(*[line(f"r{number}") for number in range(100)])
    disk = tmp_path / "disk"
    disk.mkdir()
    code = f"""
import subprocess
from nimclient import Client
from nimclient.errors import JobStoreError
from nimclient.jobs import BatchJob
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", {str(disk)!r}], check=True)
job = BatchJob({str(batch.source)!r}, {str(disk / "answers.jsonl")!r})
with Client(base_url={nim_simulator_url!r}) as client:
    try:
        job.run_sync(client)
    except JobStoreError as error:
        assert "free some space" in str(error), error
    lines = open({str(disk / "answers.jsonl")!r}).read().splitlines(keepends=True)
    assert lines and all(line.endswith("}}\\n") for line in lines)
    subprocess.run(["mount", "-o", "remount,size=4m", {str(disk)!r}], check=True)
    report = job.run_sync(client)
    assert report.status == "complete", report
    assert report.resumed == len(lines), report
print("resumed", report.resumed)
"""
    done = subprocess.run(["unshare", "-m", sys.executable, "-c", code], capture_output=True, text=True)
    if "permission denied" in done.stderr.lower() or "unshare failed" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("resumed")


async def test_two_processes_on_one_file(server: FaultServer, make_client: MakeClient, batch: Batch) -> None:
    """The second is rejected before it sends anything."""
    first = answers.AnswerFiles(batch.output, answers.BATCH_LINES)
    first.open()
    with pytest.raises(JobStoreError, match="belongs to a job that is running"):
        await batch.job().run(make_client())
    first.close()
    server.script(echo)
    assert (await batch.job().run(make_client())).status == "complete"


async def test_a_damaged_list_of_failures(server: FaultServer, make_client: MakeClient, batch: Batch) -> None:
    """It is named, and the answers are free for the next run."""
    batch.errors.write_text("nonsense\n")
    with pytest.raises(JobStoreError, match=r"answers\.errors\.jsonl, line 1"):
        await batch.job().run(make_client())
    batch.errors.unlink()
    server.script(echo)
    assert (await batch.job().run(make_client())).status == "complete"


async def test_an_output_that_is_no_file(make_client: MakeClient, batch: Batch) -> None:
    """A folder or a device takes no answers."""
    for output in (Path("/dev/full"), batch.source.parent):
        with pytest.raises(ConfigurationError, match="is not a regular file"):
            await BatchJob(batch.source, output).run(make_client("http://localhost:1/v1"))


# arguments and blocking ------------------------------------------------------------------------------------------


def test_arguments_that_cannot_work(batch: Batch, tmp_path: Path) -> None:
    """They are found when the job is made."""
    for source, output, words in (
        (tmp_path / "missing.jsonl", "out.jsonl", "does not exist"),
        (tmp_path, "out.jsonl", "is not a file"),
        ("", "out.jsonl", "source takes the path of a file"),
        (batch.source, "", "output takes the path of a file"),
        (batch.source, batch.source, "is the source"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            BatchJob(source, output)
    with pytest.raises(TypeError, match="source takes the path of a file, not list"):
        BatchJob([], "out.jsonl")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="concurrency is 0"):
        batch.job(concurrency=0)


def test_a_blocking_client_runs_it(batch: Batch, nim_simulator_url: str) -> None:
    """The same report."""
    with Client(base_url=nim_simulator_url) as client:
        report = batch.job().run_sync(client)
    assert (report.status, report.succeeded) == ("complete", 10)


async def test_a_lock_that_fails_is_an_error_of_the_store(
    client: AsyncClient, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file system says of a lock, other than that it has none, comes as a JobStoreError."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(JobStoreError, match="cannot lock"):
        await batch.job().run(client)

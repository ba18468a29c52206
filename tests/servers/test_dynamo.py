"""NVIDIA Dynamo's own frontend accepts what we send; its answers, rejections and interrupted streams are understood."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from nimclient import AsyncClient, RetryPolicy
from nimclient.cli import main
from nimclient.errors import (
    BadRequestError,
    ModelNotFoundError,
    NotFoundError,
    ServerError,
    ServiceUnavailableError,
    StreamFaultError,
)
from nimclient.records import ChatOptions, CompletionOptions
from nimclient.simulator import Simulator
from servers import leaving
from servers.dynamo import MODEL, Dynamo
from servers.same import CHAT, HELLO, both, shape
from support.leaks import assert_idle, assert_no_strays

pytestmark = [pytest.mark.dynamo, pytest.mark.slow]
ONCE = RetryPolicy(attempts=1)
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
async def client(dynamo: Dynamo) -> AsyncIterator[AsyncClient]:
    """A client of the frontend that leaves nothing behind."""
    async with AsyncClient(base_url=dynamo.base_url, model=MODEL, retry=ONCE) as client:
        yield client
        assert_idle(client)
    await assert_no_strays()


async def test_a_plain_answer(client: AsyncClient) -> None:
    """A completion has text, usage with the cached tokens, and the record says what Dynamo says."""
    reply = await client.chat.create("hello there", max_tokens=6)
    assert reply.text
    assert reply.finish_reason == "length"
    assert reply.model == MODEL
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 6
    assert reply.usage.prompt_tokens_details == {"cached_tokens": 0}
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 6
    assert reply.message is not None
    assert reply.message.role == "assistant"
    assert (reply.reasoning, reply.tool_calls, reply.logprobs) == (None, (), None)


async def test_a_stream_and_its_usage(client: AsyncClient) -> None:
    """The usage comes in an event of its own that has no choices; the pieces add up to final()."""
    async with client.chat.stream("hello there", max_tokens=8) as stream:
        chunks = [chunk async for chunk in stream]
        reply = await stream.final()
    assert "".join(chunk.text for chunk in chunks) == reply.text != ""
    assert chunks[-1].choices == ()
    assert chunks[-1].usage == reply.usage
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 8
    assert reply.finish_reason == "length"
    assert reply.object == "chat.completion"


async def test_a_stream_without_usage(client: AsyncClient) -> None:
    """stream_usage=False gives the same stream without the usage event."""
    reply = await client.chat.stream("hello", max_tokens=3, stream_usage=False).final()
    assert reply.usage is None
    assert reply.text


async def test_streams_share_a_connection(client: AsyncClient) -> None:
    """After [DONE] the connection is used again: ten streams need no second handshake."""
    for at in range(10):
        reply = await client.chat.stream("hello", max_tokens=2).final()
        assert reply.meta is not None
        assert (reply.meta.timings.connect is None) == (at > 0)


async def test_the_fields_of_a_final_are_those_of_a_plain_answer(client: AsyncClient) -> None:
    """final() has the shape of the plain answer: the same fields, nulls aside, at the top and in the choice."""
    plain = (await client.chat.create("hello", max_tokens=3)).to_dict()
    streamed = (await client.chat.stream("hello", max_tokens=3).final()).to_dict()
    assert shape(streamed, nulls=False) == shape(plain, nulls=False)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
async def test_an_unknown_field_is_refused_by_name(client: AsyncClient, streamed: bool) -> None:
    """Dynamo rejects a field it does not know; the BadRequestError has its words, and the field out of them."""
    with pytest.raises(BadRequestError, match=r"Unsupported parameter\(s\): `foo`") as caught:
        await ask(client, streamed, extra_body={"foo": 1})
    assert (caught.value.status, caught.value.code, caught.value.type) == (400, 400, "Bad Request")
    assert caught.value.param == "foo"


async def ask(client: AsyncClient, streamed: bool, content: Any = "hello", **options: Any) -> Any:
    options = {"max_tokens": 2, **options}
    if streamed:
        return await client.chat.stream(content, **options).final()
    return await client.chat.create(content, **options)


async def test_what_only_vllm_knows_is_refused(client: AsyncClient) -> None:
    """vLLM's own fields are rejected too, so that nothing is ignored silently."""
    with pytest.raises(BadRequestError, match="structured_outputs"):
        await ask(client, False, structured_outputs={"choice": ["a", "b"]})


ACCEPTED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "sampling": {"temperature": 0.5, "top_p": 0.9, "seed": 1, "stop": ["zzz"], "n": 1},
    "penalties": {
        "frequency_penalty": 0.1,
        "presence_penalty": 0.1,
        "repetition_penalty": 1.1,
        "logit_bias": {"5": -1},
    },
    "vLLM's sampling": {"top_k": 5, "min_p": 0.1, "min_tokens": 1, "ignore_eos": True, "stop_token_ids": [7]},
    "max_completion_tokens": {"max_completion_tokens": 2},
    "tools": {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
    "a named tool": {"tools": [TOOL], "tool_choice": "add"},
    "a schema": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
    },
    "guided": {"extra_body": {"guided_choice": ["a", "b"]}},
    "reasoning": {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "the user": {"user": "me"},
}


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("options", ACCEPTED.values(), ids=ACCEPTED)
async def test_the_bodies_we_send_are_accepted(client: AsyncClient, options: dict[str, Any], streamed: bool) -> None:
    """The strictest of the servers takes every body our options make: nothing is added that it does not know."""
    reply = await ask(client, streamed, **options)
    assert reply.choices
    assert reply.meta.attempts == 1


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "function"])
async def test_roles_it_knows(client: AsyncClient, role: str) -> None:
    """Messages of every role of its own are taken."""
    name = {"name": "add"} if role == "function" else {}
    assert (await ask(client, False, [{"role": role, "content": "x", **name}, ("user", "hello")])).text


async def test_a_tool_round(client: AsyncClient) -> None:
    """A conversation with a tool call and its result is taken, in our records' own form."""
    call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    answered = {"role": "tool", "tool_call_id": "a", "content": "3"}
    assert (await ask(client, False, [("user", "one and two?"), asked, answered], tools=[TOOL])).choices


async def test_a_role_it_does_not_know(client: AsyncClient) -> None:
    """An unknown role is a BadRequestError that names it."""
    with pytest.raises(BadRequestError, match="unknown variant `wizard`"):
        await ask(client, False, [("wizard", "hello")])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 9}, "Temperature must be between 0 and 2"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "sub"}}}, "not present in tools"),
        ({"nvext": {"guided_json": {}}}, "unknown field `guided_json`"),
        ({"extra_body": {"tools": []}}, "tools array cannot be empty"),
    ],
    ids=["temperature", "tool", "nvext", "no tools"],
)
async def test_bad_values(client: AsyncClient, options: dict[str, Any], words: str) -> None:
    """What Dynamo rejects comes out in its own words."""
    with pytest.raises(BadRequestError, match=words):
        await ask(client, False, **options)


async def test_a_field_that_is_missing(client: AsyncClient) -> None:
    """A validation names the field in its words only: it is in .param all the same."""
    with pytest.raises(BadRequestError, match="missing field `input`") as caught:
        await client.request("POST", "/v1/embeddings", json={"model": MODEL})
    assert caught.value.param == "input"


async def test_its_own_extension(client: AsyncClient) -> None:
    """nvext.extra_fields returns an nvext object, in plain answers and in streams."""
    options = {"nvext": {"extra_fields": ["worker_id", "timing"]}}
    plain = await ask(client, False, **options)
    streamed = await ask(client, True, **options)
    for reply in (plain, streamed):
        assert reply.extra["nvext"]["timing"]["ttft_ms"] > 0
        assert reply.extra["nvext"]["worker_id"]["decode_worker_id"]


async def test_models(client: AsyncClient) -> None:
    """The model list and a single model; what Dynamo adds is in extra."""
    models = await client.models.list()
    assert [model.id for model in models] == [MODEL]
    model = await client.models.get(MODEL)
    assert (model.id, model.owned_by) == (MODEL, "nvidia")
    assert model.extra["context_window"] == 2048
    with pytest.raises(ModelNotFoundError):
        await client.models.get("none")


async def test_the_first_model_is_the_default(dynamo: Dynamo) -> None:
    """Without a model the one that the server lists is taken."""
    async with AsyncClient(base_url=dynamo.base_url) as client:
        assert (await client.chat.create("hello", max_tokens=2)).model == MODEL


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
async def test_a_model_it_does_not_serve(client: AsyncClient, streamed: bool) -> None:
    """An unknown model is ModelNotFoundError, before any event of a stream."""
    with pytest.raises(ModelNotFoundError, match="Model not found"):
        await ask(client, streamed, model="none")


async def test_routes_it_does_not_have(client: AsyncClient) -> None:
    """Embeddings of a chat model are 404 in its flat dialect; what it has no route for is a NotFoundError in our words."""
    with pytest.raises(NotFoundError, match="Model not found"):
        await client.embeddings.create(["a"])
    with pytest.raises(NotFoundError, match="no route for reranking"):
        await client.rerank("a", ["b"])
    with pytest.raises(NotFoundError, match="no route for its version"):
        await client.metadata()
    with pytest.raises(NotFoundError, match="the server has no /tokenize"):
        await client.tokenize("hello")
    with pytest.raises(NotFoundError, match="the server has no /detokenize"):
        await client.detokenize([1])


async def test_health(client: AsyncClient) -> None:
    """It has no health routes of a NIM; /health and /live below the root answer for them."""
    await client.health.wait_ready(timeout=20)
    assert await client.health.ready()
    assert await client.health.live()


async def test_health_without_a_worker(tmp_path: Path) -> None:
    """What it says while its only worker is gone, and that it is ready again once there is one."""
    with Dynamo(tmp_path) as dynamo:
        async with AsyncClient(base_url=dynamo.base_url, retry=ONCE) as client:
            await client.health.wait_ready(timeout=20)
            dynamo.kill_worker()
            assert await client.health.live()
            await asyncio.to_thread(dynamo.start_worker)
            await client.health.wait_ready(timeout=20)


@pytest.mark.parametrize(
    "ask_something",
    [
        lambda client: client.models.list(),
        lambda client: client.models.get(MODEL),
        lambda client: client.health.ready(),
        lambda client: client.tokenize("x"),
    ],
    ids=["list", "model", "health", "refusal"],
)
async def test_it_is_known_by_its_answers(client: AsyncClient, ask_something: Any) -> None:
    """Any one of these gives it away, a rejection too."""
    assert client.dialect is None
    with contextlib.suppress(NotFoundError):
        await ask_something(client)
    assert client.dialect == "dynamo"


async def test_many_at_once(client: AsyncClient) -> None:
    """Fifty streams concurrently are all answered in full."""

    async def one(at: int) -> int:
        reply = await client.chat.stream(f"hello {at}", max_tokens=5).final()
        assert reply.usage is not None
        return reply.usage.completion_tokens

    assert await asyncio.gather(*map(one, range(50))) == [5] * 50


@pytest.mark.parametrize("way", ["cancel", "aclose"])
@pytest.mark.parametrize("call", leaving.CALLS.values(), ids=leaving.CALLS)
async def test_leaving_early_frees_the_server(slow_dynamo: Dynamo, call: leaving.Call, way: str) -> None:
    """Whoever leaves frees the worker: nothing is in flight any more, and no more tokens are generated."""
    async with AsyncClient(base_url=slow_dynamo.base_url, model=MODEL) as watcher:
        await leaving.leave(AsyncClient(base_url=slow_dynamo.base_url, model=MODEL), watcher, call, way)


SAME: dict[str, tuple[str, Any]] = {
    "unknown fields": (CHAT, {"model": MODEL, "messages": HELLO, "foo": 1}),
    "vLLM's fields": (CHAT, {"model": MODEL, "messages": HELLO, "structured_outputs": {}}),
    "unknown in completions": ("/v1/completions", {"model": MODEL, "prompt": "x", "messages": []}),
    "no tools": (CHAT, {"model": MODEL, "messages": HELLO, "tools": []}),
    "unknown model": (CHAT, {"model": "none", "messages": HELLO}),
    "no such route": ("/v1/health/ready", None),
    "no such post": ("/tokenize", {}),
    "wrong method": (CHAT, None),
    "alive": ("/live", None),
    "no such model": ("/v1/models/none", None),
}


@pytest.mark.parametrize(("path", "body"), SAME.values(), ids=SAME)
async def test_the_simulator_says_the_same(dynamo: Dynamo, path: str, body: Any) -> None:
    """What the frontend rejects, the simulator's dialect rejects with the same status and the same body."""
    async with Simulator(dialect="dynamo", models=[MODEL]) as simulator:
        real, simulated = await both(dynamo.base_url, simulator, path, body)
    assert simulated == real


async def test_the_simulator_knows_its_roles(dynamo: Dynamo) -> None:
    """The rejection of an unknown role is the same but for the place, which only a parser knows."""
    body = {"model": MODEL, "messages": [{"role": "wizard", "content": "x"}]}
    async with Simulator(dialect="dynamo", models=[MODEL]) as simulator:
        real, simulated = await both(dynamo.base_url, simulator, CHAT, body)
    assert real[2].pop("message").startswith(simulated[2].pop("message"))
    assert simulated == real


@pytest.mark.parametrize(
    ("path", "names", "body"),
    [
        (CHAT, get_type_hints(ChatOptions), {"messages": HELLO}),
        ("/v1/completions", get_type_hints(CompletionOptions), {"prompt": "x"}),
    ],
    ids=["chat", "completions"],
)
async def test_the_simulator_knows_the_same_fields(
    dynamo: Dynamo, path: str, names: Iterable[str], body: dict[str, Any]
) -> None:
    """Of all options that we have, the simulator rejects those that the frontend rejects."""
    asked = {**dict.fromkeys(names), "model": MODEL, "max_tokens": 1, "foo": 1, **body}
    async with Simulator(dialect="dynamo", models=[MODEL]) as simulator:
        real, simulated = await both(dynamo.base_url, simulator, path, asked)
    assert simulated[0] == real[0] == 400
    named = [set(re.findall("`([^`]*)`", said[2]["message"])) for said in (real, simulated)]
    assert named[0] == named[1]


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
async def test_the_simulator_answers_in_the_same_shape(dynamo: Dynamo, streamed: bool) -> None:
    """Answers and the first, last and usage events of a stream have the same fields."""
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 3}
    if streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    async with Simulator(dialect="dynamo", models=[MODEL]) as simulator:
        real, simulated = await both(dynamo.base_url, simulator, CHAT, body)
    assert simulated[:2] == real[:2]
    pairs = [(simulated[2][at], real[2][at]) for at in (0, -3, -2, -1)] if streamed else [(simulated[2], real[2])]
    for ours, theirs in pairs:
        assert shape(ours, nulls=True) == shape(theirs, nulls=True)


async def test_the_simulator_lists_models_in_the_same_shape(dynamo: Dynamo) -> None:
    """The entries of the model list have the same fields."""
    async with Simulator(dialect="dynamo", models=[MODEL]) as simulator:
        real, simulated = await both(dynamo.base_url, simulator, "/v1/models", None)
    assert simulated[2]["data"][0].keys() == real[2]["data"][0].keys()
    assert shape(simulated[2], nulls=True) == shape(real[2], nulls=True)


async def test_a_worker_that_dies_in_the_middle(tmp_path: Path) -> None:
    """A worker's death is a StreamFaultError with code 503 and the text so far; then a 503 until it is back."""
    with Dynamo(tmp_path, speedup=1) as dynamo:
        async with AsyncClient(base_url=dynamo.base_url, model=MODEL, retry=ONCE) as client:
            pieces: list[str] = []
            with pytest.raises(StreamFaultError, match="temporarily unavailable") as caught:
                await read_and_kill(client, dynamo, pieces)
            assert caught.value.code == 503
            assert caught.value.partial is not None
            assert caught.value.partial.text == "".join(pieces)
            with pytest.raises(ServiceUnavailableError, match="not ready to serve requests") as refused:
                await client.chat.create("hello", max_tokens=2)
            assert (refused.value.type, refused.value.retry_after) == ("Service Unavailable", None)
            patient = client.with_options(retry=RetryPolicy(attempts=20, first_delay=0.2, max_delay=0.2))
            waiting = asyncio.create_task(patient.chat.create("hello", max_tokens=2))
            await asyncio.to_thread(dynamo.start_worker)
            assert (await waiting).text


async def read_and_kill(client: AsyncClient, dynamo: Dynamo, pieces: list[str]) -> None:
    async with client.chat.stream("hello", max_tokens=1000) as stream:
        async for piece in stream.text_stream:
            pieces.append(piece)
            if len(pieces) == 3:
                dynamo.kill_worker()


async def test_overload(tmp_path: Path) -> None:
    """Above its limit the frontend answers 529 without Retry-After: a ServerError, worth another try."""
    with Dynamo(tmp_path, speedup=1, busy_above=0.02) as dynamo:
        async with AsyncClient(base_url=dynamo.base_url, model=MODEL, retry=ONCE) as client:
            async with client.chat.stream("hello " * 200, max_tokens=400) as stream:
                await anext(stream)
                with pytest.raises(ServerError, match="temporarily overloaded") as caught:
                    await ask_until_refused(client)
            assert (caught.value.status, caught.value.type, caught.value.retry_after) == (529, "Overloaded", None)
            patient = client.with_options(retry=RetryPolicy(attempts=30, first_delay=0.2, max_delay=0.2))
            assert (await patient.chat.create("hello", max_tokens=2)).text


async def ask_until_refused(client: AsyncClient) -> None:
    """The frontend hears of the worker's load with some delay."""
    for _ in range(500):
        await client.chat.create("hello " * 200, max_tokens=2)


def test_the_doctor(dynamo: Dynamo, capsys: pytest.CaptureFixture[str]) -> None:
    """`nimclient doctor` tells what Dynamo is and serves, and finds nothing wrong."""
    assert main(["doctor", "--base-url", dynamo.base_url, "--json"]) == 0
    findings = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert (findings["server"]["kind"], findings["server"]["ready"]) == ("dynamo", True)
    assert findings["chat"]["model"] == MODEL
    assert findings["context"]["tokens"] > 0
    assert findings["embeddings"]["state"] == findings["reranking"]["state"] == "note"


async def test_routes_that_have_no_method(client: AsyncClient) -> None:
    """/v1/responses through the escape hatch: whole, and as a stream of events that ends with its body; errors as ever."""
    body = {"model": MODEL, "input": "hello there", "max_output_tokens": 6}
    answer = await client.request("POST", "/v1/responses", json=body)
    assert answer["object"] == "response"
    async with await client.request("POST", "/v1/responses", json={**body, "stream": True}, stream=True) as events:
        kinds = [event["type"] async for event in events]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.incomplete")
    assert kinds.count("response.output_text.delta") == 6
    assert "dynamo" in await client.request("GET", "/metrics")
    with pytest.raises(ModelNotFoundError):
        await client.request("POST", "/v1/responses", json={**body, "model": "none"})
    with pytest.raises(NotFoundError):
        await client.infer("/v1/infer", {"input": []})


async def test_beside_a_replica_that_is_gone(dynamo: Dynamo) -> None:
    """With a dead replica beside it, Dynamo gets every call, whole and streamed."""
    async with AsyncClient(base_url=["http://127.0.0.1:9", dynamo.base_url], model=MODEL) as client:
        assert await client.health.ready()
        for _ in range(3):
            assert (await client.chat.create("hello there", max_tokens=2)).text
            assert (await client.chat.stream("hello there", max_tokens=2).final()).text


def test_a_batch_from_the_command_line(dynamo: Dynamo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`nimclient batch` sends chats and completions to Dynamo and keeps its answers; a request that it rejects is partial."""
    chat = {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 2}
    bodies = [
        ("/v1/chat/completions", chat),
        ("/v1/completions", {"prompt": "hello", "max_tokens": 2}),
        ("/v1/chat/completions", {**chat, "max_tokens": -1}),
    ]
    source, out = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    lines = [
        {"custom_id": str(number), "method": "POST", "url": url, "body": {"model": MODEL, **body}}
        for number, (url, body) in enumerate(bodies)
    ]
    source.write_text("\n".join(map(json.dumps, lines)))
    argv = ["batch", str(source), "--out", str(out), "--base-url", dynamo.base_url, "--json"]
    assert main(argv) == 1
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["event"], report["succeeded"], report["failed"]) == ("report", 2, 1)
    answers = {one["custom_id"]: one["response"]["body"] for one in map(json.loads, out.read_text().splitlines())}
    assert answers.keys() == {"0", "1"}
    assert answers["0"]["choices"][0]["message"]["content"]

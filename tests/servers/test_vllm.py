"""The chat API against a real vLLM: what it answers, ignores and rejects. Its weights are random: no word is looked at."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nimclient import AsyncClient, RetryPolicy
from nimclient.cli import main
from nimclient.errors import (
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    ModelNotFoundError,
    NotFoundError,
    StreamFaultError,
)
from nimclient.simulator import Simulator
from servers import features, leaving
from servers.same import CHAT, HELLO, both, shape
from servers.vllm import CONTEXT, KEY, MODEL, SWITCH, VERSION, Vllm
from support.leaks import assert_idle, assert_no_strays

if not os.environ.get(SWITCH):
    pytest.skip("it takes 2.5 GB: `nox -s vllm` installs vLLM and runs these", allow_module_level=True)

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]
ONCE = RetryPolicy(attempts=1)
QUIET: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}
ANSWER = {
    "type": "object",
    "properties": {"word": {"enum": ["yes", "no"]}, "sure": {"type": "boolean"}},
    "required": ["word", "sure"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "decide", "description": "decides", "parameters": ANSWER, "strict": True},
}


@pytest.fixture
async def client(vllm: Vllm) -> AsyncIterator[AsyncClient]:
    """A client of the server that leaves nothing behind."""
    async with AsyncClient(KEY, vllm.base_url, model=MODEL, retry=ONCE) as client:
        yield client
        assert_idle(client)
    await assert_no_strays()


async def ask(client: AsyncClient, streamed: bool, content: Any = "hello", **options: Any) -> Any:
    options = {"max_tokens": 4, **options}
    if streamed:
        return await client.chat.stream(content, **options).final()
    return await client.chat.create(content, **options)


both_paths = pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])


@both_paths
async def test_an_answer(client: AsyncClient, streamed: bool) -> None:
    """A completion has content, usage, a fingerprint and no reasoning where thinking is off."""
    reply = await ask(client, streamed, ignore_eos=True, **QUIET)
    assert reply.text
    assert (reply.finish_reason, reply.reasoning, reply.tool_calls) == ("length", None, ())
    assert reply.usage.completion_tokens == 4
    assert reply.usage.completion_tokens_details == {"reasoning_tokens": 0}
    assert reply.system_fingerprint.startswith("vllm-")
    assert reply.model == MODEL


async def test_stream_and_plain_answer_agree(client: AsyncClient) -> None:
    """The same prompt at temperature 0 gives the same record, id and time aside, streamed or not."""
    options = {"temperature": 0, "max_tokens": 12, "return_token_ids": True, **QUIET}
    plain = await ask(client, False, **options)
    streamed = await ask(client, True, **options)
    assert holds(streamed.to_dict()) == holds(plain.to_dict())


def holds(value: Any) -> Any:
    """A JSON value without its nulls, and without what is of one request only."""
    if isinstance(value, dict):
        kept = {key: holds(item) for key, item in value.items() if key not in ("id", "created")}
        return {key: item for key, item in kept.items() if item is not None}
    return [holds(item) for item in value] if isinstance(value, list) else value


async def test_the_usage_event_has_no_choices(client: AsyncClient) -> None:
    """Usage comes in a last event without choices; with continuous_usage_stats in every event."""
    chunks = [chunk async for chunk in client.chat.stream("hello", max_tokens=3, **QUIET)]
    assert chunks[-1].choices == ()
    assert chunks[-1].usage is not None
    assert chunks[0].choices[0].delta.role == "assistant"
    options = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    counted = [chunk async for chunk in client.chat.stream("hello", max_tokens=3, extra_body=options, **QUIET)]
    assert all(chunk.usage for chunk in counted)


@both_paths
async def test_reasoning(client: AsyncClient, streamed: bool) -> None:
    """What the model thinks is in `reasoning`, and the content is empty while it has not ended."""
    reply = await ask(client, streamed, ignore_eos=True)
    assert reply.reasoning
    assert reply.text == ""
    assert "reasoning_content" not in reply.message.extra
    assert reply.usage.completion_tokens_details["reasoning_tokens"] > 0


async def test_reasoning_comes_in_pieces(client: AsyncClient) -> None:
    """In a stream the pieces of the reasoning add up."""
    async with client.chat.stream("hello", max_tokens=6, ignore_eos=True) as stream:
        pieces = [chunk.reasoning or "" async for chunk in stream]
        assert "".join(pieces) == (await stream.final()).reasoning


@both_paths
async def test_several_choices(client: AsyncClient, streamed: bool) -> None:
    """n choices come out in order, however their events are interleaved."""
    reply = await ask(client, streamed, n=3, ignore_eos=True, **QUIET)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert all(choice.message.text and choice.finish_reason == "length" for choice in reply.choices)
    assert reply.usage.completion_tokens == 12


@both_paths
async def test_logprobs(client: AsyncClient, streamed: bool) -> None:
    """Every token of the text has its log probability and the alternatives asked for; `bytes` make the text."""
    reply = await ask(client, streamed, logprobs=True, top_logprobs=2, ignore_eos=True, **QUIET)
    tokens = reply.logprobs.content
    assert len(tokens) == 4
    assert all(token.logprob < 0 and len(token.top_logprobs) >= 2 for token in tokens)
    assert b"".join(bytes(token.bytes) for token in tokens).decode(errors="replace") == reply.text


@both_paths
async def test_json_schema(client: AsyncClient, streamed: bool) -> None:
    """response_format holds even a model that knows nothing to its schema."""
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER}}
    reply = await ask(client, streamed, response_format=wanted, max_tokens=60, **QUIET)
    answer = json.loads(reply.text)
    assert answer["word"] in ("yes", "no")
    assert answer["sure"] in (True, False)


@both_paths
async def test_structured_outputs(client: AsyncClient, streamed: bool) -> None:
    """vLLM's own form of it: one of a choice."""
    reply = await ask(client, streamed, structured_outputs={"choice": ["red", "blue"]}, **QUIET)
    assert reply.text in ("red", "blue")


@both_paths
@pytest.mark.parametrize("choice", ["decide", "required"])
async def test_tools(client: AsyncClient, choice: str, streamed: bool) -> None:
    """A tool that must be called is called with arguments of its schema; a named one finishes with `stop`."""
    reply = await ask(client, streamed, tools=[TOOL], tool_choice=choice, max_tokens=600, seed=1, **QUIET)
    assert reply.finish_reason == ("stop" if choice == "decide" else "tool_calls")
    call = reply.tool_calls[0]
    assert (call.name, call.type) == ("decide", "function")
    assert call.id
    assert call.parse()["word"] in ("yes", "no")


async def test_a_tool_round(client: AsyncClient) -> None:
    """The answer's own message and the tool's result go back as they are."""
    reply = await ask(client, False, tools=[TOOL], tool_choice="decide", max_tokens=600, seed=1, **QUIET)
    result = {"role": "tool", "tool_call_id": reply.tool_calls[0].id, "content": "done"}
    messages = [("user", "hello"), reply.message, result]
    assert (await ask(client, False, messages, tools=[TOOL], **QUIET)).choices


IGNORED: dict[str, dict[str, Any]] = {
    "guided_choice": {"extra_body": {"guided_choice": ["a"]}},
    "nvext": {"nvext": {"guided_choice": ["a"]}},
    "an unknown field": {"extra_body": {"foo": 1}},
}


@both_paths
@pytest.mark.parametrize("options", IGNORED.values(), ids=IGNORED)
async def test_what_it_ignores(client: AsyncClient, options: dict[str, Any], streamed: bool) -> None:
    """Fields that vLLM does not know, old guided decoding among them, change nothing and are no error."""
    reply = await ask(client, streamed, ignore_eos=True, max_tokens=6, **options, **QUIET)
    assert len(reply.text) > 1


async def test_any_role_is_taken(client: AsyncClient) -> None:
    """vLLM leaves roles to the template: one that nobody knows is no error."""
    assert (await ask(client, False, [("wizard", "hello")], **QUIET)).choices


BAD_SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "nonsense"}}}


async def test_a_bad_schema(client: AsyncClient) -> None:
    """A schema that is none is a BadRequestError, in a stream an error event inside a 200."""
    with pytest.raises(BadRequestError):
        await ask(client, False, response_format=BAD_SCHEMA, **QUIET)
    with pytest.raises(StreamFaultError) as caught:
        await ask(client, True, response_format=BAD_SCHEMA, **QUIET)
    assert (caught.value.code, caught.value.type) == (400, "BadRequestError")
    assert caught.value.partial is None


@both_paths
@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": 9}, "temperature"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"max_tokens": 100_000}, "max_tokens"),
        ({"extra_body": {"temperature": "hot"}}, "body.temperature"),
    ],
    ids=["range", "no tools", "too many", "type"],
)
async def test_bad_values(client: AsyncClient, options: dict[str, Any], param: str, streamed: bool) -> None:
    """A bad value is a BadRequestError that names its field, before any event of a stream."""
    with pytest.raises(BadRequestError) as caught:
        await ask(client, streamed, **options)
    assert (caught.value.param, caught.value.code) == (param, 400)


@both_paths
async def test_a_prompt_that_is_too_long(client: AsyncClient, streamed: bool) -> None:
    """More tokens than the model takes are a ContextLengthError."""
    with pytest.raises(ContextLengthError, match=str(CONTEXT)):
        await ask(client, streamed, "word " * 4000)


@pytest.mark.parametrize("key", ["wrong", None], ids=["wrong", "none"])
async def test_a_wrong_key(vllm: Vllm, key: str | None) -> None:
    """Without the right key it is an AuthenticationError that does not repeat the one that was sent."""
    async with AsyncClient(key, vllm.base_url, model=MODEL, retry=ONCE) as client:
        with pytest.raises(AuthenticationError, match="Unauthorized") as caught:
            await client.chat.create("hello")
        with pytest.raises(AuthenticationError):
            await client.chat.stream("hello")
    assert "wrong" not in str(caught.value)


@both_paths
async def test_a_model_it_does_not_serve(client: AsyncClient, streamed: bool) -> None:
    """An unknown model is ModelNotFoundError."""
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        await ask(client, streamed, model="none")


async def test_models(client: AsyncClient) -> None:
    """The list has the model with its length; a single one is found although vLLM has no route for it."""
    assert [model.id for model in await client.models.list()] == [MODEL]
    model = await client.models.get(MODEL)
    assert (model.id, model.owned_by) == (MODEL, "vllm")
    assert model.to_dict()["max_model_len"] == CONTEXT
    with pytest.raises(NotFoundError):
        await client.models.get("none")


async def test_routes_it_does_not_have(client: AsyncClient) -> None:
    """NIM's ranking is not there, nor are embeddings of a model that generates."""
    with pytest.raises(NotFoundError, match="no route for reranking: Not Found"):
        await client.rerank("a", ["b"])
    with pytest.raises(NotFoundError, match="Not Found"):
        await client.embeddings.create(["a"])


async def test_its_version(client: AsyncClient) -> None:
    """metadata() tells the version of vLLM."""
    metadata = await client.metadata()
    assert (metadata.server, client.dialect) == ("vllm", "vllm")
    assert metadata.version


async def test_its_tokenizer(client: AsyncClient) -> None:
    """Text and messages become tokens, tokens become the text again."""
    tokens = await client.tokenize("hello there", return_token_strs=True, add_special_tokens=False)
    assert tokens.count == len(tokens.tokens) == len(tokens.token_strs) > 0
    assert tokens.max_model_len == CONTEXT
    assert (await client.detokenize(tokens.tokens)).text == "hello there"
    chat = await client.tokenize([("user", "hello there")])
    assert chat.count > tokens.count
    with pytest.raises(ModelNotFoundError):
        await client.tokenize("hello", model="none")


@pytest.mark.parametrize("ask_something", ["models", "answer"])
async def test_it_is_known_by_its_answers(client: AsyncClient, ask_something: str) -> None:
    """The owner of its models and the fingerprint of an answer give it away."""
    assert client.dialect is None
    if ask_something == "models":
        await client.models.list()
    else:
        await ask(client, False, **QUIET)
    assert client.dialect == "vllm"


async def test_an_empty_health_response_tells_no_server_type(client: AsyncClient) -> None:
    """Other servers have an empty /health, too: the type stays unknown until something is certain."""
    await client.health.wait_ready(timeout=20)
    assert client.dialect is None


async def test_health(client: AsyncClient) -> None:
    """It has no health routes of a NIM; /health below the root answers for them."""
    assert await client.health.ready()
    assert await client.health.live()


@pytest.mark.parametrize("way", ["cancel", "aclose"])
@pytest.mark.parametrize("call", leaving.CALLS.values(), ids=leaving.CALLS)
async def test_leaving_early_frees_the_server(vllm: Vllm, call: leaving.Call, way: str) -> None:
    """Whoever leaves frees the engine: nothing is in flight any more, and no more tokens are generated."""
    async with AsyncClient(KEY, vllm.base_url, model=MODEL, retry=ONCE) as watcher:
        await leaving.leave(AsyncClient(KEY, vllm.base_url, model=MODEL, retry=ONCE), watcher, call, way)


async def test_leaving_early(client: AsyncClient) -> None:
    """A stream that is left early leaves a server that answers the next calls at once, eight of them concurrently."""
    async with client.chat.stream("hello", max_tokens=1500, ignore_eos=True) as stream:
        await anext(stream)
    async with asyncio.timeout(30):
        replies = await asyncio.gather(*(ask(client, True, ignore_eos=True) for _ in range(8)))
    assert [reply.usage.completion_tokens for reply in replies] == [4] * 8


SAME: dict[str, tuple[str, Any]] = {
    "a missing field": (CHAT, {"model": MODEL}),
    "tools without a choice": (CHAT, {"model": MODEL, "messages": HELLO, "tool_choice": "auto"}),
    "no such route": ("/v1/health/ready", None),
    "no such document": ("/v1/metadata", None),
    "no single model": (f"/v1/models/{MODEL}", None),
    "ranking": ("/v1/ranking", {}),
    "tokens": ("/tokenize", {"model": MODEL, "prompt": "hello"}),
    "wrong method": (CHAT, None),
    "health": ("/health", None),
    "ping": ("/ping", None),
    "version": ("/version", None),
}


@pytest.mark.parametrize(("path", "body"), SAME.values(), ids=SAME)
async def test_the_simulator_says_the_same(vllm: Vllm, path: str, body: Any) -> None:
    """What vLLM rejects and shows of itself, the simulator's dialect does with the same status and the same fields."""
    async with Simulator(dialect="vllm", models=[MODEL]) as simulator:
        real, simulated = await both(vllm.base_url, simulator, path, body, KEY)
    assert simulated[:2] == real[:2]
    assert shape(simulated[2], nulls=True) == shape(real[2], nulls=True)
    if isinstance(real[2], dict) and "error" in real[2]:
        assert [simulated[2]["error"][key] for key in ("type", "param", "code")] == [
            real[2]["error"][key] for key in ("type", "param", "code")
        ]
    elif body is None:
        assert simulated[2] == real[2]


@both_paths
async def test_the_simulator_refuses_a_bad_schema_alike(vllm: Vllm, streamed: bool) -> None:
    """A schema that no text fits is a 400 of a plain call, and an error event with [DONE] after it of a stream."""
    body = {"model": MODEL, "messages": HELLO, "response_format": BAD_SCHEMA, "stream": streamed, **QUIET}
    async with Simulator(dialect="vllm", models=[MODEL]) as simulator:
        real, simulated = await both(vllm.base_url, simulator, CHAT, body, KEY)
    assert simulated[:2] == real[:2]
    assert shape(simulated[2], nulls=True) == shape(real[2], nulls=True)


@both_paths
@pytest.mark.parametrize("thinking", [False, True], ids=["text", "reasoning"])
async def test_the_simulator_answers_in_the_same_shape(vllm: Vllm, thinking: bool, streamed: bool) -> None:
    """Messages, and the first two events and the usage of a stream, have the same fields, nulls aside."""
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 3, "ignore_eos": True, "min_tokens": 3}
    body["chat_template_kwargs"] = {"enable_thinking": thinking}
    if streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    async with Simulator(dialect="vllm", models=[MODEL]) as simulator:
        real, simulated = await both(vllm.base_url, simulator, CHAT, body, KEY)
    assert simulated[:2] == real[:2]
    pairs = [(simulated[2][at], real[2][at]) for at in (0, 1, -2, -1)] if streamed else [(simulated[2], real[2])]
    for ours, theirs in pairs:
        assert shape(ours, nulls=False) == shape(theirs, nulls=False)


async def test_the_simulator_lists_models_in_the_same_shape(vllm: Vllm) -> None:
    """The entries of the model list have the same fields."""
    async with Simulator(dialect="vllm", models=[MODEL]) as simulator:
        real, simulated = await both(vllm.base_url, simulator, "/v1/models", None, KEY)
    assert simulated[2]["data"][0].keys() == real[2]["data"][0].keys()


async def test_the_simulator_counts_tokens_in_the_same_shape(vllm: Vllm) -> None:
    """/tokenize of a text has the same fields."""
    async with Simulator(dialect="vllm", models=[MODEL]) as simulator:
        real, simulated = await both(vllm.base_url, simulator, "/tokenize", {"model": MODEL, "prompt": "a b"}, KEY)
    assert shape(simulated[2], nulls=True) == shape(real[2], nulls=True)


@pytest.mark.parametrize(("key", "code"), [(KEY, 0), ("another-key-of-some-length", 1)], ids=["key", "wrong key"])
def test_the_doctor(
    vllm: Vllm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key: str, code: int
) -> None:
    """`nimclient doctor` tells what vLLM is and serves; a wrong key is the one thing that is wrong."""
    monkeypatch.setenv("NVIDIA_NIM_API_KEY", key)
    assert main(["doctor", "--base-url", vllm.base_url, "--timeout", "120", "--json"]) == code
    said = capsys.readouterr().out
    findings = {one["name"]: one for one in json.loads(said)["findings"]}
    assert key not in said
    if code:
        assert [name for name, one in findings.items() if one["state"] == "failed"] == ["key"]
        return
    assert (findings["server"]["kind"], findings["server"]["version"]) == ("vllm", "0.32.0")
    assert (findings["context"]["tokens"], findings["chat"]["model"]) == (CONTEXT, MODEL)
    assert findings["embeddings"]["state"] == findings["reranking"]["state"] == "note"


async def test_routes_that_have_no_method(client: AsyncClient) -> None:
    """/v1/responses through the escape hatch: whole, and as a stream of events that ends with its body; errors as ever."""
    body = {"model": MODEL, "input": "hello there", "max_output_tokens": 16}
    answer = await client.request("POST", "/v1/responses", json=body)
    assert answer["object"] == "response"
    async with await client.request("POST", "/v1/responses", json={**body, "stream": True}, stream=True) as events:
        kinds = [event["type"] async for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert "vllm" in await client.request("GET", "/metrics")
    with pytest.raises(NotFoundError):
        await client.infer("/v1/infer", {"input": []})


async def test_what_vllm_can_do(client: AsyncClient) -> None:
    """Each feature of the table gives what docs/servers.md says of vLLM with a chat model."""
    features.compare(f"vLLM {VERSION}, a chat model", await features.ask(client))

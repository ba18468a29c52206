"""The chat API is the same on the four servers that the simulator plays, and their rejections come out as the same errors."""

import json
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nimclient import AsyncClient, RetryPolicy
from nimclient.errors import (
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    ModelNotFoundError,
    NotFoundError,
    RateLimitError,
    ServerError,
    StreamFaultError,
)
from nimclient.simulator import Simulator

MODEL = "meta/llama-3.1-8b-instruct"
EMBEDDER = "nvidia/nv-embedqa-e5-v5"
RERANKER = "nvidia/llama-nemotron-rerank-1b-v2"
DIALECTS = ("nim", "vllm", "dynamo", "hosted")
ONCE = RetryPolicy(attempts=1)
PARIS = "Paris is the capital of France. Rome lies in Italy. What is the capital of France?"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
IMPOSSIBLE = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "string", "pattern": "(?=a)b"}}}


@pytest.fixture(params=DIALECTS)
async def simulator(request: pytest.FixtureRequest) -> AsyncIterator[Simulator]:
    """A simulator in each dialect."""
    async with Simulator(dialect=request.param) as simulator:
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncClient]:
    """A client of it."""
    async with AsyncClient("nvapi-a-key", simulator.base_url, model=MODEL, retry=ONCE) as client:
        yield client


def dialect(simulator: Simulator) -> str:
    """Which one it plays."""
    return simulator._dialect.name


both = pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])


async def ask(client: AsyncClient, streamed: bool, content: Any = PARIS, **options: Any) -> Any:
    if streamed:
        return await client.chat.stream(content, **options).final()
    return await client.chat.create(content, **options)


OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a limit": {"max_tokens": 3},
    "the newer limit": {"max_completion_tokens": 3},
    "sampling": {"temperature": 0.2, "top_p": 0.9, "seed": 7, "stop": ["zzz"]},
    "penalties": {"frequency_penalty": 0.1, "presence_penalty": 0.1, "repetition_penalty": 1.1},
    "vLLM's sampling": {"top_k": 5, "min_p": 0.1, "min_tokens": 2, "ignore_eos": False},
    "choices": {"n": 2},
    "log probabilities": {"logprobs": True, "top_logprobs": 2},
    "a schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}},
    "an object": {"response_format": {"type": "json_object"}},
    "tools": {"tools": [TOOL], "tool_choice": "auto"},
    "a required tool": {"tools": [TOOL], "tool_choice": "required"},
    "a named tool": {"tools": [TOOL], "tool_choice": "weather"},
    "reasoning": {"chat_template_kwargs": {"enable_thinking": True}},
    "the user": {"user": "me"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_stream_and_plain_answer_are_equal(client: AsyncClient, options: dict[str, Any]) -> None:
    """Every feature works everywhere, and final() is what the plain call returned, nulls and ids aside."""
    plain = await ask(client, False, **options)
    streamed = await ask(client, True, **options)
    assert holds(streamed.to_dict()) == holds(plain.to_dict())
    assert plain.choices
    assert plain.usage.completion_tokens > 0


def holds(value: Any) -> Any:
    """JSON without nulls, without what the request's number is part of, and without what the prefix cache held."""
    if isinstance(value, dict):
        fields = value.items()
        return {
            key: holds(item) for key, item in fields if item is not None and key not in ("id", "prompt_tokens_details")
        }
    return [holds(item) for item in value] if isinstance(value, list) else value


@both
async def test_reasoning_under_either_name(client: AsyncClient, simulator: Simulator, streamed: bool) -> None:
    """Dynamo calls it reasoning_content, the others reasoning; here it is `.reasoning`."""
    reply = await ask(client, streamed, chat_template_kwargs={"enable_thinking": True})
    assert reply.reasoning
    assert reply.text
    assert ("reasoning_content" in reply.message.extra) == (dialect(simulator) == "dynamo")


@both
async def test_schema_and_tools(client: AsyncClient, streamed: bool) -> None:
    """A schema gives JSON, a tool a call that parses."""
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
    assert json.loads((await ask(client, streamed, response_format=wanted)).text).keys() == {"city"}
    reply = await ask(client, streamed, "What is the weather in Paris?", tools=[TOOL], tool_choice="required")
    assert reply.tool_calls[0].parse().keys() == {"city"}
    messages = ["user", "What is the weather in Paris?"]
    result = {"role": "tool", "tool_call_id": reply.tool_calls[0].id, "content": "It rains in Paris."}
    again = await ask(client, streamed, [tuple(messages), reply.message, result], tools=[TOOL])
    assert "rains" in again.text


async def test_the_events_of_a_stream(client: AsyncClient, simulator: Simulator) -> None:
    """The role comes alone, or with the first token (Dynamo); the usage in an event without choices."""
    chunks = [chunk async for chunk in client.chat.stream(PARIS, max_tokens=2)]
    delta = chunks[0].choices[0].delta
    assert delta.role == "assistant"
    assert bool(delta.content) == (dialect(simulator) == "dynamo")
    assert chunks[-1].choices == ()
    assert chunks[-1].usage is not None


@both
async def test_unknown_fields(client: AsyncClient, simulator: Simulator, streamed: bool) -> None:
    """Dynamo rejects a field that it does not know and names it; the others ignore it."""
    if dialect(simulator) == "dynamo":
        with pytest.raises(BadRequestError, match=r"Unsupported parameter\(s\): `bar`, `foo`") as caught:
            await ask(client, streamed, extra_body={"foo": 1, "bar": 2})
        assert caught.value.type == "Bad Request"
    else:
        assert (await ask(client, streamed, extra_body={"foo": 1, "bar": 2})).text


async def test_unknown_roles(client: AsyncClient, simulator: Simulator) -> None:
    """Dynamo rejects a role that it does not know; for the others that is the template's business."""
    messages = [("user", PARIS), ("wizard", "x"), ("user", PARIS)]
    if dialect(simulator) == "dynamo":
        with pytest.raises(BadRequestError, match="unknown variant `wizard`"):
            await client.chat.create(messages)
    else:
        assert (await client.chat.create(messages)).text


@both
async def test_an_unknown_model(client: AsyncClient, streamed: bool) -> None:
    """Whatever the words and the shape, an unknown model is ModelNotFoundError."""
    with pytest.raises(ModelNotFoundError):
        await ask(client, streamed, model="none")


@both
@pytest.mark.parametrize(("options", "word"), [({"temperature": -1}, "temperature"), ({"n": 0}, "n")])
async def test_bad_values(client: AsyncClient, options: dict[str, Any], word: str, streamed: bool) -> None:
    """A value out of range is a BadRequestError that names it, before a stream begins."""
    with pytest.raises(BadRequestError, match=word):
        await ask(client, streamed, **options)


async def test_a_prompt_that_is_too_long(simulator: Simulator) -> None:
    """More tokens than the model takes are a ContextLengthError."""
    async with (
        Simulator(dialect=dialect(simulator), max_model_len=16) as small,
        AsyncClient("nvapi-a-key", small.base_url, model=MODEL, retry=ONCE) as client,
    ):
        with pytest.raises(ContextLengthError):
            await client.chat.create("word " * 50)


async def test_what_comes_up_while_the_answer_is_written(client: AsyncClient) -> None:
    """A schema that nothing fits is a 400 of a plain call; in a stream it is an error event inside the 200."""
    with pytest.raises(BadRequestError, match="cannot build an answer"):
        await client.chat.create("hi", response_format=IMPOSSIBLE)
    with pytest.raises(StreamFaultError, match="cannot build an answer") as caught:
        await client.chat.stream("hi", response_format=IMPOSSIBLE)
    assert caught.value.partial is None


async def test_the_error_event_of_dynamo_has_no_code() -> None:
    """Dynamo's text is in a comment; vLLM's event has a code and a type."""
    for name, code, kind in (("vllm", 400, "BadRequestError"), ("dynamo", None, None)):
        async with (
            Simulator(dialect=name) as sim,
            AsyncClient(base_url=sim.base_url, model=MODEL, retry=ONCE) as client,
        ):
            with pytest.raises(StreamFaultError) as caught:
                await client.chat.stream("hi", response_format=IMPOSSIBLE)
            assert (caught.value.code, caught.value.type) == (code, kind)


async def test_too_many_requests(simulator: Simulator) -> None:
    """Beyond its limit Dynamo answers 529, the others 429; both are worth another try and say nothing of when."""
    async with (
        Simulator(dialect=dialect(simulator), rpm=1) as busy,
        AsyncClient("nvapi-a-key", busy.base_url, model=MODEL, retry=ONCE) as client,
    ):
        await client.chat.create("hi")
        overloaded = dialect(simulator) == "dynamo"
        with pytest.raises(ServerError if overloaded else RateLimitError) as caught:
            await client.chat.create("hi")
        assert caught.value.status == (529 if overloaded else 429)
        assert caught.value.retry_after is None


async def test_completions(client: AsyncClient) -> None:
    """Text completions answer in every dialect, streamed or not."""
    plain = await client.completions.create("one two three", max_tokens=4)
    streamed = await client.completions.stream("one two three", max_tokens=4).final()
    assert plain.text == streamed.text != ""


async def test_models(client: AsyncClient, simulator: Simulator) -> None:
    """The list is there; a single model is found with the route for it and without."""
    models = await client.models.list()
    owners = {"vllm": "vllm", "dynamo": "nvidia", "hosted": models[0].id.partition("/")[0]}
    assert models[0].owned_by == owners.get(dialect(simulator), "system")
    assert (await client.models.get(MODEL)).id == MODEL
    with pytest.raises(NotFoundError):
        await client.models.get("none")


async def test_health(client: AsyncClient, simulator: Simulator) -> None:
    """A NIM has its own routes, vLLM and Dynamo have /health below the root, the catalog lists its models."""
    assert await client.health.ready()
    assert await client.health.live()


async def test_embeddings(client: AsyncClient, simulator: Simulator) -> None:
    """vLLM and Dynamo make no difference between queries and passages; the NIMs do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the server ignores input_type")  # vLLM is known by its first answer
        answers = [
            (await client.embeddings.create(["a text"], model=EMBEDDER, input_type=kind)).vectors[0].tolist()
            for kind in ("query", "passage")
        ]
    assert (answers[0] == answers[1]) == (dialect(simulator) in ("vllm", "dynamo"))


async def test_ranking(client: AsyncClient, simulator: Simulator) -> None:
    """NIMs answer with logits, vLLM with scores of 0 to 1, Dynamo with scores of which it does not say what they are."""
    ranking = await client.rerank("capital", ["Paris", "Rome", "the capital"], model=RERANKER)
    assert ranking.results[0].document == "the capital"
    assert ranking.measure == {"vllm": "relevance_score", "dynamo": "score"}.get(dialect(simulator), "logit")


@pytest.mark.no_key
async def test_the_hosted_catalog_wants_a_key() -> None:
    """Without a key it is AuthenticationError in the gateway's own words."""
    async with Simulator(dialect="hosted") as sim, AsyncClient(base_url=sim.base_url, model=MODEL) as client:
        with pytest.raises(AuthenticationError, match="`authorization` was missing"):
            await client.chat.create("hi")


@both
async def test_an_empty_answer(client: AsyncClient, streamed: bool) -> None:
    """An answer that stops before its first token is complete and has no text."""
    whole = (await client.chat.create(PARIS)).text
    reply = await ask(client, streamed, stop=[whole[:5]])
    assert (reply.text, reply.finish_reason) == ("", "stop")

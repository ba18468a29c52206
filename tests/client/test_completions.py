"""client.completions against the simulator and a scripted server."""

import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from nimclient import AsyncClient, Completion, CompletionChunk, CompletionStream
from nimclient.errors import (
    BadRequestError,
    ConfigurationError,
    StreamFaultError,
    StreamInterruptedError,
)
from nimclient.simulator import Simulator
from support.server import FaultServer, Pause
from support.wire import DONE, END, answer, chunk, error, head, sse


@pytest.fixture
async def nim() -> AsyncIterator[AsyncClient]:
    async with Simulator() as simulator, AsyncClient(base_url=simulator.base_url) as client:
        yield client


async def token_ids(client: AsyncClient, text: str) -> list[int]:
    """What the simulator's tokenizer makes of a text."""
    url = client.base_url.removesuffix("/v1") + "/tokenize"
    body = {"model": "meta/llama-3.1-8b-instruct", "prompt": text}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        tokens: list[int] = (await response.json())["tokens"]
        return tokens


async def test_a_text_is_continued(nim: AsyncClient) -> None:
    """create returns a Completion with text, finish_reason, usage and meta; the model is found by listing."""
    completion = await nim.completions.create("the cat sat on the mat because the", max_tokens=8)
    assert isinstance(completion, Completion)
    assert completion.text.strip()
    assert completion.finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 8
    assert completion.meta is not None
    assert completion.meta.status == 200


async def test_prompts_times_samples(nim: AsyncClient) -> None:
    """Every prompt gives n choices, numbered over all prompts; texts and their token ids give the same."""
    completion = await nim.completions.create(["one two one", "a b a"], n=2, max_tokens=4)
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
    one = await nim.completions.create("a b a", n=2, max_tokens=4)
    assert [c.text for c in one.choices] == [c.text for c in completion.choices[2:]]


async def test_echo_with_logprobs(nim: AsyncClient) -> None:
    """An echoed prompt comes first in the text, with None as the log probability of its first token."""
    completion = await nim.completions.create("the cat sat", echo=True, logprobs=2, max_tokens=3)
    assert completion.text.startswith("the cat sat")
    assert completion.logprobs is not None
    assert completion.logprobs.token_logprobs[0] is None
    assert completion.logprobs.top_logprobs[0] is None
    assert completion.logprobs.text_offset[0] == 0
    assert "".join(completion.logprobs.tokens) == completion.text
    assert all(value is None or value <= 0 for value in completion.logprobs.token_logprobs)


async def test_a_server_that_knows_no_suffix(nim: AsyncClient) -> None:
    """vLLM up to 0.25 rejects a suffix: a BadRequestError in the server's words."""
    with pytest.raises(BadRequestError, match="suffix is not currently supported"):
        await nim.completions.create("a", suffix="b")


async def test_bad_prompts_never_leave(server: FaultServer, client: AsyncClient) -> None:
    """What cannot be sent is found before anything is, in create and where the stream is made."""
    with pytest.raises(ConfigurationError, match=r"prompt\[1\]"):
        await client.completions.create(["a", ""])
    with pytest.raises(TypeError, match="prompt"):
        client.completions.stream(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="did you mean 'temperature'"):
        client.completions.stream("a", temperatur=1)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="kind"):
        client.completions.stream("a", model="baai/bge-m3")
    assert server.requests == []


# streams --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n": 3, "logprobs": 1},
        {"echo": True, "logprobs": 2, "n": 2},
        {"stop": ["the"], "max_tokens": 30},
        {"stream_usage": True, "seed": 7, "max_tokens": 1},
    ],
)
@pytest.mark.parametrize("prompt", ["the cat sat on the mat because the", ["one two one", "a b a b"], "token ids"])
async def test_final_equals_create(nim: AsyncClient, prompt: Any, options: Any) -> None:
    """A streamed completion adds up to the plain one, chunk texts to its text."""
    if prompt == "token ids":
        prompt = [await token_ids(nim, "the cat sat on the mat"), await token_ids(nim, "one two one")]
    plain = await nim.completions.create(prompt, **{k: v for k, v in options.items() if k != "stream_usage"})
    async with nim.completions.stream(prompt, **options) as stream:
        assert isinstance(stream, CompletionStream)
        pieces = []
        async for piece in stream:
            assert isinstance(piece, CompletionChunk)
            pieces.append(piece.text)
        final = await stream.final()
    assert final.choices == plain.choices
    assert (final.usage, final.model, final.object) == (plain.usage, plain.model, plain.object)
    assert "".join(pieces) == plain.text
    assert final.meta is not None
    assert final.meta.timings.ttft is not None


async def test_only_the_text(nim: AsyncClient) -> None:
    """text_stream gives the pieces of text."""
    plain = await nim.completions.create("the cat sat on the mat")
    assert (
        "".join([piece async for piece in nim.completions.stream("the cat sat on the mat").text_stream]) == plain.text
    )


def event(text: str, finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish, **fields}
    return sse({"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [choice]})


async def test_token_ids_of_prompt_and_text_are_kept(server: FaultServer, client: AsyncClient) -> None:
    """prompt_token_ids come in the first event, token_ids in each: final() has both, and prompt_logprobs."""
    first = event("a", token_ids=[1], prompt_token_ids=[7, 8], prompt_logprobs=[None, {"8": {"logprob": -1.0}}])
    server.script([head() + chunk(first, event("b", token_ids=[2]), event("", "stop"), DONE) + END])
    final = await client.completions.stream([7, 8], return_token_ids=True).final()
    assert (final.choices[0].token_ids, final.choices[0].prompt_token_ids) == ((1, 2), (7, 8))
    assert final.choices[0].prompt_logprobs == (None, {"8": {"logprob": -1.0}})
    assert server.requests[0].json == {
        "model": "test-model",
        "prompt": [7, 8],
        "return_token_ids": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_errors_of_a_stream_carry_what_had_arrived(server: FaultServer, client: AsyncClient) -> None:
    """An error event and a broken stream raise with the partial Completion."""
    fault = sse({"error": {"message": "boom", "code": 500}})
    server.script(
        [head() + chunk(event("Hel")), Pause(0.02), chunk(fault, DONE) + END],
        [head() + chunk(event("Hel")), Pause(0.02), END],
    )
    for kind in (StreamFaultError, StreamInterruptedError):
        with pytest.raises(kind) as caught:
            await client.completions.stream("a").final()
        assert isinstance(caught.value.partial, Completion)
        assert caught.value.partial.text == "Hel"


async def test_stream_options_are_dropped_where_they_are_refused(server: FaultServer, client: AsyncClient) -> None:
    """A server that does not know stream_options is asked without, once and from then on."""
    good = [head() + chunk(event("a"), event("", "stop"), DONE) + END]
    server.script([error(400, "stream_options: extra fields not permitted")], good)
    for _ in range(2):
        assert (await client.completions.stream("a").final()).text == "a"
    assert ["stream_options" in r.json for r in server.requests] == [True, False, False]


async def test_a_plain_answer_to_a_stream(server: FaultServer, client: AsyncClient) -> None:
    """A server that ignores `stream` gives one chunk and the answer."""
    body = {"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": "ab", "finish_reason": "stop"}]}
    server.script(answer(body))
    stream = client.completions.stream("a")
    assert [piece.text async for piece in stream] == ["ab"]
    assert (await stream.final()).object == "text_completion"


async def test_a_stream_to_a_plain_call(server: FaultServer, client: AsyncClient) -> None:
    """A gateway that streams unasked gives the answer that its events amount to."""
    server.script([head() + chunk(event("a"), event("b", "stop"), DONE) + END])
    completion = await client.completions.create("a")
    assert (completion.text, completion.finish_reason) == ("ab", "stop")


async def test_a_dropped_stream_warns(server: FaultServer, client: AsyncClient) -> None:
    """A completion stream that is opened and forgotten gives a ResourceWarning and is closed."""
    server.script([head() + chunk(event("a")), Pause(0.5)])
    opened: CompletionStream | None = await client.completions.stream("a")
    assert opened is not None
    with pytest.warns(ResourceWarning, match="not closed"):  # noqa: PT031  # by the collector
        del opened
        gc.collect()


MakeClient = Callable[..., AsyncClient]


async def test_the_default_model_of_its_kind(server: FaultServer, make_client: MakeClient) -> None:
    """The client's model for completions is sent."""
    server.script(answer({"choices": [{"text": "a"}]}))
    client = make_client(model={"completions": "c", "chat": "d"})
    assert (await client.completions.create("a")).choices[0].index == 0
    assert server.requests[0].json == {"model": "c", "prompt": "a"}

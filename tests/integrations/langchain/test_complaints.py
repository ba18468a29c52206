"""What users of LangChain with NIM complained of in public, and how it is now."""

import asyncio
import json
import pickle
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from pydantic import BaseModel

from nimclient.errors import (
    AuthenticationError,
    EmbeddingMismatchError,
    RequestTimeoutError,
    StreamError,
    StreamInterruptedError,
)
from nimclient.integrations.langchain import NVIDIA, ChatNVIDIA, NVIDIAEmbeddings, NVIDIARerank
from nimclient.simulator import Simulator, SimulatorThread
from nimclient.testing import FakeRequest, FakeTransport
from support.langchain import MODEL, completion, event, reply, tool_call, usage
from support.server import FaultServer
from support.wire import chat as chat_answer

CALL = {"name": "add", "args": {"a": 2, "b": 3}, "id": "call_1", "type": "tool_call"}


class Joke(BaseModel):
    setup: str
    punchline: str


def whole(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    return total


def test_tool_calls_of_a_message_made_by_hand_arrive(canned_chat: Any) -> None:
    """C01: AIMessage(tool_calls=[c]) in a history reaches the wire with name, id and JSON arguments."""
    chat, transport = canned_chat(reply())
    chat.invoke([HumanMessage("2+3?"), AIMessage("", tool_calls=[CALL]), ToolMessage("5", tool_call_id="call_1")])
    _, assistant, tool = transport.requests[0].json["messages"]
    assert assistant["tool_calls"] == [tool_call("add", '{"a":2,"b":3}')]
    assert tool == {"role": "tool", "content": "5", "tool_call_id": "call_1"}


def test_empty_text_beside_tool_calls_is_null(canned_chat: Any) -> None:
    """C02: NIM rejects the empty string beside tool calls, so that null is sent."""
    chat, transport = canned_chat(reply())
    chat.invoke([HumanMessage("2+3?"), AIMessage("", tool_calls=[CALL]), ToolMessage("5", tool_call_id="call_1")])
    assert transport.requests[0].json["messages"][1]["content"] is None


async def test_streamed_tool_calls_survive_the_next_turn(canned_chat: Any) -> None:
    """C03: the sum of the chunks, sent back, holds each call exactly once, as deepagents copies it, too."""
    pieces = [
        event({"role": "assistant", "content": None}),
        event({"tool_calls": [{"index": 0, **tool_call("add", '{"a": 2, ')}]}),
        event({"tool_calls": [{"index": 0, "function": {"arguments": '"b": 3}'}}]}),
        event({"tool_calls": [{"index": 1, **tool_call("add", '{"a": 1, "b": 1}', id="call_2")}]}),
        event({}, "tool_calls"),
        usage(),
    ]
    chat, transport = canned_chat(pieces, reply())
    answer = whole([chunk async for chunk in chat.astream("add")])
    assert [call["args"] for call in answer.tool_calls] == [{"a": 2, "b": 3}, {"a": 1, "b": 1}]
    copied = answer.model_copy(update={"additional_kwargs": {"tool_calls": [tool_call("add", "{}")]}})
    results = [ToolMessage("5", tool_call_id="call_1"), ToolMessage("2", tool_call_id="call_2")]
    await chat.ainvoke([HumanMessage("add"), copied, *results])
    sent = transport.requests[1].json["messages"][1]["tool_calls"]
    assert [(call["id"], json.loads(call["function"]["arguments"])) for call in sent] == [
        ("call_1", {"a": 2, "b": 3}),
        ("call_2", {"a": 1, "b": 1}),
    ]


@pytest.mark.parametrize("version", [None, "v1"])
def test_reasoning_text_and_calls_of_one_stream_stay_apart(canned_chat: Any, version: Any) -> None:
    """C03: reasoning, text and two calls of one streamed answer are four blocks, whatever the output version."""
    deltas: list[dict[str, Any]] = [
        {"reasoning_content": "I "},
        {"reasoning_content": "add."},
        {"content": "Adding"},
        {"tool_calls": [{"index": 0, **tool_call("add", '{"a": ')}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {"tool_calls": [{"index": 1, **tool_call("add", '{"a": 2}', id="call_2")}]},
    ]
    chat, _ = canned_chat([*map(event, deltas), event({}, "tool_calls")], output_version=version)
    answer = whole(list(chat.stream("add")))
    assert [call["args"] for call in answer.tool_calls] == [{"a": 1}, {"a": 2}]
    assert [block["type"] for block in answer.content_blocks] == ["reasoning", "text", "tool_call", "tool_call"]
    assert answer.content_blocks[0]["reasoning"] == "I add."


def test_calls_without_an_index_are_told_apart_by_their_ids(canned_chat: Any) -> None:
    """C03: a server that sends no index, repeats the id and continues with empty names gives whole calls."""
    pieces = [
        ("call_1", "add", ""),
        ("call_1", "", ""),
        ("", "", '{"a": 2, '),
        (None, None, '"b": 3}'),
        ("call_2", "add", '{"a": 1}'),
    ]
    deltas = [{"tool_calls": [{"id": id, "function": {"name": name, "arguments": text}}]} for id, name, text in pieces]
    chat, _ = canned_chat([*map(event, deltas), event({}, "tool_calls")])
    calls = whole(list(chat.stream("add"))).tool_calls
    assert [(call["id"], call["name"], call["args"]) for call in calls] == [
        ("call_1", "add", {"a": 2, "b": 3}),
        ("call_2", "add", {"a": 1}),
    ]


@pytest.mark.parametrize(
    "deltas",
    [
        [[(0, "a", "add", '{"x": 1}')], [(0, "b", "sub", '{"y": 2}')]],
        [[(0, "a", "add", {"x": 1}), (1, "b", "sub", {"y": 2})]],
        [[(0, None, "add", '{"x": 1}')], [(0, None, "sub", '{"y": 2}')]],
        [[(None, None, "add", '{"x": 1}'), (None, None, "sub", '{"y": 2}')]],
        [[(0, "a", "add", '{"x"'), (1, "b", "sub", '{"y"')], [(0, "", "", ": 1}"), (1, "", "", ": 2}")]],
    ],
    ids=["one index for all", "arguments as objects", "one index and no id", "neither", "interleaved"],
)
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_two_calls_are_two_calls(canned_chat: Any, deltas: list[Any], version: str) -> None:
    """Parallel calls stay apart whatever a server omits, and each has an id that a result can name."""
    events = [
        event(
            {"tool_calls": [{"index": at, "id": id, "function": {"name": f, "arguments": x}} for at, id, f, x in calls]}
        )
        for calls in deltas
    ]
    chat, _ = canned_chat([*events, event({}, "tool_calls")], output_version=version)
    calls = whole(list(chat.stream("go"))).tool_calls
    assert [(call["name"], call["args"]) for call in calls] == [("add", {"x": 1}), ("sub", {"y": 2})]
    assert [call["id"] for call in calls] in (["a", "b"], ["call_0", "call_1"])


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("reason", ["length", "tool_calls"])
@pytest.mark.parametrize(
    "cut", ['{"x": "ab', '{"x": "ab\\', '{"x": ["a', '{"x": [1, 2', '{"x": {"y": 1', '{"x', "{", '{"x": 1, ']
)
def test_arguments_that_were_cut_off_are_invalid(canned_chat: Any, cut: str, reason: str, version: str) -> None:
    """LangChain completes them, and an agent would call the tool with half of them; vLLM says "tool_calls" all the same."""
    calls = [{"index": 0, **tool_call("add", '{"x": 1}', "a")}, {"index": 1, **tool_call("add", cut, "b")}]
    chat, transport = canned_chat([event({"tool_calls": calls}), event({}, reason)], reply(), output_version=version)
    answer = whole(list(chat.stream("go")))
    assert [call["id"] for call in answer.tool_calls] == ["a"]
    assert [call["id"] for call in answer.invalid_tool_calls] == ["b"]
    chat.invoke(["go", answer])
    assert [call["function"]["arguments"] for call in transport.requests[-1].json["messages"][1]["tool_calls"]] == [
        '{"x":1}',
        "{}",
    ]


def test_a_call_without_arguments_at_the_token_limit_is_invalid(canned_chat: Any) -> None:
    """Nothing of its arguments had come: it is not a call without arguments, which with another reason it is."""
    deltas = [event({"tool_calls": [{"index": 0, **tool_call("now", "")}]})]
    chat, _ = canned_chat([*deltas, event({}, "length")], [*deltas, event({}, "tool_calls")])
    cut, complete = whole(list(chat.stream("go"))), whole(list(chat.stream("go")))
    assert (len(cut.tool_calls), len(cut.invalid_tool_calls)) == (0, 1)
    assert [call["args"] for call in complete.tool_calls] == [{}]


@pytest.mark.parametrize("kind", ["chat", "embeddings", "rerank", "completions"])
def test_a_time_limit_holds_everywhere_and_is_in_no_body(kind: str) -> None:
    """C04: 0.05 s against a server that takes long raises, for each class, and the body says nothing of it."""
    simulated = Simulator(ttft=30)
    with SimulatorThread(simulated) as url:
        limits: Any = {"base_url": url, "timeout": 0.05, "max_retries": 0}
        calls = {
            "chat": lambda: ChatNVIDIA(model=MODEL, **limits).invoke("hi"),
            "embeddings": lambda: NVIDIAEmbeddings(model="nvidia/llama-nemotron-embed-1b-v2", **limits).embed_query(
                "hi"
            ),
            "rerank": lambda: NVIDIARerank(model="nvidia/llama-nemotron-rerank-1b-v2", **limits).compress_documents(
                [Document("a")], "hi"
            ),
            "completions": lambda: NVIDIA(model=MODEL, **limits).invoke("hi"),
        }
        with pytest.raises(RequestTimeoutError):
            calls[kind]()
        assert not any("timeout" in request.json for request in simulated.requests), "what has arrived"


async def test_a_throttled_request_is_sent_again(canned_chat: Any) -> None:
    """C05: one 429 with Retry-After, then 200: the call returns, after exactly two requests."""
    chat, transport = canned_chat((429, {"Retry-After": "0"}, {"detail": "slow down"}), reply(), max_retries=2)
    assert (await chat.ainvoke("hi")).content == "Hello"
    assert len(transport.requests) == 2


@pytest.mark.parametrize(
    "body", [b"<html><h1>Bad Gateway</h1></html>", b"", b"[]", b"null", b'{"error":{"message":"no","code":502}}']
)
async def test_every_error_says_its_status(canned_chat: Any, body: bytes) -> None:
    """C06: whatever the body is, the text and `.status` tell the status, with and without await alike."""
    chat, _ = canned_chat((502, {}, body), (502, {}, body))
    with pytest.raises(Exception, match=r"^\[502\] Bad Gateway: ") as blocking:
        chat.invoke("hi")
    with pytest.raises(Exception, match=r"^\[502\] Bad Gateway: ") as awaiting:
        await chat.ainvoke("hi")
    assert blocking.value.status == awaiting.value.status == 502
    assert blocking.value.response.status_code == 502


@pytest.mark.parametrize(
    "broken", [{"error": {"message": "no memory", "code": 500}}, {"object": "error", "message": "no memory"}]
)
def test_an_error_in_a_stream_raises(canned_chat: Any, broken: dict[str, Any]) -> None:
    """C07: an error event ends the stream with an error that holds what had arrived."""
    chat, _ = canned_chat([event({"content": "Hel"}), broken])
    with pytest.raises(StreamError, match="no memory") as error:
        list(chat.stream("hi"))
    assert error.value.partial is not None
    assert error.value.partial.text == "Hel"


def test_a_stream_without_an_end_raises(canned_chat: Any) -> None:
    """C07: a stream that stops without a finish reason and without [DONE] is no short answer."""
    body = b'data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
    chat, _ = canned_chat((200, {"Content-Type": "text/event-stream"}, body))
    with pytest.raises(StreamInterruptedError):
        list(chat.stream("hi"))


def test_a_refused_key_costs_one_request(canned_chat: Any) -> None:
    """C08: structured output does not try other forms after a 401."""
    chat, transport = canned_chat((401, {}, {"detail": "Unauthorized"}))
    with pytest.raises(AuthenticationError):
        chat.with_structured_output(Joke).invoke("tell me a joke")
    assert len(transport.requests) == 1


def test_usage_has_its_details(canned_chat: Any) -> None:
    """C09: cached and reasoning tokens, log probabilities and the model of the call are all there."""
    counts = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    answer = completion({"role": "assistant", "content": "Hi"}, usage=counts, model="other/model")
    token = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}
    answer["choices"][0]["logprobs"] = {"content": [token]}
    chat, transport = canned_chat(answer)
    message = chat.invoke("hi", model="other/model", logprobs=True)
    assert transport.requests[0].json["model"] == "other/model"
    assert message.usage_metadata == {
        "input_tokens": 9,
        "output_tokens": 4,
        "total_tokens": 13,
        "input_token_details": {"cache_read": 8},
        "output_token_details": {"reasoning": 3},
    }
    assert message.response_metadata["model_name"] == "other/model"
    assert message.response_metadata["logprobs"]["content"][0]["token"] == "Hi"


def test_cumulative_usage_counts_once(canned_chat: Any) -> None:
    """C09: usage that grows from event to event is not added up, and its details come on streams, too."""
    first = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    last = usage(5, 2, prompt_tokens_details={"cached_tokens": 4})
    token = {"token": "Hel", "logprob": -0.1, "bytes": None, "top_logprobs": []}
    start = event({"content": "Hel"}, usage=first)
    start["choices"][0]["logprobs"] = {"content": [token]}
    chat, _ = canned_chat([start, event({"content": "lo"}, "stop"), last])
    answer = whole(list(chat.stream("hi")))
    assert answer.usage_metadata == {
        "input_tokens": 5,
        "output_tokens": 2,
        "total_tokens": 7,
        "input_token_details": {"cache_read": 4},
    }
    assert answer.response_metadata["model_name"] == MODEL
    assert answer.response_metadata["finish_reason"] == "stop"
    assert [entry["token"] for entry in answer.response_metadata["logprobs"]["content"]] == ["Hel"]


async def test_batches_of_texts_are_in_flight_together() -> None:
    """C11: requests of one call over many texts overlap: each waits here until there are two."""
    together = asyncio.Event()
    open_now = 0

    async def answer(request: FakeRequest) -> Any:
        nonlocal open_now
        open_now += 1
        if open_now == 2:
            together.set()
        await together.wait()
        open_now -= 1
        texts = request.json["input"]
        return {"data": [{"index": index, "embedding": [0.5, 0.25]} for index in range(len(texts))], "model": "m"}

    transport = FakeTransport(answer)
    model = NVIDIAEmbeddings(base_url="http://nim.test", model="m", max_batch_size=10, transport=transport)
    assert await model.aembed_documents([f"text {n}" for n in range(60)]) == [[0.5, 0.25]] * 60
    assert [len(request.json["input"]) for request in transport.requests] == [10] * 6


async def test_calls_share_connections(server: FaultServer) -> None:
    """C11: six calls of three objects, with and without await, use two connections: one a loop."""
    server.script(chat_answer())
    models = [ChatNVIDIA(base_url=server.url, model="m", temperature=n / 10) for n in range(3)]
    for model in models:
        await model.ainvoke("hi")
        await asyncio.to_thread(model.invoke, "hi")
    assert len(server.requests) == 6
    assert server.connections == 2


def test_fewer_vectors_than_texts_raise() -> None:
    """C11: an answer that is short of a vector raises and is never misaligned."""
    empty = {"data": [], "model": "m", "usage": {}}
    model = NVIDIAEmbeddings(base_url="http://nim.test", model="m", max_retries=0, transport=FakeTransport([empty] * 9))
    with pytest.raises(EmbeddingMismatchError):
        model.embed_documents(["a", "b"])


@pytest.mark.no_key
def test_no_key_no_header(canned_chat: Any) -> None:
    """C12: without a key there is no Authorization header."""
    chat, transport = canned_chat(reply())
    chat.invoke("hi")
    assert "authorization" not in {name.lower() for name in transport.requests[0].headers}


@pytest.mark.parametrize("call", [{"max_tokens": 7}, {"max_completion_tokens": 7}])
@pytest.mark.parametrize("fields", [{}, {"max_completion_tokens": 99}, {"model_kwargs": {"max_completion_tokens": 9}}])
def test_one_limit_of_tokens_is_sent(canned_chat: Any, call: dict[str, int], fields: dict[str, Any]) -> None:
    """C13: exactly one of the two spellings is on the wire, with the value that is nearest to the call."""
    chat, transport = canned_chat(reply(), **fields)
    chat.invoke("hi", **call)
    body = transport.requests[0].json
    assert [body[name] for name in ("max_tokens", "max_completion_tokens") if name in body] == [7]


def test_no_limit_of_tokens_is_sent_where_there_is_none(canned_chat: Any) -> None:
    """C13: None leaves the limit to the server; 1024 is the default that LangChain's users know."""
    chat, transport = canned_chat(reply())
    chat.invoke("hi")
    assert "max_tokens" not in transport.requests[0].json
    assert ChatNVIDIA(base_url="http://nim.test", model="m").max_tokens == 1024


def test_tags_cut_over_chunks_give_one_reasoning_block(canned_chat: Any) -> None:
    """C14: `<think>` in pieces never reaches the text."""
    pieces = ["<th", "ink>to ", "be</th", "ink>Yes"]
    chat, _ = canned_chat([*(event({"content": piece}) for piece in pieces), event({}, "stop")])
    answer = whole(list(chat.stream("hi")))
    assert answer.content == "Yes"
    assert answer.content_blocks == [
        {"type": "reasoning", "reasoning": "to be"},
        {"type": "text", "text": "Yes"},
    ]


def test_thinking_survives_bindings_and_template_settings_stay(canned_chat: Any) -> None:
    """C14: with_thinking_mode before and after bind_tools and with_structured_output, beside chat_template_kwargs."""
    chat, transport = canned_chat(
        *[reply('{"setup": "a", "punchline": "b"}')] * 3,
        model_kwargs={"chat_template_kwargs": {"custom": 1, "enable_thinking": True}},
    )
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    chat.with_thinking_mode(enabled=False).bind_tools([tool]).invoke("hi")
    chat.bind_tools([tool]).with_thinking_mode(enabled=False).invoke("hi")
    chat.with_thinking_mode(enabled=False).with_structured_output(Joke).invoke("hi")
    bodies = [request.json for request in transport.requests]
    assert [body["chat_template_kwargs"] for body in bodies] == [{"custom": 1, "enable_thinking": False}] * 3
    assert bodies[0]["tools"] == bodies[1]["tools"] == [tool]
    assert "response_format" in bodies[2]


def test_models_do_not_share_cached_answers() -> None:
    """C15: three models and one prompt in one cache: three answers; a field that is changed asks again."""
    cache = InMemoryCache()
    transport = FakeTransport([reply("one"), reply("two"), reply("three"), reply("four")])
    common: Any = {"base_url": "http://nim.test", "cache": cache, "transport": transport}
    models = [
        ChatNVIDIA(model="a", **common),
        ChatNVIDIA(model="b", **common),
        ChatNVIDIA(model="a", temperature=0.5, **common),
    ]
    assert [model.invoke("hi").content for model in models * 2] == ["one", "two", "three"] * 2
    models[0].temperature = 0.9
    assert models[0].invoke("hi").content == "four"


def test_completions_of_other_options_do_not_share_cached_answers() -> None:
    """C15: max_tokens=2 and max_tokens=9 are two entries of the cache."""
    answers = [{"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]} for text in ("one", "two")]
    common: Any = {
        "base_url": "http://nim.test",
        "model": "m",
        "cache": InMemoryCache(),
        "transport": FakeTransport(answers),
    }
    models = [NVIDIA(max_tokens=2, **common), NVIDIA(max_tokens=9, **common)]
    assert [model.invoke("hi") for model in models * 2] == ["one", "two"] * 2


@pytest.mark.filterwarnings("ignore:The function `loads` is in beta")
def test_what_is_written_down_holds_no_secret(canned_chat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """C15: dumps and pickles of a model hold neither the key nor the values of its headers; loads gives it back."""
    chat = ChatNVIDIA(
        base_url="http://nim.test",
        model=MODEL,
        api_key="secret-key",
        temperature=0.5,
        default_headers={"X-Gateway": "secret-token"},
        streaming=True,
        max_retries=3,
    )
    monkeypatch.setenv("NVIDIA_API_KEY", "secret-key")
    written = dumps(chat)
    assert "secret" not in written.replace('"type": "secret"', "")
    loaded = loads(written, valid_namespaces=["nimclient"], allowed_objects=[ChatNVIDIA], secrets_from_env=True)
    assert loaded == chat.model_copy(update={"default_headers": {}})
    monkeypatch.delenv("NVIDIA_API_KEY")
    stored = pickle.dumps(chat)
    assert b"secret-key" not in stored
    assert b"secret-token" not in stored
    assert pickle.loads(stored).asdict() == chat.asdict()


def test_settings_of_the_client_are_in_no_body(canned_chat: Any) -> None:
    """C15: streaming, max_retries, timeout, api_key and verify_ssl are fields and never JSON."""
    chat, transport = canned_chat(reply(), max_retries=3, timeout=5, api_key="key", verify_ssl=False)
    chat.invoke("hi", max_retries=1, api_key="other")
    assert transport.requests[0].json.keys() == {"model", "messages"}


def test_a_listing_with_paths_gives_the_first_id() -> None:
    """C16: vLLM's `root` is a path and marks no adapter; repeated ids do no harm."""
    listing = {"data": [{"id": "served", "root": "/models/llama"}, {"id": "served", "root": "/models/llama"}]}
    transport = FakeTransport([listing, reply()])
    ChatNVIDIA(base_url="http://nim.test", transport=transport).invoke("hi")
    assert transport.requests[1].json["model"] == "served"


async def test_the_event_loop_is_never_blocked(server: FaultServer) -> None:
    """C17: the constructor does no I/O, and the loop turns while an answer is awaited."""
    answered = asyncio.Event()
    server.script([answered.wait, chat_answer()])  # in this loop, which could not answer if it were blocked
    chat = ChatNVIDIA(base_url=server.url, model=MODEL)
    assert server.connections == 0
    call = asyncio.create_task(chat.ainvoke("hi"))
    await server.until(lambda: len(server.requests) == 1)
    assert not call.done()
    answered.set()
    assert (await call).content == "Hello"


def test_reranking_leaves_its_input_alone() -> None:
    """C18: the documents that were passed keep their metadata; copies have the score."""
    rankings = {"rankings": [{"index": 1, "logit": 2.5}, {"index": 0, "logit": -1.0}]}
    model = NVIDIARerank(base_url="http://nim.test", model="m", transport=FakeTransport([rankings]))
    documents = [Document("a", metadata={"n": 1}), Document("b", metadata={"n": 2})]
    best = model.compress_documents(documents, "b?")
    assert [document.metadata for document in best] == [
        {"n": 2, "relevance_score": 2.5},
        {"n": 1, "relevance_score": -1.0},
    ]
    assert [document.metadata for document in documents] == [{"n": 1}, {"n": 2}]

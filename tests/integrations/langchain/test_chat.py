"""ChatNVIDIA and its Dynamo form: fields, requests, events, bindings."""

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter

from nimclient.integrations.langchain import (
    ChatNVIDIA,
    ChatNVIDIADynamo,
    get_inference_priority,
    inference_priority,
)
from nimclient.testing import FakeTransport
from support.langchain import MODEL, completion, event, reply, usage

URL = "http://nim.test"


def test_fields_are_sent_by_their_names(canned_chat: Any) -> None:
    """What is set is in the body, the call wins, then model_kwargs, and None is never sent."""
    chat, transport = canned_chat(
        reply(), temperature=0.5, top_p=0.9, seed=7, stop="END", model_kwargs={"top_k": 3, "seed": 8, "new_field": 1}
    )
    chat.invoke("hi", temperature=0.1, top_p=None)
    assert transport.requests[0].json == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.1,
        "seed": 8,
        "stop": "END",
        "top_k": 3,
        "new_field": 1,
    }


@pytest.mark.parametrize("stop", ["A", ["A", "B"]])
def test_stop_of_the_call_wins(canned_chat: Any, stop: Any) -> None:
    """A str and a list are sent as they are."""
    chat, transport = canned_chat(reply(), stop=["Z"])
    chat.invoke("hi", stop=stop)
    assert transport.requests[0].json["stop"] == stop


def test_which_stop_word_ended_the_answer(canned_chat: Any) -> None:
    """vLLM's `stop_reason` is in the metadata, streamed or not."""
    end = event({"content": "a"}, "stop")
    end["choices"][0]["stop_reason"] = "Z"
    whole = reply("a")
    whole["choices"][0]["stop_reason"] = "Z"
    chat, _ = canned_chat(whole, [end], stop="Z")
    for answer in (chat.invoke("hi"), list(chat.stream("hi"))[-1]):
        assert answer.response_metadata["stop_reason"] == "Z"


def test_unknown_arguments_warn_and_are_sent() -> None:
    """A keyword that is no field goes into each request, with one warning."""
    transport = FakeTransport([reply()])
    with pytest.warns(UserWarning, match="min_tokens") as warned:
        chat = ChatNVIDIA(base_url=URL, model="m", min_tokens=3, transport=transport)
    assert len(warned) == 1
    chat.invoke("hi")
    assert transport.requests[0].json["min_tokens"] == 3


def test_max_tokens_under_its_old_name_warns() -> None:
    """max_tokens= works with a DeprecationWarning; max_completion_tokens= is the present name."""
    with pytest.warns(DeprecationWarning, match="max_tokens"):
        assert ChatNVIDIA(base_url=URL, model="m", max_tokens=5).max_tokens == 5
    assert ChatNVIDIA(base_url=URL, model="m", max_completion_tokens=6).max_tokens == 6


@pytest.mark.parametrize(
    ("fields", "sent"),
    [({}, {"include_usage": True}), ({"stream_options": None}, None), ({"stream_options": {"x": 1}}, {"x": 1})],
)
def test_stream_options(canned_chat: Any, fields: Any, sent: Any) -> None:
    """They go with streams only, and None leaves them out."""
    chat, transport = canned_chat([event({"content": "Hi"}, "stop")], reply(), **fields)
    assert [chunk.content for chunk in chat.stream("hi")] == ["Hi", ""]
    chat.invoke("hi")
    assert transport.requests[0].json.get("stream_options") == sent
    assert "stream_options" not in transport.requests[1].json


async def test_streaming_makes_invoke_stream(canned_chat: Any) -> None:
    """streaming=True streams in invoke, False never; the keyword `stream` reaches the body once."""
    events = [event({"content": "Hi"}, "stop"), usage()]
    chat, transport = canned_chat(events, events, streaming=True)
    assert chat.invoke("hi").content == "Hi"
    assert (await chat.ainvoke("hi", stream=True)).usage_metadata["total_tokens"] == 7
    assert [request.json["stream"] for request in transport.requests] == [True, True]


def test_several_choices(canned_chat: Any) -> None:
    """n > 1: generate shows all, with usage counted once; a stream of several is rejected."""
    answer = completion({"role": "assistant", "content": "one"})
    answer["choices"].append({"index": 1, "message": {"role": "assistant", "content": "two"}, "finish_reason": "stop"})
    chat, _ = canned_chat(answer)
    result = chat.generate([[HumanMessage("hi")]], n=2)
    assert [generation.text for generation in result.generations[0]] == ["one", "two"]
    assert [generation.message.usage_metadata is None for generation in result.generations[0]] == [False, True]
    assert result.llm_output["token_usage"]["total_tokens"] == 7
    with pytest.raises(ValueError, match="n > 1"):
        list(chat.stream("hi", n=2))


def test_ids_roles_and_names_of_the_answer(canned_chat: Any) -> None:
    """The server's id is the message's; metadata name the model and the finish reason."""
    chat, _ = canned_chat(completion({"role": "assistant", "content": "Hi"}, system_fingerprint="fp"))
    message = chat.invoke("hi")
    assert (message.id, message.role) == ("chatcmpl-7", "assistant")
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.response_metadata["system_fingerprint"] == "fp"
    assert "tool_calls" not in message.additional_kwargs


def test_usage_callbacks_count_streams(canned_chat: Any) -> None:
    """LangChain's own usage callback counts plain calls and streams, by model."""
    chat, _ = canned_chat(reply(), [event({"content": "Hi"}, "stop"), usage()])
    with get_usage_metadata_callback() as counted:
        chat.invoke("hi")
        list(chat.stream("hi"))
    assert counted.usage_metadata[MODEL]["total_tokens"] == 14


async def test_chains_batches_and_events(simulator: str) -> None:
    """prompt | model | parser, batch and abatch with max_concurrency, astream_events v2."""
    chat = ChatNVIDIA(base_url=simulator, model=MODEL, max_completion_tokens=20)
    chain = ChatPromptTemplate([("system", "Be kind."), ("human", "{question}")]) | chat | StrOutputParser()
    questions = [{"question": f"What is {n}?"} for n in range(4)]
    answers = await asyncio.to_thread(chain.batch, questions, {"max_concurrency": 2})
    assert await chain.abatch(questions, {"max_concurrency": 2}) == answers
    events = [event["event"] async for event in chain.astream_events(questions[0], version="v2")]
    assert "on_chat_model_stream" in events
    assert events[-1] == "on_chain_end"


def test_the_rate_limiter_is_asked(canned_chat: Any) -> None:
    """core waits for the limiter before each call."""
    limiter = InMemoryRateLimiter(requests_per_second=1000, max_bucket_size=1)
    chat, transport = canned_chat(reply(), reply(), rate_limiter=limiter)
    chat.invoke("hi")
    chat.invoke("hi")
    assert len(transport.requests) == 2


def test_traces_say_what_was_called(canned_chat: Any) -> None:
    """The model and the limit of the call, not of the constructor, are in a trace; the profile is known without I/O."""
    chat, _ = canned_chat(max_completion_tokens=99)
    params = chat._get_ls_params(stop=["x"], model="other", max_tokens=7)
    assert params["ls_model_name"] == "other"
    assert params["ls_max_tokens"] == 7
    assert params["ls_stop"] == ["x"]
    assert chat.profile is not None
    assert chat.profile["tool_calling"] is chat.profile["structured_output"] is chat.profile["reasoning_output"] is True
    assert chat.metadata["lc_versions"].keys() >= {"nimclient"}


# Dynamo ----------------------------------------------------------------------------------------------------------


def dynamo(**fields: Any) -> tuple[ChatNVIDIADynamo, FakeTransport]:
    transport = FakeTransport([reply()] * 5)
    return ChatNVIDIADynamo(base_url=URL, model="m", transport=transport, **fields), transport


def hints(transport: FakeTransport) -> dict[str, Any]:
    found: dict[str, Any] = transport.requests[-1].json["nvext"]["agent_hints"]
    return found


def test_dynamo_gets_its_hints() -> None:
    """Each request has the four hints and a fresh prefix id; other keys of nvext stay, none is at the top level."""
    chat, transport = dynamo(osl=64)
    chat.invoke("hi", iat=10, nvext={"annotations": ["x"]})
    first = hints(transport)
    prefix = first.pop("prefix_id")
    assert first == {"osl": 64, "iat": 10, "latency_sensitivity": 1.0, "priority": 1}
    assert transport.requests[0].json["nvext"]["annotations"] == ["x"]
    assert not {"osl", "iat", "priority", "latency_sensitivity"} & transport.requests[0].json.keys()
    chat.invoke("hi")
    assert hints(transport)["prefix_id"].startswith("langchain-dynamo-")
    assert hints(transport)["prefix_id"] != prefix


@pytest.mark.parametrize("streaming", [False, True])
async def test_hints_that_the_server_does_not_know_are_left_out(streaming: bool) -> None:
    """Dynamo 1.6 rejects `iat` and `prefix_id`: each is dropped once, and remembered."""
    words = "Failed to deserialize the JSON body into the target type: unknown field `{}`, expected one of `priority`"
    rejected = [
        (400, {}, {"message": words.format(name), "type": "Bad Request", "code": 400}) for name in ("iat", "prefix_id")
    ]
    answer: Any = [event({"content": "Hello"}, "stop")] if streaming else reply()
    transport = FakeTransport([*rejected, answer, answer])
    chat = ChatNVIDIADynamo(base_url=URL, model="m", max_retries=0, transport=transport)
    for _ in range(2):
        texts = [chunk.text async for chunk in chat.astream("hi")] if streaming else [(await chat.ainvoke("hi")).text]
        assert "".join(texts) == "Hello"
    assert len(transport.requests) == 4
    assert hints(transport) == {"osl": 512, "latency_sensitivity": 1.0, "priority": 1}


@pytest.mark.parametrize("wrong", [{"osl": -1}, {"iat": 1.5}, {"priority": True}, {"latency_sensitivity": "high"}])
def test_hints_that_make_no_sense_are_value_errors(wrong: dict[str, Any]) -> None:
    """They are checked at the call."""
    chat, transport = dynamo()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        chat.invoke("hi", **wrong)
    assert transport.requests == []


async def test_inference_priority() -> None:
    """A block or a function sets the priority of what is called within; inner ones win, a keyword over all."""
    chat, transport = dynamo()

    @inference_priority(10)
    async def urgent() -> None:
        await chat.ainvoke("hi")
        assert hints(transport)["priority"] == 10
        with inference_priority(3) as inner:
            await chat.ainvoke("hi")
            assert hints(transport)["priority"] == inner == 3
        await chat.ainvoke("hi", priority=99)
        assert hints(transport)["priority"] == 99
        assert get_inference_priority() == 10

    await urgent()
    assert get_inference_priority() is None
    await chat.ainvoke("hi")
    assert hints(transport)["priority"] == 1


@pytest.mark.parametrize("wrong", [-1, "high", 3.5, None, True])
def test_priorities_that_are_none(wrong: Any) -> None:
    """Only whole numbers that are not negative are priorities."""
    with pytest.raises(ValueError, match="non-negative"):
        inference_priority(wrong)

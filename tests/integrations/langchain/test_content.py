"""What users say reaches the wire in the form that NIM and vLLM take, or is rejected before anything is sent."""

import functools
import json
import operator
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
    messages_to_dict,
)

from support.langchain import completion, event, reply, tool_call

DATA = "aGVsbG8="
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}
REMOTE = {"type": "image_url", "image_url": {"url": "https://h/cat.png"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}
TEXT = {"type": "text", "text": "Look:"}


def sent(canned_chat: Any, *messages: Any, **call: Any) -> list[dict[str, Any]]:
    chat, transport = canned_chat(reply())
    chat.invoke(list(messages), **call)
    messages_sent: list[dict[str, Any]] = transport.requests[0].json["messages"]
    return messages_sent


@pytest.mark.parametrize(
    ("block", "wire"),
    [
        (IMAGE, IMAGE),
        ({"type": "image_url", "image_url": "https://h/cat.png"}, REMOTE),
        ({"type": "image", "base64": DATA, "mime_type": "image/png"}, IMAGE),
        ({"type": "image", "url": "https://h/cat.png"}, REMOTE),
        ({"type": "image", "source_type": "base64", "data": DATA, "mime_type": "image/png"}, IMAGE),
        ({"type": "image", "source_type": "url", "url": "https://h/cat.png"}, REMOTE),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}, IMAGE),
        ({"type": "audio", "base64": DATA, "mime_type": "audio/wav"}, AUDIO),
        ({"type": "audio", "source_type": "base64", "data": DATA, "mime_type": "audio/x-wav"}, AUDIO),
        (AUDIO, AUDIO),
        (
            {"type": "audio", "base64": DATA, "mime_type": "audio/mpeg"},
            {"type": "input_audio", "input_audio": {"data": DATA, "format": "mp3"}},
        ),
        (
            {"type": "audio", "url": "https://h/a.wav"},
            {"type": "audio_url", "audio_url": {"url": "https://h/a.wav"}},
        ),
        (
            {"type": "video", "base64": DATA, "mime_type": "video/mp4"},
            {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{DATA}"}},
        ),
        (
            {"type": "video", "url": "https://h/v.mp4"},
            {"type": "video_url", "video_url": {"url": "https://h/v.mp4"}},
        ),
        ({"type": "something_new", "x": 1}, {"type": "something_new", "x": 1}),
    ],
)
def test_media_have_the_form_of_the_wire(canned_chat: Any, block: dict[str, Any], wire: dict[str, Any]) -> None:
    """Blocks of v0, v1, OpenAI and Anthropic become image_url, input_audio, audio_url and video_url parts."""
    (message,) = sent(canned_chat, HumanMessage([TEXT, block]))
    assert message["content"] == [TEXT, wire]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "file", "base64": DATA, "mime_type": "application/pdf"}, "file"),
        ({"type": "file", "file": {"file_id": "f-1"}}, "file"),
        ({"type": "image", "file_id": "f-1"}, "file ids"),
        ({"type": "image", "url": "/etc/passwd"}, "http"),
        ({"type": "image_url", "image_url": {"url": "/etc/passwd"}}, "local files"),
        ({"type": "image_url", "image_url": {"url": "https://h/c.png", "detail": "medium"}}, "detail"),
        ({"type": "reasoning", "reasoning": "hm"}, "assistant"),
    ],
)
def test_what_no_server_takes_raises_before_anything_is_sent(
    canned_chat: Any, block: dict[str, Any], words: str
) -> None:
    """Files, file ids, local paths and blocks in the wrong place are a ValueError that names the place."""
    chat, transport = canned_chat(reply())
    with pytest.raises(ValueError, match=words):
        chat.invoke([HumanMessage([TEXT, block])])
    assert transport.requests == []


def test_texts_alone_are_joined(canned_chat: Any) -> None:
    """A list of texts is sent as a str, which strict servers want; additions of LangChain's blocks are not sent."""
    blocks: list[Any] = ["a", {"type": "text", "text": "b", "id": "x"}, {"type": "text-plain", "text": "c"}]
    assert sent(canned_chat, HumanMessage(blocks)) == [{"role": "user", "content": "abc"}]


def test_results_of_tools_stay_apart(canned_chat: Any) -> None:
    """The blocks of an MCP tool's list are lines, as servers join them, not one number; no blocks are no text."""
    results = [{"type": "text", "text": "18", "id": "lc_1"}, {"type": "text", "text": "19"}]
    call = {"name": "ages", "args": {}, "id": "c1"}
    history = [
        HumanMessage("u"),
        AIMessage([], tool_calls=[call]),
        ToolMessage(results, tool_call_id="c1"),
        AIMessage([]),
    ]
    _, called, result, empty = sent(canned_chat, *history)
    assert (called["content"], result["content"], empty["content"]) == (None, "18\n19", "")


def test_roles_and_names(canned_chat: Any) -> None:
    """Each message has its role; a name goes with it."""
    messages = [
        SystemMessage("s"),
        HumanMessage("u", name="Ann"),
        AIMessage("a", name="bot"),
        ChatMessage("c", role="context"),
        FunctionMessage("f", name="add"),
        ToolMessage("", tool_call_id="1"),
    ]
    assert sent(canned_chat, *messages) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u", "name": "Ann"},
        {"role": "assistant", "content": "a", "name": "bot"},
        {"role": "context", "content": "c"},
        {"role": "function", "content": "f", "name": "add"},
        {"role": "tool", "content": "", "tool_call_id": "1"},
    ]


@pytest.mark.parametrize("message", [HumanMessage([]), RemoveMessage(id="1")])
def test_messages_that_cannot_be_sent_are_value_errors(canned_chat: Any, message: Any) -> None:
    """A message without content, or without a role, is rejected."""
    with pytest.raises(ValueError, match=r"content|role"):
        sent(canned_chat, message)


def test_histories_of_other_providers(canned_chat: Any) -> None:
    """Of an assistant's blocks the text is sent, its tool calls once; tool results become text."""
    answer = AIMessage(
        [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "I add."},
            {"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}},
        ],
        tool_calls=[{"name": "add", "args": {"a": "ä"}, "id": "1", "type": "tool_call"}],
    )
    result = ToolMessage([{"type": "tool_result", "content": [{"type": "text", "text": "2"}]}], tool_call_id="1")
    assistant, tool = sent(canned_chat, answer, result)
    assert assistant == {"role": "assistant", "content": "I add.", "tool_calls": [tool_call("add", '{"a":"ä"}', "1")]}
    assert tool["content"] == "2"


def test_calls_that_could_not_be_read_go_back_without_arguments(canned_chat: Any) -> None:
    """Arguments that are no JSON stay in invalid_tool_calls and raise nothing; servers reject them, so `{}` is sent back."""
    broken = tool_call("add", '{"a": ')
    chat, transport = canned_chat(reply(None, tool_calls=[broken]), reply())
    answer = chat.invoke("add")
    assert answer.tool_calls == []
    assert answer.invalid_tool_calls[0]["args"] == '{"a": '
    chat.invoke([HumanMessage("add"), answer, ToolMessage("bad", tool_call_id="call_1")])
    assert transport.requests[1].json["messages"][1]["tool_calls"] == [tool_call("add", "{}")]
    assert answer.invalid_tool_calls[0]["args"] == '{"a": '


def test_calls_in_additional_kwargs_count_where_there_are_no_others(canned_chat: Any) -> None:
    """An old history keeps its calls in additional_kwargs["tool_calls"]."""
    old = AIMessage("", additional_kwargs={"tool_calls": [tool_call("add", "{}")]})
    assistant = sent(canned_chat, HumanMessage("x"), old, ToolMessage("1", tool_call_id="call_1"))[1]
    assert assistant["tool_calls"] == [tool_call("add", "{}")]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_goes_back_under_the_servers_name(canned_chat: Any, name: str) -> None:
    """What a server sent as reasoning is sent back so, whole or streamed; reasoning from tags is not."""
    chat, transport = canned_chat(
        reply("4", **{name: "2+2"}),
        [event({name: "2+"}), event({name: "2"}), event({"content": "4"}, "stop")],
        reply("<think>2+2</think>4"),
        reply(),
    )
    whole = chat.invoke("2+2?")
    streamed = None
    async for chunk in chat.astream("2+2?"):
        streamed = chunk if streamed is None else streamed + chunk
    tagged = chat.invoke("2+2?")
    assert streamed is not None
    for answer in (whole, streamed, tagged):
        assert (answer.content, answer.additional_kwargs["reasoning_content"]) == ("4", "2+2")
    assert whole.additional_kwargs["reasoning"] == streamed.additional_kwargs["reasoning"] == "2+2"
    assert "reasoning" not in tagged.additional_kwargs
    chat.invoke(["2+2?", whole, streamed, tagged])
    assistants = transport.requests[-1].json["messages"][1:]
    assert assistants == [{"role": "assistant", "content": "4", name: "2+2"}] * 2 + [
        {"role": "assistant", "content": "4"}
    ]


async def test_reasoning_under_both_names_goes_back_under_the_new_one(canned_chat: Any) -> None:
    """vLLM sent one text under both names, and reads `reasoning` only: the history has it there, whole or streamed."""
    both = {"reasoning": "2+2", "reasoning_content": "2+2"}
    chat, transport = canned_chat(reply("4", **both), [event(both), event({"content": "4"}, "stop")], reply())
    whole = chat.invoke("2+2?")
    streamed = None
    async for chunk in chat.astream("2+2?"):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    chat.invoke(["2+2?", whole, streamed])
    assert (
        transport.requests[-1].json["messages"][1:] == [{"role": "assistant", "content": "4", "reasoning": "2+2"}] * 2
    )


async def test_two_texts_of_reasoning_are_both_kept(canned_chat: Any) -> None:
    """A server that fills `reasoning` and `reasoning_content` with different texts gets both back."""
    both = {"reasoning": "new", "reasoning_content": "old"}
    chat, transport = canned_chat(reply("4", **both), [event(both), event({"content": "4"}, "stop")], reply())
    whole = chat.invoke("2+2?")
    streamed = None
    async for chunk in chat.astream("2+2?"):
        streamed = chunk if streamed is None else streamed + chunk
    chat.invoke(["2+2?", whole, streamed])
    assert transport.requests[-1].json["messages"][1:] == [{"role": "assistant", "content": "4", **both}] * 2


def both_ways(chat: Any) -> list[Any]:
    """A whole answer and a streamed one, each written down and read again, as a checkpoint does."""
    answers = chat.invoke("go"), functools.reduce(operator.add, chat.stream("go"))
    return messages_from_dict(json.loads(json.dumps(messages_to_dict(answers))))


def test_blocks_of_reasoning_go_back_with_their_signatures(canned_chat: Any) -> None:
    """OpenRouter's and LiteLLM's blocks, which stream in pieces, come back whole and unchanged: else "Invalid signature"."""
    blocks = {
        "reasoning_details": [
            {"type": "reasoning.text", "text": "add", "signature": "sig", "format": "anthropic-claude-v1", "index": 0},
            {"type": "reasoning.encrypted", "data": "x", "id": "r", "index": 1},
        ],
        "thinking_blocks": [{"type": "thinking", "thinking": "add", "signature": "sig"}],
    }
    first, last = (
        {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0},
        blocks["reasoning_details"][1],
    )
    pieces = [
        event(
            {"reasoning_details": [{**first, "text": "a"}], "thinking_blocks": [{"type": "thinking", "thinking": "a"}]}
        ),
        event(
            {
                "reasoning_details": [{**first, "text": "dd"}],
                "thinking_blocks": [{"type": "thinking", "thinking": "dd"}],
            }
        ),
        event({"reasoning_details": [{**first, "signature": "sig"}, last]}),
        event({"thinking_blocks": [{"type": "thinking", "signature": "sig"}]}),
        event({"content": "4"}, "stop"),
    ]
    chat, transport = canned_chat(reply("4", **blocks), pieces, reply())
    chat.invoke(["2+2?", *both_ways(chat)])
    for wire in transport.requests[-1].json["messages"][1:]:
        assert wire == {"role": "assistant", "content": "4", "reasoning": "add", **blocks}


def test_the_signature_of_a_call_goes_back(canned_chat: Any) -> None:
    """Gemini's and LiteLLM's signatures of calls, of which the streamed one comes in a piece of its own, return with them."""
    signed: dict[str, Any] = {"extra_content": {"google": {"thought_signature": "s"}}}
    signed["provider_specific_fields"] = {"thought_signature": "t"}
    calls = [{**tool_call("add", '{"a":1}'), **signed}, tool_call("add", '{"a":2}', "call_2")]
    whole = completion({"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls")
    pieces = [
        event({"tool_calls": [{"index": 0, **tool_call("add", '{"a":1}')}]}),
        event({"tool_calls": [signed]}),
        event({"tool_calls": [{"index": 1, **calls[1]}]}, "tool_calls"),
    ]
    chat, transport = canned_chat(whole, pieces, reply())
    answers = both_ways(chat)
    chat.invoke(["go", *answers, ToolMessage("3", tool_call_id="call_1")])
    for wire in transport.requests[-1].json["messages"][1:3]:
        assert wire == {"role": "assistant", "content": None, "tool_calls": calls}


def test_nothing_of_the_callers_is_changed(canned_chat: Any) -> None:
    """Messages are the same after a call as before."""
    message = HumanMessage([TEXT, {"type": "image", "base64": DATA, "mime_type": "image/png"}])
    before = message.model_dump()
    sent(canned_chat, message)
    assert message.model_dump() == before

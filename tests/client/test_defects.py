"""Defects of the package that this one replaces (D numbers of the parity study), none of which can be reproduced here.

Each is tried on the plain and the streamed path where it has both.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import MakeClient
from nimclient import AsyncClient, Audio, ChatCompletion, Message, NimError, ToolCall
from nimclient.errors import (
    APIStatusError,
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    ServerError,
    StreamFaultError,
)
from support.server import FaultServer
from support.wire import DONE, HELLO, STOP, USAGE, answer, chat, chat_body, error, http, sse, stream, token

CALL = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
Ask = Callable[..., Awaitable[ChatCompletion]]


@pytest.fixture(params=["plain", "streamed"])
def path(request: pytest.FixtureRequest) -> str:
    """Which of the two paths is tried."""
    name: str = request.param
    return name


@pytest.fixture
def ask(path: str, client: AsyncClient) -> Ask:
    """Asks on the path that is tried."""

    async def asked(messages: Any = "hi", **options: Any) -> ChatCompletion:
        if path == "plain":
            return await client.chat.create(messages, **options)
        return await client.chat.stream(messages, **options).final()

    return asked


@pytest.fixture
def hello(path: str, server: FaultServer) -> FaultServer:
    """A server that says Hello on the path that is tried."""
    return server.script(chat() if path == "plain" else HELLO)


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> bytes:
    """An event that adds these fields to a choice."""
    return sse({"choices": [{"index": index, "delta": fields, "finish_reason": finish}]})


@pytest.mark.no_key
async def test_d1_without_a_key_no_authorization_is_sent(hello: FaultServer, ask: Ask) -> None:
    """The incumbent sends "Bearer **********"."""
    await ask()
    assert "authorization" not in hello.requests[0].headers
    assert b"*" not in hello.requests[0].raw_head.replace(b"*/*", b"")


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"<html><h1>Bad Gateway</h1></html>", "text/html"), (b"upstream gone", None), (b"", "text/plain")],
)
async def test_d5_an_error_without_json_keeps_its_status(
    server: FaultServer, ask: Ask, body: bytes, kind: str | None
) -> None:
    """The incumbent loses the status and the first five characters."""
    server.script(http(body, 502, type=kind))
    with pytest.raises(ServerError) as caught:
        await ask()
    assert caught.value.status == 502
    assert caught.value.body == body.decode()


async def test_d5_a_page_is_no_answer(server: FaultServer, ask: Ask) -> None:
    """A 200 with HTML in it is an error; the incumbent gives an empty answer."""
    server.script(http(b"<html>Sign in</html>", type="text/html"))
    with pytest.raises(DecodeError):
        await ask()


@pytest.mark.parametrize(
    "body", [None, [], [{"msg": "no"}], "no", 5, {"detail": None}, {"error": None}, {"error": [1]}]
)
async def test_d6_error_bodies_of_any_shape(server: FaultServer, ask: Ask, body: Any) -> None:
    """A JSON error that is null, a list or a word is an error with its status; the incumbent raises AttributeError."""
    server.script(answer(body, 401))
    with pytest.raises(AuthenticationError) as caught:
        await ask()
    assert caught.value.status == 401


@pytest.mark.parametrize(
    "fault",
    [
        {"error": {"message": "engine died", "type": "InternalServerError", "param": None, "code": 500}},
        {"error": {"object": "error", "message": "engine died", "code": 400}},
        {"error": "engine died"},
        {"object": "error", "message": "engine died", "code": 500},
    ],
)
async def test_d7_an_error_in_a_stream_is_raised(server: FaultServer, client: AsyncClient, fault: Any) -> None:
    """The incumbent swallows most of these: its stream just ends."""
    server.script(stream(token("Hel"), sse(fault), DONE))
    with pytest.raises(StreamFaultError, match="engine died") as caught:
        await client.chat.stream("hi").final()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"


async def test_d8_comments_give_no_chunks(server: FaultServer, client: AsyncClient) -> None:
    """Comments and other fields of the event stream are no chunks; the incumbent makes an empty one of each."""
    noise = b": ping\n\nid: 1\n\nretry: 10\n\nevent: note\ndata: {}\n\n"
    server.script(stream(noise, token("Hel"), noise, token("lo"), STOP, noise, b"data:[DONE]\n\n"))
    async with client.chat.stream("hi") as opened:
        assert [chunk.text async for chunk in opened] == ["Hel", "lo", ""]


STREAMED_CALL = stream(
    delta(role="assistant", content=None),
    delta(tool_calls=[{"index": 0, **CALL, "function": {"name": "add", "arguments": ""}}]),
    delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
    delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}], finish="tool_calls"),
    USAGE,
    DONE,
)
PLAIN_CALL = answer(
    chat_body(choices=[{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [CALL]}}])
)


async def test_d9_tool_calls_survive_the_way_back(server: FaultServer, ask: Ask, path: str) -> None:
    """An answer with tool calls, read plain or from a stream, goes back with them, content null, and its result."""
    server.script(PLAIN_CALL if path == "plain" else STREAMED_CALL, chat() if path == "plain" else HELLO)
    reply = await ask("1?")
    assert reply.message is not None
    await ask([("user", "1?"), reply.message, Message("tool", "2", tool_call_id=reply.tool_calls[0].id)])
    assert server.requests[1].json["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "2", "tool_call_id": "a"},
    ]


@pytest.mark.parametrize(
    "message",
    [
        Message("assistant", tool_calls=[ToolCall("a", "add", '{"a":1}', extra={"index": 0})]),
        Message("assistant", "", tool_calls=(ToolCall("a", "add", '{"a":1}'),)),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "tool_calls": (ToolCall("a", "add", '{"a":1}'),)},
    ],
)
async def test_d9_tool_calls_made_by_hand_are_sent(hello: FaultServer, ask: Ask, message: Any) -> None:
    """Calls of a message that somebody built are sent, in the one form that strict servers take."""
    await ask([("user", "1?"), message])
    assert hello.requests[0].json["messages"][1] == {"role": "assistant", "content": None, "tool_calls": [CALL]}


async def test_d10_no_part_is_dropped(hello: FaultServer, ask: Ask) -> None:
    """Audio and files reach the wire beside text; the incumbent drops them silently."""
    file = {"type": "file", "file": {"file_id": "f"}}
    odd = {"type": "audio_url", "audio_url": {"url": "https://host/a.wav"}, "uuid": "u"}
    await ask([("user", ["What is this?", Audio(b"ID3\x04"), file, odd])])
    parts = hello.requests[0].json["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "input_audio", "file", "audio_url"]
    assert parts[2:] == [file, odd]


LOGPROBS = {
    "content": [
        {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Yo", "logprob": -1.5}]}
    ]
}


async def test_d11_everything_is_kept(server: FaultServer, ask: Ask, path: str) -> None:
    """Log probabilities, id, created, the server's model, fingerprint, all choices, stop_reason and unknown fields."""
    top = {"id": "c1", "created": 7, "model": "served", "system_fingerprint": "fp", "nvext": {"worker": 1}}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    usage |= {"prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 1}}
    if path == "plain":
        first = {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi"},
            "finish_reason": "stop",
            "logprobs": LOGPROBS,
        }
        second = {
            "index": 1,
            "message": {"content": None, "refusal": "no"},
            "finish_reason": "stop",
            "stop_reason": "END",
        }
        server.script(
            answer({**top, "object": "chat.completion", "choices": [first, second], "usage": usage, "metrics": 5})
        )
    else:
        first = {"index": 0, "delta": {"content": "Hi"}, "logprobs": LOGPROBS}
        second = {"index": 1, "delta": {"refusal": "no"}}
        ends = [{"index": 0, "finish_reason": "stop"}, {"index": 1, "finish_reason": "stop", "stop_reason": "END"}]
        server.script(
            stream(
                sse({**top, "choices": [second]}),
                sse({**top, "choices": [first]}),
                sse({**top, "choices": ends}),
                sse({"choices": [], "usage": usage, "metrics": 5}),
                DONE,
            )
        )
    reply = await ask(n=2, logprobs=True)
    assert (reply.id, reply.created, reply.model, reply.system_fingerprint) == ("c1", 7, "served", "fp")
    assert reply.extra == {"nvext": {"worker": 1}, "metrics": 5}
    assert reply.logprobs is not None
    (tokens,) = reply.logprobs.content
    assert (tokens.token, tokens.logprob, tokens.bytes) == ("Hi", -0.5, (72, 105))
    assert [(t.token, t.logprob) for t in tokens.top_logprobs] == [("Yo", -1.5)]
    assert [(c.message.text, c.message.refusal, c.stop_reason) for c in reply.choices] == [
        ("Hi", None, None),
        ("", "no", "END"),
    ]
    assert reply.usage is not None
    assert reply.usage.to_dict() == usage


@pytest.mark.parametrize("options", [{}, {"max_tokens": 5}, {"max_completion_tokens": 5}])
async def test_d15_no_limit_is_made_up(hello: FaultServer, ask: Ask, options: Any) -> None:
    """The incumbent forces max_tokens 1024, and sends both limits where one is given."""
    await ask(**options)
    sent = hello.requests[0].json
    assert {name: sent[name] for name in ("max_tokens", "max_completion_tokens") if name in sent} == options


async def test_d17_agent_hints_are_sent_as_they_are(hello: FaultServer, ask: Ask) -> None:
    """No polarity is turned, no name of an older Dynamo and no random prefix is added, and nothing without being asked."""
    hints = {"agent_hints": {"priority": 9, "osl": 128, "speculative_prefill": True}}
    await ask(nvext=hints)
    await ask()
    assert hello.requests[0].json["nvext"] == hints
    assert "nvext" not in hello.requests[1].json


async def test_d18_thinking_is_merged_into_template_kwargs(hello: FaultServer, ask: Ask) -> None:
    """The caller's template kwargs stay beside the switch, and his own switch wins."""
    model = "nvidia/nemotron-3-nano-30b-a3b"
    await ask(model=model, thinking=True, chat_template_kwargs={"custom": 1})
    await ask(model=model, thinking=True, chat_template_kwargs={"custom": 1, "enable_thinking": False})
    sent = [request.json["chat_template_kwargs"] for request in hello.requests]
    assert sent == [{"enable_thinking": True, "custom": 1}, {"enable_thinking": False, "custom": 1}]


async def test_d19_tags_may_be_split_over_chunks(server: FaultServer, ask: Ask, path: str) -> None:
    """The incumbent reads the tags of each chunk alone."""
    text = "<think>a\nb</think>\n\nc"
    pieces = ["<thi", "nk>a", "\nb</", "think>", "\n\nc"]
    server.script(chat(text) if path == "plain" else stream(*map(token, pieces), STOP, DONE))
    reply = await ask()
    assert (reply.reasoning, reply.text) == ("a\nb", "c")


async def test_d19_chunks_have_reasoning_and_text_apart(server: FaultServer, client: AsyncClient) -> None:
    """While the stream runs, too: no tag and no reasoning in the text."""
    server.script(stream(*map(token, ["<thi", "nk>a", "\nb</", "think>", "\n\nc", "d"]), STOP, DONE))
    async with client.chat.stream("hi") as opened:
        chunks = [chunk async for chunk in opened]
    assert [chunk.reasoning for chunk in chunks if chunk.reasoning] == ["a", "\nb"]
    assert [chunk.text for chunk in chunks if chunk.text] == ["c", "d"]
    server.script(stream(*map(token, ["<think>a</think>", "b"]), STOP, DONE))
    assert [piece async for piece in client.chat.stream("hi").text_stream] == ["b"]


async def test_d20_cumulative_usage_is_not_added_up(server: FaultServer, client: AsyncClient) -> None:
    """With continuous usage the last one is the usage; the incumbent adds them."""
    counts = [{"prompt_tokens": 5, "completion_tokens": n, "total_tokens": 5 + n} for n in (1, 2, 3)]
    events = [token(text, usage=usage) for text, usage in zip("abc", counts, strict=True)]
    server.script(stream(*events, STOP, DONE))
    reply = await client.chat.stream("hi").final()
    assert reply.usage is not None
    assert reply.usage.to_dict() == counts[-1]


async def test_d26_names_are_sent(hello: FaultServer, ask: Ask) -> None:
    """A message's name reaches the wire, of a record and of a dict."""
    await ask([Message("user", "hi", name="ann"), {"role": "user", "content": "ho", "name": "bob"}])
    assert [message.get("name") for message in hello.requests[0].json["messages"]] == ["ann", "bob"]


@pytest.mark.parametrize(
    "options",
    [{"priority": True}, {"nvext": {"agent_hints": {"priority": True}}}, {"nvext": {"agent_hints": {"osl": False}}}],
)
async def test_d28_a_bool_is_no_priority(server: FaultServer, ask: Ask, options: Any) -> None:
    """True where a number belongs is rejected before anything is sent."""
    with pytest.raises(ConfigurationError, match=r"(takes a|or a whole) number, not (True|False)"):
        await ask(**options)
    assert server.requests == []


async def test_every_failure_is_one_of_ours_with_its_status(server: FaultServer, make_client: MakeClient) -> None:
    """D6 and D13: what a caller catches is NimError, with the status as a number, after the retries of the policy."""
    server.script(error(418, "no tea"))
    client = make_client()
    with pytest.raises(NimError) as caught:
        await client.chat.create("hi")
    assert isinstance(caught.value, APIStatusError)
    assert (caught.value.status, json.loads(caught.value.body or "{}")["error"]["message"]) == (418, "no tea")

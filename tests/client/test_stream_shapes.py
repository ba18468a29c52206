"""Streams in all the shapes that servers give them end as the plain answer, or as an error with what had arrived."""

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient import AsyncClient, ChatCompletion, ChatStream, Limits, RetryPolicy
from nimclient.errors import (
    BadRequestError,
    BodyTooLargeError,
    ConnectionLostError,
    DecodeError,
    NimError,
    RateLimitError,
    StreamFaultError,
    StreamInterruptedError,
)
from nimclient.records.chat import decode_chat
from nimclient.testing import FakeTransport
from support.cutting import cut_into_chunks, cut_into_reads, plain_answers, written
from support.reads import streamed
from support.server import Close, FaultServer, Pause, Stall
from support.wire import (
    DONE,
    END,
    HELLO,
    ROLE,
    STOP,
    USAGE,
    answer,
    chat,
    chat_body,
    chunk,
    head,
    http,
    sse,
    stream,
    token,
)

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]


# the property: however an answer is cut, final() is the plain answer ------------------------------------------------


@st.composite
def cut_answers(draw: st.DrawFn) -> tuple[dict[str, Any], bytes, list[bytes]]:
    """A plain answer, the bytes of a stream of it, and these bytes in reads."""
    plain = draw(plain_answers())
    data = written(draw, cut_into_chunks(draw, plain))
    return plain, data, cut_into_reads(draw, data)


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(cut_answers())
def test_final_is_the_plain_answer_however_it_is_cut(cut: tuple[dict[str, Any], bytes, list[bytes]]) -> None:
    """One completion in random chunks and random reads: final() equals what the plain call would have returned."""
    plain, data, reads = cut
    wanted = decode_chat(plain)
    asked = {"n": len(wanted.choices)}

    async def read() -> None:
        stream_ = streamed(reads, **asked)
        pieces = [chunk_.text async for chunk_ in stream_]
        final = await stream_.final()
        assert final == wanted
        assert "".join(pieces) == wanted.text
        plain_client = AsyncClient(base_url="http://x", model="m", transport=FakeTransport([data]))
        assert await plain_client.chat.create("hi", **asked) == wanted

    anyio.run(read)


@given(st.data())
def test_a_json_answer_is_final_as_it_is(data: st.DataObject) -> None:
    """A plain answer to a stream, in any reads, gives one chunk for each choice; final() equals the answer."""
    plain = data.draw(plain_answers())
    reads = cut_into_reads(data.draw, b" \n" + json.dumps(plain).encode())
    wanted = decode_chat(plain)

    async def read() -> None:
        stream_ = streamed(reads)
        chunks = [chunk_ async for chunk_ in stream_]
        assert await stream_.final() == wanted
        assert [chunk_.choices[0].index for chunk_ in chunks] == [choice.index for choice in wanted.choices]
        assert "".join(chunk_.text for chunk_ in chunks) == wanted.text
        assert "".join(chunk_.reasoning or "" for chunk_ in chunks) == (wanted.reasoning or "")
        assert chunks[-1].usage == wanted.usage

    anyio.run(read)


# tool calls ----------------------------------------------------------------------------------------------------------


def call(arguments: str | None = None, index: int | None = 0, name: str | None = None, **fields: Any) -> dict[str, Any]:
    """One piece of a tool call, without what is None."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    where = {} if index is None else {"index": index}
    return {**where, **fields, "function": function}


FUNCTION = {"type": "function"}
NULLS = {"id": None, "type": None}
CALLS: dict[str, tuple[list[list[dict[str, Any]]], list[tuple[str | None, str, str]]]] = {
    "the normal form": (
        [[call("", name="add", id="x", **FUNCTION)], [call('{"a":')], [call("1}")]],
        [("x", "add", '{"a":1}')],
    ),
    "no arguments in the first": (
        [[call(name="add", id="x", **FUNCTION)], [call("{}")]],
        [("x", "add", "{}")],
    ),
    "a whole call at once": ([[call("{}", name="add", id="x", **FUNCTION)]], [("x", "add", "{}")]),
    "two whole calls at once": (
        [[call("{}", name="add", id="x"), call("[]", 1, "sub", id="y")]],
        [("x", "add", "{}"), ("y", "sub", "[]")],
    ),
    "whole calls that share an index": (
        [[call("{}", name="add", id="x")], [call("[]", name="sub", id="y")]],
        [("x", "add", "{}"), ("y", "sub", "[]")],
    ),
    "interleaved indexes": (
        [[call("1", name="a", id="x")], [call("3", 1, "b", id="y")], [call("2")], [call("4", 1)]],
        [("x", "a", "12"), ("y", "b", "34")],
    ),
    "nulls": (
        [[call("{", name="add", id="x")], [{"index": 0, **NULLS, "function": {"name": None, "arguments": "}"}}]],
        [("x", "add", "{}")],
    ),
    "the name in every delta, no id": (
        [[call("{", name="add")], [call("}", name="add")], [call("", name="add")]],
        [(None, "add", "{}")],
    ),
    "no ids, the type repeated": (
        [[call("1", name="a", **FUNCTION)], [call("2", **FUNCTION)], [call("3", 1, "b", **FUNCTION)]],
        [(None, "a", "12"), (None, "b", "3")],
    ),
    "no index, the id decides": (
        [[call("1", None, "a", id="x")], [call("3", None, "b", id="y")], [call("2", None, id="x")]],
        [("x", "a", "12"), ("y", "b", "3")],
    ),
    "no index, no later id": (
        [[call("1", None, "a", id="x")], [call("2", None)], [call("3", None)]],
        [("x", "a", "123")],
    ),
    "a null index": ([[{"index": None, **call("{}", None, "a", id="x")}]], [("x", "a", "{}")]),
    "an index as text": ([[{**call("1", None, "a"), "index": "0"}], [call("2")]], [(None, "a", "12")]),
    "an index that skips": ([[call("1", 3, "a", id="x")], [call("2", 3)]], [("x", "a", "12")]),
    "an odd id": ([[call("{}", name="add", id="functions.add:0")]], [("functions.add:0", "add", "{}")]),
    "no arguments at all": ([[call("", name="now", id="x")]], [("x", "now", "")]),
    "an object for arguments": (
        [[{"index": 0, "id": "x", "function": {"name": "a", "arguments": {"b": 1}}}]],
        [("x", "a", '{"b":1}')],
    ),
}


@pytest.mark.parametrize(("deltas", "calls"), CALLS.values(), ids=CALLS)
async def test_tool_calls(
    server: FaultServer, client: AsyncClient, deltas: list[Any], calls: list[tuple[str | None, str, str]]
) -> None:
    """Tool-call deltas of every shape become the calls that were meant; a missing id is made up, one for each."""
    events = [sse({"choices": [{"index": 0, "delta": {"tool_calls": delta}}]}) for delta in deltas]
    server.script(stream(ROLE, *events, token(None, "tool_calls"), DONE))
    reply = await client.chat.stream("hi").final()
    assert [(c.name, c.arguments, c.type) for c in reply.tool_calls] == [
        (name, text, "function") for _, name, text in calls
    ]
    ids = [c.id for c in reply.tool_calls]
    assert all(wanted in (None, given_) for given_, (wanted, _, _) in zip(ids, calls, strict=True))
    assert all(ids)
    assert len(set(ids)) == len(ids)
    assert reply.message is not None
    assert reply.message.content is None


async def test_tool_calls_of_two_choices(server: FaultServer, client: AsyncClient) -> None:
    """Calls with the same index in two choices are two calls."""
    events = [
        sse({"choices": [{"index": at, "delta": {"tool_calls": [call(str(at), name="f", id=f"c{at}")]}}]})
        for at in (1, 0)
    ]
    server.script(stream(*events, token(None, "tool_calls", 0), token(None, "tool_calls", 1), DONE))
    reply = await client.chat.stream("hi", n=2).final()
    assert [[c.arguments for c in choice.message.tool_calls] for choice in reply.choices] == [["0"], ["1"]]


async def test_pieces_of_calls_in_the_chunks(server: FaultServer, client: AsyncClient) -> None:
    """Chunks hand out the pieces as they come."""
    events = [[call("{", name="add", id="x")], [call("}")]]
    server.script(stream(*(sse({"choices": [{"index": 0, "delta": {"tool_calls": e}}]}) for e in events), STOP, DONE))
    pieces = [piece async for chunk_ in client.chat.stream("hi") for piece in chunk_.tool_calls]
    assert [(p.index, p.id, p.name, p.arguments) for p in pieces] == [(0, "x", "add", "{"), (0, None, None, "}")]


# errors inside a stream ----------------------------------------------------------------------------------------------

NESTED = {"message": "boom", "type": "InternalServerError", "param": None, "code": 500}
IN_BAND = {
    "vLLM": (sse({"error": NESTED}) + DONE, 500),
    "old vLLM": (sse({"error": {"object": "error", **NESTED}}) + DONE, 500),
    "Dynamo, a comment": (b"event: error\n: boom\n\n", None),
    "Dynamo, the comment first": (b": boom\nevent: error\n\n", None),
    "Dynamo, empty data": (b"event: error\n: boom\ndata:\n\n", None),
    "Dynamo 1.6": (sse({"error": {"message": "boom", "type": "service_unavailable", "code": 503}}) + DONE, 503),
    "a gateway": (sse({"status": 504, "title": "boom"}), 504),
}


@pytest.mark.parametrize("together", [True, False], ids=["one read", "two reads"])
@pytest.mark.parametrize(("event", "code"), IN_BAND.values(), ids=IN_BAND)
async def test_an_error_comes_after_the_chunks_before_it(
    server: FaultServer, client: AsyncClient, event: bytes, code: int | None, together: bool
) -> None:
    """An in-band error is raised when the chunks before it are read, those of its own read too; nothing is lost."""
    first = [head() + chunk(ROLE, token("a")), Pause(0.02)]
    rest = [chunk(token("b"), event)] if together else [chunk(token("b")), Pause(0.02), chunk(event)]
    server.script([*first, *rest, Stall()])
    pieces: list[str] = []
    with pytest.raises(StreamFaultError, match="boom") as caught:
        await read_into(pieces, client.chat.stream("hi"))
    assert pieces == ["a", "b"]
    assert caught.value.code == code
    assert caught.value.partial is not None
    assert caught.value.partial.text == "ab"
    assert len(server.requests) == 1


async def read_into(pieces: list[str], stream_: ChatStream) -> None:
    async with stream_:
        async for piece in stream_.text_stream:
            pieces.append(piece)


async def test_a_comment_alone_is_no_error(server: FaultServer, client: AsyncClient) -> None:
    """Comments between events and events of other names mean nothing."""
    noise = (b": error: boom\n\n", b"event: annotation\n: boom\n\n", b'event: nvext\ndata: {"a": 1}\n\n')
    server.script(stream(ROLE, token("a"), *noise, token("b"), STOP, DONE))
    assert (await client.chat.stream("hi").final()).text == "ab"


# the end -------------------------------------------------------------------------------------------------------------


async def test_the_end_without_done(server: FaultServer, client: AsyncClient) -> None:
    """With a finish_reason for every choice an answer is complete; without one it is broken off, with what came."""
    server.script(
        stream(ROLE, token("a"), STOP), stream(ROLE, token("a"), STOP, USAGE), stream(ROLE, token("a"), USAGE)
    )
    assert (await client.chat.stream("hi").final()).text == "a"
    assert (await client.chat.stream("hi").final()).usage is not None
    with pytest.raises(StreamInterruptedError) as caught:
        await client.chat.stream("hi").final()
    assert caught.value.partial is not None
    assert (caught.value.partial.text, caught.value.partial.finish_reason) == ("a", None)


async def test_done_alone_is_enough(server: FaultServer, client: AsyncClient) -> None:
    """[DONE] ends an answer without a finish_reason well."""
    server.script(stream(ROLE, token("a"), DONE))
    reply = await client.chat.stream("hi").final()
    assert (reply.text, reply.finish_reason) == ("a", None)


# a server that ignores `stream` --------------------------------------------------------------------------------------

TWO = chat_body(
    choices=[
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "reasoning": "hm",
                "tool_calls": [{"id": "x", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
            },
            "logprobs": {"content": [{"token": "a", "logprob": -1.0, "bytes": None, "top_logprobs": []}]},
            "finish_reason": "tool_calls",
            "stop_reason": None,
        },
        {"index": 1, "message": {"role": "assistant", "content": "other"}, "finish_reason": "length"},
    ],
    service_tier=None,
)


@pytest.mark.parametrize("body", [chat_body(), TWO, chat_body(choices=[])], ids=["Hello", "two choices", "no choice"])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain", None])
async def test_a_json_answer_to_a_stream(
    server: FaultServer, client: AsyncClient, body: dict[str, Any], kind: str | None
) -> None:
    """One chunk for each choice, then final() equal to the plain answer, nulls included, for one request."""
    server.script(http(json.dumps(body).encode(), type=kind))
    plain = await client.chat.create("hi")
    async with client.chat.stream("hi") as stream_:
        chunks = [chunk_ async for chunk_ in stream_]
        reply = await stream_.final()
    assert reply == plain
    assert reply.to_dict() == plain.to_dict()
    assert len(chunks) == len(plain.choices)
    assert [c.index for chunk_ in chunks for c in chunk_.choices] == [c.index for c in plain.choices]
    assert [chunk_.usage for chunk_ in chunks[:-1]] == [None] * len(chunks[:-1])
    assert "".join(chunk_.text for chunk_ in chunks) == plain.text
    assert all(chunk_.extra["object"] == "chat.completion.chunk" for chunk_ in chunks)
    assert reply.meta is not None
    assert (reply.meta.attempts, server.connections, len(server.requests)) == (1, 1, 2)


async def test_the_chunk_of_a_json_answer(server: FaultServer, client: AsyncClient) -> None:
    """It carries everything that the pieces of a stream would have: text, calls with an index, log probabilities."""
    server.script(answer(TWO))
    first, second = [chunk_ async for chunk_ in client.chat.stream("hi")]
    assert first.reasoning == "hm"
    assert first.finish_reason == "tool_calls"
    assert [(c.index, c.id, c.name, c.arguments) for c in first.tool_calls] == [(0, "x", "add", "{}")]
    assert first.choices[0].logprobs is not None
    assert second.choices[0].delta.content == "other"
    assert second.text == ""
    assert second.usage is not None


async def test_a_json_answer_in_many_reads(server: FaultServer, client: AsyncClient) -> None:
    """It may come slowly, after white space, and over a chunked body."""
    data = json.dumps(chat_body()).encode()
    parts = [b"\n", b"  ", data[:10], data[10:]]
    server.script([head(type="application/json"), *(step for p in parts for step in (chunk(p), Pause(0.01))), END])
    stream_ = client.chat.stream("hi")
    assert [piece async for piece in stream_.text_stream] == ["Hello"]
    assert stream_.meta is not None
    assert stream_.meta.timings.ttft is not None


async def test_a_json_answer_after_stream_was_refused(server: FaultServer, client: AsyncClient) -> None:
    """A server that rejects `stream` is asked without it, and its plain answer is read as a stream."""
    server.script(answer({"error": {"message": "stream: unknown field", "param": "stream"}}, 400), chat())
    assert (await client.chat.stream("hi").final()).text == "Hello"
    assert [request.json.get("stream") for request in server.requests] == [True, None]
    assert "stream_options" not in server.requests[1].json


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error": {"message": "boom", "code": 400}}', (BadRequestError, StreamFaultError)),
        (b'{"message": "boom", "code": 400}', (BadRequestError, StreamFaultError)),
        (b'{"id": "x"}', DecodeError),
        (b'{"choices": 1}', DecodeError),
        (b'{"choices": [{"index": 0}]}', DecodeError),
        (b'{"choices": [', DecodeError),
    ],
    ids=["error", "flat error", "no choices", "choices are none", "no message", "cut"],
)
async def test_a_json_body_that_is_no_answer(
    server: FaultServer, client: AsyncClient, body: bytes, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    """JSON that is no completion fails as it does for a plain call; an error object in a 200 keeps its status."""
    server.script(http(body))
    with pytest.raises(error):
        await client.chat.create("hi")
    plain = len(server.requests)
    with pytest.raises(error):
        await client.chat.stream("hi")
    assert len(server.requests) == 2 * plain


async def test_a_json_answer_that_breaks_off(server: FaultServer, client: AsyncClient) -> None:
    """A connection lost in the middle of it is tried once more: nothing was handed out."""
    server.script([head(type="application/json") + chunk(b'{"choices": ['), Close()], chat())
    assert (await client.chat.stream("hi").final()).text == "Hello"
    assert len(server.requests) == 2


async def test_a_json_answer_above_the_cap(server: FaultServer, make_client: MakeClient) -> None:
    """In one piece it may not be larger than one event may be."""
    client = make_client(limits=Limits(max_event=1000))
    server.script(chat("x" * 2000))
    with pytest.raises(BodyTooLargeError, match="max_event"):
        await client.chat.stream("hi")
    assert len(server.requests) == 1


async def test_closing_while_a_json_answer_is_read(server: FaultServer, client: AsyncClient) -> None:
    """aclose() from another task ends a stream that waits for the rest of such an answer."""
    server.script([head(type="application/json") + chunk(b'{"choices"'), Stall()])
    stream_ = client.chat.stream("hi")

    async def close() -> None:
        await server.until(lambda: bool(server.requests))
        await anyio.sleep(0.02)
        await stream_.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close)
        with pytest.raises(StreamInterruptedError):
            await stream_


# a server that streams unasked ---------------------------------------------------------------------------------------


async def test_a_stream_for_an_answer_to_a_plain_call(server: FaultServer, client: AsyncClient) -> None:
    """Events that answer a plain call are put together; the record equals that of the stream."""
    server.script(HELLO)
    plain = await client.chat.create("hi")
    assert plain == await client.chat.stream("hi").final()
    assert (plain.text, plain.finish_reason) == ("Hello", "stop")
    assert plain.usage is not None
    assert plain.meta is not None
    assert plain.meta.attempts == 1


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "text/plain"])
async def test_the_first_bytes_tell_a_stream(server: FaultServer, client: AsyncClient, kind: str) -> None:
    """Whatever the Content-Type says, a body that begins with an event or a comment is a stream."""
    body = b": hello\r\n\r\n" + ROLE + token("a") + b'data: {"nvext": {}}\n\n' + STOP
    server.script(http(body, type=kind))
    assert (await client.chat.create("hi")).text == "a"


async def test_a_fault_in_a_stream_for_a_plain_call(server: FaultServer, client: AsyncClient) -> None:
    """An error event is raised with the text before it; one that says 429 is tried again like a rejection."""
    server.script(stream(ROLE, token("a"), b"event: error\n: boom\n\n"))
    with pytest.raises(StreamFaultError, match="boom") as caught:
        await client.chat.create("hi")
    assert caught.value.partial is not None
    assert caught.value.partial.text == "a"
    server.requests.clear()
    server.script(stream(sse({"error": {"message": "busy", "code": 429}})), HELLO)
    assert (await client.chat.create("hi")).text == "Hello"
    assert len(server.requests) == 2


@pytest.mark.parametrize("events", [(ROLE, token("a")), (DONE,), (USAGE,)], ids=["cut", "done", "usage"])
async def test_a_stream_for_a_plain_call_that_is_not_whole(
    server: FaultServer, client: AsyncClient, events: tuple[bytes, ...]
) -> None:
    """One that ends before the answer is complete is StreamInterruptedError with the partial, after one more try."""
    server.script(stream(*events))
    with pytest.raises(StreamInterruptedError) as caught:
        await client.chat.create("hi")
    text = caught.value.partial.text if caught.value.partial is not None else ""
    assert text == ("a" if len(events) == 2 else "")
    assert len(server.requests) == 2


async def test_broken_events_for_a_plain_call(server: FaultServer, client: AsyncClient) -> None:
    """An event that is not JSON is a DecodeError with the partial."""
    server.script(stream(ROLE, token("a"), b"data: {nope\n\n"))
    with pytest.raises(DecodeError) as caught:
        await client.chat.create("hi")
    assert caught.value.partial is not None


async def test_completions_are_put_together_too(server: FaultServer, client: AsyncClient) -> None:
    """The same two mix-ups for text completions: events for a plain call, JSON for a stream."""
    event = {"id": "c", "object": "text_completion", "model": "m"}
    pieces = [{"index": 0, "text": "He", "finish_reason": None}, {"index": 0, "text": "y", "finish_reason": "stop"}]
    whole = {**event, "choices": [{"index": 0, "text": "Hey", "finish_reason": "stop", "logprobs": None}]}
    server.script(stream(*(sse({**event, "choices": [piece]}) for piece in pieces)), answer(whole), answer(whole))
    assert (await client.completions.create("hi")).text == "Hey"
    plain = await client.completions.create("hi")
    async with client.completions.stream("hi") as stream_:
        chunks = [chunk_ async for chunk_ in stream_]
        assert await stream_.final() == plain
    assert [chunk_.text for chunk_ in chunks] == ["Hey"]


EVENTS = token("Hello", "stop") + DONE
PLAIN = json.dumps(chat_body()).encode()


@pytest.mark.parametrize("streamed", [False, True], ids=["create", "stream"])
@pytest.mark.parametrize(
    ("body", "is_answer"),
    [
        (b" \r\n" + PLAIN, True),
        (EVENTS, True),
        (b"event: message\n" + EVENTS, True),
        (b": ping\n\n" + EVENTS, True),
        (b"\xef\xbb\xbf" + EVENTS, True),
        (b"\r\n\n" + EVENTS, True),
        (b"{" + EVENTS, False),
        (b"", False),
        (b"<html>" + EVENTS, False),
        (b"[1]" + EVENTS, False),
    ],
)
async def test_what_a_body_begins_with(body: bytes, is_answer: bool, streamed: bool) -> None:
    """A brace is JSON, a field or a comment of the event stream is a stream, after white space or a byte-order mark."""
    retry = RetryPolicy(attempts=1)
    client = AsyncClient(base_url="http://x", model="m", retry=retry, transport=FakeTransport([body]))
    call = client.chat.stream("hi").final() if streamed else client.chat.create("hi")
    (result,) = await asyncio.gather(call, return_exceptions=True)
    assert result.text == "Hello" if isinstance(result, ChatCompletion) else isinstance(result, NimError)
    assert isinstance(result, ChatCompletion) == is_answer


async def test_a_refusal_of_a_stream_is_no_stream(server: FaultServer, client: AsyncClient) -> None:
    """A status of 400 and above is read as an error, whatever its body looks like."""
    server.script(http(DONE, 429, type="text/event-stream"))
    with pytest.raises(RateLimitError):
        await client.chat.create("hi")


PLAIN_CALLS: dict[str, Callable[[AsyncClient], Any]] = {
    "create": lambda client: client.chat.create("hi"),
    "batch": lambda client: client.chat.batch(["hi"]),
    "completions": lambda client: client.completions.create("hi"),
}
"""Calls that may be answered by events although they did not ask for them."""


def events_of(name: str, text: str, finish: str | None = None) -> bytes:
    """An event of the route of such a call, in a piece of a chunked body."""
    if name != "completions":
        return chunk(token(text, finish))
    return chunk(sse({"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": finish}]}))


@pytest.mark.parametrize("name", PLAIN_CALLS)
async def test_events_for_a_plain_call_that_are_cut(server: FaultServer, make_client: MakeClient, name: str) -> None:
    """A connection lost in mid-answer is tried again; the error of the last attempt has what had arrived."""
    client = make_client(retry=RetryPolicy(attempts=2, first_delay=0))
    begun = head() + events_of(name, "a")
    server.script([begun, Close()], begun + events_of(name, "b", "stop") + END)
    await PLAIN_CALLS[name](client)
    assert len(server.requests) == 2
    server.script([begun, Close()], [begun, Close()])
    with pytest.raises(StreamInterruptedError) as caught:
        await PLAIN_CALLS[name](client)
    assert isinstance(caught.value.__cause__, ConnectionLostError)
    assert [attempt.outcome for attempt in caught.value.history] == ["StreamInterruptedError"] * 2
    assert getattr(caught.value.partial, "text", None) == "a"


@pytest.mark.parametrize("name", PLAIN_CALLS)
@pytest.mark.parametrize("end", [Close(), Stall(), b"0"], ids=["lost", "silent", "cut"])
async def test_a_complete_answer_in_events_for_a_plain_call(
    server: FaultServer, make_client: MakeClient, name: str, end: Any
) -> None:
    """What happens behind the last finish_reason takes nothing from the answer, and is not waited for."""
    server.script([head() + events_of(name, "a", "stop"), end, Close()])
    started = anyio.current_time()
    await PLAIN_CALLS[name](make_client())
    assert anyio.current_time() - started < 5
    assert len(server.requests) == 1


async def test_of_two_choices_one_is_not_the_answer(server: FaultServer, make_client: MakeClient) -> None:
    """Events for `n=2` that are cut after the first choice are no complete answer."""
    server.script([head() + chunk(token("a", "stop")), Close()])
    with pytest.raises(StreamInterruptedError):
        await make_client(retry=RetryPolicy(attempts=1)).chat.create("hi", n=2)


async def test_a_flood_of_events_for_a_plain_call(server: FaultServer, make_client: MakeClient) -> None:
    """They are no more than Limits.max_body, and are not asked for again."""
    client = make_client(limits=Limits(max_body=100_000))
    server.script(stream(*[token("a" * 1000)] * 200))
    with pytest.raises(BodyTooLargeError, match="max_body"):
        await client.chat.create("hi")
    assert len(server.requests) == 1


@pytest.mark.parametrize("streamed", [False, True], ids=["create", "stream"])
async def test_a_stream_that_grows_by_decompression(
    server: FaultServer, make_client: MakeClient, streamed: bool
) -> None:
    """Kilobytes of gzip that become megabytes of comments end the call, as they do for a body of JSON."""
    bomb = gzip.compress((b": " + b" " * 60_000 + b"\n\n") * 500, 9)
    server.script(http(bomb, 200, "Content-Encoding: gzip", type="text/event-stream"))
    client = make_client(retry=RetryPolicy(attempts=1))
    with pytest.raises(BodyTooLargeError, match="100 times its size"):
        await (client.chat.stream("hi").final() if streamed else client.chat.create("hi"))

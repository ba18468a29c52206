"""Answers in pieces as servers and gateways send them: a stream, a blocking one and a plain call read them alike."""

import json
from functools import partial
from typing import Any

import pytest

from nimclient import AsyncClient, Client, RetryPolicy
from nimclient.errors import DecodeError, NimError, ServerError, StreamError, StreamFaultError, StreamInterruptedError
from nimclient.records import ChatChunk, ChatCompletion
from nimclient.testing import FakeTransport

DONE = "data: [DONE]"
ONCE = RetryPolicy(attempts=1)


def data(*events: dict[str, Any] | str, end: str = "\n\n") -> bytes:
    """The events, each on a line, as a body."""
    lines = [event if isinstance(event, str) else f"data: {json.dumps(event)}" for event in events]
    return "".join(line + end for line in lines).encode()


def delta(finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def body(text: bytes, content_type: str = "text/event-stream") -> tuple[int, dict[str, str], bytes]:
    return (200, {"Content-Type": content_type}, text)


async def read(text: bytes) -> ChatCompletion:
    """What a stream makes of a body; a blocking stream and a plain call make the same, and chunks add up to it."""
    client = AsyncClient(base_url="http://fake", model="m", transport=FakeTransport([body(text), body(text)]))
    stream = client.chat.stream("hi")
    chunks = [chunk async for chunk in stream]
    final = await stream.final()
    assert "".join(chunk.text for chunk in chunks) == final.text
    assert "".join(chunk.reasoning or "" for chunk in chunks) == (final.reasoning or "")
    assert added_up(chunks) == [(call.name, call.arguments) for call in final.tool_calls]
    assert next((chunk.usage for chunk in reversed(chunks) if chunk.usage), None) == final.usage
    assert await client.chat.create("hi") == final
    blocking = Client(base_url="http://fake", model="m", transport=FakeTransport([body(text)]))
    with blocking.chat.stream("hi") as pieces:
        assert "".join(pieces.text_stream) == final.text
        assert pieces.final() == final
    return final


def added_up(chunks: list[ChatChunk]) -> list[tuple[str, str]]:
    """Names and arguments of the calls in chunks, put together by index as every reader of chunks does."""
    calls: dict[int | None, tuple[str, str]] = {}
    for piece in (piece for chunk in chunks for piece in chunk.tool_calls):
        name, arguments = calls.get(piece.index, ("", ""))
        calls[piece.index] = (name + (piece.name or ""), arguments + piece.arguments)
    return list(calls.values())


def part(kind: str, text: str) -> dict[str, Any]:
    return {"type": kind, "text": text}


@pytest.mark.parametrize(
    ("contents", "text", "reasoning"),
    [
        ([[{"type": "thinking", "thinking": [part("text", "A")]}], [part("text", "Hello")]], "Hello", "A"),
        ([[{"type": "thinking", "thinking": "A"}], "Hel", [part("text", "lo")]], "Hello", "A"),
        (["Hel", [part("text", "l"), part("output_text", "o")], []], "Hello", None),
        ([[{"type": "thinking", "thinking": "A"}, part("text", "Hello")]], "Hello", "A"),
        ([["Hel", "lo"]], "Hello", None),
        ([part("text", "Hel"), part("text", "lo")], "Hello", None),
        ([[{"type": "reasoning", "text": "A"}], [part("text", "Hello")]], "Hello", "A"),
    ],
)
async def test_content_as_a_list_of_parts(contents: list[Any], text: str, reasoning: str | None) -> None:
    """Text parts are text and thinking parts reasoning (Mistral), mixed with plain pieces."""
    final = await read(data(*[delta(content=content) for content in contents], delta("stop"), DONE))
    assert (final.text, final.reasoning) == (text, reasoning)


async def test_reasoning_as_a_list_of_parts() -> None:
    """Reasoning in the form of a content list is text as well, in pieces and in one."""
    final = await read(data(delta(reasoning=[part("text", "A")]), delta(content="Hello"), delta("stop"), DONE))
    assert (final.text, final.reasoning) == ("Hello", "A")
    message = {"content": part("text", "Hello"), "reasoning_content": [part("text", "A")]}
    plain = await read(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode())
    assert (plain.text, plain.reasoning) == ("Hello", "A")


async def test_parts_that_are_no_text_are_kept() -> None:
    """An image among the parts stays in the content of the message."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    final = await read(data(delta(content="See "), delta(content=[image, part("text", "this")]), delta("stop"), DONE))
    assert final.text == "See this"
    assert final.message is not None
    assert final.message.content == [part("text", "See this"), image]


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (("tool_calls", "stop"), "tool_calls"),
        (("length", "stop"), "length"),
        (("stop", "length"), "length"),
        (("length", "content_filter"), "content_filter"),
        (("stop", "stop"), "stop"),
        (("length", ""), "length"),
        (("length", "null"), "length"),
        (("length", "eos"), "length"),
        (("length", "tool_calls"), "length"),
        (("tool_calls", "length"), "length"),
        (("null", "stop"), "stop"),
    ],
)
async def test_a_second_finish_reason(reasons: tuple[str, str], expected: str) -> None:
    """`stop` at the very end does not make a cut answer look whole."""
    final = await read(data(delta(content="a"), delta(reasons[0]), delta(content="b"), delta(reasons[1]), DONE))
    assert (final.text, final.finish_reason) == ("ab", expected)


async def test_lists_and_objects_in_pieces() -> None:
    """Lists grow; audio data and transcript, the arguments of an old function call, and blocks of reasoning, are joined."""
    final = await read(
        data(
            delta(
                reasoning_details=[{"text": "a"}], annotations=[1], audio={"id": "x", "data": "AA", "transcript": "H"}
            ),
            delta(signature="ab", provider="p", provider_specific_fields={"citations": [1], "a": 1}),
            delta(signature="cd", provider="p", provider_specific_fields={"citations": [2], "b": 2}),
            delta(thinking_blocks=[{"thinking": "t"}], function_call={"name": "f", "arguments": '{"a"'}),
            delta(reasoning_details=[{"text": "b"}], annotations=[2], audio={"data": "BB", "transcript": "i"}),
            delta(thinking_blocks=[{"signature": "s"}], function_call={"arguments": ":1}"}, audio={"expires_at": 5}),
            delta("stop"),
            DONE,
        )
    )
    assert final.message is not None
    assert final.message.extra == {
        "reasoning_details": [{"text": "ab"}],
        "annotations": [1, 2],
        "audio": {"id": "x", "data": "AABB", "transcript": "Hi", "expires_at": 5},
        "thinking_blocks": [{"thinking": "t", "signature": "s"}],
        "function_call": {"name": "f", "arguments": '{"a":1}'},
        "signature": "abcd",
        "provider": "p",
        "provider_specific_fields": {"citations": [1, 2], "a": 1, "b": 2},
    }


async def test_objects_beside_the_choices_in_pieces() -> None:
    """What Dynamo's `nvext` and a gateway's usage say in several events comes together; an empty usage takes nothing."""
    first = {**delta(content="a"), "nvext": {"worker_id": 1}, "usage": {"prompt_tokens": 7}}
    last = {**delta("stop"), "nvext": {"timing": 2}, "usage": {"completion_tokens": 2}}
    client = AsyncClient(base_url="http://fake", model="m", transport=FakeTransport([[first, last, {"usage": {}}]]))
    final = await client.chat.stream("hi").final()
    assert final.extra == {"nvext": {"worker_id": 1, "timing": 2}}
    assert final.usage is not None
    assert (final.usage.prompt_tokens, final.usage.completion_tokens) == (7, 2)


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


@pytest.mark.parametrize(
    "last",
    [
        [delta("stop"), {"usage": USAGE}],
        [delta("stop"), {"choices": None, "usage": USAGE}],
        [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]}],
        [{"choices": [{"index": 0, "delta": {"usage": USAGE}, "finish_reason": "stop"}]}],
        [{**delta("stop"), "x_groq": {"usage": USAGE}}],
        [{**delta("stop"), "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}}],
        [delta("stop"), {"choices": [], "usage": {name: float(count) for name, count in USAGE.items()}}],
        [delta("stop"), {"choices": [], "usage": {name: str(count) for name, count in USAGE.items()}}],
    ],
)
async def test_usage_in_any_place(last: list[Any]) -> None:
    """Usage without choices, inside a choice, and counts as floats or texts are read, by chunks too."""
    final = await read(data(delta(content="a"), *last, DONE))
    assert final.usage is not None
    assert (final.usage.prompt_tokens, final.usage.completion_tokens, final.usage.total_tokens) == (1, 2, 3)
    assert final.usage.extra == {}


async def test_usage_inside_a_choice_of_a_plain_answer() -> None:
    """The same where the answer comes in one piece; a float `created` is read as well."""
    choice = {"message": {"content": "a"}, "finish_reason": "stop", "usage": USAGE}
    transport = FakeTransport([{"choices": [choice], "created": 1790000000.7}])
    reply = await AsyncClient(base_url="http://fake", model="m", transport=transport).chat.create("hi")
    assert reply.usage is not None
    assert (reply.usage.total_tokens, reply.created) == (3, 1790000000)


def split(field: str, *pieces: str) -> bytes:
    """A stream with JSON texts as they are: `\\ud83d` is an escape."""
    events = [f'data: {{"choices": [{{"index": 0, "delta": {{"{field}": "{piece}"}}}}]}}' for piece in pieces]
    return data(*events, delta("stop"), DONE)


@pytest.mark.parametrize("field", ["content", "reasoning", "reasoning_content"])
@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (("a\\ud83d", "\\ude00b"), "a😀b"),
        (("a\\uD83D", "\\uDE00", "\\ud83d", "\\ude01"), "a😀😁"),
        (("a\\ud83d\\ude00b", "c"), "a😀bc"),
        (("a\\ud83d", "b"), "a\ufffdb"),
        (("a\\ude00", "b"), "a\ufffdb"),
        (("a", "b\\ud83d"), "ab\ufffd"),
        (("\\ud83d",), "\ufffd"),
    ],
)
async def test_halves_of_a_character_in_two_events(field: str, pieces: tuple[str, ...], text: str) -> None:
    """A character that was cut in two is put together; a lone half is one replacement character."""
    final = await read(split(field, *pieces))
    assert (final.text if field == "content" else final.reasoning) == text


async def test_halves_of_a_character_in_tool_arguments() -> None:
    """The same in the arguments of a call."""
    events = [
        '{"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "'
        + piece
        + '"}}]}}]}'
        for piece in ('{\\"x\\": \\"\\ud83d', '\\ude00\\"}')
    ]
    final = await read(data(*[f"data: {event}" for event in events], delta("tool_calls"), DONE))
    assert final.tool_calls[0].parse() == {"x": "😀"}


async def test_message_instead_of_delta() -> None:
    """Events whose choices have a `message` are read as if it were the delta; the whole message at the end adds nothing."""
    pieces = [{"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]} for text in ("Hel", "lo")]
    end = {"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}
    assert (await read(data(*pieces, delta("stop"), DONE))).text == "Hello"
    assert (await read(data(*pieces, end, DONE))).text == "Hello"
    asked = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
    end = {"choices": [{"delta": {}, "message": {"content": "Hello", "tool_calls": [asked]}, "finish_reason": "stop"}]}
    final = await read(data(*pieces, end, DONE))
    assert (final.text, [call.name for call in final.tool_calls]) == ("Hello", ["f"])


async def test_text_instead_of_delta() -> None:
    """Events in the form of text completions, in answer to a chat, have their text."""
    pieces = [{"choices": [{"index": 0, "text": text, "finish_reason": None}]} for text in ("Hel", "lo")]
    final = await read(data(*pieces, {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}, DONE))
    assert (final.text, final.finish_reason) == ("Hello", "length")


async def test_choices_and_deltas_of_null() -> None:
    """`choices: null` beside usage, `delta: null` or none beside a finish_reason, and null for a choice lose nothing."""
    usage = {"choices": None, "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    for end in ({"delta": None, "finish_reason": "length"}, {"index": 0, "finish_reason": "length"}):
        final = await read(data(delta(content="Hello"), {"choices": [None]}, {"choices": [end]}, usage, DONE))
        assert (final.text, final.finish_reason) == ("Hello", "length")
        assert final.usage is not None
        assert final.usage.total_tokens == 3


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_and_text_in_one_delta(name: str) -> None:
    """The delta in which thinking ends carries the first of the text, too: neither is lost."""
    final = await read(
        data(delta(**{name: "th"}), delta(**{name: "ink"}, content="Hel"), delta("stop", content="lo"), DONE)
    )
    assert (final.text, final.reasoning) == ("Hello", "think")


async def test_the_last_piece_of_a_call_repeats_its_name() -> None:
    """What is left of the arguments comes with id, type, name and finish_reason once more: one call, whole."""
    pieces = [call(0, "a", "f", ""), call(0, None, None, '{"x":'), call(0, "a", "f", " 1}")]
    pieces[-1]["choices"][0]["finish_reason"] = "tool_calls"
    final = await read(data(*pieces, DONE))
    assert [(found.id, found.name, found.parse()) for found in final.tool_calls] == [("a", "f", {"x": 1})]


@pytest.mark.parametrize(
    ("deltas", "text", "reasoning"),
    [
        ([{"reasoning_content": "a"}, {"reasoning": "b"}, {"content": "c"}], "c", "ab"),
        ([{"reasoning": "a"}, {"reasoning_content": "b"}, {"content": "c"}], "c", "ab"),
        ([{"reasoning": "a", "reasoning_content": "a"}, {"content": "c"}], "c", "a"),
        ([{"reasoning_content": "", "content": "<think>a</think>c"}], "c", "a"),
        ([{"reasoning": "", "reasoning_content": None, "content": "<think>a"}, {"content": "b</think>c"}], "c", "ab"),
    ],
)
async def test_reasoning_under_changing_names(deltas: list[Any], text: str, reasoning: str) -> None:
    """Reasoning that changes its name is one; an empty one does not hide the tags in the text."""
    final = await read(data(*[delta(**fields) for fields in deltas], delta("stop"), DONE))
    assert (final.text, final.reasoning) == (text, reasoning)


def call(index: int | None, call_id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    found = {"index": index, "id": call_id, "function": function}
    return delta(tool_calls=[{key: value for key, value in found.items() if value is not None}])


TWO = [("f", '{"x":1}'), ("g", '{"y":2}')]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([(0, "a", "f", '{"x"'), (1, "a", None, ":1}")], [("f", '{"x":1}')]),
        ([(0, "a", "f", '{"x":1}'), (1, "a", "f", '{"x":1}')], [("f", '{"x":1}')]),
        ([(0, "a", "f", '{"x":1}'), (1, "a", "f", '{"x":2}')], [("f", '{"x":1}'), ("f", '{"x":2}')]),
        ([(0, "a", "f", "{}"), (1, "a", "g", '{"x"'), (1, "a", None, ":2}")], [("f", "{}"), ("g", '{"x":2}')]),
        ([(0, None, "f", '{"x":1}'), (0, None, "g", '{"y":2}')], [("f", '{"x":1}'), ("g", '{"y":2}')]),
        (
            [(0, None, "f", '{"x":1}'), (0, None, "f", '{"y"'), (0, None, None, ":2}")],
            [("f", '{"x":1}'), ("f", '{"y":2}')],
        ),
        (
            [(0, None, "f", ""), (0, None, None, '{"x":1}'), (0, None, "f", ""), (0, None, None, '{"y":2}')],
            [("f", '{"x":1}'), ("f", '{"y":2}')],
        ),
        ([(0, None, "f", '{"x"'), (0, None, "f", ":1}")], [("f", '{"x":1}')]),
        ([(0, "a", "f", ""), (0, "a", "f", '{"x"'), (0, "a", "f", ":1}"), (0, "a", "f", "")], [("f", '{"x":1}')]),
        (
            [(None, None, "f", '{"x"'), (None, None, None, ":1}"), (None, None, "g", "{}")],
            [("f", '{"x":1}'), ("g", "{}")],
        ),
        ([(0, None, "f", '{"x": "}'), (0, None, "f", '"}')], [("f", '{"x": "}"}')]),
        ([(0, "a", "f", '{"x"'), (0, "b", None, ":1}")], [("f", '{"x":1}')]),
        ([(0, "a", "f", ""), (0, "b", None, '{"x"'), (0, "c", None, ":1}")], [("f", '{"x":1}')]),
        ([(0, "a", "f", '{"x"'), (0, "b", "f", ":1}")], [("f", '{"x":1}')]),
        ([(0, "a", "f", "{}"), (0, "b", "f", "{}")], [("f", "{}"), ("f", "{}")]),
        ([(0, "a", "f", '{"x"'), (0, "a", None, ":1}"), (0, "a", "f", '{"x":1}')], [("f", '{"x":1}')]),
        ([(0, "a", "get_", ""), (0, None, "weather", ""), (0, None, None, "{}")], [("get_weather", "{}")]),
        ([(0, "a", "f", "{}"), (1, None, None, "")], [("f", "{}")]),
        ([(1, "a", "f", '{"x"'), (2, "b", "g", '{"y"'), (1, None, None, ":1}"), (2, None, None, ":2}")], TWO),
        ([(0, "a", None, '{"x"'), (0, None, "f", ":1}"), (0, "b", "g", '{"y":2}')], TWO),
        ([(None, "a", "f", '{"x":1}'), (None, "b", "g", '{"y":2}')], TWO),
    ],
)
async def test_pieces_of_tool_calls(calls: list[Any], expected: list[tuple[str, str]]) -> None:
    """Pieces come together by id, by index, or by whether the arguments are complete, for readers of chunks, too."""
    final = await read(data(*[call(*piece) for piece in calls], delta("tool_calls"), DONE))
    assert [(found.name, found.arguments) for found in final.tool_calls] == expected


@pytest.mark.parametrize("place", ["delta", "message"])
async def test_tool_calls_of_other_forms(place: str) -> None:
    """One call instead of a list, name and arguments beside the id instead of in `function`, tokens of gpt-oss in a name."""
    flat, whole = {"id": "a", "name": "f", "arguments": '{"x":1}'}, {"id": "a", "function": {"name": "f"}}
    leaked = {"id": "a", "function": {"name": "f<|channel|>commentary", "arguments": "{}"}}
    for calls, arguments in ((flat, '{"x":1}'), ([flat], '{"x":1}'), (whole, ""), ([leaked], "{}")):
        answer = {"choices": [{place: {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}
        final = await read(json.dumps(answer).encode() if place == "message" else data(answer, DONE))
        assert [(found.id, found.name, found.arguments) for found in final.tool_calls] == [("a", "f", arguments)]


@pytest.mark.parametrize(
    "text",
    [
        data(delta(content="Hel"), delta(content="lo"), delta("stop"), DONE, end="\n"),
        b"retry: 3000\nid: 1\n" + data(delta(content="Hel"), delta(content="lo"), delta("stop"), DONE),
        data(delta(content="Hel"), "event: ping\ndata: ok", delta("stop", content="lo"), DONE),
        data(delta(content="Hello"), delta("stop"), "data: [done]"),
        data(delta(content="Hello"), delta("stop"), {"usage": USAGE})[:-20],
        data(delta(content="Hel"), "data: : OPENROUTER PROCESSING", delta(content="lo"), delta("stop"), DONE),
        data(delta(content="Hel"), ": ping", "event: ping", "data:", delta(content="lo"), delta("stop"), DONE),
        b"data: " + json.dumps(delta("stop", content="Hello"), indent=1).replace("\n", "\ndata: ").encode() + b"\n\n",
        b"\xef\xbb\xbf" + data(delta(content="Hello"), delta("stop"), DONE),
        data("data: null", delta(content="Hel"), "data: null", delta(content="lo"), delta("stop"), "data: null", DONE),
        data("data: null", delta(content="Hel"), "data: null", delta("stop", content="lo"), "data: : PING", end="\n")
        + b"\n"
        + data(DONE),
    ],
    ids=[
        "one LF between events",
        "retry and id first",
        "a ping with words",
        "another [DONE]",
        "a usage event cut in two",
        "a comment as data",
        "comments and empty events",
        "pretty-printed",
        "a byte-order mark",
        "nulls to keep the connection alive",
        "such nulls with one LF between events",
    ],
)
async def test_events_in_odd_lines(text: bytes) -> None:
    """One line end between events, comments and nulls in data lines, JSON over many lines: the answer is there."""
    assert (await read(text)).text == "Hello"


@pytest.mark.parametrize("indexes", [(1, 2, 3, 4), (1, 1, 1, 1), (0, 1, 0, 1)])
async def test_choices_of_one_answer_under_other_indexes(indexes: tuple[int, ...]) -> None:
    """Where one choice was asked for, all belongs to it: TGI counts tokens in `index`, others begin at 1."""
    texts = zip(indexes, ["I", "'m", " here", ""], [None, None, None, "length"], strict=True)
    final = await read(data(*[delta(end, index, content=text) for index, text, end in texts], DONE))
    assert (final.text, final.finish_reason, len(final.choices)) == ("I'm here", "length", 1)


async def test_text_and_calls_in_choices_of_their_own() -> None:
    """Copilot has the text of an answer in one choice and its tool calls in the next, streamed or not."""
    asked = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    events = [delta(content="I call."), delta("tool_calls"), delta("tool_calls", 1, tool_calls=[{"index": 0, **asked}])]
    parts: list[Any] = [{"content": "I call."}, {"content": None, "tool_calls": [asked]}]
    plain = {"choices": [{"index": 0, "message": part, "finish_reason": "tool_calls"} for part in parts]}
    transport = FakeTransport([body(data(*events, DONE)), plain])
    client = AsyncClient(base_url="http://fake", model="m", transport=transport)
    for reply in (await client.chat.stream("hi").final(), await client.chat.create("hi")):
        assert (reply.text, [call.name for call in reply.tool_calls]) == ("I call.", ["f"])


@pytest.mark.parametrize(
    ("deltas", "text", "reasoning"),
    [
        ([{"reasoning": "hm"}, {"content": "</think>"}, {"content": "\n\nHi"}], "Hi", "hm"),
        ([{"reasoning_content": "hm"}, {"content": "\n"}, {"content": "</th"}, {"content": "ink>Hi"}], "\nHi", "hm"),
        ([{"reasoning": "hm", "content": "</think> H"}, {"content": "i"}], "Hi", "hm"),
        ([{"content": "</thi"}, {"content": "nk>\n\nHi"}], "Hi", None),
        ([{"reasoning": "hm"}, {"content": "</"}, {"content": "p>"}], "</p>", "hm"),
        ([{"reasoning": "hm"}, {"content": "Hi </think>"}], "Hi </think>", "hm"),
        ([{"reasoning": "hm"}, {"content": "</thi"}], "</thi", "hm"),
    ],
)
async def test_a_closing_tag_that_is_left_over(deltas: list[Any], text: str, reasoning: str | None) -> None:
    """A parser that took the reasoning, or an empty one, and left its closing tag at the beginning of the text."""
    final = await read(data(*[delta(**fields) for fields in deltas], delta("stop"), DONE))
    assert (final.text, final.reasoning) == (text, reasoning)


LINES = data(delta(content="Hel"), delta(content="lo"), delta("stop")).replace(b"data: ", b"").replace(b"\n\n", b"\n")


@pytest.mark.parametrize("kind", ["application/x-ndjson", "text/event-stream", "application/json"])
@pytest.mark.parametrize("text", [LINES, LINES[:-1], b"\n" + LINES + DONE[6:].encode(), LINES.replace(b"\n", b"\r\n")])
async def test_events_in_a_line_each(kind: str, text: bytes) -> None:
    """Events without `data:` and blank lines (NDJSON) are an answer, and cut off they are a partial one."""
    answers = [body(text, kind), body(text, kind), body(text[: text.rfind(b"delta")], kind)]
    client = AsyncClient(base_url="http://fake", model="m", retry=ONCE, transport=FakeTransport(answers))
    assert [chunk.text async for chunk in client.chat.stream("hi")] == ["Hel", "lo", ""]
    assert (await client.chat.create("hi")).text == "Hello"
    with pytest.raises(StreamInterruptedError) as caught:
        await client.chat.stream("hi").final()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hello"


async def test_a_plain_answer_of_one_line_is_no_event() -> None:
    """A line end behind a plain answer changes nothing."""
    assert (await read(PLAIN + b"\n")).text == "Hello"


async def test_events_that_were_put_into_events() -> None:
    """A gateway that puts `data: ` before what has it already (axum, JSON to SSE) sends the same events."""
    events = data(delta(content="Hel"), delta(content="lo"), delta("stop"), DONE)
    for twice in (b"data: data: ", b"data:data: "):
        assert (await read(events.replace(b"data: ", twice))).text == "Hello"
        assert (await read(events.replace(b"data: ", twice).replace(b"}\n", b"}\ndata: \n"))).text == "Hello"


@pytest.mark.parametrize("before", [b"", data(delta(content="Hel"))])
async def test_an_error_in_a_field_of_its_own(before: bytes) -> None:
    """llama-server of 2025 has errors in a field `error:`, which parsers of events pass over: the answer looked empty."""
    fault = b'error: {"code":400,"message":"the request exceeds the available context size","type":"invalid"}\n\n'
    client = AsyncClient(
        base_url="http://fake", model="m", retry=ONCE, transport=FakeTransport([body(before + fault + data(DONE))])
    )
    with pytest.raises(StreamFaultError, match="the request exceeds the available context size") as caught:
        await client.chat.stream("hi").final()
    assert (caught.value.status, caught.value.type) == (400, "invalid")
    assert (caught.value.partial.text if caught.value.partial else "") == ("Hel" if before else "")


@pytest.mark.parametrize("text", [b'data: {"choices": [}\n\n', b'data: {"a": 1}\ndata: {"choices": [}\n\n'])
async def test_broken_json_is_an_error(text: bytes) -> None:
    """What is no JSON, and not line by line, is a DecodeError."""
    client = AsyncClient(base_url="http://fake", model="m", retry=ONCE, transport=FakeTransport([body(text)]))
    with pytest.raises(DecodeError):
        await client.chat.stream("hi").final()


PLAIN = json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}).encode()


async def test_a_json_body_with_a_byte_order_mark_answers_a_stream() -> None:
    """The mark before a plain answer to a stream is passed over."""
    transport = FakeTransport([body(b"\xef\xbb\xbf" + PLAIN, "application/json")])
    client = AsyncClient(base_url="http://fake", model="m", transport=transport)
    assert (await client.chat.stream("hi").final()).text == "Hello"


@pytest.mark.parametrize(
    ("text", "content_type", "shown"),
    [
        (b"<html><body>Sign in</body></html>", "text/html; charset=utf-8", "text/html.*<html><body>Sign in"),
        (b"upstream timed out", "text/plain", "text/plain.*upstream timed out"),
        (b'[{"generated_text": "Hello"}]', "application/json", "application/json.*generated_text"),
        (b"oops", "", "no content type.*oops"),
    ],
)
async def test_what_is_no_answer_is_shown(text: bytes, content_type: str, shown: str) -> None:
    """A page, a text or a list answered to a stream: the error says the content type and the first words.

    Plain calls say the same of what is no JSON.
    """
    transport = FakeTransport([body(text, content_type)] * 3)
    client = AsyncClient(base_url="http://fake", model="m", retry=ONCE, transport=transport)
    with pytest.raises(DecodeError, match=shown):
        await client.chat.stream("hi").final()
    for call in (client.chat.create("hi"), client.embeddings.create(["a"])):
        with pytest.raises(DecodeError, match="expected an object" if text.startswith(b"[") else shown):
            await call


async def test_an_error_object_with_status_200_is_the_error_of_its_code() -> None:
    """A stream answered by `{"error": {"code": 503}}` is retried like a 503, and is one in the end."""
    fault = body(json.dumps({"error": {"message": "busy", "code": 503}}).encode(), "application/json")
    transport = FakeTransport([fault, body(PLAIN, "application/json"), fault, fault])
    retry = RetryPolicy(attempts=2, first_delay=0)
    client = AsyncClient(base_url="http://fake", model="m", transport=transport, retry=retry)
    assert (await client.chat.stream("hi").final()).text == "Hello"
    with pytest.raises(ServerError, match="busy"):
        await client.chat.stream("hi").final()


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [{"delta": {"tool_calls": [{"index": "9" * 5000, "function": {"name": "f"}}]}}]},
        {"error": {"message": "no", "code": "9" * 5000}},
        '{"choices": [{"delta": {"content": "a", "x": ' + "[" * 900 + "]" * 900 + "}}]}",
        '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": ' + "[" * 400 + "]" * 400 + "}}]}}]}",
        '{"choices": [], "usage": ' + '{"a":' * 800 + "{}" + "}" * 801,
    ],
)
async def test_hostile_events_are_errors_of_ours_or_nothing(event: Any) -> None:
    """Numbers of thousands of digits and values nested hundreds of levels deep raise nothing raw."""
    text = data(f"data: {event}" if isinstance(event, str) else event, delta("stop", content="a"), DONE)
    for create in (False, True):
        client = AsyncClient(base_url="http://fake", model="m", retry=ONCE, transport=FakeTransport([body(text)]))
        try:
            reply = await (client.chat.create("hi") if create else client.chat.stream("hi").final())
        except NimError:
            continue
        assert reply.text == "a"
        assert repr(reply)


BLOCKS = [
    {"type": "reasoning.text", "text": "Let ", "format": "f", "index": 0},
    {"type": "reasoning.text", "text": "me", "format": "f", "index": 0},
    {"type": "reasoning.text", "signature": "eyJ", "index": 0},
    {"type": "reasoning.encrypted", "data": "AA", "index": 0},
    {"type": "reasoning.encrypted", "data": "BB", "index": 0},
    {"type": "reasoning.summary", "summary": "S", "index": 1},
]
WHOLE = [
    {"type": "reasoning.text", "text": "Let me", "format": "f", "index": 0, "signature": "eyJ"},
    *BLOCKS[3:],
]


@pytest.mark.parametrize("named", [True, False], ids=["beside reasoning", "alone"])
async def test_reasoning_in_blocks(named: bool) -> None:
    """OpenRouter's blocks are whole again, as its providers want them back (ai-sdk-provider #423); alone they are the
    reasoning (laravel/ai #813).
    """
    texts = [block.get("text") or block.get("summary") for block in BLOCKS]
    reasoning = [{"reasoning": text} if text and named else {} for text in texts]
    final = await read(
        data(
            *(delta(reasoning_details=[block], **more) for block, more in zip(BLOCKS, reasoning, strict=True)),
            delta(content="Hi"),
            delta("stop"),
            DONE,
        )
    )
    assert (final.text, final.reasoning) == ("Hi", "Let meS")
    assert final.message is not None
    assert final.message.extra == {"reasoning_details": WHOLE}
    plain = {"content": "Hi", "reasoning_details": WHOLE, **({"reasoning": "Let meS"} if named else {})}
    fake = FakeTransport([{"choices": [{"message": plain}]}])
    client = AsyncClient(base_url="http://fake", model="m", transport=fake)
    assert (await client.chat.create("hi")).message == final.message


async def test_blocks_of_thinking_that_follow_each_other() -> None:
    """A block ends with its signature, which may come in pieces; the next one has its own (strands #1789, apex #534)."""
    pieces: list[dict[str, Any]] = [
        {"thinking": "A", "signature": None},
        {"thinking": "B", "signature": ""},
        {"thinking": "", "signature": "s"},
        {"signature": "1"},
        {"thinking": "C"},
        {"signature": "s2"},
    ]
    events = (delta(thinking_blocks=[{"type": "thinking", **piece}]) for piece in pieces)
    final = await read(data(*events, delta(content="Hi"), delta("stop"), DONE))
    assert final.message is not None
    assert final.message.extra["thinking_blocks"] == [
        {"type": "thinking", "thinking": "AB", "signature": "s1"},
        {"type": "thinking", "thinking": "C", "signature": "s2"},
    ]


# what a gateway writes into a stream -----------------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html>\n<html>\n\n<title>524: A timeout occurred</title>\n<p>cloudflare</p>\n</html>\n"


@pytest.mark.parametrize(
    ("end", "kind", "words"),
    [
        (PAGE, StreamInterruptedError, r"ends with '.*cloudflare'"),
        (b"upstream connect error or disconnect/reset", StreamInterruptedError, "ends with 'upstream connect error"),
        (b'{"error":{"message":"upstream timed out","code":504}}', StreamFaultError, "upstream timed out"),
        (b'{"detail":"no upstream"}\n\n', StreamFaultError, "no upstream"),
        (data(delta(content="lo world"))[:70], StreamInterruptedError, "ends within an event"),
        (data({"success": False, "msg": "no quota"}), StreamInterruptedError, "ends with .*no quota"),
        (data({"base_resp": {"status_msg": "rate limit"}, "choices": None}), StreamInterruptedError, "rate limit"),
        (b": OPENROUTER PROCESSING\n\n", StreamInterruptedError, r"no \[DONE\]\)$"),
        (b"", StreamInterruptedError, r"no \[DONE\]\)$"),
    ],
    ids=["page", "text", "error object", "detail", "cut event", "no quota", "no choices", "comment", "nothing"],
)
async def test_what_a_gateway_writes_at_the_end(end: bytes, kind: type[NimError], words: str) -> None:
    """A gateway that loses its server in mid-stream writes a page, a text or an error object without `data:`; the error
    says so, and has the answer so far (OmniRoute #4937, oh-my-pi #3362).
    """
    sent = body(data(delta(content="Hel")) + end)
    client = AsyncClient(base_url="http://fake", model="m", retry=ONCE, transport=FakeTransport([sent, sent]))
    for call in (client.chat.stream("hi").final, partial(client.chat.create, "hi")):
        with pytest.raises(kind, match=words) as caught:
            await call()
        assert isinstance(caught.value, StreamError)
        assert caught.value.partial is not None
        assert caught.value.partial.text == "Hel"


async def test_a_failure_in_a_gateways_own_form() -> None:
    """What is no answer is shown, whether it comes alone, as an event or as the whole body (MiniMax, Baidu)."""
    failure = {"error_code": 336003, "error_msg": "the quota is used up"}
    events = body(data(failure, DONE))
    client = AsyncClient(
        base_url="http://fake", model="m", retry=ONCE, transport=FakeTransport([events, events, failure])
    )
    for call in (client.chat.stream("hi").final, *[partial(client.chat.create, "hi")] * 2):
        with pytest.raises(NimError, match="the quota is used up"):
            await call()


# answers that were ended early ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["abort", "error", "network_error"])
async def test_an_answer_that_the_server_ends_early(reason: str) -> None:
    """An engine that is shut down ends a stream with `abort` and [DONE], a plain answer with 200: neither is complete
    (vLLM #57082). Its text is shown, and is in the error.
    """
    events = [delta(role="assistant", content="The s"), delta(reason, content="ky"), "[DONE]"]
    whole = {
        **delta(reason, role="assistant"),
        "choices": [{"message": {"content": "The sky"}, "finish_reason": reason}],
    }
    fake = FakeTransport([events, body(data(*events[:2], DONE)), whole, events])
    client = AsyncClient(base_url="http://fake", model="m", retry=ONCE, transport=fake)
    stream = client.chat.stream("hi")
    chunks: list[str] = []
    with pytest.raises(StreamFaultError, match=f"ended this answer early.*'{reason}'") as caught:
        async for chunk in stream:
            chunks.append(chunk.text)
    assert chunks == ["The s", "ky"]
    failures = [caught.value]
    for _ in range(2):
        with pytest.raises(StreamFaultError, match="ended this") as caught:
            await client.chat.create("hi")
        failures.append(caught.value)
    with pytest.raises(StreamFaultError, match="ended this") as caught:
        await client.chat.stream("hi").final()
    assert [error.partial.text for error in [*failures, caught.value] if error.partial] == ["The sky"] * 4


async def test_an_answer_is_asked_for_again_where_nothing_of_it_was_shown() -> None:
    """As after a lost connection: a plain call, and a stream before its first content."""
    early = {"choices": [{"message": {"content": "The"}, "finish_reason": "abort"}]}
    whole = {"choices": [{"message": {"content": "The sky"}, "finish_reason": "stop"}]}
    first = body(data(delta(role="assistant"), delta("abort"), DONE))
    second = body(data(delta(content="The sky"), delta("stop"), DONE))
    fake = FakeTransport([early, whole, first, second])
    client = AsyncClient(base_url="http://fake", model="m", retry=RetryPolicy(first_delay=0), transport=fake)
    assert (await client.chat.create("hi")).text == "The sky"
    assert (await client.chat.stream("hi").final()).text == "The sky"
    assert len(fake.requests) == 4


async def test_the_error_of_a_choice_is_the_cause() -> None:
    """A gateway says beside the finish_reason what went wrong; its code decides."""
    choice = {
        "message": {"content": ""},
        "finish_reason": "error",
        "error": {"code": 502, "message": "upstream is gone"},
    }
    client = AsyncClient(
        base_url="http://fake", model="m", retry=ONCE, transport=FakeTransport([{"choices": [choice]}])
    )
    with pytest.raises(StreamFaultError, match="upstream is gone") as caught:
        await client.chat.create("hi")
    assert caught.value.status == 502


async def test_the_providers_own_reason_is_the_cause() -> None:
    """OpenRouter ends an answer with "stop" where its provider has failed; `native_finish_reason` says so (hax #15)."""
    choice = {"finish_reason": "stop", "native_finish_reason": "network_error"}
    events = [delta(content="Hel"), {"choices": [{**choice, "index": 0, "delta": {"content": "lo"}}]}, "[DONE]"]
    plain = {"choices": [{**choice, "message": {"content": "Hello"}}]}
    fake = FakeTransport([events, body(data(*events[:2], DONE)), plain])
    client = AsyncClient(base_url="http://fake", model="m", retry=ONCE, transport=fake)
    for call in (client.chat.stream("hi").final, partial(client.chat.create, "hi"), partial(client.chat.create, "hi")):
        with pytest.raises(StreamFaultError, match="native_finish_reason 'network_error'") as caught:
            await call()
        assert caught.value.partial is not None
        assert caught.value.partial.text == "Hello"


@pytest.mark.parametrize("said", ['"abort"', '"error"'])
async def test_an_answer_that_speaks_of_it(said: str) -> None:
    """The words alone, in a text, mean nothing."""
    assert (await read(data(delta(content=said), delta("stop"), DONE))).text == said

"""Events of one form are known by the bytes around their text; what is taken for one is exactly what parsing would give."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nimclient import AsyncClient, ChatCompletion, RetryPolicy
from nimclient.errors import DecodeError, NimError
from nimclient.testing import FakeTransport

HEAD = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"'
TAIL = b'"},"finish_reason":null}]}'
GOOD = HEAD + b"x" + TAIL
PIECES = [
    "a",
    "\\",
    '"',
    ",",
    "[",
    "]",
    "{",
    "}",
    ":",
    "\n",
    "\\n",
    "\\ud83d",
    "é",
    TAIL.decode(),
    HEAD.decode(),
    "\n\n",
]


async def read(events: list[bytes]) -> tuple[list[str], str, str]:
    """The texts of the chunks of a stream in one read that begins with a usual event, its error, and the text in all."""
    body = b"".join(event + b"\n\n" for event in (GOOD, *events))
    transport = FakeTransport([(200, {"Content-Type": "text/event-stream"}, body)])
    client = AsyncClient(base_url="http://fake", model="m", transport=transport, retry=RetryPolicy(attempts=1))
    stream = client.chat.stream("hi")
    texts: list[str] = []
    try:
        async for chunk in stream:
            texts.append(chunk.text)
    except NimError as error:
        return texts, type(error).__name__, getattr(error.partial, "text", "nothing")
    return texts, "", stream.partial.text if stream.partial else ""


@example(["a\\", 'x","y'])
@example(['a",["b', "c", 'd"],"e'])
@example(['a",{"b":"c', 'd"},"e'])
@example(['a"]}', '{["b'])
@example(["", "a"])
@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=5).map("".join), min_size=1, max_size=4))
def test_events_are_taken_for_alike_only_if_they_are(texts: list[str]) -> None:
    """Whatever stands between the beginning and the end of events, the chunks and the error are those of unlike events."""
    alike = [HEAD + text.encode() + TAIL for text in texts]
    unlike = [event + b" " * (number % 2 + 1) for number, event in enumerate(alike)]
    assert asyncio.run(read(alike)) == asyncio.run(read(unlike))


def chat(number: int, delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": None, **more}
    return {"id": "c", "created": 1, "model": "m", "choices": [choice]}


STREAMS: dict[str, list[Any]] = {
    "text": [chat(0, {"role": "assistant", "content": ""}), *[chat(0, {"content": f" {i}"}) for i in range(300)]],
    "a role in each": [chat(0, {"role": "assistant", "content": f" {i}"}) for i in range(30)],
    "reasoning, then text": [
        *[chat(0, {"content": None, "reasoning_content": f"r{i}"}) for i in range(30)],
        *[chat(0, {"content": f"t{i}", "reasoning_content": None}) for i in range(30)],
    ],
    "two choices in turn": [chat(i % 2, {"content": f"{i} "}) for i in range(60)],
    "one choice after the other": [chat(i // 30, {"content": f"{i} "}) for i in range(60)],
    "other fields change": [{**chat(0, {"content": f"{i} "}), "created": i // 10} for i in range(60)],
    "a field comes back": [{**chat(0, {"content": f"{i} "}), "service_tier": "ab"[i % 20 == 10]} for i in range(60)],
    "tags": [chat(0, {"content": piece}) for piece in ["<thi", "nk>", *"hmm", "</think>", *"well then, yes."]],
    "log probabilities": [
        chat(0, {"content": "x"}, logprobs={"content": [{"token": "x", "logprob": -i}]}) for i in range(9)
    ],
    "tool calls": [
        *[chat(0, {"content": "x"}) for _ in range(9)],
        *[chat(0, {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "1"}}]}) for _ in range(3)],
        *[chat(0, {"content": "x"}) for _ in range(9)],
    ],
    "usage in each": [{**chat(0, {"content": "x"}), "usage": {"completion_tokens": i}} for i in range(9)],
    "empty texts": [chat(0, {"content": "x" * (i % 3)}) for i in range(30)],
    "large": [chat(0, {"content": "x" * 20_000}) for _ in range(5)],
}


@pytest.mark.parametrize("name", STREAMS)
async def test_events_alike_give_what_they_give_one_by_one(name: str) -> None:
    """A stream in one read, in which events are known by their form, gives the chunks and the answer of unlike events."""
    events = [*STREAMS[name], chat(0, {}, finish_reason="stop"), chat(1, {}, finish_reason="stop")]
    alike = [f"data: {json.dumps(event)}\n\n" for event in events]
    unlike = [
        f"data: {json.dumps(event)}{' ' * (i % 7)}\n\n" for i, event in enumerate(events)
    ]  # white space is no data
    results: list[Any] = []
    for lines in (alike, unlike):
        body = "".join(lines).encode()
        transport = FakeTransport([(200, {"Content-Type": "text/event-stream"}, body)])
        stream = AsyncClient(base_url="http://fake", model="m", transport=transport).chat.stream("hi")
        chunks = [chunk async for chunk in stream]
        partial = stream.partial
        assert partial is not None
        results.append(([(c.to_dict(), c.text, c.reasoning, c.finish_reason) for c in chunks], partial.to_dict()))
    assert results[0] == results[1]
    assert results[0][0][0][0]["id"] == "c"


async def test_an_invalid_event_among_alike_ones_ends_the_stream_where_it_stands() -> None:
    """What came before an event that is not JSON, although it begins and ends like the others, is in the error."""
    body = b"\n\n".join([GOOD] * 9 + [HEAD + b'a","b' + TAIL] + [GOOD] * 9)
    transport = FakeTransport([(200, {"Content-Type": "text/event-stream"}, body + b"\n\n")])
    client = AsyncClient(base_url="http://fake", model="m", transport=transport, retry=RetryPolicy(attempts=1))
    with pytest.raises(DecodeError) as caught:
        await client.chat.stream("hi").final()
    assert isinstance(caught.value.partial, ChatCompletion)
    assert caught.value.partial.text == "x" * 9

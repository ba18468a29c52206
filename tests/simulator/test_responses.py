"""`/v1/responses` as openai-python reads it, and its events as vLLM 0.32 sends them."""

import json
from typing import Any

import aiohttp
import openai
import pytest

from nimclient.simulator import Simulator

from .raw import CHAT, PARIS, RawClient

SAID = "Based on the text given: Paris is the capital of France."
REASONING = "nvidia/nemotron-3-nano-30b-a3b"
ADD: dict[str, Any] = {
    "type": "function",
    "name": "add",
    "description": "Add two numbers",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
}
PERSON: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}


async def _events(raw: RawClient, **body: Any) -> list[dict[str, Any]]:
    """The data of a stream's events; each one's name is its type, and they are numbered from 0."""
    sent = {"model": CHAT, "input": PARIS, "stream": True, **body}
    async with raw.session.post(f"{raw.root}/v1/responses", json=sent) as response:
        assert response.content_type == "text/event-stream"
        blocks = (await response.read()).decode().split("\n\n")[:-1]
    pairs = [(block.splitlines()[0], json.loads(block.splitlines()[1].removeprefix("data: "))) for block in blocks]
    assert [name for name, _ in pairs] == [f"event: {data['type']}" for _, data in pairs]
    assert [data["sequence_number"] for _, data in pairs] == list(range(len(pairs)))
    return [data for _, data in pairs]


async def test_a_plain_response(sim: Simulator) -> None:
    """openai-python reads the text, the usage and what was repeated of the request."""
    async with openai.AsyncOpenAI(base_url=sim.base_url, api_key="k") as client:
        response = await client.responses.create(model=CHAT, instructions="Be kind.", input=PARIS, temperature=0.5)
    assert (response.output_text, response.status) == (SAID, "completed")
    assert (response.instructions, response.temperature) == ("Be kind.", 0.5)
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


async def test_a_stream_that_openai_python_puts_together(sim: Simulator) -> None:
    """Its accumulator accepts the events, text deltas joined are the text, and the last event has the response."""
    async with (
        openai.AsyncOpenAI(base_url=sim.base_url, api_key="k") as client,
        client.responses.stream(model=REASONING, input=PARIS) as stream,
    ):
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == SAID
    assert (final.output_text, [item.type for item in final.output]) == (SAID, ["reasoning", "message"])


async def test_the_events_are_vllms(raw: RawClient) -> None:
    """Created, in progress, the item with its part and pieces, and completed; there is no [DONE]."""
    names = [event["type"].removeprefix("response.") for event in await _events(raw)]
    head, tail = names[:4], [name for name in names[4:] if name != "output_text.delta"]
    assert head == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert tail == ["output_text.done", "content_part.done", "output_item.done", "completed"]


async def test_a_response_cut_by_its_limit(raw: RawClient) -> None:
    """The terminal event is response.completed, as vLLM's is; the response inside is incomplete and says why."""
    last = (await _events(raw, max_output_tokens=3))[-1]
    assert (last["type"], last["response"]["status"]) == ("response.completed", "incomplete")
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["usage"]["output_tokens"] == 3


async def test_function_calls_and_their_results(raw: RawClient) -> None:
    """A function is called with its arguments in pieces; with its output the answer is in words."""
    events = await _events(raw, input="Add 17 and 25.", tools=[ADD])
    item = events[-1]["response"]["output"][0]
    assert (item["type"], item["name"], json.loads(item["arguments"])) == ("function_call", "add", {"a": 17, "b": 25})
    pieces = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(pieces) == item["arguments"]
    output = {"type": "function_call_output", "call_id": item["call_id"], "output": "42"}
    turns = [{"role": "user", "content": [{"type": "input_text", "text": "Add 17 and 25."}]}, item, output]
    _, body, _ = await raw.post("/v1/responses", {"model": CHAT, "input": turns, "tools": [ADD]})
    assert body["output"][0]["content"][0]["text"] == "Based on the text given: 42"
    named = {"model": CHAT, "input": "hi", "tools": [ADD], "tool_choice": {"type": "function", "name": "add"}}
    assert (await raw.post("/v1/responses", named)).body["output"][0]["name"] == "add"


async def test_structured_output(raw: RawClient) -> None:
    """A schema in text.format shapes the text."""
    form = {"format": {"type": "json_schema", "name": "person", "schema": PERSON}}
    sent = {"model": CHAT, "input": "Ada is 36 years old.", "text": form}
    text = (await raw.post("/v1/responses", sent)).body["output"][0]["content"][0]["text"]
    assert json.loads(text) == {"name": "Ada", "age": 36}


@pytest.mark.parametrize(
    ("options", "status", "param"),
    [
        ({"previous_response_id": "resp_1"}, 404, "response_id"),
        ({"background": True}, 400, "background"),
        ({"input": None}, 400, "input"),
        ({"input": [{"type": "computer_call"}]}, 400, "input.0.type"),
        ({"tools": [{"type": "web_search"}]}, 400, "tools.0.type"),
        ({"max_output_tokens": 0}, 400, "max_output_tokens"),
        ({"model": "none"}, 404, "model"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]}, 400, None),
    ],
)
async def test_what_is_rejected(raw: RawClient, options: dict[str, Any], status: int, param: str | None) -> None:
    """What it does not offer, and wrong fields, are errors in vLLM's shape, also when a stream was asked for."""
    for stream in (False, True):
        answered, body, _ = await raw.post("/v1/responses", {"model": CHAT, "input": "x", "stream": stream, **options})
        assert (answered, body["error"]["code"]) == (status, status)
        assert param is None or body["error"]["param"] == param


async def test_reasoning_effort(session: aiohttp.ClientSession) -> None:
    """reasoning.effort switches reasoning on and off."""
    async with Simulator() as sim:
        raw = RawClient(sim, session)
        for model, effort, kinds in ((CHAT, "low", ["reasoning", "message"]), (REASONING, "none", ["message"])):
            body = {"model": model, "input": PARIS, "reasoning": {"effort": effort}}
            output = (await raw.post("/v1/responses", body)).body["output"]
            assert [item["type"] for item in output] == kinds

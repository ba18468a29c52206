import json
from typing import Any

import pytest

from .hand import CHAT, PARIS, Hand

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city"}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
IGNORANT = "Based on the text given: She is called Ada. She is 36 years old."
SAID = "Based on the text given: Paris is the capital of France."


def _schema(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}


async def test_a_plain_answer_quotes_the_messages(hand: Hand) -> None:
    """A plain answer has vLLM's fields, the quoted sentence and a usage that adds up."""
    status, body, headers = await hand.chat()
    assert status == 200
    choice = body["choices"][0]
    assert choice["message"]["content"] == SAID
    assert choice["message"]["reasoning"] is None
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", None)
    assert body["object"] == "chat.completion"
    assert body["id"] == f"chatcmpl-{headers['X-Request-Id']}"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_content_parts_are_read_for_their_text(hand: Hand) -> None:
    """Text parts are put together and images are passed over."""
    parts = [
        {"type": "text", "text": "Paris is the capital of France."},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "text", "text": "What is the capital of France?"},
    ]
    assert (await hand.chat(parts)).body["choices"][0]["message"]["content"] == SAID


async def test_null_content_is_empty(hand: Hand) -> None:
    """An assistant message that only called a tool has null content, which is no error."""
    messages = [
        {"role": "user", "content": "add 1 and 2"},
        {"role": "assistant", "content": None},
        {"role": "tool", "content": "3"},
    ]
    answer = await hand.chat(messages=messages, tools=[ADD])
    assert answer.body["choices"][0]["message"]["content"] == "Based on the text given: 3"


async def test_the_stream_has_vllms_order(hand: Hand) -> None:
    """A role chunk, content chunks, a finish chunk, the usage chunk without choices, then [DONE]."""
    events = await hand.stream_chat(stream_options={"include_usage": True})
    assert events[-1] == "[DONE]"
    first, *content, finish, usage = events[:-1]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in content) == SAID
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in content)
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(content)
    assert len({chunk["id"] for chunk in events[:-1]}) == 1


async def test_usage_comes_only_when_asked_for(hand: Hand) -> None:
    """Without stream options no chunk has a usage; with continuous usage every chunk has one that grows."""
    assert not any("usage" in chunk for chunk in (await hand.stream_chat())[:-1])
    events = await hand.stream_chat(stream_options={"continuous_usage_stats": True})
    counts = [chunk["usage"]["completion_tokens"] for chunk in events[:-1]]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == len(counts) - 2


async def test_stream_and_plain_answer_say_the_same(hand: Hand) -> None:
    """The pieces of a stream put together are the plain answer."""
    plain = (await hand.chat(n=2, seed=5)).body["choices"]
    said = {0: "", 1: ""}
    for chunk in (await hand.stream_chat(n=2, seed=5))[:-1]:
        for choice in chunk["choices"]:
            said[choice["index"]] += choice["delta"]["content"]
    assert [said[0], said[1]] == [choice["message"]["content"] for choice in plain]
    assert said[0] != said[1]


async def test_the_seed_chooses_the_words(hand: Hand) -> None:
    """Equal seeds give equal answers, another seed other opening words."""
    said = [(await hand.chat(seed=seed)).body["choices"][0]["message"]["content"] for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_length_limits_are_kept(hand: Hand, name: str) -> None:
    """An answer that reaches its limit is cut there and says so."""
    body = (await hand.chat(**{name: 3})).body
    assert body["choices"][0]["message"]["content"] == "Based on the"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3


async def test_a_length_can_be_forced(hand: Hand) -> None:
    """ignore_eos goes on to max_tokens and min_tokens at least as far as it says."""
    forced = (await hand.chat(max_tokens=100, ignore_eos=True)).body
    assert forced["usage"]["completion_tokens"] == 100
    assert forced["choices"][0]["finish_reason"] == "length"
    padded = (await hand.chat(min_tokens=50)).body
    assert padded["usage"]["completion_tokens"] == 50
    assert padded["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("options", "content", "reason"),
    [
        ({"stop": " capital"}, "Based on the text given: Paris is the", " capital"),
        ({"stop": ["France", "Paris"]}, "Based on the text given: ", "Paris"),
        ({"stop": "Paris", "include_stop_str_in_output": True}, "Based on the text given: Paris", "Paris"),
        ({"stop": "Rome"}, SAID, None),
        ({"stop": "Based"}, "", "Based"),
    ],
)
async def test_stop_strings_end_the_answer(hand: Hand, options: Any, content: str, reason: str | None) -> None:
    """The answer ends before the first stop string, which is named."""
    choice = (await hand.chat(**options)).body["choices"][0]
    assert choice["message"]["content"] == content
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", reason)


async def test_a_limit_before_the_stop_string_wins(hand: Hand) -> None:
    """A stop string behind the length limit is never reached."""
    choice = (await hand.chat(stop="France", max_tokens=2)).body["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("length", None)


async def test_an_empty_answer_still_finishes_its_stream(hand: Hand) -> None:
    """A stream whose text is empty has a role chunk and a finish chunk."""
    events = await hand.stream_chat(stop="Based")
    assert [chunk["choices"][0].get("finish_reason") for chunk in events[:-1]] == [None, "stop"]


@pytest.mark.parametrize(
    "options",
    [
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"chat_template_kwargs": {"thinking": True}},
        {"chat_template_kwargs": {"thinking_mode": "enabled"}},
        {"reasoning_effort": "low"},
    ],
)
async def test_reasoning_is_a_field_of_its_own(hand: Hand, options: Any) -> None:
    """With thinking on, reasoning comes first, apart from the content, and is counted."""
    body = (await hand.chat(**options)).body
    message = body["choices"][0]["message"]
    assert message["reasoning"].startswith("The question is: What is the capital of France?")
    assert message["content"] == SAID
    reasoning_tokens = body["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert 0 < reasoning_tokens < body["usage"]["completion_tokens"]
    deltas = [chunk["choices"][0]["delta"] for chunk in (await hand.stream_chat(**options))[:-1]]
    kinds = ["reasoning" if "reasoning" in delta else "content" for delta in deltas]
    assert kinds[1 : reasoning_tokens + 1] == ["reasoning"] * reasoning_tokens
    assert "reasoning" not in kinds[reasoning_tokens + 1 :]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == message["reasoning"]


@pytest.mark.parametrize(
    "options",
    [
        {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "high"},
        {"chat_template_kwargs": {"thinking": True}, "include_reasoning": False},
        {"reasoning_effort": "none"},
    ],
)
async def test_reasoning_can_be_off(hand: Hand, options: Any) -> None:
    """The template's switch wins over the effort, and reasoning can be hidden."""
    assert (await hand.chat(**options)).body["choices"][0]["message"]["reasoning"] is None


async def test_tokens_may_run_out_while_thinking(hand: Hand) -> None:
    """When the limit falls into the reasoning the content is null."""
    choice = (await hand.chat(max_tokens=2, chat_template_kwargs={"thinking": True})).body["choices"][0]
    assert choice["message"]["content"] is None
    assert choice["message"]["reasoning"] == "The questi"
    assert choice["finish_reason"] == "length"


async def test_logprobs_belong_to_the_tokens(hand: Hand) -> None:
    """Each token has a log probability not above zero, and is the first of its likeliest ones."""
    body = (await hand.chat(logprobs=True, top_logprobs=3)).body
    entries = body["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == SAID
    for entry in entries:
        assert bytes(entry["bytes"]).decode() == entry["token"]
        top = entry["top_logprobs"]
        assert len(top) == 3
        assert (top[0]["token"], top[0]["logprob"]) == (entry["token"], entry["logprob"])
        assert [other["logprob"] for other in top] == sorted((other["logprob"] for other in top), reverse=True)
        assert entry["logprob"] <= 0
    streamed = [
        entry
        for chunk in (await hand.stream_chat(logprobs=True, top_logprobs=3))[:-1]
        for entry in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert streamed == entries


async def test_logprobs_without_alternatives_and_with_all(hand: Hand) -> None:
    """Without a number there are no alternatives; -1 means all there are."""
    bare = (await hand.chat(logprobs=True)).body["choices"][0]["logprobs"]["content"][0]
    assert bare["top_logprobs"] == []
    every = (await hand.chat(logprobs=True, top_logprobs=-1)).body["choices"][0]["logprobs"]["content"][0]
    assert len(every["top_logprobs"]) == 20


@pytest.mark.parametrize(
    ("choice", "finish"), [("required", "tool_calls"), ("auto", "tool_calls"), (None, "tool_calls")]
)
async def test_a_tool_is_called_with_arguments_from_the_question(hand: Hand, choice: Any, finish: str) -> None:
    """The tool that fits the question is called with the numbers found in it."""
    answer = await hand.chat("Add the numbers 17 and 25.", tools=[WEATHER, ADD], tool_choice=choice)
    found = answer.body["choices"][0]
    call = found["message"]["tool_calls"][0]
    assert found["message"]["content"] is None
    assert found["finish_reason"] == finish
    assert (call["type"], call["function"]["name"]) == ("function", "add")
    assert json.loads(call["function"]["arguments"]) == {"a": 17, "b": 25}


async def test_a_named_tool_finishes_with_stop(hand: Hand) -> None:
    """vLLM says "stop" when the caller named the tool; one without parameters gets no arguments."""
    found = (await hand.chat("Add 1 and 2", tools=[ADD, WEATHER], tool_choice=NAMED)).body["choices"][0]
    assert found["finish_reason"] == "stop"
    assert found["message"]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": "{}"}


@pytest.mark.parametrize("choice", ["none", "auto"])
async def test_words_when_no_tool_fits(hand: Hand, choice: str) -> None:
    """With "none", and with "auto" when no tool shares a word with the question, the reply is words."""
    found = (await hand.chat(tools=[ADD], tool_choice=choice)).body["choices"][0]
    assert found["message"]["content"] == SAID
    assert "tool_calls" not in found["message"]


async def test_tool_calls_are_streamed_in_vllms_form(hand: Hand) -> None:
    """The first delta has index, id, type and name, the others only pieces of the arguments."""
    events = await hand.stream_chat("add 1 and 2", tools=[ADD], tool_choice="required")
    _, first, *rest, finish = [chunk["choices"][0] for chunk in events[:-1]]
    opening = first["delta"]["tool_calls"][0]
    assert opening["index"] == 0
    assert opening["id"].startswith("chatcmpl-tool-")
    assert (opening["type"], opening["function"]) == ("function", {"name": "add", "arguments": ""})
    pieces = [choice["delta"]["tool_calls"][0] for choice in rest]
    assert all(piece.keys() == {"index", "function"} for piece in pieces)
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) == {"a": 1, "b": 2}
    assert finish["finish_reason"] == "tool_calls"


async def test_call_ids_are_unique(hand: Hand) -> None:
    """Two calls never have the same id, in one answer or in two."""
    ids: list[str] = []
    for _ in range(2):
        body = (await hand.chat("add 1 and 2", tools=[ADD], n=2)).body
        ids += [choice["message"]["tool_calls"][0]["id"] for choice in body["choices"]]
    assert len(set(ids)) == 4


async def test_a_call_may_be_cut_by_length(hand: Hand) -> None:
    """A call that does not fit its limit has broken arguments and says "length"."""
    body = (await hand.chat("add 1 and 2", tools=[ADD], max_tokens=3)).body
    choice = body["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"a'
    assert body["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("options", "content"),
    [
        (
            {"response_format": _schema({"properties": {"name": {"type": "string"}}, "required": ["name"]})},
            '{"name": "Ada"}',
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "any"}}}, f'"{IGNORANT}"'),
        ({"structured_outputs": {"json": {"enum": ["Bob", "Ada"]}}}, '"Ada"'),
        ({"structured_outputs": {"json": '{"type": "integer"}'}}, "36"),
        ({"structured_outputs": {"choice": ["young", "old"]}}, "old"),
        ({"structured_outputs": {"choice": ["red", "green"]}}, "red"),
        ({"structured_outputs": {"regex": "[A-Z]{2}"}}, "AA"),
    ],
)
async def test_structured_answers_are_valid(hand: Hand, options: Any, content: str) -> None:
    """A constrained answer is an instance of its schema, one of its choices, or a match."""
    choice = (await hand.chat("She is called Ada. She is 36 years old. Who?", **options)).body["choices"][0]
    assert choice["message"]["content"] == content
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "options", [{"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}}]
)
async def test_json_objects_hold_the_answer(hand: Hand, options: Any) -> None:
    """A free JSON object holds the quoted answer."""
    content = (await hand.chat(**options)).body["choices"][0]["message"]["content"]
    assert json.loads(content) == {"answer": SAID}


async def test_json_objects_have_the_keys_that_are_asked_for(hand: Hand) -> None:
    """A question that speaks of keys gets those that it names in quotes."""
    question = "Tell a joke. Answer as JSON with 'setup' and 'punchline' keys."
    content = (await hand.chat(question, response_format={"type": "json_object"})).body["choices"][0]["message"][
        "content"
    ]
    assert json.loads(content).keys() == {"setup", "punchline"}


async def test_structured_answers_obey_the_length_limit(hand: Hand) -> None:
    """JSON that does not fit the limit is cut, as a real server cuts it."""
    choice = (await hand.chat(response_format={"type": "json_object"}, max_tokens=2)).body["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == '{"answer'


async def test_text_format_is_free_text(hand: Hand) -> None:
    """The response format "text" changes nothing, and the retired spellings are ignored as NIM 2.x does."""
    options = {"response_format": {"type": "text"}, "guided_json": {}, "nvext": {"guided_choice": ["a"]}}
    assert (await hand.chat(**options)).body["choices"][0]["message"]["content"] == SAID


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"messages": [3]}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [3]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.text"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 2, "min_tokens": 3}, "min_tokens"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"seed": "x"}, "seed"),
        ({"stop": 3}, "stop"),
        ({"stop": [3]}, "stop"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"logprobs": 5}, "logprobs"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"add_generation_prompt": True, "continue_final_message": True}, "continue_final_message"),
        ({"chat_template_kwargs": "x"}, "chat_template_kwargs"),
        ({"tools": []}, "tools"),
        ({"tools": "add"}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools.function"),
        ({"tools": [{"function": {}}]}, "tools.function.name"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": NAMED}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {}}, "tool_choice.function.name"),
        ({"tools": [ADD], "tool_choice": "sometimes"}, "tool_choice"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "structural_tag"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "json": {}}}, "structured_outputs"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": [1]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs"),
    ],
)
async def test_wrong_options_are_refused_by_name(hand: Hand, options: Any, name: str) -> None:
    """A wrong field is a 400 in vLLM's nested shape that names the field."""
    status, body, _ = await hand.chat(**options)
    assert status == 400
    assert body["error"]["param"] == name
    assert name in body["error"]["message"]
    assert body["error"]["code"] == 400


@pytest.mark.parametrize("messages", [None, []])
async def test_messages_are_needed(hand: Hand, messages: Any) -> None:
    """Missing and empty messages are refused."""
    status, body, _ = await hand.post("/v1/chat/completions", {"model": CHAT, "messages": messages})
    assert (status, body["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize(
    "options",
    [
        {"response_format": _schema({"not": {}})},
        {"structured_outputs": {"regex": "("}},
        {
            "tools": [{"function": {"name": "f", "parameters": {"required": ["a"], "properties": {"a": False}}}}],
            "tool_choice": "required",
        },
    ],
)
async def test_schemas_without_an_instance_are_refused(hand: Hand, options: Any) -> None:
    """The simulator never answers with something invalid: it refuses."""
    status, body, _ = await hand.chat(**options)
    assert status == 400
    assert "The simulator cannot build" in body["error"]["message"]


async def test_the_context_has_an_end(hand: Hand) -> None:
    """A prompt beyond the model's length, alone or with max_tokens, is refused in vLLM's words."""
    too_long = await hand.chat("word " * 140_000)
    assert too_long.status == 400
    assert "maximum context length is 131072 tokens" in too_long.body["error"]["message"]
    assert too_long.body["error"]["param"] == "input_tokens"
    too_much = await hand.chat(PARIS, max_tokens=131_072)
    assert "'max_tokens' or 'max_completion_tokens' is too large" in too_much.body["error"]["message"]
    assert (await hand.chat(PARIS, min_tokens=10**12)).status == 400

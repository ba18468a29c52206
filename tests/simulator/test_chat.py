import json
from typing import Any

import pytest

from .raw import CHAT, PARIS, RawClient

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


async def test_a_plain_answer_quotes_the_messages(raw: RawClient) -> None:
    """A plain answer has vLLM's fields, the quoted sentence and a usage that adds up."""
    status, body, headers = await raw.chat()
    assert status == 200
    choice = body["choices"][0]
    assert choice["message"]["content"] == SAID
    assert choice["message"]["reasoning"] is None
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", None)
    assert body["object"] == "chat.completion"
    assert body["id"] == f"chatcmpl-{headers['X-Request-Id']}"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
VIDEO = {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}
FILE = {"type": "file", "file": {"file_id": "f"}}
VLM = "meta/llama-3.2-11b-vision-instruct"
OMNI = "nvidia/nemotron-3-nano-omni-30b-a3b-reasoning"


async def test_content_parts_are_read_for_their_text(raw: RawClient) -> None:
    """Text parts are put together and images are passed over."""
    text = [
        {"type": "text", "text": text} for text in ("Paris is the capital of France.", "What is the capital of France?")
    ]
    for model in (VLM, OMNI, "mine/own"):
        answer = await raw.chat([text[0], IMAGE, VIDEO, text[1]], model=model)
        assert answer.body["choices"][0]["message"]["content"] == SAID


@pytest.mark.parametrize(
    ("model", "part", "words"),
    [
        (CHAT, IMAGE, f"{CHAT} is not a multimodal model"),
        (CHAT, {"image_url": "data:image/png;base64,AAAA"}, "is not a multimodal model"),
        (CHAT, AUDIO, "is not a multimodal model"),
        (VLM, AUDIO, "At most 0 audio(s) may be provided in one prompt."),
        (OMNI, FILE, "Unknown part type: file"),
        ("mine/own", FILE, "Unknown part type: file"),
    ],
)
async def test_media_a_model_does_not_take(raw: RawClient, model: str, part: Any, words: str) -> None:
    """Media the model was not made for, and files, are a 400 in vLLM's words; what it takes is answered."""
    status, body, _ = await raw.chat([{"type": "text", "text": "What is this?"}, part], model=model)
    assert (status, words in body["error"]["message"]) == (400, True)
    assert (await raw.chat([{"type": "text", "text": "What is this?"}, AUDIO], model=OMNI)).status == 200


async def test_null_content_is_empty(raw: RawClient) -> None:
    """An assistant message that only called a tool has null content, which is no error."""
    messages = [
        {"role": "user", "content": "add 1 and 2"},
        {"role": "assistant", "content": None},
        {"role": "tool", "content": "3"},
    ]
    answer = await raw.chat(messages=messages, tools=[ADD])
    assert answer.body["choices"][0]["message"]["content"] == "Based on the text given: 3"


async def test_the_stream_has_vllms_order(raw: RawClient) -> None:
    """A role chunk, content chunks, a finish chunk, the usage chunk without choices, then [DONE]."""
    events = await raw.stream_chat(stream_options={"include_usage": True})
    assert events[-1] == "[DONE]"
    first, *content, finish, usage = events[:-1]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in content) == SAID
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in content)
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(content)
    assert len({chunk["id"] for chunk in events[:-1]}) == 1


async def test_usage_comes_only_when_asked_for(raw: RawClient) -> None:
    """Without stream options no chunk has a usage; with continuous usage every chunk has one that grows."""
    assert not any("usage" in chunk for chunk in (await raw.stream_chat())[:-1])
    events = await raw.stream_chat(stream_options={"continuous_usage_stats": True})
    counts = [chunk["usage"]["completion_tokens"] for chunk in events[:-1]]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == len(counts) - 2


async def test_stream_and_plain_answer_say_the_same(raw: RawClient) -> None:
    """The pieces of a stream put together are the plain answer."""
    plain = (await raw.chat(n=2, seed=5)).body["choices"]
    said = {0: "", 1: ""}
    for chunk in (await raw.stream_chat(n=2, seed=5))[:-1]:
        for choice in chunk["choices"]:
            said[choice["index"]] += choice["delta"]["content"]
    assert [said[0], said[1]] == [choice["message"]["content"] for choice in plain]
    assert said[0] != said[1]


async def test_the_seed_chooses_the_words(raw: RawClient) -> None:
    """Equal seeds give equal answers, another seed other opening words."""
    said = [(await raw.chat(seed=seed)).body["choices"][0]["message"]["content"] for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_length_limits_are_kept(raw: RawClient, name: str) -> None:
    """An answer that reaches its limit is cut there and says so."""
    body = (await raw.chat(**{name: 3})).body
    assert body["choices"][0]["message"]["content"] == "Based on the"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3


async def test_a_length_can_be_forced(raw: RawClient) -> None:
    """ignore_eos continues to max_tokens and min_tokens at least as far as it says."""
    forced = (await raw.chat(max_tokens=100, ignore_eos=True)).body
    assert forced["usage"]["completion_tokens"] == 100
    assert forced["choices"][0]["finish_reason"] == "length"
    padded = (await raw.chat(min_tokens=50)).body
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
async def test_stop_strings_end_the_answer(raw: RawClient, options: Any, content: str, reason: str | None) -> None:
    """The answer ends before the first stop string, which is named."""
    choice = (await raw.chat(**options)).body["choices"][0]
    assert choice["message"]["content"] == content
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", reason)


async def test_a_limit_before_the_stop_string_wins(raw: RawClient) -> None:
    """A stop string behind the length limit is never reached."""
    choice = (await raw.chat(stop="France", max_tokens=2)).body["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("length", None)


async def test_an_empty_answer_still_finishes_its_stream(raw: RawClient) -> None:
    """A stream whose text is empty has a role chunk and a finish chunk."""
    events = await raw.stream_chat(stop="Based")
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
async def test_reasoning_is_a_field_of_its_own(raw: RawClient, options: Any) -> None:
    """With thinking on, reasoning comes first, apart from the content, and is counted."""
    body = (await raw.chat(**options)).body
    message = body["choices"][0]["message"]
    assert message["reasoning"].startswith("The question is: What is the capital of France?")
    assert message["content"] == SAID
    reasoning_tokens = body["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert 0 < reasoning_tokens < body["usage"]["completion_tokens"]
    deltas = [chunk["choices"][0]["delta"] for chunk in (await raw.stream_chat(**options))[:-1]]
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
async def test_reasoning_can_be_off(raw: RawClient, options: Any) -> None:
    """The template's switch wins over the effort, and reasoning can be hidden."""
    assert (await raw.chat(**options)).body["choices"][0]["message"]["reasoning"] is None


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("nvidia/nemotron-3-nano-30b-a3b", True),
        ("openai/gpt-oss-20b", True),
        ("qwen/qwen3-next-80b-a3b-thinking", True),
        ("qwen/qwen3-next-80b-a3b-instruct", False),
        ("nvidia/llama-3.1-nemotron-nano-8b-v1", False),
        ("deepseek-ai/deepseek-v3.1", False),
        (CHAT, False),
    ],
)
async def test_reasoning_models_reason_by_default(raw: RawClient, model: str, reasons: bool) -> None:
    """A model whose template reasons does so by default, and stops when it is switched off."""
    message = (await raw.chat(model=model)).body["choices"][0]["message"]
    assert (message["reasoning"] is not None, message["content"]) == (reasons, SAID)
    off = await raw.chat(model=model, chat_template_kwargs={"enable_thinking": False})
    assert off.body["choices"][0]["message"]["reasoning"] is None


async def test_tokens_may_run_out_while_thinking(raw: RawClient) -> None:
    """When the limit falls into the reasoning the content is null."""
    choice = (await raw.chat(max_tokens=2, chat_template_kwargs={"thinking": True})).body["choices"][0]
    assert choice["message"]["content"] is None
    assert choice["message"]["reasoning"] == "The questi"
    assert choice["finish_reason"] == "length"


async def test_logprobs_belong_to_the_tokens(raw: RawClient) -> None:
    """Each token has a log probability not above zero, and is the first of its likeliest ones."""
    body = (await raw.chat(logprobs=True, top_logprobs=3)).body
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
        for chunk in (await raw.stream_chat(logprobs=True, top_logprobs=3))[:-1]
        for entry in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert streamed == entries


async def test_logprobs_without_alternatives_and_with_all(raw: RawClient) -> None:
    """Without a number there are no alternatives; -1 means all there are."""
    bare = (await raw.chat(logprobs=True)).body["choices"][0]["logprobs"]["content"][0]
    assert bare["top_logprobs"] == []
    every = (await raw.chat(logprobs=True, top_logprobs=-1)).body["choices"][0]["logprobs"]["content"][0]
    assert len(every["top_logprobs"]) == 20


@pytest.mark.parametrize(
    ("choice", "finish"), [("required", "tool_calls"), ("auto", "tool_calls"), (None, "tool_calls")]
)
async def test_a_tool_is_called_with_arguments_from_the_question(raw: RawClient, choice: Any, finish: str) -> None:
    """The tool that fits the question is called with the numbers found in it."""
    answer = await raw.chat("Add the numbers 17 and 25.", tools=[WEATHER, ADD], tool_choice=choice)
    found = answer.body["choices"][0]
    call = found["message"]["tool_calls"][0]
    assert found["message"]["content"] is None
    assert found["finish_reason"] == finish
    assert (call["type"], call["function"]["name"]) == ("function", "add")
    assert json.loads(call["function"]["arguments"]) == {"a": 17, "b": 25}


async def test_a_named_tool_finishes_with_stop(raw: RawClient) -> None:
    """vLLM says "stop" when the caller named the tool; one without parameters gets no arguments."""
    found = (await raw.chat("Add 1 and 2", tools=[ADD, WEATHER], tool_choice=NAMED)).body["choices"][0]
    assert found["finish_reason"] == "stop"
    assert found["message"]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": "{}"}


@pytest.mark.parametrize("choice", ["none", "auto"])
async def test_words_when_no_tool_fits(raw: RawClient, choice: str) -> None:
    """With "none", and with "auto" when no tool shares a word with the question, the reply is words."""
    found = (await raw.chat(tools=[ADD], tool_choice=choice)).body["choices"][0]
    assert found["message"]["content"] == SAID
    assert "tool_calls" not in found["message"]


async def test_tool_calls_are_streamed_in_vllms_form(raw: RawClient) -> None:
    """The first delta has index, id, type and name, the others only pieces of the arguments."""
    events = await raw.stream_chat("add 1 and 2", tools=[ADD], tool_choice="required")
    _, first, *rest, finish = [chunk["choices"][0] for chunk in events[:-1]]
    opening = first["delta"]["tool_calls"][0]
    assert opening["index"] == 0
    assert opening["id"].startswith("chatcmpl-tool-")
    assert (opening["type"], opening["function"]) == ("function", {"name": "add", "arguments": ""})
    pieces = [choice["delta"]["tool_calls"][0] for choice in rest]
    assert all(piece.keys() == {"index", "function"} for piece in pieces)
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) == {"a": 1, "b": 2}
    assert finish["finish_reason"] == "tool_calls"


PLACES = "The weather of a city"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER_OF = {"type": "function", "function": {"name": "get_weather", "description": PLACES, "parameters": CITY}}
BOTH = "What is the weather in Paris and Rome, and add 17 and 25?"


def _called(body: Any) -> list[tuple[str, Any]]:
    calls = body["choices"][0]["message"].get("tool_calls", [])
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


async def test_several_tools_are_called_at_once(raw: RawClient) -> None:
    """A series of names is a call for each, and every tool that the question names is called; unless only one may be."""
    tools = [ADD, WEATHER_OF]
    calls = _called((await raw.chat(BOTH, tools=tools)).body)
    weather = [("get_weather", {"city": city}) for city in ("Paris", "Rome")]
    assert sorted(calls, key=str) == sorted([*weather, ("add", {"a": 17, "b": 25})], key=str)
    assert len(_called((await raw.chat(BOTH, tools=tools, parallel_tool_calls=False)).body)) == 1
    assert _called((await raw.chat(BOTH, tools=tools, tool_choice=NAMED)).body) == weather
    events = await raw.stream_chat(BOTH, tools=tools)
    deltas = [call for chunk in events[:-1] for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert len({delta["id"] for delta in deltas if "id" in delta}) == 3
    joined: dict[int, str] = {}
    for delta in deltas:
        joined[delta["index"]] = joined.get(delta["index"], "") + delta["function"]["arguments"]
    assert [json.loads(text) for text in joined.values()] == [arguments for _, arguments in calls]


async def test_a_tool_is_called_for_what_the_text_has(raw: RawClient) -> None:
    """With "auto" a value that is surely one of a tool's arguments is enough, though no word is shared with its name."""
    parameters = {"type": "object", "properties": FIELDS, "required": ["name", "age"]}
    tool = {"type": "function", "function": {"name": "Somebody", "parameters": parameters}}
    assert _called((await raw.chat(TEXT, tools=[tool])).body) == [("Somebody", {"name": "Ada Lovelace", "age": 36})]


async def test_a_required_tool_is_not_the_same_for_ever(raw: RawClient) -> None:
    """With "required" each tool has its turn before one is called again."""
    messages: list[Any] = [{"role": "user", "content": "Add 1 and 2."}]
    names: list[str] = []
    for _ in range(3):
        answer = await raw.chat(messages=messages, tools=[ADD, WEATHER_OF], tool_choice="required")
        message = answer.body["choices"][0]["message"]
        names += [name for name, _ in _called(answer.body)]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "3"} for call in message["tool_calls"]]
        messages += [{"role": "assistant", "content": None, "tool_calls": message["tool_calls"]}, *results]
    assert names == ["add", "get_weather", "add"]


async def test_call_ids_are_unique(raw: RawClient) -> None:
    """Two calls never have the same id, in one answer or in two."""
    ids: list[str] = []
    for _ in range(2):
        body = (await raw.chat("add 1 and 2", tools=[ADD], n=2)).body
        ids += [choice["message"]["tool_calls"][0]["id"] for choice in body["choices"]]
    assert len(set(ids)) == 4


async def test_a_call_may_be_cut_by_length(raw: RawClient) -> None:
    """A call that does not fit its limit has broken arguments and says "length"."""
    body = (await raw.chat("add 1 and 2", tools=[ADD], max_tokens=3)).body
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
async def test_structured_answers_are_valid(raw: RawClient, options: Any, content: str) -> None:
    """A constrained answer is an instance of its schema, one of its choices, or a match."""
    choice = (await raw.chat("She is called Ada. She is 36 years old. Who?", **options)).body["choices"][0]
    assert choice["message"]["content"] == content
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "options", [{"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}}]
)
async def test_json_objects_hold_the_answer(raw: RawClient, options: Any) -> None:
    """A free JSON object holds the quoted answer."""
    content = (await raw.chat(**options)).body["choices"][0]["message"]["content"]
    assert json.loads(content) == {"answer": SAID}


TEXT = "Ada Lovelace is 36 years old and lives in London."
FIELDS = {"name": {"type": "string"}, "age": {"type": "integer"}}
PERSON = json.dumps({"type": "object", "properties": FIELDS, "required": ["name", "age"]})
LANGCHAIN = (
    "The output should be formatted as a JSON instance that conforms to the JSON schema below.\n\nAs an example, for the "
    'schema {"properties": {"foo": {"title": "Foo", "type": "array", "items": {"type": "string"}}}, "required": ["foo"]}\n'
    'the object {"foo": ["bar", "baz"]} is a well-formatted instance of the schema.\n\nHere is the output schema:\n```\n'
    f"{PERSON}\n```"
)


@pytest.mark.parametrize(
    ("instruction", "free"),
    [
        (f"Answer with one JSON object and nothing else. It must fit this JSON schema: {PERSON}", False),
        (f"Always respond with a JSON object that is compatible with this schema:\n\n{PERSON}\n\nNo Markdown.", True),
        (LANGCHAIN, True),
        ('Answer as JSON like {"name": "Bob", "age": 3}.', False),
        ("Return JSON with the keys `name` and `age`.", False),
        ("Give me JSON. Keys: name (string), age (integer)", False),
        ("Extract the name and age as JSON.", False),
        ("Return the result as a JSON with 'name' and 'age' keys. Return nothing other than JSON.", False),
    ],
)
async def test_json_asked_for_in_words(raw: RawClient, instruction: str, free: bool) -> None:
    """A schema, an example or keys in the messages are what a JSON object is made of; with a schema also without a mode."""
    for messages in (
        [{"role": "system", "content": instruction}, {"role": "user", "content": TEXT}],
        [{"role": "user", "content": f"{TEXT}\n\n{instruction}"}],
        [{"role": "user", "content": TEXT}, {"role": "user", "content": instruction}],
    ):
        answer = await raw.chat(messages=messages, response_format={"type": "json_object"})
        assert json.loads(answer.body["choices"][0]["message"]["content"]) == {"name": "Ada Lovelace", "age": 36}
        if free:
            content = (await raw.chat(messages=messages)).body["choices"][0]["message"]["content"]
            assert json.loads(content) == {"name": "Ada Lovelace", "age": 36}


async def test_structured_answers_obey_the_length_limit(raw: RawClient) -> None:
    """JSON that does not fit the limit is cut, as a real server cuts it."""
    choice = (await raw.chat(response_format={"type": "json_object"}, max_tokens=2)).body["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == '{"answer'


async def test_text_format_is_free_text(raw: RawClient) -> None:
    """The response format "text" changes nothing, and the retired spellings are ignored as NIM 2.x does."""
    options = {"response_format": {"type": "text"}, "guided_json": {}, "nvext": {"guided_choice": ["a"]}}
    assert (await raw.chat(**options)).body["choices"][0]["message"]["content"] == SAID


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
async def test_wrong_options_are_rejected_by_name(raw: RawClient, options: Any, name: str) -> None:
    """A wrong field is a 400 in vLLM's nested shape that names the field."""
    status, body, _ = await raw.chat(**options)
    assert status == 400
    assert body["error"]["param"] == name
    assert name in body["error"]["message"]
    assert body["error"]["code"] == 400


@pytest.mark.parametrize("messages", [None, []])
async def test_messages_are_needed(raw: RawClient, messages: Any) -> None:
    """Missing and empty messages are rejected."""
    status, body, _ = await raw.post("/v1/chat/completions", {"model": CHAT, "messages": messages})
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
async def test_schemas_without_an_instance_are_rejected(raw: RawClient, options: Any) -> None:
    """The simulator never answers with something invalid: it rejects."""
    status, body, _ = await raw.chat(**options)
    assert status == 400
    assert "The simulator cannot build" in body["error"]["message"]


async def test_a_prefix_is_cached(raw: RawClient) -> None:
    """Whole blocks of 16 tokens that an earlier prompt began with are counted, but never the last token; salts are apart."""
    long = [{"role": "user", "content": "word " * 40 + "What is it?"}]
    first = (await raw.chat(messages=long)).body["usage"]
    assert first["prompt_tokens_details"] is None
    more = [*long, {"role": "assistant", "content": "a word"}, {"role": "user", "content": "Why?"}]
    cached = (await raw.chat(messages=more)).body["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached % 16 == 0
    assert 32 <= cached < first["prompt_tokens"]
    assert (await raw.chat(messages=more, cache_salt="b")).body["usage"]["prompt_tokens_details"] is None
    events = await raw.stream_chat("word " * 40 + "What is it?", stream_options={"include_usage": True})
    assert events[-2]["usage"]["prompt_tokens_details"] == {"cached_tokens": cached}


async def test_the_context_has_an_end(raw: RawClient) -> None:
    """A prompt beyond the model's length, alone or with max_tokens, is rejected in vLLM's words."""
    too_long = await raw.chat("word " * 140_000)
    assert too_long.status == 400
    assert "maximum context length is 131072 tokens" in too_long.body["error"]["message"]
    assert too_long.body["error"]["param"] == "input_tokens"
    too_much = await raw.chat(PARIS, max_tokens=131_072)
    assert "'max_tokens' or 'max_completion_tokens' is too large" in too_much.body["error"]["message"]
    assert (await raw.chat(PARIS, min_tokens=10**12)).status == 400

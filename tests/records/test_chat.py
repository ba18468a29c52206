"""Chat records: strict on the spine, tolerant elsewhere, and nothing of an answer is lost."""

import copy
import json
import math
import pickle

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient import ResponseMeta
from nimclient.errors import DecodeError, ToolError
from nimclient.records import Headers
from nimclient.records.chat import (
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Delta,
    Logprobs,
    Message,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
    decode_chat,
    decode_logprobs,
    decode_message,
    decode_usage,
)

META = ResponseMeta(200, Headers([(b"X-Request-Id", b"r-1")]), "http://host/v1/chat/completions")
TOKEN = {
    "token": "Hi",
    "logprob": -0.5,
    "bytes": [72, 105],
    "top_logprobs": [{"token": "", "logprob": -9999.0, "bytes": []}],
}
CALL = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
FULL = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1790000000,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi", "reasoning": "hm", "refusal": "no", "tool_calls": [CALL]},
            "logprobs": {"content": [TOKEN], "refusal": [TOKEN]},
            "finish_reason": "stop",
            "stop_reason": 7,
            "token_ids": [1, 2],
        },
        {
            "index": 1,
            "message": {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
            "finish_reason": "length",
        },
    ],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 3},
    },
    "system_fingerprint": "fp",
    "nvext": {"worker_id": 1},
}
VLLM = {  # section 1.6 of the wire protocol: explicit nulls everywhere
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi", "reasoning": None, "tool_calls": [], "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": None,
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "prompt_tokens_details": None},
    "kv_transfer_params": None,
}


def choice(**message):
    return {"choices": [{"index": 0, "message": message}]}


def test_a_full_answer_is_read_field_by_field():
    """Every field of the protocol lands in the field of its name, sequences as tuples."""
    reply = decode_chat(FULL, META)
    assert (reply.id, reply.object, reply.created, reply.model) == ("chatcmpl-1", "chat.completion", 1790000000, "m")
    assert (reply.system_fingerprint, reply.extra, reply.meta) == ("fp", {"nvext": {"worker_id": 1}}, META)
    assert reply.usage == Usage(9, 2, 11, {"cached_tokens": 3})
    token = TokenLogprob("Hi", -0.5, (72, 105), (TokenLogprob("", -9999.0, ()),))
    assert reply.choices == (
        Choice(
            0,
            Message("assistant", "Hi", tool_calls=(ToolCall("a", "add", '{"a":1}'),), reasoning="hm", refusal="no"),
            "stop",
            Logprobs((token,), (token,)),
            7,
            extra={"token_ids": [1, 2]},
        ),
        Choice(1, Message("assistant", [{"type": "text", "text": "x"}]), "length"),
    )


def test_short_cuts_speak_of_the_first_choice():
    """text, reasoning, tool_calls, finish_reason, logprobs and message are those of the first choice."""
    reply = decode_chat(FULL)
    first = reply.choices[0]
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("Hi", "hm", "stop")
    assert (reply.tool_calls, reply.logprobs, reply.message) == (
        first.message.tool_calls,
        first.logprobs,
        first.message,
    )


def test_short_cuts_of_an_answer_without_choices():
    """Without a choice text is empty, tool_calls is (), everything else None."""
    reply = decode_chat({"choices": []})
    assert (reply.text, reply.reasoning, reply.tool_calls) == ("", None, ())
    assert (reply.finish_reason, reply.logprobs, reply.message, reply.usage) == (None, None, None, None)


def test_explicit_nulls_are_as_good_as_absent():
    """vLLM's nulls become None and (), never a failure."""
    reply = decode_chat(VLLM)
    assert (reply.text, reply.reasoning, reply.tool_calls, reply.logprobs) == ("Hi", None, (), None)
    assert reply.extra == {"kv_transfer_params": None}


@pytest.mark.parametrize(
    ("message", "reasoning", "extra"),
    [
        ({"reasoning": "r"}, "r", {}),
        ({"reasoning_content": "r"}, "r", {"reasoning_content": "r"}),
        ({"reasoning": None, "reasoning_content": "r"}, "r", {"reasoning_content": "r"}),
        ({"reasoning": "r", "reasoning_content": "old"}, "r", {"reasoning_content": "old"}),
        ({"reasoning": "r", "reasoning_content": "r"}, "r", {}),
        ({"reasoning": 5}, None, {}),
        ({}, None, {}),
    ],
)
def test_reasoning_is_read_under_both_names(message, reasoning, extra):
    """`reasoning` first, else `reasoning_content`, which extra keeps."""
    decoded = decode_message(message)
    assert (decoded.reasoning, decoded.extra) == (reasoning, extra)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (None, "body"),
        ([], "body"),
        ("ok", "body"),
        (5, "body"),
        (True, "body"),
        ({}, "choices"),
        ({"choices": None}, "choices"),
        ({"choices": {}}, "choices"),
        ({"choices": "x"}, "choices"),
        ({"choices": [None]}, "choices[0]"),
        ({"choices": ["x"]}, "choices[0]"),
        ({"choices": [{}]}, "choices[0].message"),
        ({"choices": [{"message": None}]}, "choices[0].message"),
        ({"choices": [{"message": {}}, {"message": []}]}, "choices[1].message"),
    ],
)
def test_the_spine_is_strict(body, path):
    """Without choices that are objects with messages there is no answer: a DecodeError with path, status, request id."""
    with pytest.raises(DecodeError) as caught:
        decode_chat(body, META)
    assert caught.value.path == path
    assert (caught.value.status, caught.value.request_id) == (200, "r-1")
    assert "(request id r-1)" in caught.value.message


def mutate(draw, value):
    """`value` with one place of it replaced by any JSON, or taken out."""
    replacement = draw(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just([]) | st.just({})
    )
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place))) if isinstance(place, list) else []
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or draw(st.integers(0, 3)) == 0:
            if draw(st.booleans()):
                place[key] = replacement
            else:
                del place[key]
            return
        place = place[key]


@st.composite
def mutations(draw):
    value = copy.deepcopy(draw(st.sampled_from([FULL, VLLM])))
    for _ in range(draw(st.integers(1, 4))):
        mutate(draw, value)
    return value


@settings(deadline=None, max_examples=3 * settings().max_examples)
@given(mutations())
def test_no_mutation_of_an_answer_raises_anything_but_decode_error(body):
    """Whatever is wrong with an answer, it is read or a DecodeError; what is read is usable and goes round."""
    before = json.dumps(body)
    try:
        reply = decode_chat(body, META)
    except DecodeError as error:
        assert error.path.startswith("choices")  # noqa: PT017
        return
    assert json.dumps(body) == before, "the answer was changed"
    assert isinstance(reply.text, str)
    assert reply.reasoning is None or isinstance(reply.reasoning, str)
    assert repr(decode_chat(reply.to_dict())) == repr(decode_chat(decode_chat(reply.to_dict()).to_dict()))
    assert repr(pickle.loads(pickle.dumps(reply))) == repr(reply)


@pytest.mark.parametrize(
    "body",
    [
        FULL,
        VLLM,
        {"choices": []},
        choice(),
        choice(role="tool", content=[], name="n", tool_call_id="t", annotations=None),
        choice(tool_calls=[{**CALL, "index": 3}, {"id": None}]),
        {"choices": [{"message": {}, "logprobs": {}}, {"message": {}, "logprobs": {"content": None, "odd": 1}}]},
        {"choices": [], "usage": {}},
        {"choices": [], "usage": {"prompt_tokens": None, "odd": 1}},
    ],
)
def test_to_dict_goes_round(body):
    """Decoding to_dict() gives the same record, which also survives JSON."""
    reply = decode_chat(body)
    assert decode_chat(reply.to_dict()) == reply
    assert decode_chat(json.loads(json.dumps(reply.to_dict()))) == reply


def test_to_dict_keeps_what_the_server_sent():
    """The dict of a full answer is the answer itself."""
    assert decode_chat(FULL, META).to_dict() == FULL


def test_meta_is_not_compared():
    """A copy with another meta is equal."""
    reply = decode_chat(FULL)
    assert evolve(reply, meta=META) == reply
    assert evolve(reply, meta=META).meta is META


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hi", "hi"),
        (None, ""),
        ("", ""),
        ([], ""),
        (
            [
                {"type": "text", "text": "a"},
                "b",
                {"type": "output_text", "text": "c"},
                {"type": "input_text", "text": "d"},
            ],
            "abcd",
        ),
        (({"type": "text", "text": "a"},), "a"),
        (
            [
                {"type": "image_url", "text": "alt"},
                {"type": "text"},
                {"type": "text", "text": 5},
                {"text": "x"},
                None,
                5,
            ],
            "",
        ),
        (5, ""),
        ({"type": "text", "text": "a"}, "a"),
        (True, ""),
    ],
)
def test_text_is_always_a_str(content, text):
    """The text parts of a content list are joined, one part alone is its text; anything else has no text."""
    assert Message("user", content).text == text
    assert decode_message({"content": content}).text == text


def test_messages_take_any_iterable_of_calls():
    """tool_calls is a tuple whatever it was made of."""
    call = ToolCall("a", "f", "{}")
    assert Message("assistant", tool_calls=[call]) == Message("assistant", tool_calls=(c for c in [call]))


def test_records_are_frozen():
    """A field cannot be set."""
    for record, name in [(Message("user"), "role"), (decode_chat(FULL), "id"), (Usage(), "total_tokens")]:
        with pytest.raises(AttributeError):
            setattr(record, name, None)


# tool calls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [
        ("null", {}),
        ("", {}),
        ("  \n", {}),
        ("{}", {}),
        ('{"a": [1, null]}', {"a": [1, None]}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('""', {}),
        ('{"a": "\\ud83d\\ude42"}', {"a": "🙂"}),
        ('{"a": "\\ud800"}', {"a": "\ufffd"}),
        ('{\n"a": "one\ntwo\t\\n"}', {"a": "one\ntwo\t\n"}),
    ],
)
def test_arguments_are_parsed(arguments, parsed):
    """Empty means none; those encoded twice (vLLM before 0.18) are decoded twice; line ends in a string belong to it."""
    assert ToolCall("a", "f", arguments).parse() == parsed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('{"a": ', "incomplete or not JSON"),
        ("f(1)", "incomplete or not JSON"),
        ('{"a": "\ud800"}', "incomplete or not JSON"),
        ('"{"', "incomplete or not JSON"),
        ("[1]", "not a JSON object"),
        ("5", "not a JSON object"),
        ('"\\"{}\\""', "not a JSON object"),
    ],
)
def test_arguments_that_are_no_object_are_a_tool_error(arguments, words):
    """Cut off, invalid or of another type: ToolError with the name of the tool, never a guess."""
    with pytest.raises(ToolError, match=f"the arguments of tool call 'f' are {words}"):
        ToolCall("a", "f", arguments).parse()


@pytest.mark.parametrize(
    ("value", "call"),
    [
        (CALL, ToolCall("a", "add", '{"a":1}')),
        ({"function": {"name": "f", "arguments": {"a": 1}}}, ToolCall("", "f", '{"a":1}')),
        ({"function": {"name": "f", "arguments": None}}, ToolCall("", "f", "")),
        ({"function": {"name": None}}, ToolCall("", "", "")),
        ({"function": "f", "id": 5, "type": None}, ToolCall("", "", "")),
        ({**CALL, "type": "custom", "odd": 1}, ToolCall("a", "add", '{"a":1}', "custom", extra={"odd": 1})),
    ],
)
def test_tool_calls_are_read_tolerantly(value, call):
    """Arguments sent as an object become text; what is missing is empty; what is unknown is kept."""
    assert decode_message({"tool_calls": [value]}).tool_calls == (call,)


@pytest.mark.parametrize("value", [None, [], {}, "x", [None, 5, "x"]])
def test_what_is_no_list_of_calls_is_no_call(value):
    """A wrong type of tool_calls is as if there were none."""
    assert decode_message({"tool_calls": value}).tool_calls == ()


# usage, log probabilities --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "usage"),
    [
        (None, None),
        ([], None),
        ("x", None),
        ({}, Usage()),
        (
            {"prompt_tokens": 5, "total_tokens": True, "completion_tokens": "3"},
            Usage(5, 3, extra={"total_tokens": True}),
        ),
        ({"prompt_tokens": 5, "num_images": 2}, Usage(5, extra={"num_images": 2})),
        ({"input_tokens": 5, "output_tokens": 2}, Usage(5, 2, 7)),
        ({"input_tokens": 5, "output_tokens": 2, "total_tokens": 9}, Usage(5, 2, 9)),
        (
            {"completion_tokens_details": {"reasoning_tokens": 4}},
            Usage(completion_tokens_details={"reasoning_tokens": 4}),
        ),
    ],
)
def test_usage_is_read_tolerantly(value, usage):
    """Counts that are no whole numbers are 0, a missing sum is one; what is unknown is kept."""
    assert decode_usage(value) == usage


def test_usage_adds_up():
    """The counts are added, details are left out."""
    assert Usage(1, 2, 3, {"cached_tokens": 1}) + Usage(10, 20, 30) == Usage(11, 22, 33)


@pytest.mark.parametrize(
    ("value", "logprobs"),
    [
        (None, None),
        ([], None),
        ({}, Logprobs()),
        ({"content": None, "odd": 1}, Logprobs(extra={"odd": 1})),
        ({"content": ["x", None, {}]}, Logprobs((TokenLogprob("", math.nan),))),
        ({"content": [{"token": None, "logprob": -1.0, "bytes": None}]}, Logprobs((TokenLogprob("", -1.0),))),
        (
            {"content": [{"token": "a", "logprob": -1.0, "rank": 3}]},
            Logprobs((TokenLogprob("a", -1.0, extra={"rank": 3}),)),
        ),
    ],
)
def test_log_probabilities_are_read_tolerantly(value, logprobs):
    """Tokens that are no objects are passed over, nulls are empty, what is unknown is kept."""
    assert decode_logprobs(value) == logprobs


# chunks --------------------------------------------------------------------------------------------------------------

EVENT = {
    "id": "c1",
    "choices": [
        {"index": 1, "delta": {"content": "other"}, "finish_reason": "length"},
        {
            "index": 0,
            "delta": {
                "role": "assistant",
                "content": "Hi",
                "reasoning_content": "hm",
                "refusal": "no",
                "tool_calls": [
                    {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
                    {"function": None},
                ],
            },
            "finish_reason": "stop",
            "logprobs": {"content": [TOKEN]},
        },
    ],
    "usage": {"prompt_tokens": 3},
    "nvext": {"w": 1},
}


def test_a_chunk_builds_its_parts_when_asked():
    """Choices, deltas, tool-call pieces, usage and extra are read from the event."""
    chunk = ChatChunk(EVENT, "Hi", META)
    pieces = (ToolCallDelta(0, "a", "f", "{"), ToolCallDelta(None, None, None, ""))
    assert (chunk.text, chunk.reasoning, chunk.finish_reason, chunk.tool_calls) == ("Hi", "hm", "stop", pieces)
    assert (chunk.usage, chunk.extra, chunk.meta) == (Usage(3), {"id": "c1", "nvext": {"w": 1}}, META)
    assert chunk.choices == (
        ChunkChoice(1, Delta(None, "other", None, None, ()), "length", None),
        ChunkChoice(0, Delta("assistant", "Hi", "hm", "no", pieces), "stop", decode_logprobs({"content": [TOKEN]})),
    )


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": ["x"]},
        {"choices": [{"index": 1, "delta": {"reasoning": "x"}}]},
    ],
)
def test_a_chunk_without_a_first_choice_is_empty(event):
    """An event of usage, or of another choice, adds nothing to the first one."""
    chunk = ChatChunk(event, "")
    assert (chunk.text, chunk.reasoning, chunk.finish_reason, chunk.tool_calls) == ("", None, None, ())
    assert (chunk.usage, chunk.meta) == (None, None)


def test_chunks_are_values():
    """Equal by event, not hashable, shown with the event, read-only, pickled whole; to_dict is a copy."""
    chunk = ChatChunk(EVENT, "Hi", META)
    assert chunk == ChatChunk(copy.deepcopy(EVENT), "Hi")
    assert chunk != ChatChunk({}, "")
    assert chunk != EVENT
    assert repr(chunk) == f"ChatChunk({EVENT!r})"
    with pytest.raises(TypeError, match="unhashable"):
        hash(chunk)
    with pytest.raises(AttributeError):
        chunk.text = "x"
    twin = pickle.loads(pickle.dumps(chunk))
    assert (twin, twin.text, twin.meta) == (chunk, "Hi", META)
    chunk.to_dict()["id"] = "changed"
    assert EVENT["id"] == "c1"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "record",
    [
        decode_chat(FULL, META),
        Message("user", "x"),
        ToolCall("a", "f", ""),
        TokenLogprob("a", -1.0),
        Logprobs(),
        Usage(1),
        ToolCallDelta(0, None, None, ""),
        Delta(None, None, None, None, ()),
        ChatCompletion(None, None, ()),
        Choice(0, Message("assistant")),
        ChunkChoice(0, Delta(None, None, None, None, ()), None, None),
    ],
    ids=lambda record: type(record).__name__,
)
def test_records_pickle_and_copy(record, protocol):
    """Every record comes back equal from a pickle and from a deep copy, meta included."""
    for twin in (pickle.loads(pickle.dumps(record, protocol)), copy.deepcopy(record)):
        assert twin == record
        assert getattr(twin, "meta", None) == getattr(record, "meta", None)


def test_an_answer_prints_short() -> None:
    """At most 200 characters, however long the text: the model, what it said, how it ended, the tokens."""
    body = {
        "id": "x" * 60,
        "model": "nvidia/a-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word\n" * 900}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 900, "total_tokens": 903},
    }
    shown = repr(decode_chat(body))
    assert len(shown) <= 200
    assert shown.startswith("ChatCompletion(model='nvidia/a-model', text='word\\nword")
    assert shown.endswith("…, finish_reason='stop', usage=3+900 tokens)")
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {**body, "choices": [{"index": n, "message": message} for n in range(2)], "usage": None}
    shown = "ChatCompletion(model='nvidia/a-model', tool_calls=['weather'], choices=2, finish_reason=None)"
    assert repr(decode_chat(body)) == shown

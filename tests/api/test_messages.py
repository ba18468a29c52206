"""Messages in all the forms callers write them become the objects on the wire, and the caller's data stays as it is."""

import copy

import pytest

from nimclient._api.messages import sendable_arguments, wire_messages
from nimclient.errors import ConfigurationError
from nimclient.records.chat import Message, ToolCall, decode_chat, decode_message

CALL = ToolCall("a", "add", '{"a":1}')
CALL_WIRE = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


@pytest.mark.parametrize(
    ("messages", "wire"),
    [
        ("hi", [{"role": "user", "content": "hi"}]),
        ('<img src="x"/>', [{"role": "user", "content": '<img src="x"/>'}]),
        ([{"role": "user", "content": "hi"}], [{"role": "user", "content": "hi"}]),
        (({"role": "user", "content": "hi"},), [{"role": "user", "content": "hi"}]),
        ([("user", "hi")], [{"role": "user", "content": "hi"}]),
        ([("human", "hi"), ("ai", "ho")], [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]),
        ([("context", "hi")], [{"role": "context", "content": "hi"}]),
        ([("user", ["look", IMAGE])], [{"role": "user", "content": [{"type": "text", "text": "look"}, IMAGE]}]),
        ([("user", None)], [{"role": "user", "content": None}]),
        ([{"role": "human", "content": "hi"}], [{"role": "human", "content": "hi"}]),
        ([{"role": "ai", "content": "hi"}], [{"role": "ai", "content": "hi"}]),
        ([{"role": "user", "content": ("a", "b")}],
         [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]),
        ([{"role": "user", "content": "hi", "odd": {"x": 1}}], [{"role": "user", "content": "hi", "odd": {"x": 1}}]),
        ([{"role": "assistant", "tool_calls": [CALL_WIRE]}], [{"role": "assistant", "tool_calls": [CALL_WIRE]}]),
        ([{"role": "assistant", "content": None}], [{"role": "assistant", "content": None}]),
        ([Message("user", "hi")], [{"role": "user", "content": "hi"}]),
        ([Message("ai", "hi")], [{"role": "ai", "content": "hi"}]),
        ([Message("user", ["look", IMAGE])], [{"role": "user", "content": [{"type": "text", "text": "look"}, IMAGE]}]),
        ([Message("user", "hi", name="bob")], [{"role": "user", "content": "hi", "name": "bob"}]),
        ([Message("tool", "3", tool_call_id="a")], [{"role": "tool", "content": "3", "tool_call_id": "a"}]),
        ([Message("assistant", "", tool_calls=[CALL])],
         [{"role": "assistant", "content": None, "tool_calls": [CALL_WIRE]}]),
        ([Message("assistant", None, tool_calls=[CALL])],
         [{"role": "assistant", "content": None, "tool_calls": [CALL_WIRE]}]),
        ([Message("assistant", "let me", tool_calls=[CALL])],
         [{"role": "assistant", "content": "let me", "tool_calls": [CALL_WIRE]}]),
        ([Message("assistant", "", tool_calls=())], [{"role": "assistant", "content": ""}]),
        ([Message("assistant", "x", reasoning="hm", refusal="no", extra={"odd": 1})],
         [{"role": "assistant", "content": "x"}]),
        (iter([("user", "hi")]), [{"role": "user", "content": "hi"}]),
        (["mixed"] and [("system", "s"), {"role": "user", "content": "u"}, Message("assistant", "a")],
         [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]),
    ],
)  # fmt: skip
def test_every_form_of_messages(messages, wire):
    """str, dict, record and tuple, mixed; aliases of roles in tuples only; a str in a content list is a text part."""
    assert wire_messages(messages) == wire


@pytest.mark.parametrize(
    ("echo", "reasoning", "sent"), [(True, "hm", {"reasoning": "hm"}), (True, None, {}), (False, "hm", {})]
)
def test_reasoning_goes_back_only_when_asked_for(echo, reasoning, sent):
    """echo_reasoning=True sends the reasoning of a record; otherwise it stays here."""
    (wire,) = wire_messages([Message("assistant", "x", reasoning=reasoning)], echo_reasoning=echo)
    assert wire == {"role": "assistant", "content": "x", **sent}


@pytest.mark.parametrize(
    ("came", "name"),
    [
        ({"reasoning": "hm"}, "reasoning"),
        ({"reasoning_content": "hm"}, "reasoning_content"),
        ({"reasoning_content": [{"type": "text", "text": "hm"}]}, "reasoning_content"),
        ({"reasoning": "hm", "reasoning_content": "hm"}, "reasoning"),
        ({"reasoning": "hm", "reasoning_content": "h"}, "reasoning"),
    ],
)
def test_reasoning_goes_back_under_the_name_that_the_server_reads(came, name):
    """The old name where it is the only one; vLLM sent both, and reads `reasoning` only."""
    message = {"role": "assistant", "content": "x", **came}
    reply = decode_chat({"choices": [{"index": 0, "message": message}]})
    assert wire_messages([("user", "q"), reply.message], echo_reasoning=True)[1][name] == "hm"


def test_an_answer_without_text_goes_back_with_an_empty_one():
    """An answer cut off within its reasoning: templates fail on null, or write "None" into the prompt."""
    message = decode_message({"role": "assistant", "content": None, "reasoning": "hm"})
    assert wire_messages([message]) == [{"role": "assistant", "content": ""}]


def test_blocks_of_reasoning_go_back_with_it():
    """OpenRouter and LiteLLM reject a block without its signature, or the history without the block."""
    blocks = {"reasoning_details": [{"type": "reasoning.encrypted", "data": "AA"}], "thinking_blocks": [{"type": "t"}]}
    message = decode_message({"role": "assistant", "content": "x", **blocks})
    assert wire_messages([message], echo_reasoning=True) == [{"role": "assistant", "content": "x", **blocks}]
    assert wire_messages([message]) == [{"role": "assistant", "content": "x"}]


@pytest.mark.parametrize(
    "signed",
    [
        {"extra_content": {"google": {"thought_signature": "SIG=="}}},
        {"provider_specific_fields": {"thought_signature": "SIG=="}},
    ],
    ids=["Gemini", "LiteLLM"],
)
def test_the_signature_of_a_call_goes_back(signed):
    """Gemini rejects a call without it (aiproxy #450, securo #884); other additions of servers are not sent."""
    message = decode_message({"role": "assistant", "tool_calls": [{**CALL_WIRE, **signed, "provider": "x"}]})
    assert wire_messages([message])[0]["tool_calls"] == [{**CALL_WIRE, **signed}]


def test_an_answer_goes_back_as_a_message():
    """The message of a completion, unknown fields and all, is sent as role, content and tool calls."""
    message = {"role": "assistant", "content": None, "tool_calls": [CALL_WIRE], "refusal": None, "annotations": []}
    reply = decode_chat({"choices": [{"index": 0, "message": message}]})
    assert wire_messages([("user", "q"), reply.message])[1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [CALL_WIRE],
    }


@pytest.mark.parametrize("messages", [b"hi", {"role": "user", "content": "hi"}, Message("user", "hi"), 5, None])
def test_what_is_no_list_of_messages_is_a_type_error(messages):
    """A single message, bytes or anything else that is no list is a TypeError that names its type."""
    with pytest.raises(TypeError, match=f"^messages takes a str or a list of messages, not {type(messages).__name__}$"):
        wire_messages(messages)


@pytest.mark.parametrize(
    ("messages", "words", "path"),
    [
        ("", "^messages is an empty str", None),
        ([], "^messages is empty", None),
        (iter(()), "^messages is empty", None),
        (["hi"], r"^messages\[0\] must be a dict, a Message or a \(role, content\) tuple, not str$", "messages[0]"),
        (("user", "hi"), r"^messages\[0\] must be", "messages[0]"),
        ([("user", "a"), 5], r"^messages\[1\] must be .* not int$", "messages[1]"),
        ([["user", "a"]], r"^messages\[0\] must be .* not list$", "messages[0]"),
        ([("user",)], r"^messages\[0\] has 1 elements", "messages[0]"),
        ([("user", "a", "b")], r"^messages\[0\] has 3 elements", "messages[0]"),
        ([{"content": "a"}], r"^messages\[0\] has no role$", "messages[0]"),
        ([{"role": None, "content": "a"}], r"^messages\[0\].role must be a str", "messages[0].role"),
        ([{"role": "", "content": "a"}], r"^messages\[0\].role must be a str that is not empty", "messages[0].role"),
        ([(5, "a")], r"^messages\[0\].role must be a str .* not 5$", "messages[0].role"),
        ([Message(None, "a")], r"^messages\[0\].role must be a str", "messages[0].role"),
    ],
)
def test_what_cannot_be_sent_is_a_configuration_error(messages, words, path):
    """Empty input, wrong shapes and roles that are no str are rejected with their place."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        wire_messages(messages)
    assert caught.value.path == path


def test_the_callers_messages_are_never_changed():
    """Neither building the wire nor changing it afterwards touches what the caller passed."""
    messages = [
        {"role": "user", "content": ["a", dict(IMAGE)]},
        ("user", ["b"]),
        Message("user", ["c"], tool_calls=[CALL]),
    ]
    before = copy.deepcopy(messages)
    for wire in wire_messages(messages):
        wire["content"].append("more")
        wire["role"] = "changed"
        wire["new"] = 1
    assert messages == before


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a":  1}', '{"a":  1}'),
        ("", "{}"),
        (' {"a": 1}', ' {"a": 1}'),
        ('"{\\"a\\": 1}"', '{"a":1}'),
        ('{"a', "{}"),
        ("[1]", "{}"),
        ('{\n"a": 1}', '{\n"a": 1}'),
        ('{"a": "one\ntwo"}', '{"a":"one\\ntwo"}'),
    ],
)
def test_arguments_go_back_as_json_of_an_object(arguments, sent):
    """Servers reject a history with anything else."""
    assert sendable_arguments(ToolCall("1", "f", arguments)) == sent


def test_arguments_of_the_old_form_go_back_alike():
    """A `function_call` in a saved history is sent with arguments that servers accept; the caller's dict stays as it is."""
    message = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a'}}
    assert wire_messages([message])[0]["function_call"] == {"name": "f", "arguments": "{}"}
    assert message["function_call"]["arguments"] == '{"a'

"""Chat calls: the body holds what the caller set and what api.md lists as ours, and nothing else."""

import copy
import json
import math

import pytest

from nimclient._api.chat import chat_call, wire_tool_choice
from nimclient.errors import ConfigurationError
from nimclient.records.chat import Message, decode_chat

USER = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
BASE = {"model": "m", "messages": USER}


def body(model="m", stream=False, messages="hi", **options):
    call = chat_call("chat.create", messages, model, options, stream=stream)
    assert json.loads(call.body) == call.fields
    return call.fields


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ({}, {}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": None, "seed": None, "stop": None}, {}),
        ({"stop": []}, {"stop": []}),
        ({"logit_bias": {"5": 1.5}, "n": 2}, {"logit_bias": {"5": 1.5}, "n": 2}),
        ({"tools": []}, {}),
        ({"tools": None}, {}),
        ({"tools": (TOOL,)}, {"tools": [TOOL]}),
        ({"tools": [TOOL], "tool_choice": "add"},
         {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "add"}}}),
        ({"tool_choice": False}, {"tool_choice": "none"}),
        ({"tool_choice": None}, {}),
        ({"stream_usage": True}, {}),
        ({"echo_reasoning": True}, {}),
        ({"timeout": 3, "extra_headers": {"X": "y"}}, {}),
        ({"nvext": {"greed": True}}, {"nvext": {"greed": True}}),
        ({"extra_body": {}}, {}),
        ({"extra_body": {"new": None}}, {"new": None}),
        ({"temperature": 1, "extra_body": {"temperature": 2, "model": "x"}}, {"temperature": 2, "model": "x"}),
    ],
)  # fmt: skip
def test_the_body_has_only_what_was_set(options, added):
    """None and empty tools are not sent; extra_body has the last word."""
    assert body(**options) == BASE | added


def test_without_a_model_none_is_sent():
    """A call whose model is not known yet has no model field, and no switch for thinking."""
    assert body(model=None) == {"messages": USER}
    assert body(model=None, thinking=True) == {"messages": USER}


@pytest.mark.parametrize(
    ("options", "added", "droppable_fields"),
    [
        ({}, {"stream": True, "stream_options": {"include_usage": True}}, ("stream", "stream_options")),
        (
            {"stream_usage": None},
            {"stream": True, "stream_options": {"include_usage": True}},
            ("stream", "stream_options"),
        ),
        ({"stream_usage": False}, {"stream": True}, ("stream",)),
        (
            {"extra_body": {"stream_options": {"include_usage": False}}},
            {"stream": True, "stream_options": {"include_usage": False}},
            ("stream", "stream_options"),
        ),
    ],
)
def test_a_stream_asks_for_usage_unless_told_not_to(options, added, droppable_fields):
    """stream and stream_options are ours; stream_usage=False leaves the second out."""
    call = chat_call("chat.stream", "hi", "m", options, stream=True)
    assert call.fields == BASE | added
    assert call.droppable_fields == droppable_fields
    assert call.stream


def test_the_call_says_where_and_how():
    """A completion is a POST that is decoded as a ChatCompletion."""
    call = chat_call("chat.create", "hi", "m", {}, stream=False)
    assert (call.method, call.path, call.model, call.droppable_fields) == ("POST", "/chat/completions", "m", ())
    assert (call.decode, call.stream) == (decode_chat, False)


@pytest.mark.parametrize(
    ("refused", "left", "droppable_fields"),
    [
        ({"stream_options"}, {"model", "messages", "stream"}, ("stream",)),
        ({"stream"}, {"model", "messages"}, ("stream_options",)),
        ({"stream", "stream_options"}, {"model", "messages"}, ()),
        ({"other"}, {"model", "messages", "stream", "stream_options"}, ("stream", "stream_options")),
    ],
)
def test_refused_fields_are_dropped_and_the_body_made_anew(refused, left, droppable_fields):
    """A call without some fields is the same call with another body; stream_options never goes without stream."""
    call = chat_call("chat.stream", "hi", "m", {}, stream=True)
    fewer = call.without(frozenset(refused))
    assert json.loads(fewer.body).keys() == fewer.fields.keys() == left
    assert fewer.droppable_fields == droppable_fields
    assert "stream_options" in call.fields
    assert (fewer.path, fewer.model, fewer.replay) == (call.path, call.model, call.replay)


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("any", "required"),
        (True, "required"),
        (False, "none"),
        ("add", {"type": "function", "function": {"name": "add"}}),
        ({"type": "function", "function": {"name": "other"}}, {"type": "function", "function": {"name": "other"}}),
    ],
)
def test_tool_choice_is_translated(choice, wire):
    """Words, booleans, the name of a tool and specs, as api.md lists them."""
    assert wire_tool_choice(choice, [TOOL]) == wire


@pytest.mark.parametrize(
    ("choice", "tools", "words"),
    [
        ("sub", [TOOL], r"names 'sub', which is not among the tools \['add'\]"),
        ("add", [], r"not among the tools \[\]"),
        ("add", [{"type": "web"}, {"function": "add"}], r"\[None, None\]"),
        (5, [TOOL], "takes a str, a bool or a spec, not int"),
        (1.0, [TOOL], "not float"),
        (["add"], [TOOL], "not list"),
    ],
)
def test_an_impossible_tool_choice_is_refused(choice, tools, words):
    """A name that is no tool, or another type, is a ConfigurationError."""
    with pytest.raises(ConfigurationError, match=words):
        wire_tool_choice(choice, tools)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"temperature": math.nan}, "body.temperature"),
        ({"logit_bias": {"5": math.inf}}, "body.logit_bias.5"),
        ({"extra_body": {"a": [{"b": {1, 2}}]}}, "body.a[0].b"),
        ({"stop": ["ok", "\ud800"]}, "body.stop[1]"),
    ],
)
def test_what_json_cannot_carry_is_refused_with_its_path(options, path):
    """NaN, sets and lone surrogates in options are ConfigurationErrors before anything is sent."""
    with pytest.raises(ConfigurationError) as caught:
        body(**options)
    assert caught.value.path == path


def test_an_unknown_option_is_a_type_error():
    """A misspelt option is rejected in the name of the method that was called."""
    with pytest.raises(TypeError, match=r"^chat\.stream\(\) got an unexpected option 'temprature'"):
        chat_call("chat.stream", "hi", "m", {"temprature": 1}, stream=True)


def test_reasoning_is_echoed_when_asked_for():
    """echo_reasoning reaches the messages and is not sent itself."""
    messages = [Message("assistant", "a", reasoning="hm")]
    assert body(messages=messages, echo_reasoning=True)["messages"][0]["reasoning"] == "hm"
    assert "reasoning" not in body(messages=messages)["messages"][0]


def test_the_callers_options_are_never_changed():
    """Building and changing the call leaves tools, tool_choice and extra_body as they were."""
    options = {"tools": [copy.deepcopy(TOOL)], "tool_choice": {"type": "x"}, "extra_body": {"a": 1}, "stop": ["x"]}
    before = copy.deepcopy(options)
    call = chat_call("chat.create", "hi", "m", options, stream=False)
    call.fields["tools"].append("more")
    call.fields["tool_choice"]["more"] = 1
    call.fields["a"] = 2
    assert options == before

"""thinking=True/False becomes the switch that each model has, merged with what the caller wrote, on both paths."""

import copy
import warnings

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError
from nimclient.records.chat import Message
from nimclient.testing import FakeTransport
from support.sent import sent

HYBRID = "nvidia/nemotron-3-nano-30b-a3b"
KIMI = "moonshotai/kimi-k2.6"
MINIMAX = "minimaxai/minimax-m3"
EFFORT = "mistralai/mistral-small-4-119b-2603"
DETAILED = "nvidia/llama-3.3-nemotron-super-49b-v1"
SLASH = "nvidia/nvidia-nemotron-nano-9b-v2"
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
USER = {"role": "user", "content": "hi"}


@pytest.fixture(params=[False, True], ids=["plain", "streamed"])
def body(request):
    """The body of a call without what every stream has."""

    def build(model, messages="hi", **options):
        method = "chat.stream" if request.param else "chat.create"
        fields = sent(method, messages, model=model, **options).fields
        return {key: value for key, value in fields.items() if key not in ("stream", "stream_options", "model")}

    return build


def kwargs(**values):
    return {"messages": [USER], "chat_template_kwargs": values}


def with_system(text, *more):
    return {"messages": [{"role": "system", "content": text}, *more, USER]}


@pytest.mark.parametrize(
    ("model", "on", "off"),
    [
        (HYBRID, kwargs(enable_thinking=True), kwargs(enable_thinking=False)),
        (KIMI, kwargs(thinking=True), kwargs(thinking=False)),
        (MINIMAX, kwargs(thinking_mode="enabled"), kwargs(thinking_mode="disabled")),
        (EFFORT, {"messages": [USER], "reasoning_effort": "high"}, {"messages": [USER], "reasoning_effort": "none"}),
        (DETAILED, with_system("detailed thinking on"), with_system("detailed thinking off")),
        (SLASH, with_system("/think"), with_system("/no_think")),
        ("Qwen/Qwen3-235B-A22B", kwargs(enable_thinking=True), kwargs(enable_thinking=False)),
        (
            "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
            with_system("detailed thinking on"),
            with_system("detailed thinking off"),
        ),
    ],
)
def test_each_model_has_its_switch(body, model, on, off):
    """The catalog's switch is sent, also to a self-hosted model under the name its weights are published by; None: none."""
    assert body(model, thinking=True) == on
    assert body(model, thinking=False) == off
    assert body(model, thinking=None) == body(model) == {"messages": [USER]}


def test_the_switch_of_a_model_that_has_to_be_found(body):
    """What the server's list names gets its switch like a model that the caller names; a bad value is rejected."""
    assert body(None, thinking=True) == kwargs(enable_thinking=True)
    with pytest.raises(ConfigurationError, match=r"^thinking takes True or False, not str"):
        body(None, thinking="on")


@pytest.mark.parametrize("thinking", [True, False])
def test_a_model_without_a_switch_gets_none_and_a_warning(body, thinking):
    """A model that the catalog knows to have no switch is asked as it is."""
    name = "meta/llama-3.1-8b-instruct"
    assert body(name, thinking=thinking) == {"messages": [USER]}
    call = sent("chat.create", "hi", model=name, thinking=thinking)
    assert call.warnings == (f"model {name!r} has no switch for thinking; thinking={thinking} is not sent",)


def test_an_unknown_model_gets_the_most_common_switch_and_a_warning(body):
    """A model that is not in the catalog is asked by enable_thinking."""
    assert body("my-model", thinking=False) == kwargs(enable_thinking=False)
    (warning,) = sent("chat.create", "hi", model="my-model", thinking=False).warnings
    assert warning.startswith("model 'my-model' is not in the catalog; thinking=False is sent as chat_template_kwargs.")


async def test_the_warning_points_at_the_callers_line():
    """It comes once a client, at the line that makes the call, plain or streamed."""
    client = AsyncClient("k", "http://nim:8000", model="my-model", transport=FakeTransport([ANSWER] * 3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await client.chat.create("hi", thinking=True)
        await client.chat.create("hi", thinking=True)
    assert [warning.filename for warning in caught] == [__file__]
    again = client.with_options(model="other-model")
    with pytest.warns(UserWarning, match="is not in the catalog") as caught:
        await again.chat.stream("hi", thinking=True).final()
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("where", ["option", "extra_body"])
@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1}, "enable_thinking": True}),
        ({"enable_thinking": False, "a": 1}, {"enable_thinking": False, "a": 1}),
        ({}, {"enable_thinking": True}),
    ],
)
def test_template_kwargs_are_merged_and_the_callers_keys_stay(body, where, given, sent):
    """Other keys stay beside the switch; a switch the caller wrote himself is not overwritten; his dict is not changed."""
    before = copy.deepcopy(given)
    options = {"chat_template_kwargs": given}
    options = options if where == "option" else {"extra_body": options}
    assert body(HYBRID, thinking=True, **options) == kwargs(**sent)
    assert given == before


def test_other_explicit_values_stay_too(body):
    """A reasoning_effort of the caller stays; template kwargs that are no mapping are the server's to reject."""
    assert body(EFFORT, thinking=False, reasoning_effort="low")["reasoning_effort"] == "low"
    assert body(HYBRID, thinking=True, extra_body={"chat_template_kwargs": "odd"})["chat_template_kwargs"] == "odd"


def text(value):
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        ("Be brief.", "Be brief.\n/think"),
        ("", "/think"),
        (None, "/think"),
        (["Be brief."], [text("Be brief."), text("/think")]),
        ("Be brief.\n/think", "Be brief.\n/think"),
        ("/no_think", "/no_think"),
        ([text("Use /no_think")], [text("Use /no_think")]),
        ("see https://host/think", "see https://host/think\n/think"),
        ([{"type": "odd"}], [{"type": "odd"}, text("/think")]),
    ],
)
def test_the_line_goes_into_the_first_system_message(body, content, sent):
    """On a new line of a text, as another part of a list; a switch that stands there already stays the only one."""
    messages = [("system", content), USER]
    assert body(SLASH, messages, thinking=True) == with_system(sent)
    assert messages == [("system", content), USER]


def test_only_the_first_system_message_is_changed(body):
    """It may come after others, and may be a developer message; records are not changed."""
    first, second = Message("developer", "a"), {"role": "system", "content": "b"}
    assert body(DETAILED, [USER, first, second], thinking=False)["messages"] == [
        USER,
        {"role": "developer", "content": "a\ndetailed thinking off"},
        second,
    ]
    assert (first.content, second["content"]) == ("a", "b")


def test_without_thinking_nothing_is_warned_of(body):
    """An unknown model is asked silently."""
    assert body("my-model") == {"messages": [USER]}
    assert sent("chat.create", "hi", model="my-model").warnings == ()

"""ChatPrompt: templates of messages that are filled in, and composed."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient import ChatPrompt, Image, Message
from nimclient.errors import ConfigurationError

GREETING = ChatPrompt([("system", "Answer in {language}."), ("user", "{input}")])


def contents(messages: list[Message]) -> list[Any]:
    return [(message.role, message.content) for message in messages]


def test_names_are_replaced_by_values() -> None:
    """format gives messages with the values in their places."""
    messages = GREETING.format(language="French", input="hello")
    assert messages == [Message("system", "Answer in French."), Message("user", "hello")]


@given(st.text(), st.text())
def test_values_are_inserted_as_they_are(language: str, text: str) -> None:
    """Braces in values are not names, whatever the values are."""
    messages = GREETING.format(language=language + "{input}", input="{{" + text + "{language}")
    assert contents(messages) == [
        ("system", f"Answer in {language}{{input}}."),
        ("user", "{{" + text + "{language}"),
    ]


def test_literal_braces_are_doubled() -> None:
    """{{ and }} stand for braces, also around a name."""
    prompt = ChatPrompt([("user", 'Give {{"a": {{}}}} for {{{x}}} and }}{{')])
    assert contents(prompt.format(x=1)) == [("user", 'Give {"a": {}} for {1} and }{')]
    assert prompt.variables == ("x",)


def test_a_missing_name_is_named() -> None:
    """A name without a value is a KeyError with that name; values that no template wants are ignored."""
    with pytest.raises(KeyError, match="input") as caught:
        GREETING.format(language="French")
    assert caught.value.args == ("input",)
    assert "format(input=...)" in caught.value.__notes__[0]
    assert GREETING.format(language="a", input="b", other="c")


def test_the_names_are_known() -> None:
    """variables are the names in the order of their first use."""
    assert ChatPrompt([("system", "{b} {a}"), ("user", "{a} {c}"), "{d}"]).variables == ("b", "a", "c", "d")


def test_roles_are_those_of_tuples() -> None:
    """human is user, ai is assistant, a str is a user's template, other roles stay as they are."""
    prompt = ChatPrompt([("human", "a"), ("ai", "b"), ("context", "{c}"), "{d}"])
    assert contents(prompt.format(c="c", d="d")) == [
        ("user", "a"),
        ("assistant", "b"),
        ("context", "c"),
        ("user", "d"),
    ]


def test_whole_messages_are_no_templates() -> None:
    """Message records and dicts are inserted as they are, braces and all."""
    record = Message("assistant", 'I say {"a": 1}', name="bot")
    prompt = ChatPrompt([record, {"role": "user", "content": "{not a name}", "name": "ann"}])
    assert prompt.variables == ()
    assert prompt.format() == [record, Message("user", "{not a name}", name="ann")]


def test_a_template_may_have_content_parts() -> None:
    """All texts of a list of parts are filled in; media stay as they are."""
    picture = Image(b"\x89PNG\r\n\x1a\n")
    parts = ["What is {what}?", {"type": "image_url", "image_url": {"url": "{url}", "detail": 1}}, picture]
    prompt = ChatPrompt([("user", parts)])
    assert prompt.variables == ("what", "url")
    ((message),) = prompt.format(what="this", url="https://host/x.png")
    assert isinstance(message.content, list)
    assert message.content[:2] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://host/x.png", "detail": 1}},
    ]
    assert len(message.content) == 3


def test_a_placeholder_takes_messages() -> None:
    """A placeholder stands for a list of messages in any form, for one, or for none."""
    prompt = ChatPrompt([("system", "s"), ("placeholder", "{history}"), ("user", "{input}")])
    history = [Message("user", "{a}"), {"role": "assistant", "content": "b"}, ("ai", "c")]
    assert contents(prompt.format(history=history, input="d"))[1:] == [
        ("user", "{a}"),
        ("assistant", "b"),
        ("assistant", "c"),
        ("user", "d"),
    ]
    assert len(prompt.format(history=[], input="d")) == 2
    assert len(prompt.format(history=Message("user", "x"), input="d")) == 3
    assert contents(prompt.format(history="text", input="d"))[1] == ("user", "text")
    with pytest.raises(KeyError, match="history"):
        prompt.format(input="d")


@pytest.mark.parametrize("name", ["placeholder", "messages"])
@pytest.mark.parametrize("template", ["history", "{a} {b}", "see {a}"])
def test_a_placeholder_is_one_name(name: str, template: str) -> None:
    """A placeholder is exactly one name in braces."""
    with pytest.raises(ConfigurationError, match="placeholder"):
        ChatPrompt([(name, template)])


def test_prompts_add_up() -> None:
    """+ composes a prompt with a prompt, a message, a template or a list of them, on either side."""
    one, two = ChatPrompt([("system", "{a}")]), ChatPrompt([("user", "{b}")])
    assert one + two == ChatPrompt([("system", "{a}"), ("user", "{b}")])
    assert (one + two).variables == ("a", "b")
    assert contents((one + "{c}" + Message("assistant", "d") + {"role": "user", "content": "e"}).format(a=1, c=2)) == [
        ("system", "1"),
        ("user", "2"),
        ("assistant", "d"),
        ("user", "e"),
    ]
    assert one + [("user", "{b}")] == one + two  # + is what is tested
    assert one + ("user", "{b}") == one + two
    assert [("system", "{a}")] + two == one + two
    assert ("system", "{a}") + two == one + two
    assert one.parts == (("system", "{a}"),)


@pytest.mark.parametrize(
    "template",
    ["{", "}", "a { b", "{}", "{0}", "{a.b}", "{a!r}", "{a:>3}", '{"key": 1}', "{{x}", [{"text": "{"}], ["}"]],
)
def test_braces_that_make_no_name_are_refused(template: Any) -> None:
    """A brace that is neither doubled nor around a name is an error when the prompt is made, which says what to do."""
    with pytest.raises(ConfigurationError, match="double literal braces"):
        ChatPrompt([("user", template)])


@pytest.mark.parametrize("parts", ["text", 5, None, {"role": "user"}])
def test_a_prompt_is_a_list(parts: Any) -> None:
    """Anything but a list of messages is a TypeError."""
    with pytest.raises(TypeError, match="ChatPrompt takes a list"):
        ChatPrompt(parts)


@pytest.mark.parametrize("part", [("user",), ("user", "a", "b"), (1, "a"), ("", "a"), {"content": "a"}, 5])
def test_parts_are_checked(part: Any) -> None:
    """A part that is no message is found when the prompt is made."""
    with pytest.raises(ConfigurationError):
        ChatPrompt([part])


def test_a_prompt_is_a_value() -> None:
    """Prompts are equal by their parts, show them, and pickle."""
    assert pickle.loads(pickle.dumps(GREETING)) == GREETING
    assert "Answer in {language}." in repr(GREETING)

"""Structured output: bodies in each form, rejections distinguished from other errors, values found in answers."""

import enum
from typing import Any, Literal

import attrs
import pytest

from nimclient._schema.structured import (
    FORM_NAMES,
    FORMS,
    check_no_format,
    correction,
    form_fields,
    form_messages,
    output_of,
    read_output,
    with_request,
)
from nimclient.errors import (
    ConfigurationError,
    OutputInvalidError,
    OutputRefusedError,
    OutputTruncatedError,
)
from nimclient.records.chat import ChatCompletion, decode_chat


@attrs.frozen
class City:
    name: str


class Color(enum.Enum):
    RED = "red"


@attrs.frozen
class Value:
    value: int


CITY = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}
ASK = [{"role": "user", "content": "where?"}]


def answer(text: Any, finish: str = "stop", **message: Any) -> ChatCompletion:
    message = {"role": "assistant", "content": text, **message}
    return decode_chat({"choices": [{"message": message, "finish_reason": finish}]})


def read(form: Any, text: Any, **more: Any) -> Any:
    return read_output(output_of(form), answer(text, **more))


@pytest.mark.parametrize(
    ("via", "options", "fields"),
    [
        ("json_schema", {},
         {"response_format": {"type": "json_schema", "json_schema": {"name": "City", "schema": CITY, "strict": True}}}),
        ("structured_outputs", {"structured_outputs": {"whitespace_pattern": " "}},
         {"structured_outputs": {"whitespace_pattern": " ", "json": CITY}}),
        ("guided_json", {}, {"guided_json": CITY}),
        ("nvext", {"nvext": {"top_k": 5}}, {"nvext": {"top_k": 5, "guided_json": CITY}}),
        ("nvext", {"nvext": None}, {"nvext": {"guided_json": CITY}}),
        ("json_object", {}, {"response_format": {"type": "json_object"}}),
    ],
)  # fmt: skip
def test_each_form_has_its_fields(via, options, fields):
    """What the caller set beside the schema is kept."""
    assert form_fields(via, output_of(City), options) == fields
    assert set(FORM_NAMES) == set(FORMS)


@pytest.mark.parametrize(
    ("form", "name", "inner"),
    [
        (Color, "Color", {"type": "string", "enum": ["red"]}),
        (Literal[1], "Literal", {"type": "integer", "enum": [1]}),
        (list[int], "list", {"type": "array", "items": {"type": "integer"}}),
        (City | None, None, {"anyOf": [CITY, {"type": "null"}]}),
        ({"type": "array", "title": "my list!", "$defs": {"x": {}}}, "my_list", {"type": "array", "title": "my list!"}),
        ({"type": "string", "title": "!"}, "output", {"type": "string", "title": "!"}),
    ],
)
def test_a_root_that_is_no_object_is_wrapped(form, name, inner):
    """Servers take only objects; the value is below the key "value", definitions stay at the root."""
    output = output_of(form)
    assert output.wrapped
    assert name is None or output.name == name
    assert output.schema["properties"] == {"value": inner}
    assert output.schema["required"] == ["value"]
    assert ("$defs" in output.schema) == (isinstance(form, dict) and "$defs" in form)


def test_a_schema_of_the_callers_goes_as_it_is():
    """A dict with an object at its root is not touched, and what fits it comes back as it is."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    output = output_of(schema)
    assert (output.schema, output.name, output.wrapped) == (schema, "output", False)
    assert read(schema, '{"a": 1, "b": 2}') == {"a": 1, "b": 2}
    with pytest.raises(OutputInvalidError, match="does not fit at a: expected integer"):
        read(schema, '{"a": "1"}')


def test_only_json_object_tells_the_schema_in_words():
    """The others have it in a field."""
    output = output_of(City)
    assert all(form_messages(via, output, ASK) == ASK for via in FORMS if via != "json_object")
    (told,) = form_messages("json_object", output, ASK)
    assert told["content"].startswith("where?\n\nAnswer with one JSON object")
    assert '"required":["name"]' in told["content"]
    assert ASK == [{"role": "user", "content": "where?"}]


@pytest.mark.parametrize(
    ("messages", "asked"),
    [
        (ASK, [{"role": "user", "content": "where?\n\nnow"}]),
        ([{"role": "user", "content": ["a"]}], [{"role": "user", "content": ["a", {"type": "text", "text": "now"}]}]),
        ([{"role": "user"}], [{"role": "user", "content": [{"type": "text", "text": "now"}]}]),
        ([{"role": "tool", "content": "x"}], [{"role": "tool", "content": "x"}, {"role": "user", "content": "now"}]),
    ],
)
def test_a_request_goes_into_the_last_message_of_the_user(messages, asked):
    """Many templates want user and assistant to alternate."""
    assert with_request(messages, "now") == asked


def test_a_correction_shows_the_answer_and_the_problem():
    """An empty answer is not shown: servers reject empty messages."""
    error = OutputInvalidError("name is missing", text="{}")
    first, second, third = correction(ASK, error)
    assert (first, second) == (ASK[0], {"role": "assistant", "content": "{}"})
    assert "name is missing" in third["content"]
    (only,) = correction(ASK, OutputInvalidError("nothing came", text=""))
    assert "nothing came" in only["content"]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ulm"}',
        ' \n{"name": "Ulm"}\n\n',
        '<think>{"name": 1}</think>\n{"name": "Ulm"}',
        'hm {"name": 1}\n</think>{"name": "Ulm"}',
        '```json\n{"name": "Ulm"}\n```',
        '```\n{"name": "Ulm"}```',
        '<think>x</think>```json\n{"name": "Ulm"}\n```',
        'Here it is:\n```json\n{"name": "Ulm"}\n```\nGood?',
        'Here it is: {"name": "Ulm"} Good?',
    ],
)
def test_json_is_found_in_what_stands_around_it(text):
    """Thinking, code fences, and prose around an object."""
    assert read(City, text) == City("Ulm")


def test_text_in_the_json_is_left_alone():
    """A fence or a tag within a string belongs to it."""
    for name in ("```x```", "<think>a</think>b"):
        assert read(City, f'{{"name": "{name}"}}') == City(name)
    assert read(City, '```json\n{"name": "```x```"}\n```') == City("```x```")


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        (Color, '{"value": "red"}', Color.RED),
        (Color, '"red"', Color.RED),
        (Color, "<think>x</think> red\n", Color.RED),
        (list[int], '{"value": [1]}', [1]),
        (list[int], "[1]", [1]),
        (int | None, '{"value": null}', None),
        (City | Value, '{"value": {"value": 1}}', Value(1)),
        (City | Value, '{"name": "Ulm"}', City("Ulm")),
        (City | Value, '{"value": 1}', Value(1)),
        (str, "just words", "just words"),
        (dict[str, int], '{"value": 1}', {"value": 1}),
    ],
)
def test_a_wrapped_value_is_found_bare_too(form, text, value):
    """A server that constrains nothing may send it without the wrapping."""
    assert read(form, text) == value


@pytest.mark.parametrize(
    ("form", "text", "path", "words"),
    [
        (City, '{"name": 5}', "name", "the output does not fit at name: expected a string, got 5"),
        (City, "no idea", "", "the output does not fit: the output is not JSON"),
        (City, '{"name": "a"} {"name": "b"}', "", "the output is not JSON"),
        (Color, "green", "", "the output is not JSON"),
        (list[City], '{"value": [{"name": 1}]}', "[0].name", "does not fit at [0].name: expected a string, got 1"),
        (City | Value, '{"value": "x"}', "", "expected City or Value, got 'x'"),
        (City, "", "", "the model gave no output (finish_reason stop)"),
        (City, None, "", "the model gave no output (finish_reason stop)"),
    ],
)
def test_output_that_does_not_fit(form, text, path, words):
    """The error has the text and the path."""
    with pytest.raises(OutputInvalidError) as caught:
        read(form, text)
    assert words in str(caught.value)
    assert (caught.value.text, caught.value.path) == (text or "", path)


def test_a_model_that_calls_a_tool_instead():
    """The error says which."""
    calls = [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]
    with pytest.raises(
        OutputInvalidError, match=r"called a tool \(f\) and gave no output \(finish_reason tool_calls\)"
    ):
        read(City, None, tool_calls=calls, finish="tool_calls")


def test_an_answer_without_choices():
    """There is nothing to read."""
    with pytest.raises(OutputInvalidError, match="gave no output"):
        read_output(output_of(City), decode_chat({"choices": []}))


def test_truncation_and_refusal_are_errors_of_their_own():
    """They come before any look at the JSON."""
    with pytest.raises(OutputTruncatedError, match="token limit") as cut:
        read(City, '{"na', finish="length")
    assert cut.value.text == '{"na'
    with pytest.raises(OutputRefusedError, match="the model refused: I will not") as refused:
        read(City, None, refusal="I will not")
    assert refused.value.text == "I will not"
    with pytest.raises(OutputRefusedError, match="content filter") as filtered:
        read(City, "so", finish="content_filter")
    assert filtered.value.text == "so"


@pytest.mark.parametrize("name", ["response_format", "guided_json"])
def test_the_caller_does_not_say_twice_what_is_wanted(name):
    """The type says it; None is nothing said."""
    check_no_format({name: None, "temperature": 1})
    with pytest.raises(ConfigurationError, match=f"sets {name} itself"):
        check_no_format({name: {"type": "text"}})

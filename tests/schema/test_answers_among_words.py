"""The JSON in an answer is found among the words that models put around it, in linear work."""

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient.errors import OutputInvalidError
from nimclient.records.chat import decode_chat
from support.schemas import answer_json, output_of, read_output


@attrs.frozen
class City:
    name: str


@attrs.frozen
class Node:
    next: "Node | None" = None


def read(form: Any, text: str | None, **message: Any) -> Any:
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
    return read_output(output_of(form), decode_chat({"choices": [choice]}))


PARIS = '{"name": "Paris"}'


@pytest.mark.parametrize(
    "text",
    [
        f"Here is the answer: {PARIS}",
        f"{PARIS}\n\nLet me know if you need more {{details}}.",
        f"Use {{name}} as a key: {PARIS} (that is all)",
        f"```json\n{PARIS}\n```",
        f"```\n{PARIS}\n```",
        f"```json5 \n{PARIS}\n```",
        f"```json{PARIS}```",
        f"~~~json\n{PARIS}\n~~~",
        f"Sure!\n```python\nprint(1)\n```\nand\n```json\n{PARIS}\n```\nDone.",
        f"{PARIS}\n{PARIS}",
        f'He said "{{" once: {PARIS}',
        f"an open {{ bracket, then {PARIS}",
        f"[1] says so: {PARIS}",
        f"<answer>{PARIS}</answer>",
        f'<think>maybe {{"name": "Rome"}}</think>{PARIS}',
        f'{{"name": "Rome"}} is wrong</think>The answer is {PARIS}.',
        f"{{{PARIS}}}",
        f'<thinking>maybe {{"name": "Rome"}}</thinking>{PARIS}',
        json.dumps(PARIS),
        f"```json\n{json.dumps(PARIS)}\n```",
    ],
)
def test_the_one_object_is_found(text: str) -> None:
    """Words, fences of either kind and thinking around the object do not matter; the same object twice is one."""
    assert read(City, text) == City("Paris")


@attrs.frozen
class Letter:
    name: str
    to: City | None = None


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "Here: {} .", "<think>a\nb</think>\n{}\nDone."])
@pytest.mark.parametrize("name", ["Dear\nSir", 'a\ttab and \\"quotes\\"', "{\n", "\r\n\r\n"])
def test_line_ends_in_strings_are_text(around: str, name: str) -> None:
    """A model without constraints writes them as they are; no object within takes the place of the whole one."""
    text = f'{{"name": "{name}", "to": {{"name": "Paris"}}}}'
    assert read(Letter, around.replace("{}", text)) == Letter(name.replace('\\"', '"'), City("Paris"))


@pytest.mark.parametrize(
    ("value", "around"),
    [
        ("the tag </think> ends it", "{}"),
        ("the tag </think> ends it", "Here: {} ."),
        ("```json fence```", "Here: {} ."),
        ('a "quoted" } brace {', "Here: {} ."),
        ("back\\slash \\", "Here: {} ."),
        ("新\n行", "Here: {} ."),
    ],
)
def test_strings_within_the_object_are_left_alone(value: str, around: str) -> None:
    """What looks like the end of thinking, a fence or a bracket within a string belongs to the string."""
    assert read(City, around.replace("{}", json.dumps({"name": value}))) == City(value)


@pytest.mark.parametrize(
    "text",
    [
        f'{PARIS} or {{"name": "Rome"}}',
        f'```json\n{PARIS}\n```\n```json\n{{"name": "Rome"}}\n```',
        f'not {{"name": "Rome"}} but {PARIS}',
    ],
)
def test_two_objects_that_differ_stay_an_error(text: str) -> None:
    """Nobody says which one is meant."""
    with pytest.raises(OutputInvalidError, match="the output is not JSON: it has 2 values that differ"):
        read(City, text)


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        (list[int], "The list is [1, 2, 3].", [1, 2, 3]),
        (list[int], "```json\n[1, 2]\n```", [1, 2]),
        (list[int], 'It is {"value": [4]}, I think', [4]),
        (int, "```json\n42\n```", 42),
        (str, "As in [1], yes.", "As in [1], yes."),
        (str, 'It is {"value": "x"}.', "x"),
    ],
)
def test_values_that_are_wrapped(form: Any, text: str, value: Any) -> None:
    """A list, number or text is found with and without the object that is asked for around it."""
    assert read(form, text) == value


def test_an_answer_in_the_reasoning() -> None:
    """Where the content is null and the reasoning is JSON as a whole, that is the answer; else the error says so."""
    assert read(City, None, reasoning_content=PARIS) == City("Paris")
    assert read(list[int], None, reasoning="[1]") == [1]
    for reasoning in ("I think it is Paris", f"maybe {PARIS}", '{"name": 5}'):
        with pytest.raises(OutputInvalidError, match="gave no output, only reasoning; switch thinking off"):
            read(City, None, reasoning_content=reasoning)


def test_an_answer_that_is_nested_too_deeply() -> None:
    """Five hundred levels of a type that contains itself are an error of ours."""
    text = '{"next": ' * 500 + "null" + "}" * 500
    with pytest.raises(OutputInvalidError):
        read(Node, text)


def work(action: Callable[[], Any]) -> int:
    """How many calls an action makes, of Python functions and of others: a count is the same on a loaded machine."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


def attempt(text: str) -> None:
    with contextlib.suppress(ValueError):
        answer_json(text)


@pytest.mark.parametrize(
    "pattern",
    [
        "```",
        "~~~",
        "{",
        "}",
        "[",
        '"',
        '\\"',
        '{"',
        '{"a":',
        "{}",
        "{x}",
        "[]",
        "{[",
        '{"a": 1}',
        "</think>",
        "```{",
        "{{}",
    ],
)
def test_the_work_is_linear(pattern: str) -> None:
    """Twice the text is about twice the work, whatever it is made of."""
    small, large = (work(lambda n=n: attempt(pattern * n)) for n in (2_000, 4_000))
    assert large <= 2.5 * small + 1000


@settings(deadline=None)
@given(st.text('{}[]",:\\`~ ab1\n', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text whatever makes the search fail in another way."""
    attempt(text)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5), st.text(max_size=8) | st.integers(-(2**63), 2**63) | st.lists(st.booleans(), max_size=2)
    )
)
def test_any_object_is_found_among_words(value: Any) -> None:
    """An object of any content is found as it was, after words and before words."""
    value = {"k": value}
    assert answer_json(f"The answer is {json.dumps(value)} as asked.") == value

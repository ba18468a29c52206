"""Tools and structured output of ChatNVIDIA: every form of schema, each method, whole and streamed."""

from enum import StrEnum
from typing import Any, Optional, TypedDict

import pydantic
import pytest
from langchain_core.exceptions import ContextOverflowError, ModelRefusalError, OutputParserException
from langchain_core.tools import tool

from nimclient.errors import BadRequestError, ContextLengthError
from support.langchain import completion, event, reply, tool_call


class Joke(pydantic.BaseModel):
    """A joke."""

    setup: str
    punchline: Optional[str] = None  # noqa: UP045 - as users write it


class JokeDict(TypedDict):
    """A joke."""

    setup: str


class Answer(StrEnum):
    YES = "yes it is"
    NO = "no"


SCHEMA = {"title": "Joke", "type": "object", "properties": {"setup": {"type": "string"}}, "required": ["setup"]}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.mark.parametrize(
    ("schema", "text", "parsed"),
    [
        (Joke, '{"setup": "a", "punchline": null}', Joke(setup="a")),
        (JokeDict, '{"setup": "a"}', {"setup": "a"}),
        (SCHEMA, '{"setup": "a"}', {"setup": "a"}),
        (Answer, '{"choice": "yes it is"}', Answer.YES),
        (Answer, "no", Answer.NO),
    ],
)
def test_json_schema(canned_chat: Any, schema: Any, text: str, parsed: Any) -> None:
    """The schema is sent once as response_format, and the answer is of the type, whole and streamed."""
    pieces = [event({"content": character}) for character in text]
    chat, transport = canned_chat(reply(text), [*pieces, event({}, "stop")])
    model = chat.with_structured_output(schema)
    assert model.invoke("go") == parsed
    assert list(model.stream("go"))[-1] == parsed
    wanted = transport.requests[0].json["response_format"]
    assert (wanted["type"], wanted["json_schema"]["strict"]) == ("json_schema", True)
    assert wanted["json_schema"]["schema"]["type"] == "object"
    assert len(transport.requests) == 2


def test_partial_objects_grow_while_streaming(canned_chat: Any) -> None:
    """A streamed dict grows; a streamed pydantic class gives valid instances only."""
    pieces = ['{"set', 'up": "why', '?", "punch', 'line": "so"}']
    events = [*(event({"content": piece}) for piece in pieces), event({}, "stop")]
    chat, _ = canned_chat(events, events)
    assert list(chat.with_structured_output(SCHEMA).stream("go")) == [
        {},
        {"setup": "why"},
        {"setup": "why?"},
        {"setup": "why?", "punchline": "so"},
    ]
    assert list(chat.with_structured_output(Joke).stream("go"))[-1] == Joke(setup="why?", punchline="so")


@pytest.mark.parametrize("schema", [Joke, JokeDict, SCHEMA])
def test_function_calling(canned_chat: Any, schema: Any) -> None:
    """The schema is the only tool, it must be called, and its arguments are the output."""
    called = completion(
        {"role": "assistant", "content": None, "tool_calls": [tool_call(_name(schema), '{"setup": "a"}')]}, "tool_calls"
    )
    chat, transport = canned_chat(called)
    value = chat.with_structured_output(schema, method="function_calling").invoke("go")
    assert value == (Joke(setup="a") if schema is Joke else {"setup": "a"})
    body = transport.requests[0].json
    assert body["tool_choice"] == {"type": "function", "function": {"name": _name(schema)}}
    assert "response_format" not in body


def _name(schema: Any) -> str:
    name: str = schema["title"] if isinstance(schema, dict) else schema.__name__
    return name


def test_function_calling_of_an_enum(canned_chat: Any) -> None:
    """An enum is wrapped in an object and comes out as a member."""
    called = completion({"role": "assistant", "content": None, "tool_calls": [tool_call("Answer", '{"choice": "no"}')]})
    chat, _ = canned_chat(called)
    assert chat.with_structured_output(Answer, method="function_calling").invoke("go") is Answer.NO


def test_json_mode(canned_chat: Any) -> None:
    """json_object is asked for; the schema only reads the answer."""
    chat, transport = canned_chat(reply('{"setup": "a"}'))
    assert chat.with_structured_output(Joke, method="json_mode").invoke("go") == Joke(setup="a")
    assert transport.requests[0].json["response_format"] == {"type": "json_object"}


def test_include_raw_never_raises_for_parsing(canned_chat: Any) -> None:
    """raw, parsed and parsing_error are there, whatever the answer is."""
    chat, _ = canned_chat(reply('{"setup": "a"}'), reply("no JSON"))
    model = chat.with_structured_output(Joke, include_raw=True)
    good, bad = model.invoke("go"), model.invoke("go")
    assert (good["parsed"], good["parsing_error"]) == (Joke(setup="a"), None)
    assert bad["parsed"] is None
    assert isinstance(bad["parsing_error"], OutputParserException)
    assert bad["raw"].content == "no JSON"


@pytest.mark.parametrize("schema", [Joke, Answer])
def test_an_answer_that_was_cut_off_is_none(canned_chat: Any, schema: Any) -> None:
    """At the token limit a class or enum gives None; the same text with another finish reason raises."""
    cut, odd = completion({"role": "assistant", "content": '{"se'}, "length"), reply('{"se')
    chat, _ = canned_chat(cut, odd)
    model = chat.with_structured_output(schema)
    assert model.invoke("go") is None
    with pytest.raises(OutputParserException):
        model.invoke("go")


def test_a_refusal_is_langchains_own_error(canned_chat: Any) -> None:
    """`refusal` in an answer raises ModelRefusalError, not an error of parsing."""
    chat, _ = canned_chat(reply(None, refusal="I will not"))
    with pytest.raises(ModelRefusalError, match="I will not"):
        chat.with_structured_output(Joke).invoke("go")


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_old_server_is_asked_in_its_own_form(canned_chat: Any, streaming: bool) -> None:
    """A 400 that names response_format leads to guided_json, one that names that to nvext; both are remembered."""
    refused = [
        (400, {}, {"error": {"message": f"unknown field {name}"}}) for name in ("response_format", "guided_json")
    ]
    text = '{"setup": "a"}'
    answer: Any = [event({"content": text}, "stop")] if streaming else reply(text)
    chat, transport = canned_chat(*refused, answer, answer)
    model = chat.with_structured_output(Joke)
    for _ in range(2):
        values = [value async for value in model.astream("go")] if streaming else [await model.ainvoke("go")]
        assert values[-1] == Joke(setup="a")
    bodies = [request.json for request in transport.requests]
    forms = [{"response_format", "guided_json", "nvext"} & body.keys() for body in bodies]
    assert forms == [{"response_format"}, {"guided_json"}, {"nvext"}, {"nvext"}]
    assert bodies[2]["nvext"]["guided_json"]["title"] == "Joke"


def test_another_400_is_raised_at_once(canned_chat: Any) -> None:
    """Only an error that names the field returned another form."""
    chat, transport = canned_chat((400, {}, {"error": {"message": "temperature is too high"}}))
    with pytest.raises(BadRequestError):
        chat.with_structured_output(Joke).invoke("go")
    assert len(transport.requests) == 1


def test_context_overflow_is_langchains_own_error(canned_chat: Any) -> None:
    """Summarizing middleware catches ContextOverflowError; it is nimclient's ContextLengthError, too."""
    message = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."
    chat, _ = canned_chat((400, {}, {"error": {"message": message}}))
    with pytest.raises(ContextOverflowError) as error:
        chat.invoke("long")
    assert isinstance(error.value, ContextLengthError)


@pytest.mark.parametrize("wrong", [{"method": "magic"}, {"schema": None}])
def test_wrong_arguments_are_value_errors(canned_chat: Any, wrong: dict[str, Any]) -> None:
    """An unknown method, and a method that needs a schema without one, are rejected."""
    chat, _ = canned_chat()
    with pytest.raises(ValueError, match="method"):
        chat.with_structured_output(**{"schema": Joke, **wrong})


def test_enums_of_other_values_are_value_errors(canned_chat: Any) -> None:
    """Only enums of strings can be asked for."""
    from enum import Enum

    chat, _ = canned_chat()
    with pytest.raises(ValueError, match="only contain string choices"):
        chat.with_structured_output(Enum("Number", {"ONE": 1}))


# tools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ("any", "required"),
        ("required", "required"),
        (True, "required"),
        (False, "none"),
        ("add", {"type": "function", "function": {"name": "add"}}),
        ({"function": {"name": "add"}}, {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_tool_choice(canned_chat: Any, choice: Any, wire: Any) -> None:
    """Every spelling of a choice becomes the server's."""
    chat, transport = canned_chat(reply())
    chat.bind_tools([add], tool_choice=choice, parallel_tool_calls=False).invoke("go")
    body = transport.requests[0].json
    assert body.get("tool_choice") == wire
    assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize("choice", ["subtract", {"function": {"name": "subtract"}}, {"function": {}}, {}])
def test_a_choice_that_is_no_tool_is_a_value_error(canned_chat: Any, choice: Any) -> None:
    """The name must be among the tools."""
    chat, _ = canned_chat()
    with pytest.raises(ValueError, match="Tool choice"):
        chat.bind_tools([add], tool_choice=choice)


def test_strict_stands_within_the_function(canned_chat: Any) -> None:
    """`strict` is never at the top of the body; tools of all forms are converted, and no empty list is sent."""
    chat, transport = canned_chat(reply(), reply())
    chat.bind_tools([add, Joke, JokeDict, SCHEMA], strict=True).invoke("go")
    chat.bind_tools([]).invoke("go")
    body = transport.requests[0].json
    assert "strict" not in body
    assert [tool["function"]["strict"] for tool in body["tools"]] == [True] * 4
    assert "tools" not in transport.requests[1].json


def test_more_tools_join_what_is_bound(canned_chat: Any) -> None:
    """bind(...).bind_tools(...) keeps what was bound."""
    chat, transport = canned_chat(reply())
    chat.bind(temperature=0.5).bind_tools([add]).invoke("go")
    body = transport.requests[0].json
    assert body["temperature"] == 0.5
    assert body["tools"][0]["function"]["name"] == "add"


def test_models_without_tools_warn(canned_chat: Any) -> None:
    """A model that is known not to call tools warns when they are bound, one without thinking when it is switched."""
    chat, _ = canned_chat(model="mistralai/mixtral-8x7b-instruct-v0.1")
    with pytest.warns(UserWarning, match="not known to support tools"):
        chat.bind_tools([add])
    with pytest.warns(UserWarning, match="not known to support structured output"):
        chat.with_structured_output(Joke)
    with pytest.warns(UserWarning, match="does not support thinking mode"):
        chat.with_thinking_mode()

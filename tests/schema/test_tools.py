"""Functions as tools: the spec that goes over the wire, arguments on their way in, results on their way out."""

import dataclasses
import enum
import functools
import json
from datetime import date
from typing import Annotated, Any, Literal

import attrs
import pytest

from nimclient import tool
from nimclient._schema.tools import result_text, tool_of, tools_by_name, wire_tools
from nimclient.errors import ConfigurationError, ToolError
from nimclient.records import Message, ToolCall
from support.sent import sent

SPEC = {"type": "function", "function": {"name": "markdown_bbox"}}


class Unit(enum.Enum):
    C = "celsius"
    F = "fahrenheit"


@attrs.frozen
class Place:
    city: str
    country: str | None = None


@dataclasses.dataclass
class Span:
    first: date
    days: int = 1


def forecast(
    place: Place,
    span: Span | None = None,
    unit: Unit = Unit.C,
    kind: Annotated[Literal["long", "short"], "how much"] = "short",
) -> Any:
    """Forecast the weather.

    Args:
        place: where
        unit: of temperatures
    """
    return place, span, unit, kind


def now() -> str:
    return "noon"


def loose(anything, more=None):
    return anything, more


def call(name: str, arguments: Any, **more: Any) -> ToolCall:
    return ToolCall("1", name, arguments if isinstance(arguments, str) else json.dumps(arguments), **more)


def run(function: Any, arguments: Any) -> Any:
    return tool_of(function).bind(call("f", arguments))()


def test_a_function_becomes_a_spec():
    """Name, docstring, annotations, defaults and the docstring's words on parameters; nothing strict about optional ones."""
    assert tool_of(forecast).spec() == {
        "type": "function",
        "function": {
            "name": "forecast",
            "description": "Forecast the weather.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {
                        "type": "object",
                        "properties": {
                            "city": {"type": "string"},
                            "country": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                        },
                        "required": ["city"],
                        "additionalProperties": False,
                        "description": "where",
                    },
                    "span": {
                        "anyOf": [
                            {
                                "type": "object",
                                "properties": {
                                    "first": {"type": "string", "format": "date"},
                                    "days": {"type": "integer", "default": 1},
                                },
                                "required": ["first"],
                                "additionalProperties": False,
                            },
                            {"type": "null"},
                        ]
                    },
                    "unit": {
                        "type": "string",
                        "enum": ["celsius", "fahrenheit"],
                        "description": "of temperatures",
                        "default": "celsius",
                    },
                    "kind": {
                        "type": "string",
                        "enum": ["long", "short"],
                        "description": "how much",
                        "default": "short",
                    },
                },
                "required": ["place"],
                "additionalProperties": False,
            },
        },
    }


def test_a_function_without_parameters_or_docstring():
    """An empty object, and no description."""
    assert tool_of(now).spec()["function"] == {"name": "now", "parameters": {"type": "object", "properties": {}}}
    assert run(now, "") == run(now, {}) == "noon"


def test_parameters_without_annotations_take_anything():
    """Their schema is empty."""
    assert tool_of(loose).parameters["properties"] == {"anything": {}, "more": {}}
    assert run(loose, {"anything": [1]}) == ([1], None)


def test_the_mark_renames_and_leaves_the_function_alone():
    """@tool gives another name or description; the function can be called as before."""

    @tool
    def one(a: int) -> int:
        """First."""
        return a

    @tool(name="second", description="")
    async def two(a: int) -> int:
        """Not shown."""
        return a

    assert one(1) == 1
    assert (tool_of(one).name, tool_of(one).description) == ("one", "First.")
    assert tool_of(two).spec()["function"].keys() == {"name", "parameters"}
    assert tool_of(two).name == "second"
    with pytest.raises(TypeError, match="@tool takes a function, not int"):
        tool(5)  # type: ignore[call-overload]


class Kitchen:
    @tool(name="cook")
    def prepare(self, dish: str, /, *, spicy: bool = False) -> str:
        return f"{dish} {spicy}"

    @staticmethod
    def wash(what: str, /, times: int = 2) -> str:
        return f"{what} {times}"

    def __call__(self, dish: str) -> str:
        """Order a dish."""
        return dish


def test_methods_partials_callable_objects_and_decorated_functions_are_tools():
    """What is bound already is not the model's to give; positional-only parameters are."""
    kitchen = Kitchen()
    assert (tool_of(kitchen.prepare).name, run(kitchen.prepare, {"dish": "soup"})) == ("cook", "soup False")
    assert run(Kitchen.wash, {"what": "pan"}) == "pan 2"
    assert (tool_of(kitchen).name, tool_of(kitchen).description) == ("Kitchen", "Order a dish.")
    assert run(kitchen, {"dish": "stew"}) == "stew"
    bound = functools.partial(kitchen.prepare, spicy=True)
    assert tool_of(bound).name == "cook"
    assert list(tool_of(bound).parameters["properties"]) == ["dish"]
    assert run(bound, {"dish": "soup"}) == "soup True"

    @functools.wraps(now)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return now(*args, **kwargs)

    assert tool_of(wrapped).name == "now"


def test_types_of_the_function_around_are_known():
    """A local class in an annotation that is text is found in the closure."""

    @attrs.frozen
    class Local:
        x: int

    def use(local: "Local") -> int:
        assert isinstance(local, Local)
        return local.x

    assert run(use, {"local": {"x": 5}}) == 5


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (5, "a tool is a function or a spec, not 5"),
        (Place, "a tool is a function or a spec"),
        (lambda: 1, "'<lambda>' is not a name for a tool"),
        (lambda *args: args, "is not a name"),
        (print, "tool print: \\*args cannot be described"),
    ],
)
def test_what_cannot_be_a_tool(function, words):
    """Classes, functions without a name, and parameters that have none."""
    with pytest.raises(ConfigurationError, match=words):
        tool_of(function)


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"place": {"city": "Ulm"}}, (Place("Ulm"), None, Unit.C, "short")),
        (
            json.dumps({"place": {"city": "Ulm"}, "unit": "fahrenheit", "kind": "long"}),
            (Place("Ulm"), None, Unit.F, "long"),
        ),
        (json.dumps(json.dumps({"place": {"city": "Ulm"}})), (Place("Ulm"), None, Unit.C, "short")),
        (
            {"place": '{"city": "Ulm"}', "span": '{"first": "2026-01-02"}'},
            (Place("Ulm"), Span(date(2026, 1, 2)), Unit.C, "short"),
        ),
        ({"place": {"city": "Ulm"}, "span": "null"}, (Place("Ulm"), None, Unit.C, "short")),
    ],
)
def test_arguments_are_converted(arguments, result):
    """Also those that a server encoded twice, as a whole or one by one."""
    assert run(forecast, arguments) == result


@pytest.mark.parametrize(
    ("arguments", "path", "words"),
    [
        ('{"place": {"ci', "", "are incomplete or not JSON"),
        ("[]", "", "are not a JSON object"),
        ({}, "place", "argument place of forecast: is missing"),
        ({"place": {"city": 5}}, "place.city", "argument place.city of forecast: expected a string, got 5"),
        ({"place": "{"}, "place", "expected an object, got '{'"),
        ({"place": "{}"}, "place", "expected an object, got '{}'"),
        ({"place": {"city": "Ulm"}, "hour": 5}, "hour", "is not a key of forecast"),
        ({"place": {"city": "Ulm"}, "unit": "kelvin"}, "unit", "expected one of 'celsius', 'fahrenheit', got 'kelvin'"),
        ({"place": {"city": "Ulm"}, "span": "tomorrow"}, "span", "expected Span or null, got 'tomorrow'"),
    ],
)
def test_arguments_that_do_not_fit(arguments, path, words):
    """A ToolError says which and why."""
    with pytest.raises(ToolError, match=words.replace("{", r"\{").replace("}", r"\}")) as caught:
        run(forecast, arguments)
    assert caught.value.path == path


def test_cut_off_arguments_are_never_an_empty_call():
    """Empty text means no arguments, but not where the answer ended at its token limit."""
    with pytest.raises(ToolError, match="cut off by the token limit"):
        tool_of(now).bind(call("now", "", cut_off=True))
    assert tool_of(now).bind(call("now", "{}", cut_off=True))() == "noon"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", '""'),
        (None, "null"),
        (1.5, "1.5"),
        (Place("Ulm"), '{"city":"Ulm","country":null}'),
        ([Unit.C, date(2026, 1, 2)], '["celsius","2026-01-02"]'),
        (Message("user", "x"), '{"role":"user","content":"x"}'),
    ],
)
def test_results_become_text(value, text):
    """Text stays as it is, everything else is JSON; never empty."""
    assert result_text(value) == text


def test_a_result_without_a_form_in_json():
    """It is rejected, not guessed."""
    with pytest.raises(ConfigurationError, match="the result"):
        result_text({"x": object()})


def test_tools_of_a_chat_call():
    """Functions and specs mixed; specs go as they are; tool_choice takes a function's name."""
    options = {"tools": [now, SPEC, forecast], "tool_choice": "now"}
    fields = sent("chat.create", "hi", model="m", **options).fields
    assert [spec["function"]["name"] for spec in fields["tools"]] == ["now", "markdown_bbox", "forecast"]
    assert fields["tools"][1] == SPEC
    assert fields["tool_choice"] == {"type": "function", "function": {"name": "now"}}
    with pytest.raises(ConfigurationError, match="names 'later', which is not among the tools"):
        sent("chat.create", "hi", model="m", tools=options["tools"], tool_choice="later")


@pytest.mark.parametrize("tools", [now, "now", {"type": "function"}])
def test_tools_are_a_list(tools):
    """One function alone, a name or a spec is not."""
    for read in (wire_tools, tools_by_name):
        with pytest.raises(TypeError, match="tools takes a list"):
            read(tools)


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ([], "tools is empty"),
        ([SPEC], "a spec has none"),
        ([now, tool(name="now")(lambda: 1)], "two tools are called now"),
    ],
)
def test_tools_that_are_run_are_functions_with_a_name_each(tools, words):
    """Nothing can be run of a spec, and of two with one name it would be unclear which."""
    with pytest.raises(ConfigurationError, match=words):
        tools_by_name(tools)

from typing import Any

import pytest

from nimclient.simulator.hints import Hints, names_in, numbers_in
from nimclient.simulator.instances import instance
from nimclient.simulator.keywords import Unsatisfiable

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "note": {"type": "string"}},
    "required": ["name", "age"],
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (PERSON, {"name": "", "age": 0}),
        (True, ""),
        ({}, ""),
        ({"type": "null"}, None),
        ({"type": "boolean"}, False),
        ({"type": ["null", "integer"]}, 0),
        ({"type": ["null"]}, None),
        ({"const": {"a": 1}}, {"a": 1}),
        ({"enum": [3, 4]}, 3),
        ({"type": "integer", "minimum": 2.5}, 3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "integer", "maximum": -2.5}, -3),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "integer", "minimum": 4, "multipleOf": 5}, 5),
        ({"type": "integer", "maximum": -3, "multipleOf": 5}, -5),
        ({"type": "number", "exclusiveMinimum": 0}, 1),
        ({"type": "number", "exclusiveMaximum": 0}, -1),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.25),
        ({"type": "number", "minimum": 3, "exclusiveMaximum": 3.5}, 3),
        ({"minimum": 7}, 7),
        ({"allOf": [True, {"type": "integer", "minimum": 1}], "title": "T", "type": "integer"}, 1),
        ({"type": "array", "prefixItems": [{}, {}], "maxItems": 1}, [""]),
        (
            {
                "properties": {"a": {"minimum": 1}},
                "allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"required": ["a"]}],
            },
            {"a": 1},
        ),
        ({"type": "string", "minLength": 3}, "000"),
        ({"minLength": 40}, "a" * 40),
        ({"type": "string", "format": "date"}, "2026-01-01"),
        ({"type": "string", "pattern": "^[A-Z]{2}$"}, "AA"),
        ({"type": "array"}, []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
        ({"prefixItems": [{"type": "integer"}, {"type": "null"}]}, [0, None]),
        ({"type": "array", "uniqueItems": True}, []),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ""),
        ({"oneOf": [{"type": "integer", "minimum": 1, "maximum": 0}, {"type": "null"}]}, None),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer", "minimum": 1}}}, 1),
        (
            {
                "$ref": "#/$defs/node",
                "$defs": {
                    "node": {
                        "type": "object",
                        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                        "required": ["next"],
                    }
                },
            },
            {"next": None},
        ),
        ({"type": "object", "minProperties": 1, "properties": {"a": {"type": "null"}}}, {"a": None}),
        ({"type": "object", "required": ["x"], "additionalProperties": {"type": "integer"}}, {"x": 0}),
        (
            {
                "allOf": [
                    {"$ref": "#/$defs/base"},
                    {"properties": {"b": {"type": "null"}}, "required": ["b"]},
                ],
                "type": "object",
                "$defs": {"base": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}},
            },
            {"b": None, "a": 0},
        ),
    ],
)
def test_a_schema_gets_its_smallest_instance(schema: Any, value: Any) -> None:
    """Each keyword is obeyed with as little as it allows."""
    assert instance(schema) == value


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (False, "object or true"),
        ({"not": {}}, "'not' is not supported"),
        ({"enum": []}, "empty enum"),
        ({"$ref": "#"}, "leads to itself"),
        ({"$ref": "https://example.com/schema"}, "does not point into"),
        ({"$ref": "#/$defs/x"}, "points nowhere"),
        ({"$ref": "#/type", "type": "string"}, "points to no object"),
        ({"anyOf": []}, "without a choice"),
        ({"type": "spam"}, "'spam' is not known"),
        ({"type": "integer", "minimum": 1, "maximum": 0}, "between the bounds"),
        ({"type": "string", "pattern": r"^\d{17}$"}, "no text was found"),
        ({"type": "string", "minLength": 10**9}, "more than"),
        ({"type": "array", "minItems": 10**9}, "more than"),
        ({"type": "array", "minItems": 2, "uniqueItems": True, "items": {"type": "null"}}, "uniqueItems"),
        ({"type": "object", "minProperties": 1}, "minProperties"),
        (
            {"type": "array", "minItems": 999, "items": {"type": "array", "minItems": 999, "items": {"type": "null"}}},
            "steps",
        ),
        ({"allOf": [{"$ref": "#"}]}, "malformed"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "disagree on 'type'"),
        ({"type": "array", "minItems": 2, "maxItems": 1}, "more than maxItems"),
        ({"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1}, "between the bounds"),
        ({"type": "number", "minimum": 1, "exclusiveMaximum": 1}, "between the bounds"),
        ({"type": "string", "pattern": "("}, "malformed"),
        ({"type": "object", "required": 5}, "malformed"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "object or true"),
    ],
)
def test_what_cannot_be_satisfied_is_rejected(schema: Any, reason: str) -> None:
    """A schema without an honest instance raises, and the text says why."""
    with pytest.raises(Unsatisfiable, match=reason):
        instance(schema)


def test_hints_fill_in_what_fits() -> None:
    """Names and numbers of the question go where they fit, each once."""
    hints = Hints("Extract the person: Alice is 30, Bob is 41.5 years old.")
    schema = {"type": "array", "items": PERSON, "minItems": 2}
    assert instance(schema, hints)[0] == {"name": "Alice", "age": 30}


def test_hints_that_do_not_fit_are_left_alone() -> None:
    """A number out of bounds and a name of the wrong length are not used."""
    hints = Hints("Is 300 good for Alexandra?", "text")
    assert instance({"type": "integer", "maximum": 10}, hints) == 0
    assert instance({"type": "string", "maxLength": 5}, hints) == "text"
    assert instance({"type": "number"}, hints) == 300


def test_an_enum_follows_the_question() -> None:
    """The member of an enum that the question names is taken."""
    assert instance({"enum": ["celsius", "fahrenheit"]}, Hints("weather in Fahrenheit, please")) == "fahrenheit"


def test_numbers_and_names_are_found() -> None:
    """Numbers stand alone; quoted words come first and the beginnings of sentences last."""
    assert numbers_in("-3 and 4.5, v2, 1.2.3, 10%") == [-3.0, 4.5, 10.0]
    assert names_in('Find "blue shoe" in New York. Paris is far. What of Rome?') == [
        "blue shoe",
        "New York",
        "Rome",
        "Find",
        "Paris",
    ]

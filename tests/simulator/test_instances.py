from typing import Any

import pytest

from nimclient.simulator.instances import instance
from nimclient.simulator.keywords import Unsatisfiable
from nimclient.simulator.values import Values, names_in, numbers_in

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "note": {"type": "string"}},
    "required": ["name", "age"],
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (PERSON, {"name": "", "age": 0, "note": ""}),
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
def test_a_schema_gets_an_instance(schema: Any, value: Any) -> None:
    """Each keyword is obeyed; without a text to read from, values are the smallest."""
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


def test_values_fill_in_what_fits() -> None:
    """Names and numbers of the question go where they fit, each once."""
    values = Values("Extract the person: Alice is 30, Bob is 41.5 years old.")
    schema = {"type": "array", "items": PERSON, "minItems": 2}
    assert instance(schema, values)[0] == {"name": "Alice", "age": 30, "note": "Bob"}


def test_values_that_do_not_fit_are_left_alone() -> None:
    """A number out of bounds and a name of the wrong length are not used."""
    values = Values("Is 300 good for Alexandra?", "text")
    assert instance({"type": "integer", "maximum": 10}, values) == 0
    assert instance({"type": "string", "maxLength": 5}, values) == "text"
    assert instance({"type": "number"}, values) == 300


def test_an_enum_follows_the_question() -> None:
    """The member of an enum that the question names is taken."""
    assert instance({"enum": ["celsius", "fahrenheit"]}, Values("weather in Fahrenheit, please")) == "fahrenheit"


def test_numbers_and_names_are_found() -> None:
    """Numbers stand alone; quoted words come first and the beginnings of sentences last."""
    assert list(numbers_in("-3 and 4.5, v2, 1.2.3, 10%, four").values()) == [-3.0, 4.5, 10.0, 4.0]
    assert [name.text for name in names_in('Find "blue shoe" in New York. Paris is far. What of Rome?')] == [
        "blue shoe",
        "New York",
        "Rome",
        "Paris",
    ]


def _object(**properties: Any) -> dict[str, Any]:
    """A schema of optional properties; a str is a type."""
    named = {name: {"type": value} if isinstance(value, str) else value for name, value in properties.items()}
    return {"type": "object", "properties": named}


TEXTS = {"type": "array", "items": {"type": "string"}}


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("A booking for Friday by Smith.", _object(day="string", name="string"), {"day": "Friday", "name": "Smith"}),
        (
            "Please book a table for 4 people on Friday at 7pm for Smith. No smoking.",
            _object(name="string", day="string", time="string", guests="integer", smoking="boolean"),
            {"name": "Smith", "day": "Friday", "time": "7pm", "guests": 4, "smoking": False},
        ),
        (
            "A flight from Paris to New York on 3 March 2026, two passengers.",
            _object(destination="string", origin="string", on={"type": "string", "format": "date"}, people="integer"),
            {"destination": "New York", "origin": "Paris", "on": "2026-03-03", "people": 2},
        ),
        (
            "Ada Lovelace, ada@example.org, is 36 years old and lives in London. Interests: maths, engines and poetry.",
            _object(city="string", email="string", name="string", age="integer", interests=TEXTS),
            {
                "city": "London",
                "email": "ada@example.org",
                "name": "Ada Lovelace",
                "age": 36,
                "interests": ["maths", "engines", "poetry"],
            },
        ),
        ("Compare Paris, Rome and Oslo.", _object(cities=TEXTS), {"cities": ["Paris", "Rome", "Oslo"]}),
        (
            "Order AB1234 costs $19.99 and is urgent.",
            _object(id={"type": "string", "pattern": r"^[A-Z]{2}\d+$"}, price="number", urgent="boolean"),
            {"id": "AB1234", "price": 19.99, "urgent": True},
        ),
        (
            "name: Ada, title: 'The Analyst'",
            _object(title="string", name="string"),
            {"title": "The Analyst", "name": "Ada"},
        ),
    ],
)
def test_values_come_from_the_text(text: str, schema: Any, value: Any) -> None:
    """Each property gets the value that the text has for it, in whatever order they are declared."""
    assert instance(schema, Values(text)) == value


def test_optional_properties_end_somewhere() -> None:
    """A schema that refers to itself through optional properties and lists has an instance."""
    node = {
        "type": "object",
        "properties": {"next": {"$ref": "#"}, "others": {"type": "array", "items": {"$ref": "#"}}},
    }
    assert instance(node) == {"next": {"others": []}, "others": [{"others": []}]}
    wide = {f"d{at}": _object(**{f"p{key}": {"$ref": f"#/$defs/d{at + 1}"} for key in range(9)}) for at in range(9)}
    assert "p0" in instance({"$ref": "#/$defs/d0", "$defs": {**wide, "d9": {"type": "null"}}})


def test_long_texts_take_no_time() -> None:
    """Texts made to be slow are read in part, and every pattern has its bound."""
    for text in ("A " * 100_000, "a." * 100_000, "name is " * 50_000, "1 " * 100_000, '"x' * 100_000):
        assert set(instance(_object(name="string", email="string", age="integer", cities=TEXTS), Values(text))) <= {
            "name",
            "email",
            "age",
            "cities",
        }

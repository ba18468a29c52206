"""Values against JSON schemas that callers wrote: which keywords are checked, and what is said where one is broken."""

from typing import Any

import pytest

from nimclient.errors import ConfigurationError
from support.schemas import Misfit, Schema


def convert(value: Any, schema: Any) -> Any:
    return Schema(schema).convert(value, "")


LIST = {"$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["v"]}}}
DEEP = {
    "type": "object",
    "properties": {"a/b": {"$defs": {"~x": {"type": "integer"}}}, "c": {"$ref": "#/properties/a~1b/$defs/~0x"}},
}


@pytest.mark.parametrize(
    ("schema", "good", "bad", "path", "problem"),
    [
        ({"type": "string"}, "a", 1, "", "expected string, got 1"),
        ({"type": "number"}, 1.5, True, "", "expected number, got true"),
        ({"type": "integer"}, 2.0, 2.5, "", "expected integer, got 2.5"),
        ({"type": "boolean"}, False, 0, "", "expected boolean, got 0"),
        ({"type": "null"}, None, 0, "", "expected null, got 0"),
        ({"type": "array"}, [], {}, "", "expected array, got an object"),
        ({"type": ["string", "null"]}, None, 1, "", "expected string or null, got 1"),
        ({"const": {"a": [1]}}, {"a": [1.0]}, {"a": [True]}, "", "expected an object, got an object"),
        ({"const": [1, 2]}, [1, 2], [1], "", "expected a list, got a list"),
        ({"enum": ["a", 1]}, 1, "b", "", "expected one of 'a', 1, got 'b'"),
        ({"required": ["a"]}, {"a": 1}, {}, "a", "is missing"),
        ({"properties": {"a": {"type": "null"}}}, {"a": None, "b": 1}, {"a": 1}, "a", "expected null, got 1"),
        ({"properties": {"a": False}}, {}, {"a": 1}, "a", "must not be there"),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1}, {"b": 1}, "b", "is not a key of the schema"),
        ({"additionalProperties": {"type": "null"}}, {"x": None}, {"x": 1}, "x", "expected null, got 1"),
        ({"patternProperties": {"^n": {"type": "null"}}, "additionalProperties": False}, {"n": None}, {"n": 1}, "n",
         "expected null, got 1"),
        ({"items": {"type": "null"}}, [None], [None, 1], "[1]", "expected null, got 1"),
        ({"prefixItems": [{"type": "null"}], "items": False}, [None], [None, 1], "[1]", "must not be there"),
        ({"anyOf": [{"type": "null"}, {"required": ["a"]}]}, None, {}, "a", "is missing"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, "x", 1, "",
         "fits no branch (expected null, got 1; expected string, got 1)"),
        ({"anyOf": [{"type": "null"}]}, None, 1, "", "expected null, got 1"),
        ({"oneOf": [{"minimum": 1}, {"maximum": 1}]}, 0, 1, "", "fits 2 schemas of oneOf, not one"),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2, 4, "", "4 breaks maximum: 3"),
        ({"not": {"type": "null"}}, 1, None, "", "fits what `not` excludes"),
        ({"exclusiveMinimum": 1}, 2, 1, "", "1 breaks exclusiveMinimum: 1"),
        ({"exclusiveMaximum": 1}, 0, 1, "", "1 breaks exclusiveMaximum: 1"),
        ({"multipleOf": 0.1}, 0.3, 0.35, "", "0.35 breaks multipleOf: 0.1"),
        ({"minLength": 2, "maxLength": 3}, "ab", "a", "", "'a' breaks minLength: 2"),
        ({"maxLength": 3}, 12345, "abcd", "", "'abcd' breaks maxLength: 3"),
        ({"pattern": "^a"}, "ab", "ba", "", "'ba' breaks pattern: '^a'"),
        ({"minItems": 1}, [1], [], "", "a list breaks minItems: 1"),
        ({"maxItems": 1}, [1], [1, 2], "", "a list breaks maxItems: 1"),
        ({"uniqueItems": True}, [1, True], [1, 1.0], "", "a list breaks uniqueItems: true"),
        ({"uniqueItems": False}, [1, 1], None, None, None),
        ({"minProperties": 1}, {"a": 1}, {}, "", "an object breaks minProperties: 1"),
        ({"maxProperties": 0}, {}, {"a": 1}, "", "an object breaks maxProperties: 0"),
        ({"$ref": "#/$defs/node", **LIST}, {"v": 1, "next": {"v": 2}}, {"v": 1, "next": {}}, "next.v", "is missing"),
        (DEEP, {"c": 1}, {"c": "1"}, "c", "expected integer, got '1'"),
        ({"format": "date", "if": False, "contains": {}}, "anything", None, None, None),
    ],
)  # fmt: skip
def test_a_keyword_takes_what_fits_and_refuses_the_rest(schema, good, bad, path, problem):
    """What fits comes back as it is; what does not is a Misfit with the path to it."""
    assert Schema(schema).convert(good, "") is good
    if path is not None:
        with pytest.raises(Misfit) as caught:
            Schema(schema).convert(bad, "")
        assert (caught.value.path, caught.value.problem) == (path, problem)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "text"}, "the schema's type 'text' is not one of string, "),
        ({"$ref": "#/$defs/none"}, "reference '#/\\$defs/none' leads nowhere"),
        ({"$ref": "https://example.test/x"}, "leads nowhere within it"),
        ({"$ref": 5}, "reference 5 leads nowhere"),
        ({"properties": {"a": "int"}}, "a JSON schema is an object, true or false, not 'int'"),
    ],
)
def test_a_schema_that_is_none_is_the_callers_error(schema, words):
    """A mistake in the schema is not taken for one in the model's output."""
    with pytest.raises(ConfigurationError, match=words):
        Schema(schema).convert({"a": 1}, "")


def test_a_schema_without_end_ends():
    """References that go round in a circle are cut short."""
    with pytest.raises(Misfit, match="nested too deeply"):
        Schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}).convert(1, "")


@pytest.mark.parametrize(
    ("schema", "is_object"),
    [
        ({"type": "object"}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}, True),
        ({"type": "array"}, False),
        ({}, False),
        ({"$ref": "#/$defs/a", "$defs": {"a": True}}, False),
    ],
)
def test_whether_the_root_is_an_object(schema, is_object):
    """Servers take only objects at the root; a reference counts as what it leads to."""
    assert Schema(schema).is_object is is_object


@pytest.mark.parametrize(
    ("value", "step", "fits"),
    [
        (1e308, 0.5, True),
        (1e308, 0.123456789, False),
        (1e308, 3, True),
        (5e-324, 1e308, True),
        (7, 0, False),
        (0.3, 0.1, True),
        (0.35, 0.1, False),
        (10, 5, True),
        (2**63, 2, True),
    ],
)
def test_multiples_at_the_ends_of_the_range(value: float, step: float, fits: bool) -> None:
    """Numbers of any size are checked against multipleOf without an overflow; a step of nothing fits nothing."""
    schema = {"type": "number", "multipleOf": step}
    if fits:
        assert convert(value, schema) == value
    else:
        with pytest.raises(Misfit, match="breaks multipleOf"):
            convert(value, schema)


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([1, True, "1", [1], [True], {"a": 1}, {"a": True}, None, False, 0], True),
        ([1, 1.0], False),
        ([[1, 2], [1.0, 2]], False),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
        ([[], {}, "", 0], True),
    ],
)
def test_unique_items(items: list[Any], unique: bool) -> None:
    """As JSON counts: 1 and 1.0 are the same, 1 and true are not, the order of keys says nothing."""
    schema = {"type": "array", "uniqueItems": True}
    if unique:
        assert convert(items, schema) == items
    else:
        with pytest.raises(Misfit, match="uniqueItems"):
            convert(items, schema)


def test_many_unique_items_are_linear_work() -> None:
    """Forty thousand items are compared at once: pair by pair they would take minutes."""
    convert([{"n": n} for n in range(40_000)], {"type": "array", "uniqueItems": True})


def test_a_pattern_that_is_none() -> None:
    """A pattern that Python cannot read is the caller's to mend."""
    with pytest.raises(ConfigurationError, match="is not a regular expression"):
        convert("x", {"type": "string", "pattern": "(?<bad"})

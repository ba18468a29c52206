"""Python types ⇄ JSON schema: what each kind of type looks like on the wire, and what is taken for a value of it."""

import collections.abc
import dataclasses
import enum
import sys
import typing
from datetime import UTC, date, datetime, time
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import attrs
import pytest

from nimclient.errors import ConfigurationError
from support.schemas import Misfit, convert, schema_of, shape_of

T = TypeVar("T")
B = TypeVar("B", bound=int)
STRING, INTEGER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}

UNHASHABLE = "unhashable type: 'list'"
if sys.version_info >= (3, 14):
    UNHASHABLE = f"cannot use 'list' as a set element ({UNHASHABLE})"


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    A = "a"
    ONE = 1
    FALSE = False
    NONE = None


@attrs.frozen
class Point:
    """A place on a plane."""

    x: int
    y: int = 0
    _note: Annotated[str, "a remark"] = attrs.field(default="", repr=False)
    hidden: int = attrs.field(default=7, init=False)


@dataclasses.dataclass
class Person:
    """A human being.

    Attributes:
        name: the full name
        born: the day of birth
    """

    name: str
    born: date | None = None
    tags: list[str] = dataclasses.field(default_factory=list)
    length: int = dataclasses.field(default=0, init=False)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a person needs a name")


class Pair(NamedTuple):
    left: str
    right: int = 5


class Movie(TypedDict):
    title: str
    year: NotRequired[Annotated[int, "of the premiere"]]


class Loose(TypedDict, total=False):
    name: Required[str]
    nick: str | None
    age: int


class Deferred(TypedDict):
    title: "Required[str]"
    year: "Annotated[NotRequired[int], 'of the premiere']"


@attrs.frozen
class Node:
    value: int
    next: "Node | None" = None


@dataclasses.dataclass
class Tree:
    left: "Tree | int"
    right: "Tree | int"


@attrs.frozen
class Box(Generic[T]):
    content: T
    inner: "Box[T] | None" = None


@attrs.frozen
class Cat:
    name: str
    lives: int


@attrs.frozen
class Dog:
    name: str
    breed: str


@attrs.frozen
class Barn:
    first: Point
    second: Annotated[Point, "the other one"]


Age = NewType("Age", int)
CLOSED = {"additionalProperties": False}


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        (str, STRING),
        (int, INTEGER),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, NULL),
        (type(None), NULL),
        (Any, {}),
        (object, {}),
        (Age, INTEGER),
        (B, INTEGER),
        (T, {}),
        (Annotated[int, 1, "how many"], {"type": "integer", "description": "how many"}),
        (Annotated[int, 1], INTEGER),
        (Optional[int], {"anyOf": [INTEGER, NULL]}),  # noqa: UP045
        (int | str, {"anyOf": [INTEGER, STRING]}),
        (Union[int, str], {"anyOf": [INTEGER, STRING]}),  # noqa: UP007
        (date, {"type": "string", "format": "date"}),
        (datetime, {"type": "string", "format": "date-time"}),
        (time, {"type": "string", "format": "time"}),
        (UUID, {"type": "string", "format": "uuid"}),
        (Color, {"type": "string", "enum": ["red", "blue"]}),
        (Level, {"type": "integer", "enum": [1, 2]}),
        (Mixed, {"enum": ["a", 1, False, None]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal[Color.RED, 2], {"enum": ["red", 2]}),
        (list, {"type": "array", "items": {}}),
        (list[int], {"type": "array", "items": INTEGER}),
        (typing.List[int], {"type": "array", "items": INTEGER}),  # noqa: UP006
        (set[str], {"type": "array", "items": STRING}),
        (list[Annotated[int, "a year"]], {"type": "array", "items": {"type": "integer", "description": "a year"}}),
        (collections.abc.Sequence[str], {"type": "array", "items": STRING}),
        (tuple[int, ...], {"type": "array", "items": INTEGER}),
        (tuple, {"type": "array", "items": {}}),
        (tuple[int, str], {"type": "array", "prefixItems": [INTEGER, STRING], "items": False, "minItems": 2, "maxItems": 2}),
        (dict, {"type": "object", "additionalProperties": True}),
        (dict[str, int], {"type": "object", "additionalProperties": INTEGER}),
        (collections.abc.Mapping[Color, int], {"type": "object", "additionalProperties": INTEGER}),
        (dict[date, int], {"type": "object", "additionalProperties": INTEGER}),
        (Pair, {"type": "object", "properties": {"left": STRING, "right": INTEGER}, "required": ["left", "right"], **CLOSED}),
        (Annotated[Pair, "two"],
         {"type": "object", "properties": {"left": STRING, "right": INTEGER}, "required": ["left", "right"], **CLOSED,
          "description": "two"}),
        (Movie,
         {"type": "object",
          "properties": {"title": STRING, "year": {"anyOf": [INTEGER, NULL], "description": "of the premiere"}},
          "required": ["title", "year"], **CLOSED}),
    ],
)  # fmt: skip
def test_the_schema_of_a_type(form, schema):
    """Each kind of type has one schema; strict, every property is required and unknown keys are excluded."""
    assert schema_of(form) == schema


def test_records_say_what_their_fields_are_for():
    """Descriptions come from Annotated and from the docstring; private attrs fields go by their argument's name."""
    properties = {
        "x": INTEGER,
        "y": INTEGER,
        "note": {"type": "string", "description": "a remark"},
    }
    assert schema_of(Point) == {
        "type": "object",
        "properties": properties,
        "description": "A place on a plane.",
        "required": ["x", "y", "note"],
        "additionalProperties": False,
    }
    person = schema_of(Person)
    assert person["description"] == "A human being."
    assert person["properties"]["name"] == {"type": "string", "description": "the full name"}
    assert person["properties"]["born"]["description"] == "the day of birth"
    assert "length" not in person["properties"]


def test_where_strictness_is_not_wanted_defaults_show():
    """Tools may leave out what has a default, and the schema says which it is; a factory's is not shown."""
    schema = schema_of(Person, strict=False)
    assert schema["required"] == ["name"]
    assert "default" not in schema["properties"]["tags"]
    assert schema_of(Point, strict=False)["properties"]["y"] == {"type": "integer", "default": 0}
    assert schema_of(Movie, strict=False)["properties"]["year"] == {"type": "integer", "description": "of the premiere"}


def test_a_default_that_json_cannot_carry_is_not_shown():
    """NaN is a fine default and no JSON."""
    made = attrs.make_class("Made", {"x": attrs.field(type=float, default=float("nan")), "y": attrs.field(default=3)})
    assert schema_of(made, strict=False)["properties"] == {"x": {"type": "number"}, "y": {"default": 3}}


@pytest.mark.parametrize("form", [Node, Tree, Box[int]])
def test_a_type_that_contains_itself_refers_to_its_definition(form):
    """The root is the object itself, for strict servers, and $defs has it for the references."""
    schema = schema_of(form)
    name = getattr(form, "__name__", "Box")
    assert schema["type"] == "object"
    assert f"'$ref': '#/$defs/{name}'" in str(schema["properties"])
    assert {k: v for k, v in schema.items() if k != "$defs"} == schema["$defs"][name]


def test_a_record_that_is_used_twice_is_defined_once():
    """A description stands beside no reference: strict servers reject that."""
    schema = schema_of(Barn)
    reference = {"$ref": "#/$defs/Point"}
    assert schema["properties"] == {
        "first": reference,
        "second": {"anyOf": [reference], "description": "the other one"},
    }
    assert list(schema["$defs"]) == ["Point"]


def test_two_types_of_one_name_have_two_definitions():
    """The second one gets a number."""
    one = attrs.make_class("Same", {"a": attrs.field(type=int)})
    two = attrs.make_class("Same", {"b": attrs.field(type=int)})
    both = attrs.make_class(
        "Both", {name: attrs.field(type=kind) for name, kind in zip("abcd", (one, one, two, two), strict=True)}
    )
    schema = schema_of(both)
    assert sorted(schema["$defs"]) == ["Same", "Same2"]
    assert schema["properties"]["a"] == schema["properties"]["b"] != schema["properties"]["c"]


@pytest.mark.parametrize(
    ("form", "value", "result"),
    [
        (float, 3, 3.0),
        (int, 3.0, 3),
        (int | float, 3.0, 3.0),
        (float | int, 3, 3),
        (Annotated[int, "n"] | str, "x", "x"),
        (Any, {"a": [1]}, {"a": [1]}),
        (list[Annotated[int, "n"]], [1], [1]),
        (date | str, "2026-02-30", "2026-02-30"),
        (date, "2026-02-28", date(2026, 2, 28)),
        (datetime, "2026-02-28T10:00:00Z", datetime(2026, 2, 28, 10, tzinfo=UTC)),
        (UUID, "12345678123456781234567812345678", UUID("12345678123456781234567812345678")),
        (Level, 2, Level.HIGH),
        (Mixed, False, Mixed.FALSE),
        (Mixed, 1, Mixed.ONE),
        (Literal[Color.RED], "red", Color.RED),
        (set[int], [1, 2, 1], {1, 2}),
        (frozenset[int], [1], frozenset({1})),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (collections.abc.Sequence[int], [1], [1]),
        (dict[Color, int], {"red": 1}, {Color.RED: 1}),
        (Point, {"x": 1, "note": "n"}, Point(1, 0, "n")),
        (Person, {"name": "A", "born": "2000-01-01"}, Person("A", date(2000, 1, 1))),
        (Pair, {"left": "a"}, Pair("a", 5)),
        (Movie, {"title": "M", "year": None}, {"title": "M"}),
        (Movie, {"title": "M", "year": 1}, {"title": "M", "year": 1}),
        (Loose, {"name": "N", "nick": None, "age": None}, {"name": "N", "nick": None}),
        (Deferred, {"title": "D"}, {"title": "D"}),
        (Node, {"value": 1, "next": {"value": 2, "next": None}}, Node(1, Node(2))),
        (Tree, {"left": {"left": 1, "right": 2}, "right": 3}, Tree(Tree(1, 2), 3)),
        (Box[int], {"content": 1, "inner": {"content": 2}}, Box(1, Box(2))),
        (Box[list[int]], {"content": [1], "inner": {"content": [2]}}, Box([1], Box([2]))),
        (Box, {"content": "anything"}, Box("anything")),
        (Cat | Dog, {"name": "Rex", "breed": "mutt"}, Dog("Rex", "mutt")),
        (list[Cat | Dog | None], [{"name": "T", "lives": 9}, None], [Cat("T", 9), None]),
    ],
)
def test_values_are_converted(form, value, result):
    """JSON becomes a value of the type; unions are distinguished by their shape."""
    converted = convert(value, form)
    assert converted == result
    assert type(converted) is type(result)


@pytest.mark.parametrize(
    ("form", "value", "path", "problem"),
    [
        (int, True, "", "expected an integer, got true"),
        (float, False, "", "expected a number, got false"),
        (int, "1", "", "expected an integer, got '1'"),
        (int, 1.5, "", "expected an integer, got 1.5"),
        (bool, 1, "", "expected a boolean, got 1"),
        (str, None, "", "expected a string, got null"),
        (str, ["x"], "", "expected a string, got a list"),
        (None, 0, "", "expected null, got 0"),
        (date, "today", "", "expected a date in ISO 8601, got 'today'"),
        (UUID, 5, "", "expected a UUID, got 5"),
        (Level, True, "", "expected one of 1, 2, got true"),
        (Color, "green", "", "expected one of 'red', 'blue', got 'green'"),
        (Literal[1], "x" * 100, "", f"expected one of 1, got '{'x' * 59}…"),
        (list[int], {"a": 1}, "", "expected a list, got an object"),
        (list[int], [1, "b"], "[1]", "expected an integer, got 'b'"),
        (tuple[int, int], [1], "", "expected 2 items, got 1"),
        (set[list[int]], [[1]], "", UNHASHABLE),
        (dict[str, int], {"a": {"b": 1}}, "a", "expected an integer, got an object"),
        (dict[str, int], [], "", "expected an object, got a list"),
        (dict[Color, int], {"green": 1}, "green", "expected one of 'red', 'blue', got 'green'"),
        (Point, {"y": 1}, "x", "is missing"),
        (Point, {"x": 1, "z": 1}, "z", "is not a key of Point (known: x, y, note)"),
        (list[Person], [{"name": ""}], "[0]", "a person needs a name"),
        (Person, {"name": "A", "born": "x"}, "born", "expected a date in ISO 8601 or null, got 'x'"),
        (Node, {"value": 1, "next": {"value": "2"}}, "next.value", "expected an integer, got '2'"),
        (Cat | Dog, {"name": "Rex"}, "", "expected Cat or Dog, got an object (lives: is missing; breed: is missing)"),
        (Cat | None, {"name": "Tom"}, "lives", "is missing"),
    ],
)
def test_what_does_not_fit_says_where_and_why(form, value, path, problem):
    """Nothing is coerced: a bool is no number and text is no number; the path leads to the place."""
    with pytest.raises(Misfit) as caught:
        convert(value, form)
    assert (caught.value.path, caught.value.problem) == (path, problem)


def test_the_marks_of_a_typed_dict_are_looked_through():
    """ReadOnly says nothing about the JSON, nor does where it stands."""
    extensions = pytest.importorskip("typing_extensions")
    made = extensions.TypedDict("Made", {"a": extensions.ReadOnly[int], "b": NotRequired[extensions.ReadOnly[int]]})
    assert convert({"a": 1}, made) == {"a": 1}
    assert schema_of(made, strict=False)["required"] == ["a"]


def test_paths_begin_where_the_caller_says():
    """The path of a value within something larger is kept."""
    with pytest.raises(Misfit, match=r"^body\.a\[0\]: expected an integer"):
        convert({"a": ["x"]}, dict[str, list[int]], "body")


def test_an_exception_without_words_is_named():
    """A validator that asserts without a text is a misfit, too."""

    def check(instance, attribute, value):
        raise AssertionError

    made = attrs.make_class("Made", {"x": attrs.field(type=int, validator=check)})
    with pytest.raises(Misfit, match="AssertionError"):
        convert({"x": 0}, made)


class Empty(enum.Enum):
    pass


class Odd(enum.Enum):
    A = (1, 2)


@dataclasses.dataclass
class Unknown:
    x: "NoSuchType"  # noqa: F821


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (bytes, "bytes has no form in JSON"),
        (complex, "complex has no form in JSON"),
        (type("Plain", (), {}), "Plain has no form in JSON"),
        ("int", "'int' has no form in JSON"),
        (typing.Callable[[], int], "has no form in JSON"),
        (typing.Final[int], "has no form in JSON"),
        (dict[int, str], "keys of a JSON object are text, not int"),
        (Empty, "Empty must have values"),
        (Odd, "Odd must have values, and only such"),
        (Literal[b"x"], "must have values, and only such"),
        (Unknown, "an annotation of Unknown cannot be resolved: name 'NoSuchType'"),
    ],
)
def test_types_without_a_form_in_json(form, words):
    """They are rejected before anything is sent."""
    with pytest.raises(ConfigurationError, match=words.replace("(", r"\(")):
        schema_of(form)


class Alias:
    """What `type Loop = list[Loop]` makes, where Python has the statement."""

    def __init__(self, value=None):
        self.__value__ = self if value is None else value


def test_aliases_are_looked_through_and_must_come_to_an_end():
    """An alias is its value; one that is only itself is rejected."""
    assert schema_of(Alias(list[int])) == {"type": "array", "items": INTEGER}
    with pytest.raises(ConfigurationError, match="refers to itself"):
        shape_of(Alias())

"""Shapes: the JSON form of a Python type. One class per kind of type; each generates its JSON schema and converts
decoded JSON to values. Conversion is strict: a bool is not a number, text is not a number, an unknown key of an
object is an error. Two exceptions are those of JSON itself: a whole number is also a float, and 3.0 is also an int.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field

from nimclient._base.types import Json, JsonDict, is_array, is_object
from nimclient.records._decode import kind_of


class Misfit(ValueError):
    """A JSON value that does not fit its type: `path` is where, `problem` is why."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


@define
class Book:
    """A schema under construction. `strict`: every property is required, as by strict servers."""

    strict: bool
    shared: frozenset[Shape]
    definitions: JsonDict = field(factory=dict[str, Any])
    _names: dict[Shape, str] = field(factory=dict["Shape", str])

    def reference(self, shape: Shape, name: str, body: Callable[[Book], JsonDict]) -> JsonDict:
        """A reference to the shape's definition, which is added on first use."""
        if shape not in self._names:
            free = (n for n in (name, *(f"{name}{i}" for i in range(2, 10_000))) if n not in self.definitions)
            known = self._names[shape] = next(free)
            self.definitions[known] = {}
            self.definitions[known] = body(self)
        return {"$ref": f"#/$defs/{self._names[shape]}"}


class Shape(ABC):
    """The JSON form of a type. Shapes compare by identity."""

    label: str
    is_object = False

    @abstractmethod
    def schema(self, book: Book) -> JsonDict:
        """The JSON schema of the type."""

    @abstractmethod
    def convert(self, value: Json, path: str) -> Any:
        """Convert a JSON value to the type; Misfit if it does not fit."""

    def inner(self) -> Iterable[Shape]:
        """The shapes that this one contains."""
        return ()

    def rank(self, value: Json) -> int:
        """In a union, shapes of a low rank are tried first."""
        return 0


@define(eq=False)
class AnyShape(Shape):
    """Any JSON value."""

    label: str = "anything"

    def schema(self, book: Book) -> JsonDict:
        return {}

    def convert(self, value: Json, path: str) -> Any:
        return value


@define(eq=False)
class Scalar(Shape):
    """str, bool, int, float and None. `kind` is the type's name in JSON schema."""

    kind: str
    label: str
    build: Callable[[Any], Any]

    def schema(self, book: Book) -> JsonDict:
        return {"type": self.kind}

    def convert(self, value: Json, path: str) -> Any:
        try:
            return self.build(value)
        except TypeError:
            raise Misfit(path, f"expected {self.label}, got {shown(value)}") from None

    def rank(self, value: Json) -> int:
        numbers = {"integer": float, "number": int}  # can be read as the other type, but not exactly
        return int(self.kind in numbers and type(value) is numbers[self.kind])


@define(eq=False)
class Text(Shape):
    """Types written as text of a known format: dates, times, UUIDs."""

    format: str
    label: str
    parse: Callable[[str], Any]

    def schema(self, book: Book) -> JsonDict:
        return {"type": "string", "format": self.format}

    def convert(self, value: Json, path: str) -> Any:
        if isinstance(value, str):
            try:
                return self.parse(value)
            except ValueError:
                pass
        raise Misfit(path, f"expected {self.label}, got {shown(value)}")


@define(eq=False)
class Choices(Shape):
    """Enums and literals: each JSON value with its Python value."""

    label: str
    values: Sequence[tuple[Json, Any]]

    def schema(self, book: Book) -> JsonDict:
        kinds = {_KINDS[type(raw)] for raw, _ in self.values}
        known: JsonDict = {"type": kinds.pop()} if len(kinds) == 1 else {}
        return {**known, "enum": [raw for raw, _ in self.values]}

    def convert(self, value: Json, path: str) -> Any:
        for raw, meant in self.values:
            if same(raw, value):
                return meant
        words = ", ".join(shown(raw) for raw, _ in self.values)
        raise Misfit(path, f"expected one of {words[:200]}, got {shown(value)}")


def converted(shape: Shape, value: Json) -> Any:
    """`convert` for a whole JSON value, with a Misfit if it is nested too deeply."""
    try:
        return shape.convert(value, "")
    except (RecursionError, OverflowError):
        raise Misfit("", "is nested too deeply, or has a number that is too large") from None


def built(build: Callable[..., Any], path: str, *args: Any, **kwargs: Any) -> Any:
    """The result of `build`; an error of the type's validator becomes a Misfit."""
    try:
        return build(*args, **kwargs)
    except (ValueError, TypeError, AssertionError) as error:
        raise Misfit(path, str(error) or type(error).__name__) from error


def below(path: str, key: str) -> str:
    """The path of an object's key."""
    return f"{path}.{key}" if path else key


def shown(value: Json) -> str:
    """A JSON value for messages: short values themselves, others by their kind."""
    if isinstance(value, (str, int, float)):
        text = repr(value) if isinstance(value, str) else str(value).lower()
        return text if len(text) <= 60 else f"{text[:60]}…"
    return kind_of(value)


def same(one: Json, other: Json) -> bool:
    """Whether two JSON values are equal. 1 and 1.0 are, 1 and true are not, as in JSON."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if is_array(one) and is_array(other):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if is_object(one) and is_object(other):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def identity(value: Json) -> Hashable:
    """A key that is equal for equal JSON values."""
    if isinstance(value, bool):
        return bool, value
    if is_array(value):
        return list, tuple(map(identity, value))
    if is_object(value):
        return dict, frozenset((key, identity(item)) for key, item in value.items())
    leaf: Hashable = value
    return leaf


def described(schema: JsonDict, text: str) -> JsonDict:
    """The schema with a description; strict servers reject other keywords next to a reference."""
    return {"anyOf": [schema], "description": text} if "$ref" in schema else {**schema, "description": text}


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _boolean(value: Json) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _integer(value: Json) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or int(value) != value:
        raise TypeError
    return int(value)


def _number(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return float(value)


def _null(value: Json) -> None:
    if value is not None:
        raise TypeError


_KINDS: Mapping[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}
SCALARS: Mapping[Any, Shape] = {
    str: Scalar("string", "a string", _text),
    bool: Scalar("boolean", "a boolean", _boolean),
    int: Scalar("integer", "an integer", _integer),
    float: Scalar("number", "a number", _number),
    type(None): Scalar("null", "null", _null),
}

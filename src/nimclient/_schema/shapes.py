"""Shapes: the JSON form of a Python type. One class per kind of type; each writes its JSON schema and builds
values out of decoded JSON. Conversion is strict: a bool is not a number, text is not a number, an unknown key of an
object is an error. The two liberties are those of JSON itself: a whole number is also a float, and 3.0 is also an int.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field

from nimclient._base.types import Json, JsonDict, is_array, is_object
from nimclient.records._decode import kind_of


class Misfit(ValueError):
    """A JSON value that does not fit its type: `path` leads to it, `problem` says why."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


@define
class Book:
    """A schema while it is written. `strict`: every property is required, the way strict servers want it."""

    strict: bool
    shared: frozenset[Shape]
    definitions: JsonDict = field(factory=dict[str, Any])
    _names: dict[Shape, str] = field(factory=dict["Shape", str])

    def reference(self, shape: Shape, name: str, body: Callable[[Book], JsonDict]) -> JsonDict:
        """A reference to the shape's definition, which is written at the first one."""
        if shape not in self._names:
            free = (n for n in (name, *(f"{name}{i}" for i in range(2, 10_000))) if n not in self.definitions)
            known = self._names[shape] = next(free)
            self.definitions[known] = {}
            self.definitions[known] = body(self)
        return {"$ref": f"#/$defs/{self._names[shape]}"}


class Shape(ABC):
    """What a type looks like in JSON. Shapes compare by identity."""

    label: str
    is_object = False

    @abstractmethod
    def schema(self, book: Book) -> JsonDict:
        """The JSON schema of the type."""

    @abstractmethod
    def convert(self, value: Json, path: str) -> Any:
        """The value of the type that this JSON value stands for; Misfit where it stands for none."""

    def inner(self) -> Iterable[Shape]:
        """The shapes this one is made of."""
        return ()

    def rank(self, value: Json) -> int:
        """In a union, shapes of a low rank are asked first."""
        return 0


@define(eq=False)
class AnyShape(Shape):
    """Whatever JSON there is."""

    label: str = "anything"

    def schema(self, book: Book) -> JsonDict:
        return {}

    def convert(self, value: Json, path: str) -> Any:
        return value


@define(eq=False)
class Scalar(Shape):
    """str, bool, int, float and None. `kind` is the JSON schema's name of the type."""

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
        numbers = {"integer": float, "number": int}  # what can be read as the other one, but is not at its best there
        return int(self.kind in numbers and type(value) is numbers[self.kind])


@define(eq=False)
class Text(Shape):
    """Types that are written as text of a known format: dates, times, UUIDs."""

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
    """Enums and literals: each JSON value with what it stands for."""

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
    """What a whole JSON value stands for: `convert`, with a Misfit where it is nested too deeply to be read."""
    try:
        return shape.convert(value, "")
    except (RecursionError, OverflowError):
        raise Misfit("", "is nested too deeply, or has a number that is too large") from None


def built(build: Callable[..., Any], path: str, *args: Any, **kwargs: Any) -> Any:
    """What `build` makes of the arguments; what a validator of the type objects to is a Misfit."""
    try:
        return build(*args, **kwargs)
    except (ValueError, TypeError, AssertionError) as error:
        raise Misfit(path, str(error) or type(error).__name__) from error


def below(path: str, key: str) -> str:
    """The path of an object's key."""
    return f"{path}.{key}" if path else key


def shown(value: Json) -> str:
    """A JSON value for messages: short ones themselves, long ones by their kind."""
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
    """A key that two JSON values have in common when they are the same."""
    if isinstance(value, bool):
        return bool, value
    if is_array(value):
        return list, tuple(map(identity, value))
    if is_object(value):
        return dict, frozenset((key, identity(item)) for key, item in value.items())
    leaf: Hashable = value
    return leaf


def described(schema: JsonDict, text: str) -> JsonDict:
    """The schema with a description; strict servers take no other keyword beside a reference."""
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

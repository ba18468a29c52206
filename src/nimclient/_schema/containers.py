"""Shapes that contain others: lists, tuples, mappings, unions, and records with known keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from attrs import define, field, frozen

from nimclient._base.types import Json, JsonDict, is_object
from nimclient._schema.shapes import Book, Misfit, Shape, below, built, described, shown


@define(eq=False)
class Items(Shape):
    """Lists, homogeneous tuples, sets."""

    item: Shape
    build: Callable[[list[Any]], Any] = list
    label: str = "a list"

    def schema(self, book: Book) -> JsonDict:
        return {"type": "array", "items": self.item.schema(book)}

    def convert(self, value: Json, path: str) -> Any:
        values = _list(value, path)
        items = [self.item.convert(item, f"{path}[{index}]") for index, item in enumerate(values)]
        return built(self.build, path, items)

    def inner(self) -> Iterable[Shape]:
        return (self.item,)


@define(eq=False)
class FixedTuple(Shape):
    """A tuple with a type for each position."""

    places: Sequence[Shape]
    label: str = "a list"

    def schema(self, book: Book) -> JsonDict:
        count = len(self.places)
        places = [place.schema(book) for place in self.places]
        return {"type": "array", "prefixItems": places, "items": False, "minItems": count, "maxItems": count}

    def convert(self, value: Json, path: str) -> Any:
        values = _list(value, path)
        if len(values) != len(self.places):
            raise Misfit(path, f"expected {len(self.places)} items, got {len(values)}")
        return tuple(p.convert(v, f"{path}[{i}]") for i, (p, v) in enumerate(zip(self.places, values, strict=True)))

    def inner(self) -> Iterable[Shape]:
        return self.places


@define(eq=False)
class Table(Shape):
    """Mappings from str, or types written as str, to values of one type."""

    key: Shape
    value: Shape
    label: str = "an object"
    is_object = True

    def schema(self, book: Book) -> JsonDict:
        return {"type": "object", "additionalProperties": self.value.schema(book) or True}

    def convert(self, value: Json, path: str) -> Any:
        data = _object(value, path)
        return {self.key.convert(k, below(path, k)): self.value.convert(v, below(path, k)) for k, v in data.items()}

    def inner(self) -> Iterable[Shape]:
        return (self.key, self.value)


@define(eq=False)
class Union(Shape):
    """One of several types: the first that fits; an exact number type takes precedence over the other."""

    members: Sequence[Shape]
    label: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.label = " or ".join(member.label for member in self.members)

    def schema(self, book: Book) -> JsonDict:
        return {"anyOf": [member.schema(book) for member in self.members]}

    def convert(self, value: Json, path: str) -> Any:
        misfits: list[Misfit] = []
        for member in sorted(self.members, key=lambda m: m.rank(value)):
            try:
                return member.convert(value, path)
            except Misfit as misfit:
                misfits.append(misfit)
        inside = [misfit for misfit in misfits if misfit.path != path]
        if len(inside) == 1:  # only one of them can be meant
            raise inside[0]
        raise Misfit(path, f"expected {self.label}, got {shown(value)}" + (f" ({_all(inside)})" if inside else ""))

    def inner(self) -> Iterable[Shape]:
        return self.members


@define(eq=False)
class Described(Shape):
    """A shape with a description: `Annotated[..., "text"]`."""

    shape: Shape
    text: str

    def __attrs_post_init__(self) -> None:
        self.label = self.shape.label
        self.is_object = self.shape.is_object

    def schema(self, book: Book) -> JsonDict:
        return described(self.shape.schema(book), self.text)

    def convert(self, value: Json, path: str) -> Any:
        return self.shape.convert(value, path)

    def inner(self) -> Iterable[Shape]:
        return (self.shape,)

    def rank(self, value: Json) -> int:
        return self.shape.rank(value)


@frozen
class Property:
    """A field of a record. `default` is JSON, shown in the schema; `skips_null`: null means that it is omitted."""

    name: str
    shape: Shape
    description: str = ""
    required: bool = True
    default: Json = None
    skips_null: bool = False

    def schema(self, book: Book) -> JsonDict:
        """The schema of the field, with its description and default."""
        schema = self.shape.schema(book)
        if self.skips_null and book.strict:
            schema = {"anyOf": [schema, {"type": "null"}]}
        if self.description:
            schema = described(schema, self.description)
        if self.default is not None and not book.strict:  # OpenAI's strict mode rejects the keyword
            schema = {**schema, "default": self.default}
        return schema


@define(eq=False)
class RecordShape(Shape):
    """attrs classes, dataclasses, NamedTuples, TypedDicts and the parameters of a function: an object with known keys."""

    label: str
    build: Callable[..., Any]
    description: str = ""
    properties: Sequence[Property] = ()
    is_object = True

    def schema(self, book: Book) -> JsonDict:
        return book.reference(self, self.label, self.body) if self in book.shared else self.body(book)

    def body(self, book: Book) -> JsonDict:
        """The schema itself, even if it has a definition."""
        schema: JsonDict = {"type": "object", "properties": {p.name: p.schema(book) for p in self.properties}}
        if self.description:
            schema["description"] = self.description
        if required := [p.name for p in self.properties if p.required or book.strict]:
            schema["required"] = required
        return {**schema, "additionalProperties": False}

    def convert(self, value: Json, path: str) -> Any:
        data = _object(value, path)
        names = [p.name for p in self.properties]
        for key in data:
            if key not in names:
                known = ", ".join(names) or "there are none"
                raise Misfit(below(path, key), f"is not a key of {self.label} (known: {known[:200]})")
        arguments: JsonDict = {}
        for p in self.properties:
            if p.name in data and not (p.skips_null and data[p.name] is None):
                arguments[p.name] = p.shape.convert(data[p.name], below(path, p.name))
            elif p.required:
                raise Misfit(below(path, p.name), "is missing")
        return built(self.build, path, **arguments)

    def inner(self) -> Iterable[Shape]:
        return [p.shape for p in self.properties]


def _all(misfits: Sequence[Misfit]) -> str:
    return "; ".join(str(misfit)[:200] for misfit in misfits[:5])


def _list(value: Json, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise Misfit(path, f"expected a list, got {shown(value)}")
    return cast(list[Any], value)


def _object(value: Json, path: str) -> JsonDict:
    if not is_object(value):
        raise Misfit(path, f"expected an object, got {shown(value)}")
    return value

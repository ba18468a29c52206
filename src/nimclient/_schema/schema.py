"""Python types ⇄ JSON schema: the shape of a type.

Supported: str, int, float, bool, None, Any; date, datetime, time, UUID; Literal and Enum; lists, tuples, sets, mappings;
unions; attrs classes, dataclasses, NamedTuples, TypedDicts, generic and recursive ones; NewType; pydantic models.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from uuid import UUID

from nimclient._base import json as _json
from nimclient._base.types import Json, JsonDict
from nimclient._schema.containers import Described, FixedTuple, Items, Property, RecordShape, Table, Union
from nimclient._schema.pydantic_models import PydanticModel, is_pydantic
from nimclient._schema.record_types import FieldType, documentation_of, fields_of
from nimclient._schema.shapes import SCALARS, AnyShape, Book, Choices, Shape, Text, converted, described
from nimclient.errors import ConfigurationError
from nimclient.records._plain import plain

_ANY = AnyShape()
_LEAVES: Mapping[Any, Shape] = {
    **SCALARS,
    None: SCALARS[type(None)],
    Any: _ANY,
    object: _ANY,
    datetime: Text("date-time", "a date and time in ISO 8601", datetime.fromisoformat),
    date: Text("date", "a date in ISO 8601", date.fromisoformat),
    time: Text("time", "a time in ISO 8601", time.fromisoformat),
    UUID: Text("uuid", "a UUID", UUID),
}
_LISTS: Mapping[Any, Any] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_TABLES = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
Known = Mapping[Any, Shape]


def schema_of(form: Any, *, strict: bool = True) -> JsonDict:
    """The JSON schema of a type, or of a shape.

    Objects accept no other keys. `strict` requires every property, as strict structured output does, and shows no
    defaults; else fields with a default are optional. ConfigurationError for a type without a JSON form.
    """
    shape = form if isinstance(form, Shape) else shape_of(form)
    book = Book(strict, _shared(shape))
    root = shape.shape if isinstance(shape, Described) else shape
    schema = root.body(book) if isinstance(root, RecordShape) else root.schema(book)
    if isinstance(shape, Described):
        schema = described(schema, shape.text)
    return {**schema, "$defs": {**schema.get("$defs", {}), **book.definitions}} if book.definitions else schema


def convert(value: Json, form: Any, path: str = "") -> Any:
    """Convert a decoded JSON value to a type; Misfit, with the path, if it does not fit."""
    return shape_of(form).convert(value, path) if path else converted(shape_of(form), value)


def shape_of(form: Any) -> Shape:
    """The shape of a type; ConfigurationError if it has none."""
    try:
        return _TypeReader().read(form, {})
    except RecursionError:
        raise ConfigurationError(f"the type {_name(form)} refers to itself without a class in between") from None


def record_of(name: str, build: Any, fields: Sequence[FieldType], texts: Mapping[str, str]) -> RecordShape:
    """The record shape of a function's parameters."""
    record = RecordShape(name, build)
    _TypeReader().fill(record, fields, texts, {})
    return record


def _shared(root: Shape) -> frozenset[Shape]:
    """The records that occur more than once, or recursively: they get a definition."""
    seen: set[Shape] = set()
    shared: set[Shape] = set()
    waiting = [root]
    while waiting:
        shape = waiting.pop()
        if shape in seen:
            if isinstance(shape, RecordShape):
                shared.add(shape)
            continue
        seen.add(shape)
        waiting.extend(shape.inner())
    return frozenset(shared)


class _TypeReader:
    """Reads one type. Every class in it is read once, so that recursion ends."""

    def __init__(self) -> None:
        self._records: dict[Any, RecordShape] = {}

    def read(self, form: Any, known: Known) -> Shape:
        """The shape of a type form; `known` are the type variables of the enclosing generic class."""
        if isinstance(form, TypeVar):
            return known.get(form) or self.read(form.__bound__ or Any, known)
        if form is None or (isinstance(form, type) and form in _LEAVES):
            return _LEAVES[form]
        origin, args = get_origin(form), get_args(form)
        if origin is not None:
            return self._read_form(form, origin, args, known)
        if isinstance(form, type):
            return self._read_class(form, (), known)
        inner = getattr(form, "__supertype__", getattr(form, "__value__", None))  # NewType; `type X = ...`
        if inner is not None:
            return self.read(inner, known)
        raise _refusal(form)

    def _read_form(self, form: Any, origin: Any, args: tuple[Any, ...], known: Known) -> Shape:
        if origin is Annotated:
            shape = self.read(args[0], known)
            text = next((note for note in args[1:] if isinstance(note, str)), "")
            return Described(shape, text) if text else shape
        if origin is Literal:
            return _choices(_name(form), [(plain(value), value) for value in args])
        if origin is typing.Union or origin is types.UnionType:
            return Union([self.read(arg, known) for arg in args])
        if isinstance(origin, type):
            return self._read_class(origin, args, known)
        raise _refusal(form)

    def _read_class(self, kind: Any, args: tuple[Any, ...], known: Known) -> Shape:
        if kind == tuple and args[-1:] != (Ellipsis,) and args:  # noqa: E721  # pyright narrows by `is`
            return FixedTuple([self.read(arg, known) for arg in args])
        if kind in _LISTS:
            return Items(self.read(args[0] if args else Any, known), _LISTS[kind])
        if kind in _TABLES:
            key, value = args or (str, Any)
            return Table(self._read_key(key, known), self.read(value, known))
        if issubclass(kind, Enum):
            return _choices(kind.__name__, [(plain(member), member) for member in kind])
        if is_pydantic(kind):
            return PydanticModel(kind)
        return self._read_record(kind, args, known)

    def _read_key(self, form: Any, known: Known) -> Shape:
        shape = self.read(form, known)
        if shape in (SCALARS[str], _ANY) or isinstance(shape, (Choices, Text)):
            return shape
        raise ConfigurationError(f"the keys of a JSON object are text, not {_name(form)}")

    def _read_record(self, kind: type, args: tuple[Any, ...], known: Known) -> RecordShape:
        shapes = tuple(self.read(arg, known) for arg in args)
        key = (kind, shapes)
        if key not in self._records:
            fields = fields_of(kind)
            if fields is None:
                raise _refusal(kind)
            documentation = documentation_of(kind)
            record = self._records[key] = RecordShape(kind.__name__, kind, documentation.text)
            variables: tuple[Any, ...] = getattr(kind, "__parameters__", ())
            self.fill(record, fields, documentation.parameters, dict(zip(variables, shapes, strict=False)))
        return self._records[key]

    def fill(self, record: RecordShape, fields: Sequence[FieldType], texts: Mapping[str, str], known: Known) -> None:
        """Set the properties of a record."""
        record.properties = [self._property(field, texts.get(field.name, ""), known) for field in fields]

    def _property(self, field: FieldType, text: str, known: Known) -> Property:
        shape = self.read(field.hint, known)
        if isinstance(shape, Described):
            text = shape.text
            shape = shape.shape
        skips_null = field.may_be_absent and not _takes_null(shape)
        return Property(field.name, shape, text, not field.has_default, _shown_default(field), skips_null)


def _takes_null(shape: Shape) -> bool:
    if isinstance(shape, Union):
        return any(_takes_null(member) for member in shape.members)
    return shape is SCALARS[type(None)] or isinstance(shape, AnyShape)


def _shown_default(field: FieldType) -> Json:
    """The default as JSON; None if it has no such form."""
    default = plain(field.default)
    try:
        _json.dumps(default)
    except ConfigurationError:
        return None
    return default


def _choices(label: str, values: list[tuple[Json, Any]]) -> Choices:
    if not values or not all(raw is None or type(raw) in (str, int, float, bool) for raw, _ in values):
        raise ConfigurationError(f"{label} must have values, and only such that are text, numbers, booleans or None")
    return Choices(label, values)


def _refusal(form: Any) -> ConfigurationError:
    return ConfigurationError(f"{_name(form)} has no form in JSON; see docs/tools_and_types.md for the types that have")


def _name(form: Any) -> str:
    return form.__name__ if isinstance(form, type) else repr(form)[:100]

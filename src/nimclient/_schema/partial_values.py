"""Values of types that are still being written: what is shown of each while its JSON arrives.

A value is shown as soon as it can be one of its type: what a record lacks must have an empty value to begin with ("", [],
{}, None). Numbers, booleans, choices, dates and members of a set have none: they are shown when they are complete.
Of a union nothing is shown before it is clear which member is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

from attrs import frozen

from nimclient._base.types import Json
from nimclient._schema.containers import Described, FixedTuple, Items, Property, RecordShape, Table, Union
from nimclient._schema.json_schema import Schema
from nimclient._schema.partial_json import UNKNOWN, OpenValue
from nimclient._schema.partial_schema import OpenModel, OpenSchema
from nimclient._schema.pydantic_models import PydanticModel
from nimclient._schema.shapes import SCALARS, AnyShape, Choices, Misfit, Shape, Text, built

_STR = SCALARS[str]
Empty: TypeAlias = "Callable[[], Any] | None"
"""Creates the initial value of a type; None if it has none."""


@frozen
class RecordFields:
    """The properties of a record, and the empty values of those that it must have."""

    properties: Mapping[str, Property]
    empty: Mapping[str, Empty]


class Growth:
    """The initial values of the types of one output; each type is examined once."""

    def __init__(self) -> None:
        self._texts: dict[Shape, bool] = {}
        self._empty: dict[Shape, Empty] = {}
        self._fields: dict[Shape, RecordFields] = {}

    def open(self, shape: Shape, *, is_object: bool) -> OpenValue:
        """The value that begins with this bracket; Misfit if the type has none."""
        kind = type(shape)
        if kind is Described:
            return self.open(cast(Described, shape).shape, is_object=is_object)
        if kind is AnyShape:
            return OpenValue(is_object=is_object)
        if isinstance(shape, Union):
            return self._open_union(shape, is_object=is_object)
        if is_object and isinstance(shape, RecordShape):
            return OpenRecord(self, shape)
        if is_object and isinstance(shape, Table):
            return OpenTable(self, shape)
        if not is_object and isinstance(shape, Items):
            return OpenItems(self, shape)
        if not is_object and isinstance(shape, FixedTuple):
            return OpenTuple(self, shape)
        if isinstance(shape, Schema):
            return OpenSchema(shape.text, shape.text, is_object=is_object)
        if isinstance(shape, PydanticModel):
            return OpenModel(shape, is_object=is_object)
        raise Misfit("", f"expected {shape.label}, got {'an object' if is_object else 'a list'}")

    def _open_union(self, shape: Union, *, is_object: bool) -> OpenValue:
        candidates: list[OpenValue] = []
        for member in _members(shape):
            try:
                candidates.append(self.open(member, is_object=is_object))
            except Misfit:
                continue
        if not candidates:
            raise Misfit("", f"expected {shape.label}, got {'an object' if is_object else 'a list'}")
        return candidates[0] if len(candidates) == 1 else OpenUnion(candidates, is_object=is_object)

    def shows_text(self, shape: Shape) -> bool:
        """Whether the beginning of a string is a value of the type, and stays one as it grows."""
        if shape not in self._texts:
            takers = [member for member in _members(shape) if _takes_text(member)]
            self._texts[shape] = len(takers) == 1 and (takers[0] is _STR or isinstance(takers[0], AnyShape))
        return self._texts[shape]

    def empty(self, shape: Shape) -> Empty:
        """The empty value of a type; where null is allowed that is None."""
        if shape not in self._empty:
            self._empty[shape] = None  # a record that must contain itself has none
            self._empty[shape] = self._find_empty(list(_members(shape)))
        return self._empty[shape]

    def _find_empty(self, members: Sequence[Shape]) -> Empty:
        if any(_takes_null(member) for member in members):
            return _none
        if len(members) > 1:
            return None
        (member,) = members
        if member is _STR:
            return str
        if isinstance(member, Items):
            return cast(Empty, member.build)
        if isinstance(member, Table):
            return dict
        try:
            value = self.open(member, is_object=member.is_object)
        except Misfit:
            return None
        return None if value.shown(UNKNOWN) is UNKNOWN else partial(value.shown, UNKNOWN)

    def fields(self, shape: RecordShape) -> RecordFields:
        """The properties of a record. A TypedDict may lack its optional keys."""
        if shape not in self._fields:
            may_lack = isinstance(shape.build, type) and issubclass(shape.build, dict)
            needed = [p for p in shape.properties if p.required or not may_lack]
            empty = {p.name: self.empty(p.shape) for p in needed}
            self._fields[shape] = RecordFields({p.name: p for p in shape.properties}, empty)
        return self._fields[shape]


def _members(shape: Shape) -> Iterator[Shape]:
    """The members of a union, also of one within it; else the shape."""
    if isinstance(shape, Described):
        yield from _members(shape.shape)
    elif isinstance(shape, Union):
        for member in shape.members:
            yield from _members(member)
    else:
        yield shape


def _takes_text(shape: Shape) -> bool:
    if isinstance(shape, Choices):
        return any(isinstance(raw, str) for raw, _ in shape.values)
    return shape is _STR or isinstance(shape, (AnyShape, Text, PydanticModel, Schema))


def _takes_null(shape: Shape) -> bool:
    if isinstance(shape, Choices):
        return any(raw is None for raw, _ in shape.values)
    return shape is SCALARS[type(None)] or isinstance(shape, AnyShape)


def _none() -> None:
    """The empty value where null is allowed."""


class OpenRecord(OpenValue):
    """attrs classes, dataclasses, NamedTuples and TypedDicts."""

    def __init__(self, growth: Growth, shape: RecordShape) -> None:
        super().__init__(is_object=True)
        self._growth = growth
        self._shape = shape
        self._known: dict[str, Any] = {}
        fields = growth.fields(shape)
        self._properties = fields.properties
        self._lacking = dict(fields.empty)

    def _property(self) -> Property:
        found = self._properties.get(self.key)
        if found is None:
            raise Misfit(self.key, f"is not a key of {self._shape.label}")
        return found

    def begin(self, key: str) -> None:
        """See OpenValue."""
        self.key = key
        self._property()

    def opened(self, *, is_object: bool) -> OpenValue:
        """See OpenValue."""
        return self._growth.open(self._property().shape, is_object=is_object)

    def shows_text(self) -> bool:
        """See OpenValue."""
        return self._growth.shows_text(self._property().shape)

    def add(self, value: Json) -> None:
        """See OpenValue."""
        p = self._property()
        if not (p.skips_null and value is None):
            self._known[self.key] = p.shape.convert(value, self.key)
        self._lacking.pop(self.key, None)
        self.fields[self.key] = value

    def shown(self, item: Any) -> Any:
        """See OpenValue."""
        known = {**self._known}
        if item is not UNKNOWN and self.key not in known:
            known[self.key] = item
        for name, empty in self._lacking.items():
            if name not in known:
                if empty is None:
                    return UNKNOWN
                known[name] = empty()
        try:
            return self._shape.build(**known)
        except Exception:  # noqa: BLE001  # the type does not accept it yet, or not at all: `read_output` will tell
            return UNKNOWN


class OpenTable(OpenValue):
    """Mappings."""

    def __init__(self, growth: Growth, shape: Table) -> None:
        super().__init__(is_object=True)
        self._growth = growth
        self._shape = shape
        self._known: dict[Any, Any] = {}

    def opened(self, *, is_object: bool) -> OpenValue:
        """See OpenValue."""
        return self._growth.open(self._shape.value, is_object=is_object)

    def shows_text(self) -> bool:
        """See OpenValue."""
        return self._growth.shows_text(self._shape.value)

    def add(self, value: Json) -> None:
        """See OpenValue."""
        self._known[self._shape.key.convert(self.key, self.key)] = self._shape.value.convert(value, self.key)
        super().add(value)

    def shown(self, item: Any) -> Any:
        """See OpenValue."""
        if item is UNKNOWN or self.key in self.fields:
            return dict(self._known)
        return {**self._known, self._shape.key.convert(self.key, self.key): item}


class OpenItems(OpenValue):
    """Lists, homogeneous tuples, sets."""

    def __init__(self, growth: Growth, shape: Items) -> None:
        super().__init__(is_object=False)
        self._growth = growth
        self._shape = shape
        self._known: list[Any] = []
        self._is_set = shape.build in (set, frozenset)

    def opened(self, *, is_object: bool) -> OpenValue:
        """See OpenValue."""
        return self._growth.open(self._shape.item, is_object=is_object)

    def shows_text(self) -> bool:
        """See OpenValue. A member of a set is no beginning of another one."""
        return not self._is_set and self._growth.shows_text(self._shape.item)

    def add(self, value: Json) -> None:
        """See OpenValue."""
        self._known.append(self._shape.item.convert(value, f"[{len(self.items)}]"))
        super().add(value)

    def shown(self, item: Any) -> Any:
        """See OpenValue."""
        known = [*self._known] if item is UNKNOWN or self._is_set else [*self._known, item]
        return known if self._shape.build is list else built(self._shape.build, "", known)


class OpenTuple(OpenValue):
    """A tuple with a type for each position."""

    def __init__(self, growth: Growth, shape: FixedTuple) -> None:
        super().__init__(is_object=False)
        self._growth = growth
        self._places: Sequence[Shape] = shape.places
        self._known: list[Any] = []

    def _place(self) -> Shape:
        if len(self.items) == len(self._places):
            raise Misfit("", f"expected {len(self._places)} items, got more")
        return self._places[len(self.items)]

    def opened(self, *, is_object: bool) -> OpenValue:
        """See OpenValue."""
        return self._growth.open(self._place(), is_object=is_object)

    def shows_text(self) -> bool:
        """See OpenValue."""
        return self._growth.shows_text(self._place())

    def add(self, value: Json) -> None:
        """See OpenValue."""
        self._known.append(self._place().convert(value, f"[{len(self.items)}]"))
        super().add(value)

    def shown(self, item: Any) -> Any:
        """See OpenValue."""
        known = self._known if item is UNKNOWN else [*self._known, item]
        empty = [self._growth.empty(place) for place in self._places[len(known) :]]
        return UNKNOWN if None in empty else (*known, *(make() for make in empty if make is not None))


class OpenUnion(OpenValue):
    """Several types, until all but one are excluded by a key or by the value of one."""

    def __init__(self, candidates: list[OpenValue], *, is_object: bool) -> None:
        super().__init__(is_object=is_object)
        self._candidates = candidates

    def begin(self, key: str) -> None:
        """See OpenValue."""
        super().begin(key)
        self._keep([candidate for candidate in self._candidates if _begins(candidate, key)])

    def add(self, value: Json) -> None:
        """See OpenValue."""
        self._keep([candidate for candidate in self._candidates if _adds(candidate, value)])
        super().add(value)

    def _keep(self, candidates: list[OpenValue]) -> None:
        if not candidates:
            raise Misfit(self.key, "fits no member of the union")
        self._candidates = candidates

    def opened(self, *, is_object: bool) -> OpenValue:
        """See OpenValue."""
        if len(self._candidates) > 1:
            return OpenUnknown(is_object=is_object)
        return self._candidates[0].opened(is_object=is_object)

    def shows_text(self) -> bool:
        """See OpenValue."""
        return len(self._candidates) == 1 and self._candidates[0].shows_text()

    def shown(self, item: Any) -> Any:
        """See OpenValue."""
        return UNKNOWN if len(self._candidates) > 1 else self._candidates[0].shown(item)


class OpenUnknown(OpenValue):
    """A value whose type is not known yet."""

    def opened(self, *, is_object: bool) -> OpenValue:
        """See OpenValue."""
        return OpenUnknown(is_object=is_object)

    def shows_text(self) -> bool:
        """See OpenValue."""
        return False

    def shown(self, item: Any) -> Any:
        """See OpenValue."""
        return UNKNOWN


def _begins(candidate: OpenValue, key: str) -> bool:
    try:
        candidate.begin(key)
    except Misfit:
        return False
    return True


def _adds(candidate: OpenValue, value: Json) -> bool:
    try:
        candidate.add(value)
    except Misfit:
        return False
    return True

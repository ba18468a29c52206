"""The base of all records: unknown fields, the response they came in, conversion to JSON and a short repr."""

from __future__ import annotations

from collections.abc import Sized
from itertools import islice
from typing import Any

from attrs import NOTHING, Attribute, field, fields, frozen

from nimclient._base.types import JsonDict, is_array, is_object
from nimclient._base.values import ResponseMeta

_MAX_DEPTH = 8
_MAX_ITEMS = 20
_MAX_TEXT = 400


@frozen(repr=False)
class Record:
    """A frozen record: equal by value, picklable, with `to_dict()`. Its repr omits None, empty values and defaults."""

    def to_dict(self) -> JsonDict:
        """The record as a JSON object: the fields that are set and the unknown fields, without `meta`."""
        result: JsonDict = {}
        for attribute in fields(type(self)):
            if attribute.name in ("meta", "extra"):
                continue
            value = getattr(self, attribute.name)
            if value is not None and not (value == () and attribute.default == ()):
                result[attribute.name] = _as_json(value)
        result.update(getattr(self, "extra", {}))
        return result

    def __repr__(self) -> str:
        parts: list[str] = []
        for attribute in sorted(fields(type(self)), key=_unknown_last):
            value: object = getattr(self, attribute.name)
            if attribute.repr is False or value is None or (isinstance(value, Sized) and not len(value)):
                continue
            if attribute.default is NOTHING or value != attribute.default:
                show = attribute.repr if callable(attribute.repr) else shown
                parts.append(f"{attribute.name}={show(value)}")
        return f"{type(self).__name__}({', '.join(parts)})"


@frozen(repr=False)
class WireRecord(Record):
    """A part of a server's response; `extra` holds unknown fields."""

    extra: JsonDict = field(factory=dict[str, Any], kw_only=True)


@frozen(repr=False)
class TopRecord(WireRecord):
    """The result of a call; `meta` describes the response it came in."""

    meta: ResponseMeta | None = field(default=None, eq=False, repr=False, kw_only=True)


_OTHER_NAMES = {"content": "text", "response_metadata": "meta", "usage_metadata": "usage", "additional_kwargs": "extra"}
"""Attributes of other clients' responses, and their equivalents."""


def missing_attribute(answer: object, name: str) -> AttributeError:
    """The error for an unknown attribute, with its equivalent."""
    words = f"{type(answer).__name__!r} object has no attribute {name!r}"
    if (like := _OTHER_NAMES.get(name)) is not None:
        words += f"; it is .{like}"
    return AttributeError(words, name=name, obj=answer)


def _unknown_last(attribute: Attribute[Any]) -> bool:
    return attribute.name == "extra"


def shown(value: object, depth: int = _MAX_DEPTH) -> str:
    """The repr of a JSON value or a record, truncated if it is long or deep."""
    if is_object(value):
        items = [
            f"{key!r}: {shown(item, depth - 1)}" for key, item in islice(value.items(), _MAX_ITEMS if depth else 0)
        ]
        return f"{{{_cut(items, len(value))}}}"
    if is_array(value):
        texts = [shown(item, depth - 1) for item in islice(value, _MAX_ITEMS if depth else 0)]
        inside = _cut(texts, len(value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        return f"{value[:_MAX_TEXT]!r}…"
    return repr(value)


def _cut(texts: list[str], count: int) -> str:
    return ", ".join(texts if len(texts) == count else [*texts, "…"])


def _as_json(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, float) and value != value:  # NaN, which JSON cannot represent
        return None
    if is_array(value):
        return [_as_json(item) for item in value]
    return value

"""Converts Python values to JSON values: a tool's result, a default in a schema, the value of a parsed answer.

The inverse is `_schema.schema.convert`: for every supported type, converting the result of `plain` gives an equal value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import date, time
from enum import Enum
from typing import Any, cast
from uuid import UUID

import attrs

from nimclient._base.types import Json


def plain(value: Any) -> Json:
    """`value` in JSON types; a value of an unknown type is returned as it is, for the JSON encoder to reject."""
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    fields = _fields(value)
    if fields is not None:
        return {name: plain(item) for name, item in fields.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in cast(list[Any], value)]
    return value


def _key(key: Any) -> Any:
    key = plain(key)
    return key if isinstance(key, str) else str(key)


def _fields(value: Any) -> Mapping[str, Any] | None:
    """The fields of an attrs, dataclass or pydantic object by their constructor names; None for anything else."""
    kind: Any = cast(Any, type(value))
    if callable(to_dict := getattr(value, "to_dict", None)):
        return cast(Mapping[str, Any], to_dict())
    if callable(dump := getattr(value, "model_dump", None)):  # pydantic, which is never imported
        return cast(Mapping[str, Any], dump(mode="json"))
    if attrs.has(kind):
        return {a.alias or a.name: getattr(value, a.name) for a in attrs.fields(kind) if a.init}
    if dataclasses.is_dataclass(kind):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(kind) if f.init}
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return cast(Mapping[str, Any], cast(Any, value)._asdict())
    return None

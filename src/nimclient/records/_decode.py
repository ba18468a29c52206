"""Helpers that decode JSON objects into records: known keys become fields, the rest is kept in `extra`.

Servers differ in what they send, so only the essential fields are strict; a wrong type elsewhere never fails a call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from nimclient._base.types import Json, JsonDict, is_object
from nimclient._base.values import ResponseMeta
from nimclient.errors import DecodeError

_MAX_DIGITS = 19  # a longer number is not a count
_MAX_FLOAT = 2.0**63  # nor is a larger float
_MAX_DECIMAL = 40  # characters: Python's own longest float has 25


def as_object(value: Json, path: str, meta: ResponseMeta | None = None) -> JsonDict:
    """`value` if it is a JSON object, else DecodeError."""
    if isinstance(value, dict):
        return value  # pyright: ignore[reportUnknownVariableType]  # a cast costs a call
    raise wrong(f"expected an object, got {kind_of(value)}", path, meta)


def as_list(value: Json, path: str, meta: ResponseMeta | None = None) -> list[Any]:
    """`value` if it is a JSON array, else DecodeError."""
    if isinstance(value, list):
        return value  # pyright: ignore[reportUnknownVariableType]  # likewise
    raise wrong(f"expected a list, got {kind_of(value)}", path, meta)


def wrong(
    problem: str, path: str, meta: ResponseMeta | None = None, error: type[DecodeError] = DecodeError
) -> DecodeError:
    """The error for the response's part at `path`, with status and request id of the exchange."""
    status = meta.status if meta else None
    request_id = meta.request_id if meta else None
    where = f" (request id {request_id})" if request_id else ""
    return error(f"the response's {path}: {problem}{where}", path=path, status=status, request_id=request_id)


def kind_of(value: Json) -> str:
    """The JSON name of a value's type, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return type(value).__name__


def object_or_empty(value: Json) -> JsonDict:
    """A JSON object as it is, anything else as an empty one."""
    return cast(JsonDict, value) if isinstance(value, dict) else {}


def objects(value: Json) -> list[JsonDict]:
    """The objects of a JSON array; an empty list for anything else."""
    return [item for item in cast(list[Any], value) if is_object(item)] if isinstance(value, list) else []


def text_or_none(value: Json) -> str | None:
    """A str as it is, anything else as None."""
    return value if isinstance(value, str) else None


def whole_number(value: Json) -> int | None:
    """A whole number as servers write it (12, 12.0, "12"); None for anything else, including a boolean."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < _MAX_FLOAT:
        return int(value)
    if isinstance(value, str) and len(value) <= _MAX_DIGITS and value.isascii() and value.isdecimal():
        return int(value)
    return None


def finite_number(value: Json) -> float | None:
    """A number as servers write it (0.5, 1, "0.5"); None for anything else, NaN, infinity and a boolean too."""
    if isinstance(value, str) and len(value) <= _MAX_DECIMAL and "_" not in value:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def pop_number(data: JsonDict, name: str) -> int | None:
    """Remove a whole number from an object and return it. A value that is not one stays, for `extra`."""
    value = data.pop(name, None)
    if value is None or type(value) is int:
        return value
    number = whole_number(value)
    if number is None:
        data[name] = value
    return number


def pop_count(data: JsonDict, name: str) -> int | None:
    """`pop_number` for a number that cannot be negative."""
    return pop_counts(data, (name,))[0]


def pop_counts(data: JsonDict, names: Sequence[str]) -> list[int | None]:
    """`pop_count` for several."""
    counts: list[int | None] = []
    for name in names:
        value = data.get(name)
        if type(value) is int and value >= 0:
            del data[name]
        else:
            number = whole_number(value)
            value = None if number is not None and number < 0 else pop_number(data, name)
        counts.append(value)
    return counts


def pop_time(data: JsonDict, name: str) -> int | None:
    """`pop_number` for Unix seconds, of which some servers send fractions."""
    value = data.get(name)
    if type(value) is int:
        del data[name]
        return value
    if isinstance(value, float) and abs(value) < _MAX_FLOAT:
        data[name] = math.floor(value)
    return pop_number(data, name)

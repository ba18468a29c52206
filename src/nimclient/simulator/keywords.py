"""JSON schema keywords: inferred types, merged schemas, bounds of numbers."""

import math
from typing import Any, Final, cast

_KEYWORD_TYPES: Final = (
    ("object", ("properties", "required", "additionalProperties", "minProperties")),
    ("array", ("items", "prefixItems", "minItems")),
    ("string", ("pattern", "format", "minLength", "maxLength")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)
_ANNOTATIONS: Final = ("title", "description", "default", "examples", "discriminator")


class Unsatisfiable(ValueError):
    """No value was found for the schema; the text names the part at fault."""


def type_of(schema: dict[str, Any]) -> str:
    """The type a schema is for: declared, else that of the first keyword found, else "any"."""
    declared = schema.get("type")
    if isinstance(declared, list):
        names = cast("list[str]", declared)
        return next((name for name in names if name != "null"), "null")
    if declared is not None:
        return str(declared)
    for name, keywords in _KEYWORD_TYPES:
        if any(keyword in schema for keyword in keywords):
            return name
    return "any"


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """A schema for values that fit both. Raises `Unsatisfiable` when a keyword stands in both with different values."""
    both = {**first, **second}
    for key in sorted(first.keys() & second.keys() - {"properties", "required", *_ANNOTATIONS}):
        if first[key] != second[key]:
            raise Unsatisfiable(f"two parts that must both hold disagree on {key!r}")
    if "properties" in first and "properties" in second:
        both["properties"] = _merged_properties(first["properties"], second["properties"])
    if "required" in first and "required" in second:
        both["required"] = list(dict.fromkeys([*first["required"], *second["required"]]))
    return both


def _merged_properties(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    shared = {name: {"allOf": [first[name], second[name]]} for name in first if name in second}
    return {**first, **second, **shared}


def bounds(schema: dict[str, Any], *, whole: bool) -> tuple[float, float]:
    """The closed interval a number may lie in, empty (inf, -inf) when there is none.

    An exclusive bound moves inwards: to the next integer, by one if the other end is far, else by a quarter of the range.
    """
    above: float = schema.get("exclusiveMinimum", -math.inf)
    below: float = schema.get("exclusiveMaximum", math.inf)
    low: float = max(schema.get("minimum", -math.inf), above)
    high: float = min(schema.get("maximum", math.inf), below)
    low_is_open, high_is_open = low == above, high == below
    if low > high or (low == high and (low_is_open or high_is_open)):
        return math.inf, -math.inf
    if whole:
        return _first_integer(low, is_open=low_is_open), -_first_integer(-high, is_open=high_is_open)
    return (
        _inside(low, high) if low_is_open and math.isfinite(low) else low,
        _inside(high, low) if high_is_open and math.isfinite(high) else high,
    )


def _first_integer(low: float, *, is_open: bool) -> float:
    """The smallest integer not below a bound, or above an exclusive bound."""
    if math.isinf(low):
        return low
    return math.floor(low) + 1 if is_open else math.ceil(low)


def _inside(bound: float, other: float) -> float:
    """A round number strictly between an exclusive bound and the other end."""
    if math.isinf(other):
        return bound + math.copysign(1.0, other)
    return bound + (other - bound) / 4

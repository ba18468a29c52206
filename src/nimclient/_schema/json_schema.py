"""Validates a JSON value against a JSON schema of the caller.

The keywords that servers support for constrained output are checked: type, enum, const, properties, required,
additionalProperties, patternProperties, items, prefixItems, anyOf, oneOf, allOf, not, local $ref, and the limits on
numbers, text, lists and objects. Other keywords (if, contains, dependentRequired, unevaluated…, format) are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from attrs import define, field

from nimclient._base.types import Json, JsonDict, is_array, is_object
from nimclient._schema.shapes import Book, Misfit, Shape, below, identity, same, shown
from nimclient.errors import ConfigurationError

_MAX_DEPTH = 200


@define(eq=False)
class Schema(Shape):
    """A schema written by the caller. Converting validates a value and returns it unchanged."""

    text: JsonDict
    label: str = field(init=False, default="the schema")
    is_object: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        target = resolved(self.text, self.text)
        self.is_object = is_object(target) and target.get("type") == "object"

    def schema(self, book: Book) -> JsonDict:
        return self.text

    def convert(self, value: Json, path: str) -> Any:
        _Check(self.text).check(value, self.text, path, 0)
        return value


def resolved(schema: Json, root: JsonDict) -> Json:
    """The schema, with a reference at its root resolved within the whole."""
    return _Check(root).resolved(schema)


class _Check:
    """One schema with the targets of its references."""

    def __init__(self, root: JsonDict) -> None:
        self._root = root

    def resolved(self, schema: Json) -> Json:
        """The schema, with a reference at its root resolved."""
        seen = 0
        while is_object(schema) and "$ref" in schema and seen < _MAX_DEPTH:
            schema = self._target(schema["$ref"])
            seen += 1
        return schema

    def check(self, value: Json, schema: Json, path: str, depth: int) -> None:
        """Raise Misfit if the value does not fit."""
        if depth > _MAX_DEPTH:
            raise Misfit(path, "is nested too deeply for its schema")
        if schema is True:
            return
        if schema is False:
            raise Misfit(path, "must not be there")
        if not is_object(schema):
            raise ConfigurationError(f"a JSON schema is an object, true or false, not {shown(schema)}")
        if "$ref" in schema:
            self.check(value, self._target(schema["$ref"]), path, depth + 1)
        _check_value(value, schema, path)
        self._check_branches(value, schema, path, depth)
        if is_object(value):
            self._check_object(value, schema, path, depth)
        elif isinstance(value, list):
            self._check_list(cast(list[Any], value), schema, path, depth)

    def _target(self, reference: Json) -> Json:
        found: Json = self._root
        if isinstance(reference, str) and reference.startswith("#"):
            for step in reference.split("/")[1:]:
                key = step.replace("~1", "/").replace("~0", "~")
                found = found.get(key) if is_object(found) else None
            if found is not None:
                return found
        raise ConfigurationError(f"the schema's reference {reference!r} leads nowhere within it")

    def _fits(self, value: Json, schema: Json, path: str, depth: int) -> Misfit | None:
        try:
            self.check(value, schema, path, depth + 1)
        except Misfit as misfit:
            return misfit
        return None

    def _check_branches(self, value: Json, schema: JsonDict, path: str, depth: int) -> None:
        for branch in schema.get("allOf", ()):
            self.check(value, branch, path, depth + 1)
        for keyword, maximum in (("anyOf", None), ("oneOf", 1)):
            if keyword in schema:
                misfits = [self._fits(value, branch, path, depth) for branch in schema[keyword]]
                fitting = misfits.count(None)
                if not fitting:
                    raise _nearest(path, [misfit for misfit in misfits if misfit])
                if maximum is not None and fitting > maximum:
                    raise Misfit(path, f"fits {fitting} schemas of oneOf, not one")
        if "not" in schema and self._fits(value, schema["not"], path, depth) is None:
            raise Misfit(path, "fits what `not` excludes")

    def _check_object(self, value: JsonDict, schema: JsonDict, path: str, depth: int) -> None:
        for name in schema.get("required", ()):
            if name not in value:
                raise Misfit(below(path, name), "is missing")
        properties: Mapping[str, Json] = schema.get("properties", {})
        patterns: Mapping[str, Json] = schema.get("patternProperties", {})
        for name, item in value.items():
            schemas = [properties[name]] if name in properties else []
            schemas += [known for pattern, known in patterns.items() if _matches(name, pattern)]
            for known in schemas or [schema.get("additionalProperties", True)]:
                if known is False and not schemas:
                    raise Misfit(below(path, name), "is not a key of the schema")
                self.check(item, known, below(path, name), depth + 1)

    def _check_list(self, value: list[Any], schema: JsonDict, path: str, depth: int) -> None:
        places: list[Json] = schema.get("prefixItems", [])
        for index, item in enumerate(value):
            known = places[index] if index < len(places) else schema.get("items", True)
            self.check(item, known, f"{path}[{index}]", depth + 1)


def _nearest(path: str, misfits: list[Misfit]) -> Misfit:
    """The misfit of the branch that was evidently meant, else one about all branches."""
    inside = [misfit for misfit in misfits if misfit.path != path]
    if len(inside) == 1 or len(misfits) == 1:
        return (inside or misfits)[0]
    return Misfit(path, f"fits no branch ({'; '.join(str(misfit)[:150] for misfit in misfits[:5])})")


def _check_value(value: Json, schema: JsonDict, path: str) -> None:
    """Check the keywords about the value itself."""
    kinds = schema.get("type")
    if kinds is not None and not any(_is(kind, value) for kind in (kinds if is_array(kinds) else [kinds])):
        raise Misfit(path, f"expected {' or '.join(kinds) if is_array(kinds) else kinds}, got {shown(value)}")
    if "const" in schema and not same(schema["const"], value):
        raise Misfit(path, f"expected {shown(schema['const'])}, got {shown(value)}")
    if "enum" in schema and not any(same(known, value) for known in schema["enum"]):
        words = ", ".join(shown(known) for known in schema["enum"])
        raise Misfit(path, f"expected one of {words[:200]}, got {shown(value)}")
    for keyword, (concerns, holds) in _LIMITS.items():
        if keyword in schema and concerns(value) and not holds(value, schema[keyword]):
            raise Misfit(path, f"{shown(value)} breaks {keyword}: {shown(schema[keyword])}")


def _is(kind: Json, value: Json) -> bool:
    test = _TYPES.get(kind)
    if test is None:
        raise ConfigurationError(f"the schema's type {kind!r} is not one of {', '.join(_TYPES)}")
    return test(value)


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_list(value: Json) -> bool:
    return isinstance(value, list)


def _is_multiple(value: Json, step: Json) -> bool:
    try:
        ratio: float = value / step
    except (ZeroDivisionError, OverflowError):
        return False
    if math.isinf(ratio):  # too far apart for a quotient; the remainder is exact
        return math.fmod(value, step) == 0
    return abs(ratio - round(ratio)) <= 1e-9 * max(1.0, abs(ratio))


def _is_unique(value: list[Json], wanted: Json) -> bool:
    return not wanted or len({identity(item) for item in value}) == len(value)


def _matches(value: str, pattern: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error as error:
        raise ConfigurationError(f"the schema's pattern {pattern!r:.80} is not a regular expression: {error}") from None


_TYPES: Mapping[str, Callable[[Json], bool]] = {
    "string": _is_text,
    "number": _is_number,
    "integer": lambda value: _is_number(value) and int(value) == value,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": _is_list,
    "object": is_object,
}
_LIMITS: Mapping[str, tuple[Callable[[Json], bool], Callable[[Json, Json], bool]]] = {
    "minimum": (_is_number, lambda value, limit: value >= limit),
    "maximum": (_is_number, lambda value, limit: value <= limit),
    "exclusiveMinimum": (_is_number, lambda value, limit: value > limit),
    "exclusiveMaximum": (_is_number, lambda value, limit: value < limit),
    "multipleOf": (_is_number, _is_multiple),
    "minLength": (_is_text, lambda value, limit: len(value) >= limit),
    "maxLength": (_is_text, lambda value, limit: len(value) <= limit),
    "pattern": (_is_text, _matches),
    "minItems": (_is_list, lambda value, limit: len(value) >= limit),
    "maxItems": (_is_list, lambda value, limit: len(value) <= limit),
    "uniqueItems": (_is_list, _is_unique),
    "minProperties": (is_object, lambda value, limit: len(value) >= limit),
    "maxProperties": (is_object, lambda value, limit: len(value) <= limit),
}

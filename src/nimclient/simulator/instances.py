"""Generates a JSON value that fits a JSON schema, for structured output and tool arguments.

Values come from the text if it has one for the property; optional properties are filled if possible. A
schema that cannot be satisfied raises `Unsatisfiable`. Two shortcuts: `oneOf` is read as `anyOf`, and `const` and `enum`
win over the keywords beside them.
"""

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, cast

from .keywords import Unsatisfiable, bounds, merged, type_of
from .values import Values

_MAX_STEPS: Final = 20_000
_MAX_ITEMS: Final = 10_000
_MAX_LISTED: Final = 20
_MAX_OPTIONAL_DEPTH: Final = 5  # below this depth only required properties
_UNSUPPORTED: Final = ("not", "if", "contains", "dependentRequired", "dependentSchemas", "propertyNames")
_FORMATS: Final = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
# Tried against a `pattern`; one that none of them fits is not satisfiable here.
_SAMPLES: Final = (
    "",
    "a",
    "A",
    "0",
    "00",
    "000",
    "0000",
    "00000",
    "a0",
    "A0",
    "AA",
    "aa",
    "aaa",
    "AAA",
    "text",
    "Text",
)


def instance(schema: Any, values: Values | None = None) -> Any:
    """A value that fits `schema`, filled from `values`. Raises `Unsatisfiable`."""
    try:
        return _Builder(schema, values or Values()).build(schema)
    except (TypeError, AttributeError, LookupError, ArithmeticError, RecursionError, re.error) as error:
        raise Unsatisfiable(f"the schema is malformed: {error}") from error


class _Builder:
    def __init__(self, root: Any, values: Values) -> None:
        self._root = root
        self._values = values
        self._expanding: list[str] = []
        self._steps = 0
        self._depth = 0
        self._found = 0  # values found in the text
        self._missing = 0  # values not found

    def _count(self, *, found: bool) -> None:
        self._found += found
        self._missing += not found

    def build(self, schema: Any, name: str = "") -> Any:
        """A value for the property `name`; "" is the root."""
        return self._build(_as_object(schema), name)

    def _build(self, schema: dict[str, Any], name: str) -> Any:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise Unsatisfiable(f"building it takes more than {_MAX_STEPS} steps")
        for keyword in _UNSUPPORTED:
            if keyword in schema:
                raise Unsatisfiable(f"the keyword {keyword!r} is not supported")
        if "$ref" in schema:
            return self._referred(schema, name)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._first_of(schema["enum"])
        if "allOf" in schema:
            return self._all_of(schema, name)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._any_of(schema, keyword, name)
        return self._typed(schema, name)

    def _first_of(self, values: list[Any]) -> Any:
        if not values:
            raise Unsatisfiable("an empty enum")
        named = self._values.named([value for value in values if isinstance(value, str)])
        return values[0] if named is None else named

    def _referred(self, schema: dict[str, Any], name: str) -> Any:
        """The target of a reference. It fails inside itself, so that a linked list ends at its first node."""
        reference: str = schema["$ref"]
        if reference in self._expanding:
            raise Unsatisfiable(f"the reference {reference!r} leads to itself")
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        self._expanding.append(reference)
        try:
            return self._build(merged(self._target(reference), rest), name)
        finally:
            self._expanding.pop()

    def _target(self, reference: Any) -> dict[str, Any]:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise Unsatisfiable(f"the reference {reference!r} does not point into the schema")
        found = self._root
        for step in reference.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or key not in found:
                raise Unsatisfiable(f"the reference {reference!r} points nowhere")
            found = cast("dict[str, Any]", found)[key]
        if not isinstance(found, dict):
            raise Unsatisfiable(f"the reference {reference!r} points to no object")
        return cast("dict[str, Any]", found)

    def _all_of(self, schema: dict[str, Any], name: str) -> Any:
        whole = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            plain = _as_object(part)
            whole = merged(self._target(plain["$ref"]) if "$ref" in plain else plain, whole)
        return self._build(whole, name)

    def _any_of(self, schema: dict[str, Any], keyword: str, name: str) -> Any:
        rest = {key: value for key, value in schema.items() if key != keyword}
        problem = Unsatisfiable(f"{keyword} without a choice")
        for option in schema[keyword]:
            try:
                return self._build(merged(rest, _as_object(option)), name)
            except Unsatisfiable as error:
                problem = error
        raise problem

    def _typed(self, schema: dict[str, Any], name: str) -> Any:
        match type_of(schema):
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema, name)
            case "string":
                return self._string(schema, name)
            case "integer":
                return int(self._number(schema, name, whole=True))
            case "number":
                number = float(self._number(schema, name, whole=False))
                return int(number) if number.is_integer() else number
            case "boolean":
                return self._values.is_true(name)
            case "null":
                return None
            case "any":
                return self._any(name)
            case other:
                raise Unsatisfiable(f"the type {other!r} is not known")

    def _any(self, name: str) -> Any:
        """A value for a property without a type: the number next to its name, else its text."""
        if not name:
            return self._values.fallback
        return self._build({"type": "number" if self._values.knows_number(name) else "string"}, name)

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        required: list[str] = list(schema.get("required", ()))
        low: int = schema.get("minProperties", 0)
        if low > len({*required, *properties}):
            raise Unsatisfiable("minProperties asks for more properties than are named")
        extra = schema.get("additionalProperties", True)
        names = list(dict.fromkeys([*properties, *required]))[: schema.get("maxProperties")]
        self._depth += 1
        found: dict[str, Any] = {}
        for name in sorted(names, key=lambda name: (name not in required, not self._values.knows(name))):
            if name in required or len(found) < low:
                found[name] = self.build(properties.get(name, extra), name)
            elif self._depth <= _MAX_OPTIONAL_DEPTH and self._steps < _MAX_STEPS // 2:
                with suppress(Unsatisfiable):
                    found[name] = self.build(properties[name], name)
        self._depth -= 1
        return {name: found[name] for name in names if name in found}

    def _array(self, schema: dict[str, Any], name: str) -> list[Any]:
        prefix: list[Any] = schema.get("prefixItems", [])
        high: float = schema.get("maxItems", math.inf)
        low: int = schema.get("minItems", min(len(prefix), high))
        if low > high:
            raise Unsatisfiable("minItems is more than maxItems")
        if low > _MAX_ITEMS:
            raise Unsatisfiable(f"more than {_MAX_ITEMS} items")
        items = [self.build(part, name) for part in prefix[:low]]
        rest = schema.get("items", True)
        if "items" in schema and not prefix:
            items += self._listed(_as_object(rest), name, low, min(high, _MAX_ITEMS))
        items += [self.build(rest, name) for _ in range(low - len(items))]
        if schema.get("uniqueItems") and any(item in items[:at] for at, item in enumerate(items)):
            raise Unsatisfiable("uniqueItems with more than one item")
        return items

    def _listed(self, schema: dict[str, Any], name: str, low: int, high: float) -> list[Any]:
        """The items that the text lists for an array; else one, and more objects while the text fills them."""
        listed = [text for text in self._values.items(name) if _is_plain_text(schema)][: int(high)]
        if listed:
            for text in listed:
                self._values.use(text)
            return listed
        if low or not high or self._depth > _MAX_OPTIONAL_DEPTH or self._steps > _MAX_STEPS // 2:
            return []
        items: list[Any] = []
        with suppress(Unsatisfiable):
            items.append(self._build(schema, name))
            while isinstance(items[0], dict) and len(items) < min(high, _MAX_LISTED):
                found, missing = self._found, self._missing
                item = self._build(schema, name)
                if self._missing > missing or self._found == found:
                    break
                items.append(item)
        return items

    def _string(self, schema: dict[str, Any], name: str) -> str:
        low: int = schema.get("minLength", 0)
        high: int | None = schema.get("maxLength")
        pattern: str | None = schema.get("pattern")
        if low > _MAX_ITEMS:
            raise Unsatisfiable(f"a string of more than {_MAX_ITEMS} characters")
        for text in self._candidates(schema, name, low, high):
            fits = low <= len(text) and (high is None or len(text) <= high)
            if fits and (pattern is None or re.search(pattern, text)):
                self._count(found=self._values.use(text))
                return text
        raise Unsatisfiable(f"no text was found for the string with {pattern or schema}")

    def _candidates(self, schema: dict[str, Any], name: str, low: int, high: int | None) -> Iterable[str]:
        form, pattern = schema.get("format"), schema.get("pattern")
        if form == "date" and (date := self._values.date()):
            return (date,)
        if form in _FORMATS:
            written = self._values.texts(form)[:1] if form in ("email", "uri") else []
            return (*(text for text in written if text != self._values.fallback), _FORMATS[form])
        found = self._values.texts(name)
        matching = self._values.matching(pattern) if pattern else []
        return (*matching, *found, found[-1][:high].strip(), *_SAMPLES, "a" * low)

    def _number(self, schema: dict[str, Any], name: str, *, whole: bool) -> float:
        low, high = bounds(schema, whole=whole)
        step: float = schema.get("multipleOf", 1 if whole else 0)
        for number in self._values.numbers(name):
            if low <= number <= high and (not step or (number / step).is_integer()) and (not whole or number % 1 == 0):
                self._values.use_number(number)
                self._count(found=True)
                return number
        self._count(found=False)
        number = min(max(0.0, low), high)
        if step and low <= high:
            number = math.ceil(number / step) * step
            number = number if number <= high else math.floor(high / step) * step
        if not low <= number <= high:
            raise Unsatisfiable("no number lies between the bounds")
        return number


def _is_plain_text(schema: dict[str, Any]) -> bool:
    return schema.keys() <= {"type", "title", "description", "examples"} and schema.get("type") == "string"


def _as_object(schema: Any) -> dict[str, Any]:
    """A schema as an object; true is the empty one."""
    if schema is True:
        return {}
    if not isinstance(schema, dict):
        raise Unsatisfiable("a schema must be an object or true")
    return cast("dict[str, Any]", schema)

"""A minimal JSON value that fits a JSON schema: what structured output and tool arguments are filled with.

Values come from hints (numbers and names of the question) where they fit, so that a tool call looks sensible. A
schema it cannot satisfy honestly is `Unsatisfiable`, never answered with something invalid.
"""

import math
import re
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, cast

from .text import STOP_WORDS

_DEEPEST: Final = 32
_MOST_ITEMS: Final = 10_000
_UNSUPPORTED: Final = ("not", "if", "contains", "dependentRequired", "dependentSchemas", "propertyNames")
_QUOTED: Final = re.compile(r"[\"“']([^\"”']{1,60})[\"”'](?!\w)")
_NAME: Final = re.compile(r"\b[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_NUMBER: Final = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w]|\.\d)")
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?]\s+)$")
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
# Tried in turn against a `pattern`; a pattern none of them fits is not satisfiable here.
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
_KEYWORD_TYPES: Final = (
    ("object", ("properties", "required", "additionalProperties", "minProperties")),
    ("array", ("items", "prefixItems", "minItems")),
    ("string", ("pattern", "format", "minLength", "maxLength")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)


class Unsatisfiable(ValueError):
    """No value was found for the schema; the text says which part of it is to blame."""


class Hints:
    """Numbers and names to fill in, each used once, and a text for the strings that are left."""

    def __init__(self, question: str = "", fallback: str | None = None) -> None:
        self.question = question.lower()
        self.numbers = deque(numbers_in(question))
        self.names = deque(names_in(question))
        self.fallback = question if fallback is None else fallback


def numbers_in(text: str) -> list[float]:
    """The numbers written in a text, in order."""
    return [float(found) for found in _NUMBER.findall(text)]


def names_in(text: str) -> list[str]:
    """What looks like a name: quoted words, then capitalised words, those that begin a sentence last."""
    inside: list[str] = []
    first: list[str] = []
    for match in _NAME.finditer(text):
        name = match.group()
        if name.lower() not in STOP_WORDS:
            (first if _SENTENCE_START.search(text[: match.start()]) else inside).append(name)
    return list(dict.fromkeys([*_QUOTED.findall(text), *inside, *first]))


def instance(schema: Any, hints: Hints | None = None) -> Any:
    """A value that fits `schema`, with only its required parts. Raises `Unsatisfiable`."""
    try:
        return _Builder(schema, hints or Hints()).build(schema, 0)
    except (TypeError, AttributeError, LookupError, ArithmeticError, re.error) as error:
        raise Unsatisfiable(f"the schema is malformed: {error}") from error


class _Builder:
    def __init__(self, root: Any, hints: Hints) -> None:
        self._root = root
        self._hints = hints

    def build(self, schema: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise Unsatisfiable("the schema refers to itself without end")
        if schema is True:
            return self._hints.fallback
        if not isinstance(schema, dict):
            raise Unsatisfiable("a schema must be an object or true")
        return self._build(cast("dict[str, Any]", schema), depth)

    def _build(self, schema: dict[str, Any], depth: int) -> Any:
        for keyword in _UNSUPPORTED:
            if keyword in schema:
                raise Unsatisfiable(f"the keyword {keyword!r} is not supported")
        if "$ref" in schema:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return self._build(self._merged(self._target(schema["$ref"]), rest), depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._first_of(schema["enum"])
        if "allOf" in schema:
            return self._all_of(schema, depth)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._any_of(schema, keyword, depth)
        return self._typed(schema, depth)

    def _first_of(self, values: list[Any]) -> Any:
        if not values:
            raise Unsatisfiable("an empty enum")
        named = (value for value in values if isinstance(value, str) and value.lower() in self._hints.question)
        return next(named, values[0])

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

    def _merged(self, first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
        properties = {**first.get("properties", {}), **second.get("properties", {})}
        required = [*first.get("required", ()), *second.get("required", ())]
        merged = {**first, **second}
        if properties:
            merged["properties"] = properties
        if required:
            merged["required"] = list(dict.fromkeys(required))
        return merged

    def _all_of(self, schema: dict[str, Any], depth: int) -> Any:
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            merged = self._merged(self._target(part["$ref"]) if "$ref" in part else part, merged)
        return self._build(merged, depth + 1)

    def _any_of(self, schema: dict[str, Any], keyword: str, depth: int) -> Any:
        rest = {key: value for key, value in schema.items() if key != keyword}
        problem = Unsatisfiable(f"{keyword} without a choice")
        for option in schema[keyword]:
            try:
                return self._build(self._merged(rest, option), depth + 1)
            except Unsatisfiable as error:
                problem = error
        raise problem

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        match _type_of(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer":
                return int(self._number(schema, whole=True))
            case "number":
                number = self._number(schema, whole=False)
                return int(number) if number.is_integer() else number
            case "boolean":
                return False
            case "null":
                return None
            case "any":
                return self._hints.fallback
            case other:
                raise Unsatisfiable(f"the type {other!r} is not known")

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        names: list[str] = list(schema.get("required", ()))
        others = [name for name in properties if name not in names]
        names += others[: max(0, schema.get("minProperties", 0) - len(names))]
        if len(names) < schema.get("minProperties", 0):
            raise Unsatisfiable("minProperties asks for more properties than are named")
        extra = schema.get("additionalProperties", True)
        return {name: self.build(properties.get(name, extra), depth + 1) for name in names}

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        prefix: list[Any] = schema.get("prefixItems", [])
        least: int = schema.get("minItems", len(prefix))
        if least > _MOST_ITEMS:
            raise Unsatisfiable(f"more than {_MOST_ITEMS} items")
        items = [self.build(part, depth + 1) for part in prefix[:least]]
        items += [self.build(schema.get("items", True), depth + 1) for _ in range(least - len(items))]
        if schema.get("uniqueItems") and any(item in items[:at] for at, item in enumerate(items)):
            raise Unsatisfiable("uniqueItems with more than one item")
        return items

    def _string(self, schema: dict[str, Any]) -> str:
        least: int = schema.get("minLength", 0)
        most: int | None = schema.get("maxLength")
        pattern: str | None = schema.get("pattern")
        if least > _MOST_ITEMS:
            raise Unsatisfiable(f"a string of more than {_MOST_ITEMS} characters")
        if "format" in schema and schema["format"] in _FORMATS:
            candidates: Iterable[str] = (_FORMATS[schema["format"]],)
        else:
            candidates = (*self._hints.names, self._hints.fallback, *_SAMPLES, "a" * least)
        for text in candidates:
            fits = least <= len(text) and (most is None or len(text) <= most)
            if fits and (pattern is None or re.search(pattern, text)):
                if text in self._hints.names:
                    self._hints.names.remove(text)
                return text
        raise Unsatisfiable(f"no text was found for the string with {pattern or schema}")

    def _number(self, schema: dict[str, Any], *, whole: bool) -> float:
        low, high = _bounds(schema, whole=whole)
        step: float = schema.get("multipleOf", 1 if whole else 0)
        for number in self._hints.numbers:
            if low <= number <= high and (not step or (number / step).is_integer()) and (not whole or number % 1 == 0):
                self._hints.numbers.remove(number)
                return number
        number = min(max(0.0, low), high)
        if step:
            number = math.ceil(number / step) * step
            number = number if number <= high else math.floor(high / step) * step
        if not low <= number <= high:
            raise Unsatisfiable("no number lies between the bounds")
        return number


def _type_of(schema: dict[str, Any]) -> str:
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


def _bounds(schema: dict[str, Any], *, whole: bool) -> tuple[float, float]:
    """The closed interval a number may lie in; an open end moves inwards by one, or by the next float."""
    low: float = schema.get("minimum", -math.inf)
    high: float = schema.get("maximum", math.inf)
    above: float | None = schema.get("exclusiveMinimum")
    below: float | None = schema.get("exclusiveMaximum")
    if whole:
        low = math.ceil(low) if math.isfinite(low) else low
        high = math.floor(high) if math.isfinite(high) else high
        if above is not None:
            low = max(low, math.floor(above) + 1)
        if below is not None:
            high = min(high, math.ceil(below) - 1)
        return low, high
    if above is not None:
        low = max(low, _inside(above, math.inf if below is None else below))
    if below is not None:
        high = min(high, _inside(below, -math.inf if above is None else above))
    return low, high


def _inside(bound: float, other: float) -> float:
    """A plain number strictly between an open bound and the other end."""
    if math.isinf(other):
        return bound + math.copysign(1.0, other)
    return bound + (other - bound) / 4

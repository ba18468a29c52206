"""A minimal JSON value that fits a JSON schema: what structured output and tool arguments are filled with.

Values come from hints (numbers and names of the question) where they fit, so that a tool call looks sensible. A
schema it cannot satisfy honestly is `Unsatisfiable`. Two shortcuts: `oneOf` is read as `anyOf`, and `const` and `enum`
win over the keywords beside them.
"""

import math
import re
from collections.abc import Iterable
from typing import Any, Final, cast

from .hints import Hints
from .keywords import Unsatisfiable, bounds, merged, type_of

_MAX_STEPS: Final = 20_000
_MAX_ITEMS: Final = 10_000
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
# Tried in message against a `pattern`; a pattern none of them fits is not satisfiable here.
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


def instance(schema: Any, hints: Hints | None = None) -> Any:
    """A value that fits `schema`, with only its required parts. Raises `Unsatisfiable`."""
    try:
        return _Builder(schema, hints or Hints()).build(schema)
    except (TypeError, AttributeError, LookupError, ArithmeticError, RecursionError, re.error) as error:
        raise Unsatisfiable(f"the schema is malformed: {error}") from error


class _Builder:
    def __init__(self, root: Any, hints: Hints) -> None:
        self._root = root
        self._hints = hints
        self._expanding: list[str] = []
        self._steps = 0

    def build(self, schema: Any) -> Any:
        return self._build(_as_object(schema))

    def _build(self, schema: dict[str, Any]) -> Any:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise Unsatisfiable(f"building it takes more than {_MAX_STEPS} steps")
        for keyword in _UNSUPPORTED:
            if keyword in schema:
                raise Unsatisfiable(f"the keyword {keyword!r} is not supported")
        if "$ref" in schema:
            return self._referred(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._first_of(schema["enum"])
        if "allOf" in schema:
            return self._all_of(schema)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._any_of(schema, keyword)
        return self._typed(schema)

    def _first_of(self, values: list[Any]) -> Any:
        if not values:
            raise Unsatisfiable("an empty enum")
        named = (value for value in values if isinstance(value, str) and value.lower() in self._hints.question)
        return next(named, values[0])

    def _referred(self, schema: dict[str, Any]) -> Any:
        """The target of a reference, which fails inside itself: so a linked list ends at its first node."""
        reference: str = schema["$ref"]
        if reference in self._expanding:
            raise Unsatisfiable(f"the reference {reference!r} leads to itself")
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        self._expanding.append(reference)
        try:
            return self._build(merged(self._target(reference), rest))
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

    def _all_of(self, schema: dict[str, Any]) -> Any:
        whole = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            plain = _as_object(part)
            whole = merged(self._target(plain["$ref"]) if "$ref" in plain else plain, whole)
        return self._build(whole)

    def _any_of(self, schema: dict[str, Any], keyword: str) -> Any:
        rest = {key: value for key, value in schema.items() if key != keyword}
        problem = Unsatisfiable(f"{keyword} without a choice")
        for option in schema[keyword]:
            try:
                return self._build(merged(rest, _as_object(option)))
            except Unsatisfiable as error:
                problem = error
        raise problem

    def _typed(self, schema: dict[str, Any]) -> Any:
        match type_of(schema):
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case "string":
                return self._string(schema)
            case "integer":
                return int(self._number(schema, whole=True))
            case "number":
                number = float(self._number(schema, whole=False))
                return int(number) if number.is_integer() else number
            case "boolean":
                return False
            case "null":
                return None
            case "any":
                return self._hints.fallback
            case other:
                raise Unsatisfiable(f"the type {other!r} is not known")

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        names: list[str] = list(schema.get("required", ()))
        others = [name for name in properties if name not in names]
        names += others[: max(0, schema.get("minProperties", 0) - len(names))]
        if len(names) < schema.get("minProperties", 0):
            raise Unsatisfiable("minProperties asks for more properties than are named")
        extra = schema.get("additionalProperties", True)
        return {name: self.build(properties.get(name, extra)) for name in names}

    def _array(self, schema: dict[str, Any]) -> list[Any]:
        prefix: list[Any] = schema.get("prefixItems", [])
        high: float = schema.get("maxItems", math.inf)
        low: int = schema.get("minItems", min(len(prefix), high))
        if low > high:
            raise Unsatisfiable("minItems is more than maxItems")
        if low > _MAX_ITEMS:
            raise Unsatisfiable(f"more than {_MAX_ITEMS} items")
        items = [self.build(part) for part in prefix[:low]]
        items += [self.build(schema.get("items", True)) for _ in range(low - len(items))]
        if schema.get("uniqueItems") and any(item in items[:at] for at, item in enumerate(items)):
            raise Unsatisfiable("uniqueItems with more than one item")
        return items

    def _string(self, schema: dict[str, Any]) -> str:
        low: int = schema.get("minLength", 0)
        high: int | None = schema.get("maxLength")
        pattern: str | None = schema.get("pattern")
        if low > _MAX_ITEMS:
            raise Unsatisfiable(f"a string of more than {_MAX_ITEMS} characters")
        if "format" in schema and schema["format"] in _FORMATS:
            candidates: Iterable[str] = (_FORMATS[schema["format"]],)
        else:
            candidates = (*self._hints.names, self._hints.fallback, *_SAMPLES, "a" * low)
        for text in candidates:
            fits = low <= len(text) and (high is None or len(text) <= high)
            if fits and (pattern is None or re.search(pattern, text)):
                if text in self._hints.names:
                    self._hints.names.remove(text)
                return text
        raise Unsatisfiable(f"no text was found for the string with {pattern or schema}")

    def _number(self, schema: dict[str, Any], *, whole: bool) -> float:
        low, high = bounds(schema, whole=whole)
        step: float = schema.get("multipleOf", 1 if whole else 0)
        for number in self._hints.numbers:
            if low <= number <= high and (not step or (number / step).is_integer()) and (not whole or number % 1 == 0):
                self._hints.numbers.remove(number)
                return number
        number = min(max(0.0, low), high)
        if step and low <= high:
            number = math.ceil(number / step) * step
            number = number if number <= high else math.floor(high / step) * step
        if not low <= number <= high:
            raise Unsatisfiable("no number lies between the bounds")
        return number


def _as_object(schema: Any) -> dict[str, Any]:
    """A schema as an object; true is the empty one."""
    if schema is True:
        return {}
    if not isinstance(schema, dict):
        raise Unsatisfiable("a schema must be an object or true")
    return cast("dict[str, Any]", schema)

"""JSON requested in the prompt: a JSON schema written into a message, an example object, or a list of keys."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

from .text import sentences

_MAX_OBJECTS: Final = 200
_SCHEMA_KEYS: Final = frozenset(
    {"properties", "$defs", "definitions", "anyOf", "allOf", "oneOf", "$ref", "items", "enum"}
)
_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_KEY: Final = r"[`\"'“]?[A-Za-z_][\w-]*[`\"'”]?(?: *\([^()]{1,40}\))?"
_KEYS: Final = re.compile(
    r"\b(?:keys?|fields?|propert(?:y|ies)|attributes?)\b(?: (?:are|named|called|of))?\s*[:-]?\s*"
    rf"({_KEY}(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+){_KEY}){{0,40}})",
    re.IGNORECASE,
)
_AS_JSON: Final = re.compile(
    rf"\b(?:extract|return|give|list|output|get|provide)\b(?: (?:me|the|a|an|his|her|their|its))*\s+"
    rf"({_KEY}(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+){_KEY}){{0,40}})\s+(?:as|in) (?:a )?JSON",
    re.IGNORECASE,
)
_QUOTED: Final = r"[`\"'“][A-Za-z_][\w-]*[`\"'”]"
_QUOTED_BEFORE: Final = re.compile(
    rf"({_QUOTED}(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+){_QUOTED}){{0,40}})\s+(?:keys?|fields?|propert(?:y|ies)|attributes?)\b",
    re.IGNORECASE,
)
_ONE_KEY: Final = re.compile(r"[`\"'“]?([A-Za-z_][\w-]*)[`\"'”]?(?: *\(([^()]*)\))?")
_NO_KEYS: Final = frozenset(
    {"and", "only", "the", "as", "in", "json", "below", "above", "must", "should", "for", "from"}
)
_WRITES_JSON: Final = re.compile(
    r"\b(?:answer|respond|reply|output|return|format(?:ted)?|provide|write)\b[^.]{0,80}\bjson\b", re.IGNORECASE
)
_SPEAKS_OF_JSON: Final = re.compile(r"(?im)json|schema|```|\bmarkdown\b|^\s*(?:keys?|fields?)\s*:")


class _Written(NamedTuple):
    """A JSON object in a text, as written and decoded."""

    text: str
    content: dict[str, Any]


def asks_for_json(texts: Sequence[str]) -> bool:
    """Whether the messages ask for JSON."""
    return any(_WRITES_JSON.search(text) for text in texts)


def schema_written(texts: Sequence[str]) -> dict[str, Any] | None:
    """The JSON schema in the messages, the last one if there are several."""
    found = [value.content for text in texts for value in _objects(text) if _is_schema(value.content)]
    return found[-1] if found else None


def schema_described(texts: Sequence[str]) -> dict[str, Any] | None:
    """A schema from an example object, else from the keys that the messages list; from the last message that has one."""
    for text in reversed(texts):
        examples = [value.content for value in _objects(text) if value.content]
        if examples:
            return _schema_of(examples[-1])
        if keys := _keys(text):
            return {"type": "object", "properties": keys, "required": list(keys)}
    return None


def without_schemas(text: str) -> str:
    """A text without the JSON schemas in it and without the sentences about JSON."""
    for written in list(_objects(text)):
        if _is_schema(written.content):
            text = text.replace(written.text, " ")
    if _SPEAKS_OF_JSON.search(text) is None:
        return text
    return "\n\n".join(sentence for sentence in sentences(text) if not _SPEAKS_OF_JSON.search(sentence))


def _objects(text: str) -> Iterator["_Written"]:
    """The JSON objects written in a text, outermost ones only."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    for _ in range(_MAX_OBJECTS):
        if at < 0:
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(value, dict):
                yield _Written(text[at:end], cast("dict[str, Any]", value))
        at = text.find("{", end)


def _is_schema(value: dict[str, Any]) -> bool:
    kind = value.get("type")
    if isinstance(value.get("properties"), dict):
        return True
    return (isinstance(kind, str) and kind in _TYPES and value.keys() & _SCHEMA_KEYS != set()) or "$defs" in value


def _schema_of(example: Any) -> dict[str, Any]:
    """The schema of values like an example."""
    match example:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case dict():
            properties = {str(key): _schema_of(value) for key, value in cast("dict[Any, Any]", example).items()}
            return {"type": "object", "properties": properties, "required": list(properties)}
        case list():
            items = cast("list[Any]", example)
            return {"type": "array", "items": _schema_of(items[0]) if items else {}}
        case _:
            return {"type": "string"}


def _keys(text: str) -> dict[str, Any]:
    """The keys that a text asks for, each with the type in parentheses after it."""
    lists = [found[1] for found in _QUOTED_BEFORE.finditer(text)]  # "with 'a' and 'b' keys" is explicit
    lists = lists or [found[1] for pattern in (_KEYS, _AS_JSON) for found in pattern.finditer(text)]
    named = [match for part in lists for match in _ONE_KEY.finditer(part) if match[1].lower() not in _NO_KEYS]
    return {match[1]: _type_of(match[2] or "") for match in named}


def _type_of(words: str) -> dict[str, Any]:
    """The schema for a type in words: "integer", "list of strings"."""
    lower = words.lower()
    if "list" in lower or "array" in lower:
        return {"type": "array", "items": {"type": "string"}}
    for name, kind in (
        ("int", "integer"),
        ("num", "number"),
        ("float", "number"),
        ("bool", "boolean"),
        ("str", "string"),
    ):
        if name in lower:
            return {"type": kind}
    return {}

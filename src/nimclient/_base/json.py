"""Encodes and decodes JSON: the only module that uses orjson.

orjson writes NaN as null, which must never be sent, and rejects lone surrogates and a byte-order mark, which some servers
send. Both are handled here, on the slow path only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import orjson

from nimclient._base.types import is_array, is_object
from nimclient.errors import ConfigurationError, DecodeError

_BOM = b"\xef\xbb\xbf"
_MAX_DEPTH = 250  # orjson writes 254 levels
_MAX_CONTAINERS = 2**22  # objects and lists: 300 MB of them; the largest answers with log probabilities have a tenth
_MAX_VALUES = 2**25  # 1 GB of numbers
_SMALL = 2**11  # bytes; orjson leaves 4 KiB of memory behind the smallest result, which each call in flight would hold
_LONG_NUMBER = re.compile(rb"\d{19}")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.S)
_CONTROL = re.compile(r"[\x00-\x1f]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def dumps(value: Any, what: str = "body") -> bytes:
    """Encode `value`; raise ConfigurationError with the JSON path of a value that cannot be sent (NaN, a set)."""
    try:
        data = orjson.dumps(value)
    except (TypeError, RecursionError) as error:
        _reject_unsendable(value, what)
        raise ConfigurationError(f"{what} cannot be encoded as JSON: {error}", path=what) from None
    # orjson writes NaN and infinity as null; the client itself never sends null, so only then the value is inspected
    if b"null" in data:
        _reject_unsendable(value, what)
    return bytes(memoryview(data)) if len(data) < _SMALL else data


def loads(data: bytes | bytearray | memoryview, what: str = "the response", *, keep_surrogates: bool = False) -> Any:
    """Decode `data`; raise DecodeError with a printable excerpt, also for what is nested deeper than could be sent again, and
    for what would take many times its size in memory.

    Lone surrogate escapes become U+FFFD, unless `keep_surrogates` keeps them to be joined with the next part of a text.
    """
    if len(data) > _MAX_CONTAINERS and _has_too_many_values(bytes(data)):
        raise DecodeError(f"{what} has more than {_MAX_CONTAINERS} objects and lists, or {_MAX_VALUES} values")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        value = _loads_leniently(bytes(data), what, error, keep_surrogates)
    if len(data) > 2 * _MAX_DEPTH and _may_be_deep(bytes(data)) and _is_deep(value):
        raise DecodeError(f"{what} is nested more than {_MAX_DEPTH} levels deep", excerpt=excerpt(data))
    return value


def loads_text(text: str, what: str) -> Any:
    """Decode JSON that a model wrote; whole numbers of any length stay what they are. Raises DecodeError as `loads` does."""
    data = text.encode("utf-8", "surrogatepass")
    value = loads(data, what)
    if _LONG_NUMBER.search(data) is None:
        return value
    import json  # orjson makes floats of those beyond 64 bits

    return _join_surrogates(json.loads(data.removeprefix(_BOM).decode("utf-8", "surrogatepass")))


def loads_written(text: str, what: str) -> Any:
    """As loads_text, of what a model wrote: without constraints it may have line ends and tabs in its strings as they are."""
    try:
        return loads_text(text, what)
    except DecodeError:
        if _CONTROL.search(text) is None:
            raise
    return loads_text(_STRING.sub(_escaped, text), what)


def is_json(written: str) -> bool:
    """Whether what loads_written reads is JSON for everyone."""
    try:
        return _CONTROL.search(written) is None or loads_text(written, "") is not None
    except DecodeError:
        return False


def _escaped(string: re.Match[str]) -> str:
    """A string of JSON with its control characters as escapes."""
    return _CONTROL.sub(_as_escape, string[0])


def _as_escape(control: re.Match[str]) -> str:
    return f"\\u{ord(control[0]):04x}"


def loads_string(quoted: bytes) -> str | None:
    """Decode one JSON string; None if it is not one, or empty."""
    try:
        value = orjson.loads(quoted)
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is str and value else None


def loads_strings(insides: list[bytes]) -> list[str] | None:
    """Decode what stands between the quotes of JSON strings, all together; None if one is not such a text, or empty.

    They are joined with a line end, which no JSON string contains, so that none can become valid together with the next one.
    """
    try:
        values: list[Any] = orjson.loads(b'["%b"]' % b'",\n"'.join(insides))
    except orjson.JSONDecodeError:
        return None
    return values if len(values) == len(insides) and all(values) and {str}.issuperset(map(type, values)) else None


def excerpt(data: bytes | bytearray | memoryview, limit: int = 200) -> str:
    """The first printable characters of a response, for error messages."""
    text = bytes(data[: limit * 4]).decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:limit]


def _has_too_many_values(data: bytes) -> bool:
    """Whether a text would become more objects than any answer has: `{}` takes 24 times its two bytes and a comma."""
    return data.count(b"{") + data.count(b"[") > _MAX_CONTAINERS or data.count(b",") > _MAX_VALUES


def _may_be_deep(data: bytes) -> bool:
    """Whether a text may be nested too deeply, by its brackets: those inside strings can only increase the count."""
    brackets = data.translate(None, _NO_BRACKETS)
    if len(brackets) <= 2 * _MAX_DEPTH:
        return False
    depth = deepest = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        deepest = max(depth, deepest)
    return deepest > _MAX_DEPTH


def _is_deep(value: Any) -> bool:
    """Whether a value is nested too deeply to be encoded again or walked recursively."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        deeper: list[Any] = []
        for part in level:
            items: Iterable[Any] = part.values() if is_object(part) else part if is_array(part) else ()
            deeper += [item for item in items if isinstance(item, (dict, list))]
        if not deeper:
            return False
        level = deeper
    return True


def _loads_leniently(data: bytes, what: str, error: Exception, keep_surrogates: bool) -> Any:
    if data.startswith(_BOM):
        data = data.removeprefix(_BOM)
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as without_mark:
            error = without_mark
    if b"\\ud" in data or b"\\uD" in data:
        import json

        try:
            value = json.loads(data, parse_constant=_reject_constant, parse_float=_finite, parse_int=_integer)
            return value if keep_surrogates else _join_surrogates(value)
        except (ValueError, RecursionError):
            pass
    place = "empty" if not data.strip() else f"not JSON ({error})"
    raise DecodeError(f"{what} is {place}", excerpt=excerpt(data)) from None


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]}… is too large")
    return number


def _integer(text: str) -> int | float:
    """Like orjson: a number beyond 64 bits becomes a float."""
    number = int(text)
    return number if -(2**63) <= number < 2**64 else _finite(text)


def _join_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if is_object(value):
        return {_join_surrogates(k): _join_surrogates(v) for k, v in value.items()}
    if is_array(value):
        return [_join_surrogates(v) for v in value]
    return value


def _reject_unsendable(value: Any, path: str, depth: int = 0) -> None:
    """Walk `value` and raise ConfigurationError at the first value that JSON cannot represent or servers do not accept."""
    if depth > _MAX_DEPTH:
        raise ConfigurationError(f"{path[:80]}… is nested too deeply or contains itself", path=path[:200])
    if is_object(value):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ConfigurationError(f"{path} has a key of type {type(key).__name__}, not str", path=path)
            _reject_unsendable(item, f"{path}.{key}", depth + 1)
    elif is_array(value):
        for index, item in enumerate(value):
            _reject_unsendable(item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{path} is {value}, which JSON cannot represent", path=path)
    else:  # orjson decides: it also accepts dataclasses, UUIDs and dates
        try:
            orjson.dumps(value)
        except TypeError as error:
            kind = type(value).__name__
            raise ConfigurationError(f"{path} ({kind}) cannot be encoded as JSON: {error}", path=path) from None

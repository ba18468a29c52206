"""Removes secrets from errors: some servers echo the key in an error body or in a malformed response."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote

from attrs import evolve, fields, has

from nimclient._base.config import is_credential_header
from nimclient._base.types import is_array, is_object
from nimclient._base.values import RedactedStr
from nimclient.errors import NimError

MIN_SECRET_LENGTH = 8
"""Characters; shorter values ("x", "EMPTY") are placeholders for servers that check no key, and occur in ordinary text."""

_HIDDEN = "***"
_MAX_DEPTH = 60


def redact(error: BaseException, secrets: Iterable[str]) -> None:
    """Remove secrets from an error, its fields and the errors it is chained to.

    They are found in plain form and with JSON escapes. An error of another library cannot be edited: it is unchained if its
    text contains a secret.
    """
    found = [_Secret(secret) for secret in dict.fromkeys(secrets) if len(secret) >= MIN_SECRET_LENGTH]
    if found:
        _redact_chain(error, found)


def secrets_of(headers: Mapping[str, str], proxy: str | None) -> tuple[str, ...]:
    """The secrets of a request: the credentials in its headers and the password of its proxy."""
    held = [value.removeprefix("Bearer ") for name, value in headers.items() if is_credential_header(name)]
    if proxy is not None and "@" in proxy:
        login = proxy.partition("://")[2].rpartition("@")[0]
        password = login.partition(":")[2]
        held += [password, unquote(password), b64encode(unquote(login).encode()).decode()]
    return tuple(RedactedStr(secret) for secret in held if len(secret) >= MIN_SECRET_LENGTH)


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text with these secrets replaced."""
    for secret in secrets:
        text = _Secret(secret).hidden_in(text)
    return text


class _Secret:
    """A secret to find: whole, with JSON escapes, and truncated at the end of an excerpt."""

    __slots__ = ("_pattern", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._pattern = re.compile("".join(map(_spellings, text)))

    def is_in(self, text: str) -> bool:
        return self._pattern.search(text) is not None

    def hidden_in(self, text: str) -> str:
        text = self._pattern.sub(_HIDDEN, text)
        for size in range(min(len(self._text) - 1, len(text)), MIN_SECRET_LENGTH - 1, -1):
            if text.endswith(self._text[:size]):
                return text[:-size] + _HIDDEN
        return text


def _spellings(character: str) -> str:
    """Pattern for a character in plain form and as a JSON escape: `\\u002d`, `\\/`."""
    code = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{ord(character):04x}")
    escaped = rf"\\{re.escape(character)}|" if character in '"\\/' else ""
    return rf"(?:{escaped}{re.escape(character)}|\\u{code})"


def _redact_chain(error: BaseException, secrets: Sequence[_Secret]) -> None:
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, NimError):
            _redact_fields(error, secrets)
        if _holds(error.__cause__, secrets):
            error.__cause__ = None
        if _holds(error.__context__, secrets):
            error.__context__ = None
        following = error.__cause__ or error.__context__
        if following is None:
            return
        error = following


def _holds(error: BaseException | None, secrets: Sequence[_Secret]) -> bool:
    """Whether an error of another library, or one that it is chained to, contains a secret."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if not isinstance(error, NimError):
            shown = f"{error} {error!r} {vars(error)!r}"
            if any(secret.is_in(shown) for secret in secrets):
                return True
        error = error.__cause__ or error.__context__
    return False


def _redact_fields(error: NimError, secrets: Sequence[_Secret]) -> None:
    error.args = tuple(_redacted(value, secrets) for value in error.args)
    state = vars(error)
    state.update({name: _redacted(value, secrets) for name, value in state.items()})


def _redacted(value: Any, secrets: Sequence[_Secret], depth: int = 0) -> Any:
    """The value itself, or a copy without secrets if it contains any."""
    if isinstance(value, str):
        for secret in secrets:
            value = secret.hidden_in(value)
        return value
    if isinstance(value, (bytes, bytearray)):
        text = bytes(value).decode("latin-1")
        hidden = _redacted(text, secrets)
        return value if hidden == text else hidden.encode("latin-1")
    if depth > _MAX_DEPTH:
        return _HIDDEN if any(secret.is_in(repr(value)) for secret in secrets) else value
    if is_object(value):
        changed = {
            _redacted(key, secrets, depth + 1): _redacted(item, secrets, depth + 1) for key, item in value.items()
        }
        return changed if changed != value else value
    if is_array(value) and type(value) in (list, tuple):
        items = type(value)(_redacted(item, secrets, depth + 1) for item in value)
        return items if items != value else value
    if has(cast(type[Any], type(value))):
        return _redacted_record(value, secrets, depth)
    return value


def _redacted_record(value: Any, secrets: Sequence[_Secret], depth: int) -> Any:
    changes: dict[str, Any] = {}
    for attribute in fields(cast(type[Any], type(value))):
        if attribute.init:
            old = getattr(value, attribute.name)
            new = _redacted(old, secrets, depth + 1)
            if new is not old and new != old:
                changes[attribute.alias or attribute.name] = new
    return evolve(value, **changes) if changes else value

"""Removes secrets from errors: some servers echo the key in an error body or in a malformed response."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
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
_TOKEN = r"(?:[\w.+/=%\\~-]|&#?\w{1,8};)"
_CUT = r"(?:[%&\\][#\w]{0,8})?\Z"
"""The end of an excerpt, which may lie within the escape of a character."""

_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
_MAX_DEPTH = 60


def redact(error: BaseException, secrets: Iterable[str]) -> None:
    """Remove secrets from an error, its fields and the errors it is chained to, and what it left in our local variables.

    They are found as they are, with the escapes of JSON, URLs and HTML, and in base64. An error of another library cannot
    be edited: it is unchained if its text contains a secret.
    """
    found = [_Secret(secret) for secret in dict.fromkeys(secrets) if len(secret) >= MIN_SECRET_LENGTH]
    if found:
        _redact_chain(error, found)
        _clear_frames(error.__traceback__)


def secrets_of(headers: Mapping[str, str], proxy: str | None) -> tuple[str, ...]:
    """The secrets of a request: the credentials in its headers and the password of its proxy."""
    held = [
        secret
        for name, value in headers.items()
        if is_credential_header(name)
        for secret in _credentials_in(name, value)
    ]
    if proxy is not None and "@" in proxy:
        login = proxy.partition("://")[2].rpartition("@")[0]
        password = login.partition(":")[2]
        held += [password, unquote(password), b64encode(unquote(login).encode()).decode()]
    return tuple(RedactedStr(secret) for secret in held if len(secret) >= MIN_SECRET_LENGTH)


def _credentials_in(name: str, value: str) -> list[str]:
    """The secrets in the value of a header: without the scheme, a login's password, the values of cookies."""
    if name.lower() == "cookie":
        return [value, *(part.partition("=")[2].strip() for part in value.split(";"))]
    scheme, _, rest = value.partition(" ")
    secrets = [rest.strip() or scheme]
    if scheme.lower() == "basic":
        with suppress(ValueError):
            secrets.append(b64decode(rest, validate=True).decode().partition(":")[2])
    return secrets


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text with these secrets replaced."""
    for secret in secrets:
        text = _Secret(secret).hidden_in(text)
    return text


class _Secret:
    """A secret to find in every form in which a server may repeat it, whole or with its end cut off."""

    __slots__ = ("_pattern",)

    def __init__(self, text: str) -> None:
        self._pattern = _pattern_of(text)

    def is_in(self, text: str) -> bool:
        return self._pattern.search(text) is not None

    def hidden_in(self, text: str) -> str:
        return self._pattern.sub(_HIDDEN, text)


@lru_cache(maxsize=64)
def _pattern_of(secret: str) -> re.Pattern[str]:
    """Finds a secret as it is, as JSON, URLs and HTML write it, also encoded twice, and in base64, alone or within a text."""
    plain = _whole_or_cut([_spellings(character) for character in secret])
    encoded = (_whole_or_cut([_in_base64(character) for character in form]) for form in _base64_forms(secret))
    return re.compile("|".join((plain, *(f"{form}{_TOKEN}*" for form in encoded))))


def _whole_or_cut(spellings: Sequence[str]) -> str:
    """Pattern for all characters; for the first 16 and what is left of the token; or for eight at the end of an excerpt."""
    begin, middle, rest = ("".join(spellings[a:b]) for a, b in ((0, 8), (8, 16), (16, None)))
    cut = ""
    for spelling in reversed(spellings[8:16]):
        cut = f"(?:{spelling}{cut})?"
    return f"{begin}(?:{middle}(?:{rest}|{_TOKEN}*)|{cut}{_CUT})" if rest else f"{begin}(?:{middle}|{cut}{_CUT})"


def _spellings(character: str) -> str:
    """Pattern for a character: as it is, `\\u002d`, `\\x2d`, `\\/`, `%2D`, `&#45;`, `&#x2d;`, `&amp;`."""
    code = ord(character)
    units = (code,) if code < 0x10000 else (0xD7C0 + (code >> 10), 0xDC00 + (code & 0x3FF))
    escaped = [rf"\\\\{{0,3}}u{unit:04x}" for unit in units]
    forms = [
        re.escape(character),
        f"(?i:{''.join(escaped)})",
        "(?i:" + "".join(f"%(?:25){{0,2}}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass")) + ")",
        f"(?i:&(?:amp;){{0,2}}(?:#0{{0,5}}{code}|#x0{{0,5}}{code:x});?)",
    ]
    if code < 256:
        forms.append(rf"(?i:\\\\{{0,3}}x{code:02x})")
    if character in _ENTITIES:
        forms.append(f"&(?:amp;){{0,2}}{_ENTITIES[character]};")
    if character in "\"\\/'":
        forms.insert(0, rf"\\{{1,4}}{re.escape(character)}")
    return f"(?:{'|'.join(forms)})"


def _base64_forms(secret: str) -> Iterator[str]:
    """What of the base64 of a text that contains the secret depends on the secret alone, for its three places in the text."""
    data = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        encoded = b64encode(bytes(before) + data).decode()
        yield encoded[-(-before * 4 // 3) : (before + len(data)) * 4 // 3]


def _in_base64(character: str) -> str:
    return {"+": f"(?:{_spellings('+')}|-)", "/": f"(?:{_spellings('/')}|_)"}.get(character, character)


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


def _clear_frames(trace: TracebackType | None) -> None:
    """Empty our frames that have ended: error trackers record local variables, which hold what the server has sent.

    For the error that is being raised: one that it is chained to may have gone through a coroutine that still runs, which
    would end.
    """
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("nimclient."):
            with suppress(RuntimeError):  # it has not ended
                trace.tb_frame.clear()
        trace = trace.tb_next


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

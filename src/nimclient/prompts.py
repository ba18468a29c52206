"""Templates of messages: `ChatPrompt([("system", "Answer in {language}."), ("user", "{input}")])`.

A template is text with {names}; literal braces are doubled. Values are inserted unchanged and not parsed, so that
braces in a user's text are safe. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from attrs import field, frozen

from nimclient._api.messages import MessageLike, wire_messages
from nimclient._base.types import is_array, is_items, is_object
from nimclient.errors import ConfigurationError
from nimclient.records.chat import Message, decode_message

Part: TypeAlias = str | MessageLike
"""A part of a prompt: a user's template, a (role, template) tuple, or a message, which is inserted unchanged."""

_PLACEHOLDERS = ("placeholder", "messages")
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def _checked(parts: object) -> tuple[Any, ...]:
    if isinstance(parts, str) or not is_items(parts):
        raise TypeError(f"ChatPrompt takes a list of messages, not {type(parts).__name__}")
    return tuple(_part(part, index) for index, part in enumerate(parts))


def _part(part: Any, index: int) -> Any:
    """A part that can be formatted. Raises ConfigurationError for one that never can."""
    if isinstance(part, str):
        part = ("user", part)
    if isinstance(part, tuple):
        role, content = _pair(cast(tuple[Any, ...], part), index)
        names = _names(content, f"template {index}")
        if role in _PLACEHOLDERS and (len(names) != 1 or content != f"{{{names[0]}}}"):
            raise ConfigurationError(f"template {index} is a placeholder; write it as ({role!r}, '{{name}}')")
        return role, content
    wire_messages([part])
    return part if isinstance(part, Message) else decode_message(dict(part))


def _pair(part: tuple[Any, ...], index: int) -> tuple[str, Any]:
    if len(part) != 2 or not isinstance(part[0], str) or not part[0]:
        raise ConfigurationError(f"template {index} must be a (role, template) tuple")
    return part[0], part[1]


@frozen
class ChatPrompt:
    """Messages with {names} in them, filled in by `format`.

    The parts: (role, template) tuples, a str for a user's template, and dicts or Message records, which are inserted as
    they are. ("placeholder", "{history}") stands for a list of messages. A template may be a list of content parts;
    the names in all its texts are filled in. Raises ConfigurationError for a template whose braces make no name.
    """

    parts: tuple[Any, ...] = field(converter=_checked)

    @property
    def variables(self) -> tuple[str, ...]:
        """The names that `format` needs, in the order in which they appear."""
        found = (_names(part[1], "") for part in self.parts if isinstance(part, tuple))
        return tuple(dict.fromkeys(name for names in found for name in names))

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Those of the names that stand for a list of messages."""
        pairs: list[tuple[str, Any]] = [part for part in self.parts if isinstance(part, tuple)]
        return tuple(name for role, content in pairs if role in _PLACEHOLDERS for name in _names(content, ""))

    def format(self, **values: Any) -> list[Message]:
        """The messages with the values in place. KeyError for a name without a value; other values are ignored."""
        return [message for part in self.parts for message in _formatted(part, values)]

    def __add__(self, other: ChatPrompt | Part | Iterable[Part]) -> ChatPrompt:
        return ChatPrompt((*self.parts, *_parts(other)))

    def __radd__(self, other: Part | Iterable[Part]) -> ChatPrompt:
        return ChatPrompt((*_parts(other), *self.parts))


def _parts(value: Any) -> Iterable[Any]:
    """The parts of another prompt or a list; of a single message, that one."""
    if isinstance(value, ChatPrompt):
        return value.parts
    single = isinstance(value, (str, tuple, Message, Mapping))
    return cast(Iterable[Any], (value,) if single else value)


def _formatted(part: Any, values: Mapping[str, Any]) -> list[Message]:
    if isinstance(part, Message):
        return [part]
    role, content = part
    if role in _PLACEHOLDERS:
        return _inserted(_value(_names(content, "")[0], values))
    (wire,) = wire_messages([(role, _filled(content, lambda name: str(_value(name, values))))])
    return [decode_message(wire)]


def _inserted(messages: Any) -> list[Message]:
    """The messages that a placeholder stands for; there may be none."""
    if isinstance(messages, (Message, Mapping)):
        messages = [messages]
    if is_items(messages):
        given = list(messages)
        return [m if isinstance(m, Message) else decode_message(wire_messages([m])[0]) for m in given]
    return [decode_message(wire) for wire in wire_messages(messages)]


def _value(name: str, values: Mapping[str, Any]) -> Any:
    if name not in values:
        error = KeyError(name)
        error.add_note(f"the prompt needs a value for {name!r}: format({name}=...)")
        raise error
    return values[name]


def _filled(content: Any, value: Callable[[str], str]) -> Any:
    """The content with all its texts filled in."""
    if isinstance(content, str):
        return _TOKEN.sub(lambda match: match[0][0] if match[1] is None else value(match[1]), content)
    if is_array(content):
        return [_filled(item, value) for item in content]
    if is_object(content):
        return {key: _filled(item, value) for key, item in content.items()}
    return content


def _names(content: Any, where: str) -> list[str]:
    """The names in the texts of a content."""
    found: list[str] = []

    def note(name: str) -> str:
        found.append(name)
        return ""

    _filled(_checked_braces(content, where), note)
    return found


def _checked_braces(content: Any, where: str) -> Any:
    if isinstance(content, str):
        for match in _TOKEN.finditer(content):
            if match[0] in ("{", "}") or (match[1] is not None and not match[1].isidentifier()):
                raise ConfigurationError(
                    f"{where} has {match[0]!r} at {match.start()}, which is not a name; double literal braces: {{{{ }}}}"
                )
    elif is_array(content):
        for item in content:
            _checked_braces(item, where)
    elif is_object(content):
        for item in content.values():
            _checked_braces(item, where)
    return content

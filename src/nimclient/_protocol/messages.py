"""All forms in which callers write messages, as the list of objects that goes over the wire.

Roles are never validated away (some hosted RAG models take `context`), unknown keys and parts go through as they are, and
nothing of the caller's is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from nimclient._types import Json, JsonDict, is_items
from nimclient.errors import ConfigurationError
from nimclient.records.chat import Message

MessageLike: TypeAlias = Message | Mapping[str, Json] | tuple[str, Any]
Messages: TypeAlias = str | Sequence[MessageLike]

_ROLE_ALIASES = {"human": "user", "ai": "assistant"}


def wire_messages(messages: object, *, echo_reasoning: bool = False) -> list[JsonDict]:
    """`messages` as objects. Raises ConfigurationError for an empty list, a role that is not a str, or another type."""
    if isinstance(messages, str):
        if not messages:
            raise ConfigurationError("messages is an empty str; pass the user's text")
        return [{"role": "user", "content": messages}]
    if not is_items(messages):
        raise TypeError(f"messages takes a str or a list of messages, not {type(messages).__name__}")
    result = [_wire_message(message, f"messages[{index}]", echo_reasoning) for index, message in enumerate(messages)]
    if not result:
        raise ConfigurationError("messages is empty; pass at least one message")
    return result


def _wire_message(message: object, path: str, echo_reasoning: bool) -> JsonDict:
    if isinstance(message, Message):
        return _from_record(message, path, echo_reasoning)
    if isinstance(message, Mapping):
        return _from_mapping(cast(Mapping[str, Any], message), path)
    if isinstance(message, tuple):
        return _from_pair(cast(tuple[Any, ...], message), path)
    kind = type(message).__name__
    raise ConfigurationError(f"{path} must be a dict, a Message or a (role, content) tuple, not {kind}", path=path)


def _from_record(message: Message, path: str, echo_reasoning: bool) -> JsonDict:
    """Role, content (null beside tool calls), name, tool calls: what strict servers accept in a history."""
    wire: JsonDict = {"role": _role(message.role, path), "content": _content(message.content)}
    if message.tool_calls:
        if message.content == "":
            wire["content"] = None  # NIM refuses the empty string beside tool calls
        wire["tool_calls"] = [call.to_dict() for call in message.tool_calls]
    if message.name is not None:
        wire["name"] = message.name
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    if echo_reasoning and message.reasoning is not None:
        wire["reasoning"] = message.reasoning
    return wire


def _from_mapping(message: Mapping[str, Any], path: str) -> JsonDict:
    if "role" not in message:
        raise ConfigurationError(f"{path} has no role", path=path)
    wire = dict(message)
    wire["role"] = _role(wire["role"], path)
    if "content" in wire:
        wire["content"] = _content(wire["content"])
    return wire


def _from_pair(message: tuple[Any, ...], path: str) -> JsonDict:
    if len(message) != 2:
        raise ConfigurationError(f"{path} has {len(message)} elements; a tuple is (role, content)", path=path)
    role = _role(message[0], path)
    return {"role": _ROLE_ALIASES.get(role, role), "content": _content(message[1])}


def _role(role: object, path: str) -> str:
    if not isinstance(role, str) or not role:
        raise ConfigurationError(f"{path}.role must be a str that is not empty, not {role!r:.40}", path=f"{path}.role")
    return role


def _content(content: Any) -> Any:
    """A str in a content list is a text part; all else stays as it is."""
    if isinstance(content, (list, tuple)):
        parts = cast(Sequence[Any], content)
        return [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return content

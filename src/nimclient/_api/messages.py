"""Converts the accepted forms of messages to the list of objects that is sent.

Roles are not restricted (some hosted RAG models accept `context`), unknown keys and parts are sent unchanged, and the
caller's objects are never modified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from nimclient._base.json import dumps, is_json
from nimclient._base.types import Json, JsonDict, is_array, is_items, is_object
from nimclient.errors import ConfigurationError, ToolError
from nimclient.records._tags import RAW_CONTENT
from nimclient.records.chat import BLOCKS, Message, ToolCall
from nimclient.records.tool_calls import signature_of

MessageLike: TypeAlias = Message | Mapping[str, Json] | tuple[str, Any]
Messages: TypeAlias = str | Sequence[MessageLike]

_ROLE_ALIASES = {"human": "user", "ai": "assistant"}


def wire_messages(messages: object, *, echo_reasoning: bool = False, developer: bool = True) -> list[JsonDict]:
    """`messages` as objects. Raises ConfigurationError for an empty list, a role that is not a str, or another type.

    `developer`: whether the server accepts that role; if not, `system` is sent instead.
    """
    if isinstance(messages, str):
        if not messages:
            raise ConfigurationError("messages is an empty str; pass the user's text")
        return [{"role": "user", "content": messages}]
    if not is_items(messages):
        kind = type(messages).__name__
        raise TypeError(f"messages takes a str or a list of messages, not {kind}{_how_to_format(messages)}")
    result = [_wire_message(message, f"messages[{index}]", echo_reasoning) for index, message in enumerate(messages)]
    if not result:
        raise ConfigurationError("messages is empty; pass at least one message")
    if not developer:
        for wire in result:
            if wire["role"] == "developer":
                wire["role"] = "system"
    return result


def materialized(messages: Any) -> Any:
    """The messages in a form that can be read more than once: an iterator becomes a list."""
    if type(messages) is str or not isinstance(messages, Iterator):
        return messages
    return list(cast(Iterator[Any], messages))


def _wire_message(message: object, path: str, echo_reasoning: bool) -> JsonDict:
    if isinstance(message, Message):
        return _from_record(message, path, echo_reasoning)
    if isinstance(message, Mapping):
        return _from_mapping(cast(Mapping[str, Any], message), path)
    if isinstance(message, tuple):
        return _from_pair(cast(tuple[Any, ...], message), path)
    kind = type(message).__name__ + _how_to_format(message)
    raise ConfigurationError(f"{path} must be a dict, a Message or a (role, content) tuple, not {kind}", path=path)


def _how_to_format(prompt: object) -> str:
    """A hint for a ChatPrompt, which this layer does not know; empty for anything else."""
    variables: object = getattr(prompt, "variables", None)
    if not callable(getattr(prompt, "format", None)) or not is_array(variables):
        return ""
    return f"; pass what its .format({', '.join(f'{name}=…' for name in variables)}) gives"


def _from_record(message: Message, path: str, echo_reasoning: bool) -> JsonDict:
    """Role, content (null beside tool calls only), name, tool calls: the fields that strict servers accept in a history."""
    content = "" if message.content is None else _content(message.content)
    wire: JsonDict = {"role": _role(message.role, path), "content": content}
    if message.tool_calls:
        if content == "":
            wire["content"] = None  # NIM rejects the empty string beside tool calls
        wire["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.name is not None:
        wire["name"] = message.name
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    if echo_reasoning:
        _echo_reasoning(wire, message)
    return wire


def _echo_reasoning(wire: JsonDict, message: Message) -> None:
    """Add the reasoning as the server sent it: in tags, blocks, or the field it used (strict servers accept only one)."""
    wire.update({name: blocks for name in BLOCKS if (blocks := message.extra.get(name))})
    raw = message.extra.get(RAW_CONTENT)
    if isinstance(raw, str):
        wire["content"] = raw
    elif message.reasoning is not None:
        old = message.extra.get("reasoning_content")
        differs = isinstance(old, str) and old != message.reasoning  # both names came: vLLM reads the new one only
        wire["reasoning_content" if old and not differs else "reasoning"] = message.reasoning


def _tool_call(call: Any) -> Any:
    """A record without its server's additions (strict servers reject them) but a signature, which its server requires;
    anything else unchanged, except for arguments that no server accepts.
    """
    if is_object(call):
        return _with_sendable_arguments(call)
    if not isinstance(call, ToolCall):
        return call
    function = {"name": call.name, "arguments": sendable_arguments(call)}
    return {"id": call.id, "type": call.type, "function": function, **signature_of(call)}


def _with_sendable_arguments(call: JsonDict) -> JsonDict:
    """A call that was saved as received, or created by hand."""
    function = call.get("function")
    if not is_object(function) or not isinstance(arguments := function.get("arguments", ""), str | None):
        return call
    sendable = sendable_arguments(ToolCall("", "", arguments or ""))
    return call if sendable == arguments else {**call, "function": {**function, "arguments": sendable}}


def _from_mapping(message: Mapping[str, Any], path: str) -> JsonDict:
    if "role" not in message:
        raise ConfigurationError(f"{path} has no role", path=path)
    wire = dict(message)
    wire["role"] = _role(wire["role"], path)
    if "content" in wire:
        wire["content"] = _content(wire["content"])
    if is_array(calls := wire.get("tool_calls")):
        wire["tool_calls"] = [_tool_call(call) for call in calls]
        if wire["tool_calls"] and wire.get("content") == "":
            wire["content"] = None  # as for records
    if is_object(wire.get("function_call")):  # the old form
        wire["function_call"] = _with_sendable_arguments({"function": wire["function_call"]})["function"]
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
    """The content with str items, Image, Audio and Video converted to parts; everything else unchanged."""
    if is_array(content):
        return [_part(part) for part in content]
    part = _media(content)
    return content if part is content else [part]


def _part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return _media(part)


def _media(content: Any) -> Any:
    """Image, Audio and Video as a part; everything else unchanged."""
    if content is None or isinstance(content, str) or is_object(content):
        return content
    from nimclient.records.media import MEDIA

    return content.to_dict() if isinstance(content, MEDIA) else content


def sendable_arguments(call: ToolCall) -> str:
    """The call's arguments for the history: vLLM rejects (400) any that are not a JSON object."""
    try:
        arguments = call.parse()
    except ToolError:
        return "{}"
    if not call.arguments.lstrip().startswith("{") or not is_json(call.arguments):
        return dumps(arguments).decode()
    return call.arguments

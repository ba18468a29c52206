"""LangChain's messages → the messages of the wire. Content blocks of every generation (OpenAI's parts, v0, v1, Anthropic's)
are sent in the form that NIM and vLLM accept, or raise a ValueError; none of a user's blocks is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from nimclient._base import json as _json
from nimclient._base.types import JsonDict
from nimclient.records.chat import BLOCKS

REASONING_FIELDS = "_reasoning_api_fields"
"""Key of `additional_kwargs`: the names under which the server sent the reasoning, for sending it back."""
SIGNATURES = "_signed_tool_calls"
"""Key of `additional_kwargs`: the fields with the signatures of tool calls by the calls' ids, for sending them back."""

_NOT_SENT = frozenset(
    {
        "tool_use",
        "tool_call",
        "tool_call_chunk",
        "invalid_tool_call",
        "function_call",
        "server_tool_call",
        "server_tool_call_chunk",
        "server_tool_result",
        "reasoning",
        "reasoning_content",
        "thinking",
        "redacted_thinking",
        "non_standard",
        "refusal",
    }
)
"""Blocks of an assistant's content that are sent elsewhere in a message, or not at all."""

_TEXTS = frozenset({"text", "input_text", "output_text", "text-plain"})
_SOURCES = frozenset({"url", "base64", "data", "source", "source_type", "file_id", "id"})
"""Keys of LangChain's media blocks; a block without any of them is passed to the server."""

_SCHEMES = ("http://", "https://", "data:", "file://")
_DETAILS = ("auto", "low", "high")


def wire_messages(messages: Sequence[BaseMessage]) -> list[JsonDict]:
    """The messages as objects. The caller's messages are not changed.

    Raises ValueError for a part that no server accepts, an image that is a local path, or a message without content.
    """
    return [_wire_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _wire_message(message: BaseMessage, where: str) -> JsonDict:
    match message:
        case AIMessage():
            return _assistant(message, where)
        case ToolMessage():
            content = _content(message.content, where, "\n")  # an MCP tool gives a block for each element of a list
            return {"role": "tool", "content": content or "", "tool_call_id": message.tool_call_id}
        case FunctionMessage():
            return {"role": "function", "content": _content(message.content, where, "\n") or "", "name": message.name}
        case HumanMessage():
            role = "user"
        case SystemMessage():
            role = str(message.additional_kwargs.get("__openai_role__", "system"))
        case ChatMessage():
            role = message.role
        case _:
            raise ValueError(f"{where} is a {type(message).__name__}, which has no role on the wire")
    content = _content(message.content, where)
    if content is None:
        raise ValueError(f"Message {message!r:.200} has no content.")
    return _with_name({"role": role, "content": content}, message)


def _with_name(wire: JsonDict, message: BaseMessage) -> JsonDict:
    name = message.name or message.additional_kwargs.get("name")
    return {**wire, "name": name} if name else wire


# assistants ------------------------------------------------------------------------------------------------------


def _assistant(message: AIMessage, where: str) -> JsonDict:
    """Content (null beside tool calls), each tool call once, and the reasoning as the server sent it, with its signatures."""
    content: Any = message.content
    if isinstance(content, list):
        parts = cast(list[Any], content)
        kept = [part for part in parts if isinstance(part, str) or part.get("type") not in _NOT_SENT]
        content = _content(kept, where) or ""
    wire = _with_name({"role": "assistant", "content": content}, message)
    calls = _tool_calls(message)
    if calls:
        wire["content"] = content or None  # NIM rejects the empty string beside tool calls
        wire["tool_calls"] = calls
    if (function := message.additional_kwargs.get("function_call")) is not None:
        wire["content"], wire["function_call"] = content or None, function
    for field in (*(message.additional_kwargs.get(REASONING_FIELDS) or ()), *BLOCKS):
        if reasoning := message.additional_kwargs.get(field):
            wire[field] = reasoning
    return wire


def _tool_calls(message: AIMessage) -> list[JsonDict]:
    """The calls of the message; those in `additional_kwargs` only if it has no others."""
    calls: list[JsonDict] = [
        _tool_call(call["id"], call["name"], _arguments(call["args"])) for call in message.tool_calls
    ]
    calls += [
        _tool_call(call["id"], call["name"], call["args"] or "") for call in message.invalid_tool_calls if call["name"]
    ]
    if calls:
        signatures: dict[str, JsonDict] = message.additional_kwargs.get(SIGNATURES) or {}
        return [{**call, **signatures.get(call["id"], {})} for call in calls]
    raw: list[JsonDict] = message.additional_kwargs.get("tool_calls") or []
    return [
        _tool_call(call.get("id"), call.get("function", {}).get("name"), call.get("function", {}).get("arguments"))
        for call in raw
    ]


def _tool_call(id: str | None, name: str | None, arguments: str | None) -> JsonDict:
    function = {"name": name or "", "arguments": arguments or ""}
    return {"id": id or "", "type": "function", "function": function}


def _arguments(arguments: Mapping[str, Any]) -> str:
    return _json.dumps(arguments, "tool call").decode()


# content ---------------------------------------------------------------------------------------------------------


def _content(content: str | list[Any] | None, where: str, between: str = "") -> Any:
    """A str, a list if a part is not text, or None without content.

    Strict servers accept a list only for media, so texts are joined.
    """
    if content is None or isinstance(content, str):
        return content
    parts = [_part(part, f"{where}.content[{index}]") for index, part in enumerate(content)]
    if not parts:
        return None
    if all(part.get("type") == "text" for part in parts):
        return between.join(part["text"] for part in parts)
    return parts


def _part(part: Any, where: str) -> JsonDict:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        raise ValueError(f"{where} is a {type(part).__name__}; a part is a str or a dict")
    block = cast(Mapping[str, Any], part)
    kind = block.get("type")
    match kind:
        case _ if kind in _TEXTS:
            return {"type": "text", "text": _plain_text(block, where)}
        case "image_url":
            return _image_url(block, where)
        case "image" if not block.keys().isdisjoint(_SOURCES):
            return {"type": "image_url", "image_url": {"url": _url(block, "image/jpeg", where)}}
        case "audio" if not block.keys().isdisjoint(_SOURCES):
            return _audio(block, where)
        case "video" if not block.keys().isdisjoint(_SOURCES):
            return {"type": "video_url", "video_url": {"url": _url(block, "video/mp4", where)}}
        case "file" | "document" | "container_upload":
            raise ValueError(
                f"{where} is a file, which neither NIM nor vLLM takes: send its text, or images of its pages"
            )
        case "tool_result":
            return {"type": "text", "text": _joined_text(block.get("content"))}
        case "non_standard":
            return dict(cast(Mapping[str, Any], block.get("value") or {}))
        case _ if kind in _NOT_SENT:
            raise ValueError(f"{where} is of type {kind!r}, which only an assistant's message has")
        case _:
            return dict(block)  # a server may support it


def _plain_text(block: Mapping[str, Any], where: str) -> str:
    text = block.get("text")
    if not isinstance(text, str):
        raise ValueError(f"{where} is a {block.get('type')} block without text")
    return text


def _joined_text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(_joined_text(part) for part in cast(list[Any], content))
    if isinstance(content, Mapping):
        return str(cast(Mapping[str, Any], content).get("text", ""))
    return "" if content is None else str(content)


def _image_url(block: Mapping[str, Any], where: str) -> JsonDict:
    image: Any = block.get("image_url")
    inner: JsonDict = {"url": image} if isinstance(image, str) else dict(image or {})
    url = inner.get("url")
    if not isinstance(url, str) or not url.startswith(_SCHEMES):
        raise ValueError(
            f"{where}.image_url is not a URL (http, https or data); local files are never read: {url!r:.80}"
        )
    if "detail" in inner and inner["detail"] not in _DETAILS:
        raise ValueError(f"Invalid detail value: {inner['detail']!r}. It is one of {', '.join(_DETAILS)}")
    return {"type": "image_url", "image_url": inner}


def _audio(block: Mapping[str, Any], where: str) -> JsonDict:
    data = _data(block)
    if data is None:
        return {"type": "audio_url", "audio_url": {"url": _url(block, "audio/wav", where)}}
    mime = str(block.get("mime_type") or "audio/wav")
    form = mime.partition(";")[0].rpartition("/")[2].removeprefix("x-")
    return {"type": "input_audio", "input_audio": {"data": data, "format": {"mpeg": "mp3"}.get(form, form)}}


def _url(block: Mapping[str, Any], mime: str, where: str) -> str:
    """The URL of a media block of v1 (`url`, `base64`), v0 (`source_type`), or Anthropic's (`source`)."""
    source = block.get("source")
    if isinstance(source, Mapping):
        named = cast(Mapping[str, Any], source)
        block = {**named, "base64": named.get("data"), "mime_type": named.get("media_type")}
    data = _data(block)
    if data is not None:
        return f"data:{block.get('mime_type') or mime};base64,{data}"
    url = block.get("url")
    if not isinstance(url, str) or not url.startswith(_SCHEMES):
        raise ValueError(f"{where} has neither base64 data nor a URL (http, https or data); file ids are not taken")
    return url


def _data(block: Mapping[str, Any]) -> str | None:
    data = block.get("base64") or (block.get("data") if block.get("source_type") == "base64" else None)
    return data if isinstance(data, str) else None

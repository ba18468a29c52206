"""Messages in the form of the conventions (role and parts), if content is recorded. Media are named, not copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from nimclient._base.types import JsonDict, is_object
from nimclient.errors import ToolError
from nimclient.records import ChatCompletion, Completion, Message, ToolCall

Structured: TypeAlias = list[dict[str, Any]]

_FINISHED = {"tool_calls": "tool_call"}
"""Finish reasons with another name in the conventions."""


def content_of(fields: Mapping[str, Any], result: object) -> dict[str, Structured]:
    """The content attributes of a call: input, tools and output."""
    found = {
        "gen_ai.input.messages": input_messages(fields),
        "gen_ai.output.messages": output_messages(result),
        "gen_ai.tool.definitions": [tool for tool in fields.get("tools") or () if is_object(tool)],
    }
    return {name: messages for name, messages in found.items() if messages}


def input_messages(fields: Mapping[str, Any]) -> Structured:
    """The messages, or the prompts, of a body."""
    if "prompt" in fields:
        prompt = fields["prompt"]
        texts = cast(list[object], prompt) if isinstance(prompt, list) else [prompt]
        return [{"role": "user", "parts": [_text(text)]} for text in texts if isinstance(text, str)]
    return [_message(message) for message in fields.get("messages") or () if is_object(message)]


def output_messages(result: object) -> Structured:
    """The choices of an answer."""
    if isinstance(result, Completion):
        return [_choice([_text(choice.text)], choice.finish_reason) for choice in result.choices]
    if isinstance(result, ChatCompletion):
        return [_choice(_parts(choice.message), choice.finish_reason) for choice in result.choices]
    return []


def _choice(parts: Structured, finish_reason: str | None) -> dict[str, Any]:
    reason = finish_reason or ""
    return {"role": "assistant", "parts": parts, "finish_reason": _FINISHED.get(reason, reason)}


def _parts(message: Message) -> Structured:
    parts: Structured = []
    if message.reasoning:
        parts.append({"type": "reasoning", "content": message.reasoning})
    if message.text:
        parts.append(_text(message.text))
    return [*parts, *map(_tool_call, message.tool_calls)]


def _tool_call(call: ToolCall) -> dict[str, Any]:
    try:
        arguments: object = call.parse()
    except ToolError:
        arguments = call.arguments
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments}


def _message(message: JsonDict) -> dict[str, Any]:
    """A message of a body."""
    content = message.get("content")
    if message.get("role") == "tool":
        return {"role": "tool", "parts": [_tool_response(message)]}
    pieces = cast(list[object], content) if isinstance(content, list) else [] if content is None else [content]
    parts = [_part(piece) for piece in pieces]
    for call in message.get("tool_calls") or ():
        function = call.get("function") if is_object(call) else None
        if is_object(call) and is_object(function):
            name, arguments = str(function.get("name", "")), str(function.get("arguments", ""))
            parts.append(_tool_call(ToolCall(str(call.get("id", "")), name, arguments)))
    return {"role": message.get("role"), "parts": parts}


def _tool_response(message: JsonDict) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": message.get("content")}


def _part(piece: object) -> dict[str, Any]:
    """A part of a content list; anything but text and URLs is only named."""
    if isinstance(piece, str):
        return _text(piece)
    if not is_object(piece):
        return {"type": "unknown"}
    kind = str(piece.get("type", "unknown"))
    if isinstance(piece.get("text"), str):
        return _text(piece["text"])
    source = piece.get(kind)
    url = source.get("url") if is_object(source) else None
    if isinstance(url, str) and not url.startswith("data:"):
        return {"type": "uri", "modality": kind.removesuffix("_url"), "uri": url}
    return {"type": kind}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}

"""Chat completions: arguments → Call (POST /chat/completions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from nimclient._protocol.call import Call, Replay
from nimclient._protocol.messages import wire_messages
from nimclient._protocol.options import check_names, merge_fields, names_of
from nimclient._types import Json, JsonDict
from nimclient.errors import ConfigurationError
from nimclient.records.chat import ChatCompletion, decode_chat
from nimclient.records.params import ChatOptions

CHAT_OPTIONS = names_of(ChatOptions)
_NOT_SENT = frozenset({"stream_usage", "echo_reasoning", "tools", "tool_choice"})


def chat_call(
    method: str, messages: object, model: str | None, options: Mapping[str, Any], *, stream: bool
) -> Call[ChatCompletion]:
    """The call for these messages. TypeError for an unknown option; ConfigurationError for input that cannot be sent."""
    check_names(method, options, CHAT_OPTIONS)
    wire = wire_messages(messages, echo_reasoning=bool(options.get("echo_reasoning")))
    fields: JsonDict = {"messages": wire} if model is None else {"model": model, "messages": wire}
    tools = options.get("tools")
    if tools:  # vLLM answers 400 to an empty list
        fields["tools"] = list(tools)
    if (choice := options.get("tool_choice")) is not None:
        fields["tool_choice"] = wire_tool_choice(choice, tools or ())
    ours: tuple[str, ...] = ()
    if stream:
        fields["stream"] = True
        ours = ("stream",)
        if options.get("stream_usage") is not False:
            fields["stream_options"] = {"include_usage": True}
            ours = ("stream", "stream_options")
    merge_fields(fields, options, not_sent=_NOT_SENT)
    return Call(
        "POST", "/chat/completions", decode_chat, fields, model=model, ours=ours, replay=Replay.ONCE, stream=stream
    )


def wire_tool_choice(choice: Json, tools: Sequence[Mapping[str, Json]]) -> Json:
    """ "auto", "none", "required"/"any"/True, False, the name of one of the tools, or a spec as it is."""
    if choice is True or choice == "any":
        return "required"
    if choice is False:
        return "none"
    if isinstance(choice, Mapping):
        return dict(cast(Mapping[str, Json], choice))
    if not isinstance(choice, str):
        raise ConfigurationError(f"tool_choice takes a str, a bool or a spec, not {type(choice).__name__}")
    if choice in ("auto", "none", "required"):
        return choice
    names = [_tool_name(tool) for tool in tools]
    if choice not in names:
        raise ConfigurationError(f"tool_choice names {choice!r}, which is not among the tools {names}")
    return {"type": "function", "function": {"name": choice}}


def _tool_name(tool: Mapping[str, Json]) -> str | None:
    function = tool.get("function")
    return cast(Mapping[str, Any], function).get("name") if isinstance(function, Mapping) else None

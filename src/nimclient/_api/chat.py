"""Chat completions: arguments → Call (POST /chat/completions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from nimclient._api.call import Call
from nimclient._api.messages import wire_messages
from nimclient._api.options import check_names, check_numbers, merge_fields, names_of
from nimclient._api.server_types import ServerType
from nimclient._api.thinking import switch_thinking
from nimclient._base.types import Json, JsonDict
from nimclient._nvcf.media import asset_headers, check_body_size
from nimclient._retry.policy import Replay
from nimclient.errors import ConfigurationError
from nimclient.records.chat import ChatCompletion, decode_chat
from nimclient.records.params import ChatOptions

if TYPE_CHECKING:
    from nimclient._streams.accumulate import Accumulator

CHAT_OPTIONS = names_of(ChatOptions)
_NOT_SENT = frozenset({"stream_usage", "echo_reasoning", "resume", "session_id", "thinking", "tools", "tool_choice"})


def chat_call(
    method: str,
    messages: object,
    model: str | None,
    options: Mapping[str, Any],
    *,
    stream: bool,
    hosted: bool = False,
    developer: bool = True,
    switch: str | None = None,
    server: ServerType | None = None,
) -> Call[ChatCompletion]:
    """The call for these messages. TypeError for an unknown option; ConfigurationError for input that cannot be sent.

    Args:
        method: The name of the public method, for errors.
        messages: A str or a list of messages.
        model: None while it is unknown.
        options: ChatOptions.
        stream: Whether the response is streamed.
        hosted: Whether it goes to the hosted catalog, which needs assets named in a header and accepts bodies up to 25 MiB.
        developer: Whether the server accepts the role of that name.
        switch: The model's thinking switch given by the caller.
        server: The server type, which decides where a session goes, and where and with which sign a priority.
    """
    check_names(method, options, CHAT_OPTIONS)
    check_numbers(options)
    wire = wire_messages(messages, echo_reasoning=bool(options.get("echo_reasoning")), developer=developer)
    fields: JsonDict = {"messages": wire} if model is None else {"model": model, "messages": wire}
    tools: list[JsonDict] = []
    if options.get("tools"):
        from nimclient._schema.tools import wire_tools

        tools = wire_tools(options["tools"])
    if tools:  # vLLM answers 400 to an empty list
        fields["tools"] = tools
    if (choice := options.get("tool_choice")) is not None:
        fields["tool_choice"] = wire_tool_choice(choice, tools)
    droppable_fields: tuple[str, ...] = ()
    if stream:
        fields["stream"] = True
        droppable_fields = ("stream",)
        if options.get("stream_usage") is not False:
            fields["stream_options"] = {"include_usage": True}
            droppable_fields = ("stream", "stream_options")
        if options.get("resume"):
            droppable_fields = (*droppable_fields, "return_token_ids")
    warnings: list[str | None] = []
    if options.get("priority") is not None:
        if isinstance(options["priority"], str):
            droppable_fields = (*droppable_fields, "priority")
        from nimclient._api.priority import with_priority

        options, warning = with_priority(options, server)
        warnings.append(warning)
    merge_fields(fields, options, not_sent=_NOT_SENT)
    if (thinking := options.get("thinking")) is not None:
        warnings.append(switch_thinking(fields, model, thinking, switch))
    headers = asset_headers(fields["messages"], options.get("extra_headers")) if hosted else {}
    if options.get("session_id") is not None:
        from nimclient._api.sessions import session_headers

        headers = {**headers, **session_headers(options, "hosted" if hosted else server)}
    call = Call(
        "POST",
        "/chat/completions",
        decode_chat,
        fields,
        model=model,
        droppable_fields=droppable_fields,
        replay=Replay.ONCE,
        stream=stream,
        headers=headers,
        accumulator=_accumulator,
        warnings=tuple([text for text in warnings if text]) if warnings else (),
        kind="chat",
    )
    if hosted:
        check_body_size(call.body)
    return call


def _accumulator() -> Accumulator[ChatCompletion]:
    from nimclient._streams.accumulate import ChatAccumulator  # a program that streams nothing needs none of it

    return ChatAccumulator()


def wire_tool_choice(choice: Json, tools: Sequence[Mapping[str, Json]]) -> Json:
    """ "auto", "none", "required"/"any"/True, False, the name of one of the tools, or a spec (unchanged)."""
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

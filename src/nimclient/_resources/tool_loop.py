"""chat.run_tools: send messages, run the tools that the model calls, send the results, until it answers without a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from itertools import count, filterfalse, islice
from typing import Any, Literal, TypeAlias

from anyio import CapacityLimiter, to_thread
from attrs import evolve

from nimclient._api.messages import sendable_arguments, wire_messages
from nimclient._api.options import check_whole, check_word
from nimclient._base import observers
from nimclient._base.callbacks import call_user
from nimclient._base.observers import ToolFacts
from nimclient._base.types import JsonDict
from nimclient._bulk.workers import run_all
from nimclient._resources.chat_calls import ChatCalls
from nimclient._schema.tools import Tool, ToolLike, result_text, tools_by_name
from nimclient.errors import DecodeError, ToolError
from nimclient.records.answers import ToolRun
from nimclient.records.chat import ChatCompletion, Message, ToolCall, decode_message

OnToolError: TypeAlias = Literal["return", "raise"]

_UNREAD = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<|tool_call", "<function=", "functools[")
"""How models begin a tool call, which a server with the parser of that model turns into one."""


async def run_tools(
    chat: ChatCalls,
    messages: object,
    tools: Iterable[ToolLike],
    *,
    max_rounds: int,
    on_tool_error: OnToolError,
    model: str | None,
    options: Mapping[str, Any],
) -> ToolRun:
    """See AsyncChat.run_tools."""
    check_word("on_tool_error", on_tool_error, ("return", "raise"))
    check_whole("max_rounds", max_rounds, 1)
    known = tools_by_name(tools)
    asked = {**options, "tools": [tool.spec() for tool in known.values()]}
    history: list[JsonDict | Message] = []
    history += wire_messages(messages, echo_reasoning=bool(options.get("echo_reasoning")))

    used = {call.id for message in _records(history) for call in message.tool_calls}
    try:
        for number in range(1, max_rounds + 1):
            call = await chat._call("chat.run_tools", history, model, asked)
            completion = await chat._ask(call, asked)
            calls = _with_ids(completion.tool_calls, number, used)
            history.append(_answer(completion, calls))
            if not calls:
                _check_that_no_call_is_lost(chat, completion)
                return ToolRun(completion, _records(history), number)
            if completion.finish_reason == "length":
                calls[-1].parse()  # ToolError for a truncated call: it would be truncated again
            if number < max_rounds:
                history += await _results(known, calls, on_tool_error)
                _choose_freely(asked)
    except ToolError as error:
        error.messages = _records(history)
        raise
    raise ToolError(f"the model still calls tools after {max_rounds} rounds (max_rounds)", messages=_records(history))


def _with_ids(calls: Sequence[ToolCall], number: int, used: set[str]) -> list[ToolCall]:
    """The calls with ids that are unique in the conversation, to assign the results; adds them to those that are used.

    llama-server has one id for all calls, Kimi numbers those of each round.
    """
    ids = [call.id for call in calls]
    if not all(ids) or len(used.union(ids)) < len(used) + len(ids):
        names = (f"call_{number}_{position}" for position in count())
        ids = list(islice(filterfalse(used.__contains__, names), len(calls)))
    used.update(ids)
    return [evolve(call, id=new) for call, new in zip(calls, ids, strict=True)]


def _check_that_no_call_is_lost(chat: ChatCalls, completion: ChatCompletion) -> None:
    """ToolError if an answer says that it calls tools, and has no call; a warning if its text looks like one.

    DecodeError if there is no answer.
    """
    if completion.message is None:
        raise DecodeError("the answer has no choice", path="choices", status=200)
    if completion.finish_reason in ("tool_calls", "function_call"):
        raise ToolError(
            f"the answer ends with {completion.finish_reason!r}, but has no call: the server's tool parser lost it"
        )
    if completion.text.lstrip().startswith(_UNREAD):
        chat._engine.core.warn_once(
            "the text of an answer begins like a tool call that the server has not read: its tool parser is off, or made for "
            "another model (vLLM: --enable-auto-tool-choice --tool-call-parser)"
        )


def _answer(completion: ChatCompletion, calls: Sequence[ToolCall]) -> Message:
    message = completion.message or Message("assistant", "")
    return evolve(message, tool_calls=[evolve(call, arguments=sendable_arguments(call)) for call in calls])


def _choose_freely(asked: dict[str, Any]) -> None:
    """A choice that forces a call applies to the first answer only; otherwise the loop would not end."""
    if asked.get("tool_choice") not in (None, False, "none", "auto"):
        asked["tool_choice"] = "auto"


async def _results(known: Mapping[str, Tool], calls: Sequence[ToolCall], on_tool_error: OnToolError) -> list[Message]:
    """Run the calls concurrently. Returns their results in the order of the calls."""
    results = [""] * len(calls)
    await run_all(calls, partial(_result, known, on_tool_error), calls.__len__, results.__setitem__)
    return [Message("tool", text, tool_call_id=call.id) for call, text in zip(calls, results, strict=True)]


async def _result(known: Mapping[str, Tool], on_tool_error: OnToolError, call: ToolCall) -> str:
    """The result of a call as text for the model, or the error."""
    try:
        return await _run(known, call)
    except ToolError as error:
        if on_tool_error == "raise":
            raise
        return f"Error: {error}"


async def _run(known: Mapping[str, Tool], call: ToolCall) -> str:
    """Run one call, with observers; ToolError for any failure."""
    if not observers.installed:
        return await _text(known, call)
    tool = known.get(call.name)
    facts = ToolFacts(call.name, call.id, call.arguments, None if tool is None else tool.description)
    with observers.tool_run(facts) as results:
        text = await _text(known, call)
        results.append(text)
    return text


async def _text(known: Mapping[str, Tool], call: ToolCall) -> str:
    """The result of a call as text."""
    tool = known.get(call.name)
    if tool is None:
        raise ToolError(f"there is no tool {call.name!r}; there are {', '.join(known)}")
    bound = await call_user(partial(tool.bind, call))
    try:
        return result_text(await _called(tool.function, bound))
    except Exception as error:
        raise ToolError(f"the tool {call.name} failed: {type(error).__name__}: {error}") from error


async def _called(function: Callable[..., Any], bound: Callable[[], Any]) -> Any:
    """Call a coroutine function on the loop, any other in a separate worker thread, since it may call tools itself."""
    result = bound() if iscoroutinefunction(function) else await to_thread.run_sync(bound, limiter=CapacityLimiter(1))
    return await result if isawaitable(result) else result


def _records(history: Sequence[JsonDict | Message]) -> tuple[Message, ...]:
    return tuple(m if isinstance(m, Message) else decode_message(m) for m in history)

"""Tool calls: which tool is called, and with what arguments.

With `tool_choice` "required" or a name a tool is always called. With "auto" one is called when its name or its
description shares a word with the question and no tool has answered yet: a rule of the simulator's own.
"""

import json
from dataclasses import dataclass
from typing import Any, Final, cast

from .fields import Fields
from .hints import Hints
from .instances import instance
from .keywords import Unsatisfiable
from .rejections import Rejection, bad_field
from .text import content_stems

_CHOICES: Final = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class Tool:
    """One function the caller offers; `parameters` is a JSON schema, or None for no arguments."""

    name: str
    description: str
    parameters: Any


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """The tools of a request; `choice` is "auto", "none", "required" or "named" (then there is exactly one tool)."""

    tools: tuple[Tool, ...] = ()
    choice: str = "none"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call: the tool's name and its arguments as JSON text."""

    name: str
    arguments: str


def read_tools(fields: Fields) -> ToolOffer:
    """The tools and the choice among them; Rejection (400) by vLLM's rules."""
    specs = fields.objects("tools")
    if specs == []:
        raise bad_field("tools", "must not be an empty list; leave it out instead.")
    tools = tuple(_read_tool(spec) for spec in specs or ())
    choice = fields.given("tool_choice")
    if choice is None:
        return ToolOffer(tools, "auto" if tools else "none")
    if not tools and choice != "none":
        raise bad_field("tool_choice", "When using `tool_choice`, `tools` must be set.")
    if isinstance(choice, dict):
        return ToolOffer((_named(tools, cast("dict[str, Any]", choice)),), "named")
    if choice not in _CHOICES:
        raise bad_field("tool_choice", f"must be one of {', '.join(_CHOICES)} or name a function, got {choice}.")
    return ToolOffer(tools, choice)


def _read_tool(spec: dict[str, Any]) -> Tool:
    function = Fields(spec, "tools").object("function")
    if function is None:
        raise Fields(spec, "tools").missing("function")
    inner = Fields(function, "tools.function")
    return Tool(inner.need_text("name"), inner.text("description") or "", inner.object("parameters"))


def _named(tools: tuple[Tool, ...], choice: dict[str, Any]) -> Tool:
    name = Fields(Fields(choice, "tool_choice").object("function") or {}, "tool_choice.function").need_text("name")
    for tool in tools:
        if tool.name == name:
            return tool
    raise bad_field("tool_choice", f"the tool {name} is not among `tools`.")


def call_tool(offer: ToolOffer, question: str, *, answered: bool) -> ToolCall | None:
    """The call the reply makes, or None for a reply in words. `answered`: a tool's result ends the conversation."""
    asked = set(content_stems(question))
    overlap = [len(asked.intersection(content_stems(f"{tool.name} {tool.description}"))) for tool in offer.tools]
    best = max(overlap, default=0)
    if offer.choice == "none" or (offer.choice == "auto" and (answered or not best)):
        return None
    tool = offer.tools[overlap.index(best)]
    return ToolCall(tool.name, _arguments(tool, question))


def _arguments(tool: Tool, question: str) -> str:
    if tool.parameters is None:
        return "{}"
    try:
        return json.dumps(instance({"type": "object", **tool.parameters}, Hints(question)), ensure_ascii=False)
    except Unsatisfiable as error:
        raise Rejection(400, f"The simulator cannot build arguments for {tool.name}: {error}", param="tools") from None

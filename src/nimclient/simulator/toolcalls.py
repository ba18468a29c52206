"""Tool calls: which tools are called, and with what arguments.

With `tool_choice` "required" or a name a tool is always called, preferably one that was not called yet. With
"auto", by a rule of the simulator, one is called if no tool was called yet and its name or its description shares
a word with the question, or the question has a certain value for one of its arguments. Several are called at once for a
series of names and for several tools named in the question.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from .fields import Fields
from .instances import instance
from .keywords import Unsatisfiable
from .rejections import Rejection, bad_field
from .text import content_stems, pieces
from .values import Values, one_by_one

_CHOICES: Final = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """One function the caller offers; `parameters` is a JSON schema, or None for no arguments."""

    name: str
    description: str
    parameters: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """The tools of a request; `choice` is "auto", "none", "required" or "named" (then there is exactly one tool)."""

    tools: tuple[OfferedTool, ...] = ()
    choice: str = "none"
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """One call: the tool's name and its arguments as JSON text."""

    name: str
    arguments: str

    @property
    def tokens(self) -> list[str]:
        """The tokens of the arguments."""
        return pieces(self.arguments)


def read_tools(fields: Fields) -> ToolOffer:
    """The tools and the tool choice; Rejection (400) by vLLM's rules."""
    specs = fields.objects("tools")
    if specs == []:
        raise bad_field("tools", "must not be an empty list; leave it out instead.")
    tools = tuple(_read_tool(spec) for spec in specs or ())
    choice = fields.given("tool_choice")
    parallel = fields.given("parallel_tool_calls") is None or fields.flag("parallel_tool_calls")
    if choice is None:
        return ToolOffer(tools, "auto" if tools else "none", parallel)
    if not tools and choice != "none":
        raise bad_field("tool_choice", "When using `tool_choice`, `tools` must be set.")
    if isinstance(choice, dict):
        return ToolOffer((_named(tools, cast("dict[str, Any]", choice)),), "named", parallel)
    if choice not in _CHOICES:
        raise bad_field("tool_choice", f"must be one of {', '.join(_CHOICES)} or name a function, got {choice}.")
    return ToolOffer(tools, choice, parallel)


def _read_tool(spec: dict[str, Any]) -> OfferedTool:
    function = Fields(spec, "tools").object("function")
    if function is None:
        raise Fields(spec, "tools").missing("function")
    inner = Fields(function, "tools.function")
    return OfferedTool(inner.need_text("name"), inner.text("description") or "", inner.object("parameters"))


def _named(tools: tuple[OfferedTool, ...], choice: dict[str, Any]) -> OfferedTool:
    name = Fields(Fields(choice, "tool_choice").object("function") or {}, "tool_choice.function").need_text("name")
    for tool in tools:
        if tool.name == name:
            return tool
    raise bad_field("tool_choice", f"the tool {name} is not among `tools`.")


def call_tools(offer: ToolOffer, question: str, *, called: Sequence[str] = ()) -> tuple[WrittenCall, ...]:
    """The tool calls of an answer; none for an answer in text. `called` are the tools called since the question."""
    if offer.choice == "none" or (offer.choice == "auto" and called):
        return ()
    asked = set(content_stems(question))
    values = Values(question)
    shared = [_fit(tool, asked, values) for tool in offer.tools]
    if offer.choice == "auto" and not any(shared):
        return ()
    at = min(range(len(shared)), key=lambda at: (called.count(offer.tools[at].name), -shared[at]))
    tools = [offer.tools[at]]
    if offer.parallel and offer.choice != "named" and not called:
        tools += _also_named(offer.tools, tools[0], asked)
    return tuple(call for tool in tools for call in _calls_of(tool, question, parallel=offer.parallel))


def _fit(tool: OfferedTool, asked: set[str], values: Values) -> int:
    """The score of a tool: the words it shares with the question, plus one for an argument with a certain value."""
    shared = asked.intersection(content_stems(f"{tool.name} {tool.description}"))
    return len(shared) + any(map(values.knows, _properties(tool)))


def _also_named(tools: Sequence[OfferedTool], best: OfferedTool, asked: set[str]) -> list[OfferedTool]:
    """The other tools whose names share a word with the question that no earlier tool shares."""
    named = set(content_stems(best.name))
    others: list[OfferedTool] = []
    for tool in tools:
        own = asked.intersection(content_stems(tool.name)) - named
        if tool is not best and own:
            others.append(tool)
            named |= own
    return others


def _calls_of(tool: OfferedTool, question: str, *, parallel: bool) -> list[WrittenCall]:
    """One call, or one for each name of a series ("Paris and Rome") if the tool takes a single text."""
    questions = one_by_one(question) if parallel and _takes_one_text(tool) else [question]
    return [WrittenCall(tool.name, _arguments(tool, question)) for question in questions]


def _properties(tool: OfferedTool) -> dict[str, Any]:
    """The properties of a tool's parameters, none if they are invalid."""
    found = (tool.parameters or {}).get("properties")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _takes_one_text(tool: OfferedTool) -> bool:
    properties = _properties(tool)
    required = cast("list[Any]", (tool.parameters or {}).get("required") or list(properties))
    wanted = properties.get(required[0]) if len(required) == 1 else None
    schema = cast("dict[str, Any]", wanted) if isinstance(wanted, dict) else {}
    return schema.get("type") == "string" and "enum" not in schema


def _arguments(tool: OfferedTool, question: str) -> str:
    if tool.parameters is None:
        return "{}"
    try:
        return json.dumps(instance({"type": "object", **tool.parameters}, Values(question)), ensure_ascii=False)
    except Unsatisfiable as error:
        raise Rejection(400, f"The simulator cannot build arguments for {tool.name}: {error}", param="tools") from None

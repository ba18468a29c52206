"""Tools of any form → wire form, and the tool choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from nimclient._base.types import JsonDict

Tool = dict[str, Any] | type | Callable[..., Any] | BaseTool
ToolChoice = dict[str, Any] | str | bool


def wire_tools(tools: Sequence[Tool], strict: bool | None) -> list[JsonDict]:
    """Functions, LangChain tools, pydantic classes (v1, v2), TypedDicts, JSON schemas and OpenAI's dicts as OpenAI's dicts.

    `strict`: the server enforces the schema; sent inside the function.
    """
    return [convert_to_openai_tool(tool, strict=strict) for tool in tools]


def wire_tool_choice(choice: ToolChoice | None, tools: Sequence[JsonDict]) -> Any:
    """The choice in wire form: "auto", "none", "required", or one function; None is not sent.

    "any" and True mean "required", False means "none", another str names a tool. Raises ValueError for a tool that is not
    in the list, and for a dict without a function's name.
    """
    if choice is None or choice in ("auto", "none", "required"):
        return choice
    if isinstance(choice, bool) or choice == "any":
        return "required" if choice else "none"
    named = {"function": {"name": choice}} if isinstance(choice, str) else choice
    if not isinstance(named, Mapping):
        raise ValueError(f"tool_choice takes a str, a bool or a dict, not {type(named).__name__}")
    function = cast(Mapping[str, Any], named).get("function")
    name = function.get("name") if isinstance(function, Mapping) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(name, str):
        raise ValueError(f"Tool choice {choice!r} does not name a function, or its name is missing")
    if name not in [tool.get("function", {}).get("name") for tool in tools]:
        raise ValueError(f"Tool choice '{name}' not found in the tools list")
    return {"type": "function", "function": {"name": name}}

"""Translates `priority` into the place and the sign that each server type has for it.

vLLM, and NIM LLM on it, serve low numbers first; Dynamo and SGLang high ones. Dynamo rejects the field of the others: it
reads `nvext.agent_hints.priority`. No other server type is known to have priorities, and none says that it ignores them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nimclient._api.server_types import ServerType
from nimclient.errors import ConfigurationError
from nimclient.records._decode import object_or_empty

_URGENCY = {"high": 10, "normal": 0, "low": -10}
_SIGNS: Mapping[ServerType | None, int] = {"vllm": -1, "nim": -1, "dynamo": 1, "sglang": 1}
_NEEDED: Mapping[ServerType | None, str] = {
    "vllm": "without --scheduling-policy priority",
    "nim": "unless its vLLM schedules by priority",
    "dynamo": "without a router queue and an engine that schedules by priority",
    "sglang": "without --enable-priority-scheduling",
}


def with_priority(options: Mapping[str, Any], server: ServerType | None) -> tuple[Mapping[str, Any], str | None]:
    """The options of a call with the priority as this server type reads it, and a warning for the caller, if any.

    A number is sent unchanged, in the place of the server type. "high", "normal" and "low" are not sent to a server type
    without a known sign. A priority among the hints for Dynamo stays. ConfigurationError for any other value.
    """
    priority: object = options.get("priority")
    if priority is None:
        return options, None
    warning = None
    if isinstance(priority, str) and priority in _URGENCY:
        if server not in _SIGNS:
            what = (
                "the server type is not known yet; state it with dialect=" if server is None else f"{server} has none"
            )
            return {**options, "priority": None}, f"priority={priority!r} is not sent: {what}"
        number = _URGENCY[priority] * _SIGNS[server]
        if number:
            warning = f"{server} ignores priority={priority!r} {_NEEDED[server]}, and does not say so"
    elif isinstance(priority, int) and not isinstance(priority, bool):
        number = priority
    else:
        raise ConfigurationError(f'priority takes "high", "normal", "low" or a whole number, not {priority!r:.40}')
    if server != "dynamo":
        return {**options, "priority": number}, warning
    nvext = object_or_empty(options.get("nvext"))
    hints = {"priority": number, **object_or_empty(nvext.get("agent_hints"))}
    return {**options, "priority": None, "nvext": {**nvext, "agent_hints": hints}}, warning

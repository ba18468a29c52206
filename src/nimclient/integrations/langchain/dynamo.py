"""ChatNVIDIADynamo: a chat model that sends hints for Dynamo's router with each request."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from pydantic import Field

from nimclient.integrations.langchain.chat import ChatNVIDIA
from nimclient.integrations.langchain.priority import get_inference_priority
from nimclient.integrations.langchain.requests import deep_merged

_WHOLE = ("osl", "iat", "priority")
_HINTS = (*_WHOLE, "latency_sensitivity")


class ChatNVIDIADynamo(ChatNVIDIA):
    """ChatNVIDIA for NVIDIA Dynamo: each request carries `nvext.agent_hints`.

    `osl`: expected output tokens; `iat`: expected milliseconds between requests; `priority`: higher is served first
    (Dynamo 1.1 and later), see `inference_priority`. All four can be given per call. A hint that the server rejects as
    unknown (Dynamo 1.6: `iat`, `prefix_id`) is left out from then on.
    """

    osl: int = Field(512, description="Output tokens that are expected")
    iat: int = Field(250, description="Milliseconds between requests that are expected")
    latency_sensitivity: float = Field(1.0, description="How much latency matters")
    priority: int = Field(1, description="Higher is served first")

    @property
    def _llm_type(self) -> str:
        return "chat-nvidia-ai-playground-dynamo"

    def _own_fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _HINTS}

    def _call_kwargs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The keywords with the hints added to `nvext`."""
        rest = {name: value for name, value in kwargs.items() if name not in _HINTS}
        hints = {**self._own_fields(), **_context_priority()}
        hints |= {name: value for name, value in kwargs.items() if name in _HINTS}
        _check_hints(hints)
        hints["latency_sensitivity"] = float(hints["latency_sensitivity"])
        hints["prefix_id"] = f"langchain-dynamo-{uuid4().hex[:12]}"
        return {**rest, "nvext": deep_merged({"agent_hints": hints}, rest.get("nvext") or {})}


def _context_priority() -> dict[str, int]:
    priority = get_inference_priority()
    return {} if priority is None else {"priority": priority}


def _check_hints(hints: dict[str, Any]) -> None:
    for name in _WHOLE:
        value = hints[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be a non-negative integer, got {value!r}")
    sensitivity = hints["latency_sensitivity"]
    if isinstance(sensitivity, bool) or not isinstance(sensitivity, (int, float)):
        raise ValueError(f"latency_sensitivity must be a number, got {sensitivity!r}")

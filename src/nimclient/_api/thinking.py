"""Translates `thinking=True/False` into each model's own switch: a key of its chat template, a reasoning effort, or a line in
the system message. The catalog says which; switches set by the caller are never changed.

Switches by family: `enable_thinking` Qwen3, Nemotron 3, GLM; `thinking` DeepSeek V4, Kimi; `thinking_mode` MiniMax;
`detailed thinking on/off` Llama-Nemotron v1; `/think` and `/no_think` Llama-Nemotron v1.5, Nemotron Nano v2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from nimclient._api.catalog import lookup_weights, thinking_switch
from nimclient._base.types import JsonDict, is_array, is_object
from nimclient.errors import ConfigurationError

_TEMPLATE_KEYS: dict[str, tuple[Any, Any]] = {
    "enable_thinking": (True, False),
    "thinking": (True, False),
    "thinking_mode": ("enabled", "disabled"),
}
_EFFORTS = ("high", "none")
_SYSTEM_LINES = {
    "detailed_thinking": ("detailed thinking on", "detailed thinking off"),
    "slash_think": ("/think", "/no_think"),
}
_SYSTEM_ROLES = ("system", "developer")


def switch_thinking(fields: JsonDict, model: str | None, thinking: object, switch: str | None = None) -> str | None:
    """Add the model's own switch to the fields of a chat call. Returns a warning for the caller, if any.

    Keys of `chat_template_kwargs`, a `reasoning_effort` and a switch in the system message set by the caller stay
    unchanged. A model of the catalog without a switch gets none, and a warning; a model that is not in the catalog gets
    `enable_thinking`, the most common one, and a warning; an unknown model (None) gets none.
    `switch`: the model's switch given by the caller. ConfigurationError unless `thinking` is a bool.
    """
    if not isinstance(thinking, bool):
        raise ConfigurationError(f"thinking takes True or False, not {type(thinking).__name__}")
    if model is None:
        return None
    switch = switch or thinking_switch(model)
    if switch is None and lookup_weights(model) is not None:
        return f"model {model!r} has no switch for thinking; thinking={thinking} is not sent"
    warning = None
    if switch is None:
        switch = "enable_thinking"
        warning = (
            f"model {model!r} is not in the catalog; thinking={thinking} is sent as chat_template_kwargs.{switch} "
            f"(if its switch is another, pass chat_template_kwargs instead)"
        )
    choice = 0 if thinking else 1
    if switch in _TEMPLATE_KEYS:
        _add_template_key(fields, switch, _TEMPLATE_KEYS[switch][choice])
    elif switch in _SYSTEM_LINES:
        _add_system_line(fields, _SYSTEM_LINES[switch], choice)
    else:
        fields.setdefault("reasoning_effort", _EFFORTS[choice])
    return warning


def _add_template_key(fields: JsonDict, key: str, value: Any) -> None:
    given = fields.get("chat_template_kwargs")
    if given is None or isinstance(given, Mapping):
        fields["chat_template_kwargs"] = {key: value, **cast(Mapping[str, Any], given or {})}


def _add_system_line(fields: JsonDict, lines: tuple[str, str], choice: int) -> None:
    """Add the line at the end of the first system message, or as a new one at the beginning."""
    messages: list[JsonDict] = list(fields["messages"])
    fields["messages"] = messages
    for position, message in enumerate(messages):
        if message.get("role") in _SYSTEM_ROLES:
            if not any(_has_line(message.get("content"), line) for line in lines):
                messages[position] = {**message, "content": _with_line(message.get("content"), lines[choice])}
            return
    messages.insert(0, {"role": "system", "content": lines[choice]})


def _with_line(content: Any, line: str) -> Any:
    if is_array(content):
        return [*content, {"type": "text", "text": line}]
    return f"{content}\n{line}" if content else line


def _has_line(content: Any, line: str) -> bool:
    """Whether the content contains the line, delimited by white space."""
    parts: list[Any] = list(content) if is_array(content) else [content]
    texts: list[Any] = [part.get("text") if is_object(part) else part for part in parts]
    return any(f" {line} " in f" {' '.join(text.split())} " for text in texts if isinstance(text, str))

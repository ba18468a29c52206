"""Builds the arguments of the client's `chat.create` from a chat model's fields, `model_kwargs` and call keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from attrs import frozen
from langchain_core.messages import BaseMessage

from nimclient._base.types import JsonDict
from nimclient.errors import APIStatusError, NimError
from nimclient.integrations.langchain import catalog
from nimclient.integrations.langchain import models as registry
from nimclient.integrations.langchain.messages import wire_messages
from nimclient.records.params import ChatOptions, CompletionOptions

CHAT_OPTIONS = frozenset(ChatOptions.__optional_keys__)
COMPLETION_OPTIONS = frozenset(CompletionOptions.__optional_keys__)
_MERGED = ("chat_template_kwargs", "nvext", "extra_body", "extra_headers")
_NOT_SENT = frozenset(
    {"messages", "stream", "strict", "thinking_mode", "ls_structured_output_format"}
    | {"api_key", "nvidia_api_key", "max_retries", "streaming", "verify_ssl"}
)
"""Keywords of a call that are not fields of a body; those in the second row belong to the constructor."""

_FORM_WORDS = {"response_format": ("response_format", "json_schema"), "guided_json": ("guided_json",)}
"""Words in an error that rejects a form; after `nvext` there is no other form."""

_LIMITS = ("max_completion_tokens", "max_tokens")
_TEMPLATE_SWITCHES = ("enable_thinking", "thinking", "thinking_mode")


@frozen
class ChatArguments:
    """One call of the client: the messages, the model and the options."""

    messages: list[JsonDict]
    model: str | None
    options: dict[str, Any]

    def forms(self, rejected: dict[str | None, set[str]]) -> Forms:
        """The forms in which the server may accept its JSON schema. `rejected`: the rejected forms by model."""
        return Forms(self.options, rejected.setdefault(self.model, set()))


class Forms:
    """The options of a request in the forms of its JSON schema: `response_format`, which every current server accepts, then
    `guided_json` of older ones, at the top level and in `nvext`. Without a schema there is one form.
    """

    def __init__(self, options: dict[str, Any], rejected: set[str]) -> None:
        self._options = options
        self._schema = _schema_of(options.get("response_format"))
        self._rejected = rejected

    @property
    def form(self) -> str | None:
        """The first form that was not rejected; else the last."""
        if self._schema is None:
            return None
        return next((form for form in ("response_format", "guided_json") if form not in self._rejected), "nvext")

    def options(self, *, stream: bool) -> dict[str, Any]:
        """The options of the next attempt; stream options only for a stream."""
        options = _with_stream_options(self._options, stream=stream)
        form = self.form
        if (nvext := self._taken_hints()) is not None:
            options["nvext"] = nvext
        if form in ("guided_json", "nvext"):
            del options["response_format"]
        if form == "guided_json":
            options["guided_json"] = self._schema
        elif form == "nvext":
            options["nvext"] = {**(options.get("nvext") or {}), "guided_json": self._schema}
        return options

    def reject(self, error: NimError) -> None:
        """Record that the server rejects the current form, or one of Dynamo's hints, which change between releases. Raises
        any other error."""
        if not isinstance(error, APIStatusError) or error.status not in (400, 422):
            raise error
        words = f"{error.param or ''} {error.message} {error.body}"
        hints: JsonDict = (self._taken_hints() or {}).get("agent_hints", {})
        if (hint := next((hint for hint in hints if f"unknown field `{hint}`" in words), None)) is not None:
            self._rejected.add(hint)
            return
        form = self.form
        if form not in _FORM_WORDS or not any(word in words for word in _FORM_WORDS[form]):
            raise error
        self._rejected.add(form)

    def _taken_hints(self) -> dict[str, Any] | None:
        """`nvext` without the hints that the server rejects; None without hints."""
        nvext = object_of(self._options.get("nvext"))
        if "agent_hints" not in nvext:
            return None
        kept = {name: value for name, value in object_of(nvext["agent_hints"]).items() if name not in self._rejected}
        return {**nvext, "agent_hints": kept}


def object_of(value: Any) -> JsonDict:
    """The mapping as a dict, an empty one for anything else."""
    return dict(cast(JsonDict, value)) if isinstance(value, Mapping) else {}


def chat_request(
    messages: Sequence[BaseMessage],
    stop: str | Sequence[str] | None,
    fields: Mapping[str, Any],
    model_kwargs: Mapping[str, Any],
    kwargs: Mapping[str, Any],
) -> ChatArguments:
    """The request. Call keywords override `model_kwargs`, which override the model's fields; the mappings
    `chat_template_kwargs` and `nvext` are merged. Unknown options are sent unchanged.

    Args:
        messages: the conversation.
        stop: the call's stop words; None: those of the keywords or fields.
        fields: the model's fields under their wire names.
        model_kwargs: additional fields of each call.
        kwargs: the keywords of this call.
    """
    wanted = merged(merged(fields, model_kwargs), kwargs)
    if stop is not None:
        wanted["stop"] = stop if isinstance(stop, str) else list(stop)
    wanted["stop"] = wanted.get("stop") or None
    _keep_one_limit(wanted, (kwargs, model_kwargs, fields))
    model = wanted.pop("model", None)
    thinking = wanted.get("thinking_mode")
    _move_stream_options(wanted)
    wire = wire_messages(messages)
    if thinking is not None:
        wire = _switch_thinking(wire, wanted, model, bool(thinking))
    return ChatArguments(wire, model, as_options(wanted, CHAT_OPTIONS))


def _keep_one_limit(wanted: dict[str, Any], layers: Sequence[Mapping[str, Any]]) -> None:
    """Keep only the more specific of the two names of the token limit."""
    for layer in layers:
        for name, other in (_LIMITS, _LIMITS[::-1]):
            if layer.get(name) is not None:
                wanted.pop(other, None)
                return


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both; `over` takes precedence; certain mappings are merged by key."""
    result = {**under, **over}
    for name in _MERGED:
        below, above = under.get(name), over.get(name)
        if isinstance(below, Mapping) and isinstance(above, Mapping):
            result[name] = deep_merged(cast(Mapping[str, Any], below), cast(Mapping[str, Any], above))
    return result


def deep_merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, merged recursively; `over` takes precedence."""
    result = dict(under)
    for name, value in over.items():
        below = result.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = deep_merged(cast(Mapping[str, Any], below), cast(Mapping[str, Any], value))
        result[name] = value
    return result


def as_options(wanted: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The client's options by name, all others in `extra_body`. None is not sent."""
    named: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in wanted.items():
        if value is not None and name not in _NOT_SENT:
            (named if name in known else others)[name] = value
    if others:
        named["extra_body"] = {**others, **(named.get("extra_body") or {})}
    return named


def _move_stream_options(wanted: dict[str, Any]) -> None:
    """Translate `stream_options` for the client, which sends `include_usage` itself unless a server rejects it."""
    if "stream_options" not in wanted:
        return
    given = wanted.pop("stream_options")
    wanted["stream_usage"] = given is not None
    if given is not None and given != {"include_usage": True}:
        wanted["_stream_options"] = dict(given)


def _with_stream_options(options: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    """The options of a call; those in `_stream_options` are for streams only."""
    taken = dict(options)
    extra = dict(taken.get("extra_body") or {})
    given = extra.pop("_stream_options", None)
    if stream and given is not None:
        extra["stream_options"] = given
    if not stream:
        taken.pop("stream_usage", None)
    taken["extra_body"] = extra or None
    return taken


# thinking --------------------------------------------------------------------------------------------------------


def _switch_thinking(
    messages: list[JsonDict], wanted: dict[str, Any], model: str | None, enabled: bool
) -> list[JsonDict]:
    """The messages, with thinking switched in them or in `wanted`; other template settings are kept."""
    own = registry.registered(model)
    if own is not None and own.switches_thinking:
        return _switch_own(messages, wanted, own, enabled)
    known = None if model is None else catalog.lookup_weights(model)
    if known is not None and known.thinking_switch is None:
        return messages  # with_thinking_mode has already warned
    given = wanted.get("chat_template_kwargs")
    if isinstance(given, Mapping):  # the last setting counts
        kept = {k: v for k, v in cast(Mapping[str, Any], given).items() if k not in _TEMPLATE_SWITCHES}
        wanted["chat_template_kwargs"] = kept or None
    wanted["thinking"] = enabled
    return messages


def _switch_own(
    messages: list[JsonDict], wanted: dict[str, Any], model: registry.Model, enabled: bool
) -> list[JsonDict]:
    """Use the switch of a registered model."""
    if model.has_thinking_params:
        params = model.thinking_param_enable if enabled else model.thinking_param_disable
        wanted.update(deep_merged(wanted, params or {}))
        return messages
    line = model.thinking_prefix if enabled else model.no_thinking_prefix
    return with_system_line(messages, line) if line else messages


def with_system_line(messages: list[JsonDict], line: str) -> list[JsonDict]:
    """Add the line at the end of the first system message, or as a new one at the beginning."""
    for position, message in enumerate(messages):
        if message["role"] == "system":
            changed = {**message, "content": f"{message['content']}\n{line}"}
            return [*messages[:position], changed, *messages[position + 1 :]]
    return [{"role": "system", "content": line}, *messages]


def _schema_of(response_format: Any) -> JsonDict | None:
    """The schema of a `json_schema` response format."""
    if not isinstance(response_format, Mapping):
        return None
    wanted = cast(Mapping[str, Any], response_format)
    described: JsonDict = wanted.get("json_schema") or {}
    schema: Any = described.get("schema") if wanted.get("type") == "json_schema" else None
    return cast(JsonDict, schema) if isinstance(schema, dict) else None

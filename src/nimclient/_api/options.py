"""Turns the options of a method into fields of the body: only those set by the caller, never null, `extra_body` last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from nimclient._base.types import Json, JsonDict, is_items
from nimclient.errors import ConfigurationError, _render_short
from nimclient.records._decode import object_or_empty
from nimclient.records.params import CallOptions

ARGUMENTS = frozenset({"input_type", "truncate", "dimensions", "encoding_format", "top_n", "batch_size", "concurrency"})
"""Arguments of methods, other than options, that may have a default."""


SESSION_HEADERS = ("X-Session-ID", "X-Dynamo-Session-ID")
"""Headers with the id of a session; Dynamo reads the second one first."""

TOKEN_LIMITS = ("max_completion_tokens", "max_tokens")
"""Fields that limit the tokens of an answer; the first one counts, where a server does not reject both at once."""


def names_of(options: type) -> frozenset[str]:
    """All option names of a TypedDict."""
    names: frozenset[str] = getattr(options, "__optional_keys__") | getattr(options, "__required_keys__")  # noqa: B009
    return names


def overridden(options: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of many calls with those given for one, which take precedence; a limit of tokens under either name."""
    both = {**options, **given}
    for name, other in (TOKEN_LIMITS, TOKEN_LIMITS[::-1]):
        if given.get(name) is not None and other not in given:
            both.pop(other, None)
    return both


_CALL_OPTIONS = names_of(CallOptions)

NUMBERS = frozenset(
    {
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "seed",
        "n",
        "frequency_penalty",
        "presence_penalty",
    }
    | {"top_logprobs", "top_k", "min_p", "repetition_penalty", "length_penalty", "min_tokens", "truncate_prompt_tokens"}
    | {"prompt_logprobs", "thinking_token_budget", "reasoning_budget", "resume"}
)
"""The options with a numeric value."""


class UnknownOptionError(TypeError):
    """The TypeError for an option that a method does not have; a notebook shows it as short as an error of ours."""

    _render_traceback_ = _render_short


def check_names(method: str, options: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise TypeError for an unknown option."""
    if not options.keys() <= known:
        unknown = sorted(options.keys() - known)[0]
        if unknown == "stream" and method in ("chat.create", "completions.create"):
            raise UnknownOptionError(f"{method}() returns complete answers; to stream one use {method[:-6]}stream(…)")
        hint = _nearest(unknown, known)
        raise UnknownOptionError(
            f"{method}() got an unexpected option {unknown!r}{hint}; send it with extra_body= if it is new"
        )


def check_numbers(options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for True or False in place of a number, which Python would accept as 1 and 0."""
    for name, value in options.items():
        if isinstance(value, bool) and name in NUMBERS:
            raise ConfigurationError(f"{name} takes a number, not {value}")
    if options.get("nvext") is not None:
        hints = object_or_empty(object_or_empty(options["nvext"]).get("agent_hints"))
        for name in ("priority", "osl"):
            if isinstance(hints.get(name), bool):
                raise ConfigurationError(f"nvext.agent_hints.{name} takes a number, not {hints[name]}")


def merge_fields(fields: JsonDict, options: Mapping[str, Any], *, not_sent: frozenset[str] = frozenset()) -> JsonDict:
    """`fields` with the options that are set, then `extra_body`. The caller's objects are not changed."""
    for name, value in options.items():
        if value is not None and name not in not_sent and name not in _CALL_OPTIONS:
            fields[name] = value
    extra: Json = options.get("extra_body")
    if extra is not None:
        if not isinstance(extra, Mapping):
            raise ConfigurationError(f"extra_body takes a mapping, not {type(extra).__name__}")
        fields.update(cast(Mapping[str, Json], extra))
    return fields


def check_texts(name: str, texts: object) -> list[str]:
    """A list of non-empty texts; TypeError for a str in place of a list, ConfigurationError naming the index."""
    if not is_items(texts):
        raise TypeError(f"{name} takes a list of str, not {_kind(texts)}")
    checked: list[Any] = list(texts)
    if not checked:
        raise ConfigurationError(f"{name} is empty; pass at least one text")
    if set(map(type, checked)) != {str} or not all(checked):
        for index, text in enumerate(checked):
            check_text(f"{name}[{index}]", text)
    return checked


def check_text(name: str, text: object) -> str:
    """A non-empty text."""
    if not isinstance(text, str):
        raise ConfigurationError(f"{name} must be a str, not {_kind(text)}")
    if not text:
        raise ConfigurationError(f"{name} is empty; servers reject empty texts")
    return text


def check_whole(name: str, value: object, minimum: int) -> int | None:
    """None, or a whole number of at least `minimum`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} takes a whole number, not {_kind(value)}")
    if value < minimum:
        raise ConfigurationError(f"{name} is {value}; it must be at least {minimum}")
    return value


def check_seconds(name: str, value: object) -> None:
    """Raise ConfigurationError unless it is None or a number of seconds that is not negative."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0):
        raise ConfigurationError(f"{name} takes seconds, not {value!r:.40}")


def check_word(name: str, value: str | None, known: tuple[str, ...]) -> str | None:
    """None, or one of the allowed values."""
    if value is not None and value not in known:
        raise ConfigurationError(f"{name} is {value!r}; choose one of {', '.join(known)}")
    return value


def _kind(value: object) -> str:
    return type(value).__name__


def _nearest(name: str, known: frozenset[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""

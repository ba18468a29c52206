"""The default options of all calls of a kind (`defaults=` of a client), and the errors for unknown settings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias, cast

from nimclient._api.chat import CHAT_OPTIONS
from nimclient._api.completions import COMPLETION_OPTIONS
from nimclient._api.embeddings import EMBEDDING_OPTIONS
from nimclient._api.options import check_names, check_numbers, overridden
from nimclient._api.ranking import RANKING_OPTIONS
from nimclient._base.config import check_headers
from nimclient.errors import ConfigurationError

Defaults: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Options by kind of call: "chat", "completions", "embedding", "ranking"."""

_SLICED = frozenset({"truncate", "batch_size", "concurrency"})
_KINDS: Mapping[str, tuple[str, frozenset[str]]] = {
    "chat": ("chat.create", CHAT_OPTIONS),
    "completions": ("completions.create", COMPLETION_OPTIONS),
    "embedding": (
        "embeddings.create",
        EMBEDDING_OPTIONS | _SLICED | {"input_type", "dimensions", "encoding_format"},
    ),
    "ranking": ("rerank", RANKING_OPTIONS | _SLICED | {"top_n"}),
}
_PLACES = {
    "timeout": "timeouts= (seconds in total, or Timeouts)",
    "request_timeout": "timeouts= (seconds in total, or Timeouts)",
    "max_retries": "retry= (RetryPolicy(attempts=1 + retries))",
    "retries": "retry= (RetryPolicy(attempts=1 + retries))",
    "default_headers": "headers=",
    "extra_headers": "headers=",
    "default_model": "model=",
    "model_name": "model=",
    "nvidia_api_key": "api_key=",
    "openai_api_key": "api_key=",
    "token": "api_key=",
    "openai_api_base": "base_url=",
    "api_base": "base_url=",
    "url": "base_url=",
    "http_client": "transport= (or proxy=, verify=, cert=, limits=)",
    "max_concurrency": "limits= (Limits(concurrency=…))",
    "concurrency": "limits= (Limits(concurrency=…))",
    "max_connections": "limits= (Limits(concurrency=…))",
    "requests_per_minute": "limits= (Limits(requests_per_minute=…))",
    "tokens_per_minute": "limits= (Limits(tokens_per_minute=…))",
    "ssl": "verify=",
    "verify_ssl": "verify=",
}
"""Settings of other clients, and their equivalents."""


def check_defaults(defaults: object) -> dict[str, dict[str, Any]]:
    """A copy of the caller's defaults. ConfigurationError for another shape or kind; for an unknown option the TypeError
    that the method itself raises.
    """
    if not isinstance(defaults, Mapping):
        raise ConfigurationError(f"defaults takes a mapping of kinds to options, not {type(defaults).__name__}")
    checked: dict[str, dict[str, Any]] = {}
    for kind, options in cast(Mapping[Any, Any], defaults).items():
        if kind not in _KINDS:
            raise ConfigurationError(f"defaults has the key {kind!r}; the kinds are {', '.join(_KINDS)}")
        if not isinstance(options, Mapping):
            name = type(options).__name__
            raise ConfigurationError(f"defaults[{kind!r}] takes a mapping of options, not {name}")
        checked[kind] = _checked_options(kind, dict(cast(Mapping[str, Any], options)))
    return checked


def _checked_options(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    if "model" in options:
        raise TypeError(f"the default model has its own setting: pass model={{{kind!r}: …}} instead")
    method, known = _KINDS[kind]
    check_names(method, options, known)
    check_numbers(options)
    if (headers := options.get("extra_headers")) is not None:
        options["extra_headers"] = check_headers(headers, "extra_headers")
    return options


def merged_defaults(first: Defaults, then: Defaults) -> dict[str, Mapping[str, Any]]:
    """Both, merged by option; `then` takes precedence."""
    return {**first, **{kind: overridden(first.get(kind, {}), options) for kind, options in then.items()}}


def reject_settings(owner: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError for an unknown setting, with its equivalent.

    Args:
        owner: What was called: a class, or "with_options".
        unknown: The names of the settings.
        known: The known settings.
    """
    for name in unknown:
        raise TypeError(f"{owner}() got an unexpected setting {name!r}{_advice(name, list(known))}")


def _advice(name: str, known: list[str]) -> str:
    if (place := _PLACES.get(name)) is not None and place.partition("=")[0] in known:
        return f"; pass {place} instead"
    kinds = [kind for kind, (_, options) in _KINDS.items() if name in options]
    if kinds:
        more = f" (or {', '.join(map(repr, kinds[1:]))})" if len(kinds) > 1 else ""
        return f"; it is an option of calls: pass defaults={{{kinds[0]!r}: {{{name!r}: …}}}}{more}"
    near = get_close_matches(name, known, 1)
    return f" (did you mean {near[0]!r}?)" if near else f"; there are {', '.join(known)}"

"""The model table (catalog.json beside this module) and what it adds to the models a server lists.

A name that is not in the table is used as it is: the table can only ever know yesterday's models.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from attrs import evolve

from nimclient import _json
from nimclient.errors import ConfigurationError
from nimclient.records.models import Model, ModelList

KINDS = ("chat", "vlm", "embedding", "ranking", "completions", "unknown")

_SERVES: dict[str, tuple[str, ...]] = {
    "chat": ("chat", "vlm"),
    "completions": ("completions", "chat", "vlm"),
    "embedding": ("embedding",),
    "ranking": ("ranking",),
}
"""Which kinds of model a kind of call may name."""


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = _json.loads(files("nimclient._protocol").joinpath("catalog.json").read_bytes(), "catalog")
    return table


@cache
def catalog() -> dict[str, Model]:
    """All models of the table by id."""
    return {entry["id"]: _model(entry) for entry in _table()["models"]}


@cache
def _by_alias() -> dict[str, str]:
    return {alias: model.id for model in catalog().values() for alias in model.aliases}


def lookup(name: str) -> Model | None:
    """The model of this id or alias, None where the table does not know it."""
    return catalog().get(name) or catalog().get(_by_alias().get(name, ""))


def lookup_weights(name: str) -> Model | None:
    """The model whose weights a self-hosted name stands for: an id, an alias, or as spelled where weights are published."""
    return lookup(name) or catalog().get(name.lower().replace("_", "."))


@cache
def _switches() -> dict[str, str]:
    return {entry["id"]: entry["thinking"] for entry in _table()["models"] if "thinking" in entry}


def thinking_switch(name: str) -> str | None:
    """How the model of this name is told to think or not, None where the table knows no way."""
    known = lookup_weights(name)
    return _switches().get(known.id) if known is not None else None


def hosted_default(kind: str) -> str | None:
    """The model that the hosted catalog is asked for where the caller names none."""
    default: str | None = _table()["defaults"].get(kind)
    return default


def check_kind(name: str, wanted: str) -> None:
    """Raise ConfigurationError where the table knows that this model is of another kind than the call needs."""
    known = catalog().get(name)
    if known is not None and known.kind not in _SERVES[wanted]:
        raise ConfigurationError(f"model {name!r} is of kind {known.kind}; this call needs one of kind {wanted}")


def described(models: ModelList) -> ModelList:
    """The server's list with what the table knows of each model; what the server says stays."""
    return ModelList([_describe(model) for model in models], models.meta, models.extra)


def first_of_kind(models: ModelList, kind: str) -> str | None:
    """The default among a server's models: the first base model of the kind, else the first of unknown kind.

    A server of many kinds gives the hosted default where it has it, and nothing deprecated where it has a choice. An
    adapter (vLLM marks it with `parent`; `root` is the model's path and marks nothing) is never the default.
    """
    bases = [model for model in models if model.parent is None]
    fitting = [m for m in bases if m.kind in _SERVES[kind]] or [m for m in bases if m.kind == "unknown"]
    if not fitting:
        return None
    default = hosted_default(kind)
    return min(fitting, key=lambda model: (model.id != default, model.deprecated)).id


def _describe(model: Model) -> Model:
    known = lookup(model.id)
    if known is None:
        return model
    return evolve(
        model,
        kind=known.kind,
        supports_tools=known.supports_tools,
        supports_structured_output=known.supports_structured_output,
        supports_thinking=known.supports_thinking,
        aliases=known.aliases,
        deprecated=known.deprecated,
        endpoint=known.endpoint,
    )


def _model(entry: dict[str, Any]) -> Model:
    return Model(
        id=entry["id"],
        kind=entry["kind"],
        supports_tools=entry.get("tools", False),
        supports_structured_output=entry.get("structured_output", False),
        supports_thinking="thinking" in entry,
        aliases=tuple(entry.get("aliases", ())),
        deprecated=entry.get("deprecated", False),
        endpoint=entry.get("endpoint"),
    )

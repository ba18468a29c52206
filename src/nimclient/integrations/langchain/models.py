"""`Model` and `register_model` as langchain-nvidia-ai-endpoints has them, over nimclient's own table of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

import nimclient
from nimclient.integrations.langchain import catalog
from nimclient.integrations.langchain.caller import warn

ModelType = Literal["chat", "vlm", "nv-vlm", "embedding", "ranking", "ranking-vlm", "completions", "qa"]
ClientName = Literal["ChatNVIDIA", "NVIDIAEmbeddings", "NVIDIARerank", "NVIDIA"]

_CLIENTS: Mapping[str, tuple[ModelType, ...]] = {
    "ChatNVIDIA": ("chat", "vlm", "nv-vlm", "qa"),
    "NVIDIAEmbeddings": ("embedding",),
    "NVIDIARerank": ("ranking", "ranking-vlm"),
    "NVIDIA": ("completions",),
}
_CLIENT_OF: Mapping[str, ClientName] = {
    "chat": "ChatNVIDIA",
    "vlm": "ChatNVIDIA",
    "embedding": "NVIDIAEmbeddings",
    "ranking": "NVIDIARerank",
    "completions": "NVIDIA",
}
_SWITCHES: Mapping[str | None, dict[str, Any]] = {
    "enable_thinking": {
        "thinking_param_enable": {"chat_template_kwargs": {"enable_thinking": True}},
        "thinking_param_disable": {"chat_template_kwargs": {"enable_thinking": False}},
    },
    "thinking": {
        "thinking_param_enable": {"chat_template_kwargs": {"thinking": True}},
        "thinking_param_disable": {"chat_template_kwargs": {"thinking": False}},
    },
    "thinking_mode": {
        "thinking_param_enable": {"chat_template_kwargs": {"thinking_mode": "enabled"}},
        "thinking_param_disable": {"chat_template_kwargs": {"thinking_mode": "disabled"}},
    },
    "reasoning_effort": {
        "thinking_param_enable": {"reasoning_effort": "high"},
        "thinking_param_disable": {"reasoning_effort": "none"},
    },
    "detailed_thinking": {
        "thinking_prefix": "detailed thinking on",
        "no_thinking_prefix": "detailed thinking off",
    },
    "slash_think": {"thinking_prefix": "/think", "no_thinking_prefix": "/no_think"},
}
"""The client's thinking switches in terms of `Model`."""

_KINDS: Mapping[str, str] = {"nv-vlm": "vlm", "qa": "chat", "ranking-vlm": "ranking"}


class Model(BaseModel):
    """A model: its id, its class, what it supports, and its thinking switch.

    `endpoint`: the full URL of its inference route, if it is not at the base URL. Thinking is switched by parameters
    (`thinking_param_enable`, `thinking_param_disable`: merged into the request) or by a line in the system message
    (`thinking_prefix`, `no_thinking_prefix`); if both are given, the parameters take precedence.
    """

    model_config = ConfigDict(protected_namespaces=())

    id: str
    model_type: ModelType | None = None
    client: ClientName | None = None
    endpoint: str | None = None
    aliases: list[str] | None = None
    supports_tools: bool | None = False
    supports_structured_output: bool | None = False
    supports_thinking: bool | None = False
    thinking_prefix: str | None = None
    no_thinking_prefix: str | None = None
    thinking_param_enable: dict[str, Any] | None = None
    thinking_param_disable: dict[str, Any] | None = None
    base_model: str | None = None
    deprecated: bool | None = False

    def __hash__(self) -> int:
        return hash(self.id)

    @model_validator(mode="after")
    def _check(self) -> Model:
        if self.client is not None and self.model_type not in _CLIENTS[self.client]:
            raise ValueError(f"Model type '{self.model_type}' not supported by client '{self.client}'")
        if self.has_thinking_params and (self.thinking_prefix is not None or self.no_thinking_prefix is not None):
            warn(
                f"Model '{self.id}' has both param-based thinking (thinking_param_enable/disable) and tag-based "
                f"thinking (thinking_prefix/no_thinking_prefix). Param-based thinking will take precedence."
            )
        return self

    @property
    def has_thinking_params(self) -> bool:
        """Whether thinking is switched by parameters of the request."""
        return self.thinking_param_enable is not None or self.thinking_param_disable is not None

    @property
    def switches_thinking(self) -> bool:
        """Whether it has its own thinking switch."""
        return self.has_thinking_params or self.thinking_prefix is not None or self.no_thinking_prefix is not None


_registered: dict[str, Model] = {}


def register_model(model: Model) -> None:
    """Register a model for all objects constructed from now on: its class, its URL, what it supports.

    A known id is replaced, with a UserWarning. Raises ValueError if the model has no endpoint.
    """
    if registered(model.id) or catalog.lookup(model.id):
        warn(f"Model {model.id} is already registered. Overriding {registered(model.id) or known_model(model.id)}")
    if not model.endpoint:
        raise ValueError(f"Model {model.id} does not have an endpoint.")
    _registered[model.id] = model


def registered(name: str | None) -> Model | None:
    """The registered model of this id or alias."""
    found = _registered.get(name or "")
    return found or next((model for model in _registered.values() if name in (model.aliases or ())), None)


def registered_models() -> tuple[Model, ...]:
    """All registered models, oldest first."""
    return tuple(_registered.values())


def can_think(name: str | None) -> bool:
    """Whether this model's thinking can be switched; True for an unknown model."""
    own = registered(name)
    known = None if name is None else catalog.lookup_weights(name)
    if own is not None:
        return own.switches_thinking
    return known is None or known.thinking_switch is not None


def known_model(name: str | None) -> Model | None:
    """The model registered under this name, or in the table."""
    known = None if name is None else catalog.lookup(name)
    return registered(name) or (None if known is None else from_record(known))


def from_record(model: nimclient.Model) -> Model:
    """One of the client's models in LangChain's form."""
    client = _CLIENT_OF.get(model.kind)
    kind: Any = "ranking-vlm" if model.kind == "ranking" and model.supports_images else model.kind
    return Model(
        id=model.id,
        model_type=kind if client else None,
        client=client,
        endpoint=model.endpoint,
        aliases=list(model.aliases) or None,
        supports_tools=model.supports_tools,
        supports_structured_output=model.supports_structured_output,
        supports_thinking=model.supports_thinking,
        base_model=model.parent,
        deprecated=model.deprecated,
        **_SWITCHES.get(model.thinking_switch, {}),
    )


def to_record(model: Model) -> nimclient.Model:
    """A registered model in the client's form, for its `endpoints`."""
    kind = model.model_type or "unknown"
    return nimclient.Model(
        id=model.id,
        kind=_KINDS.get(kind, kind),
        supports_tools=bool(model.supports_tools),
        supports_structured_output=bool(model.supports_structured_output),
        supports_thinking=bool(model.supports_thinking),
        supports_images=model.model_type in ("vlm", "nv-vlm", "ranking-vlm"),
        aliases=tuple(model.aliases or ()),
        endpoint=model.endpoint,
    )


def listed_models(listed: nimclient.ModelList, client: str | None) -> list[Model]:
    """A server's models in LangChain's form; of one class if `client` names it.

    The list of the hosted catalog is extended by the table and registered models.
    """
    found = {model.id: registered(model.id) or from_record(model) for model in listed}
    if client is None:
        return list(found.values())
    for known in (*registered_models(), *map(from_record, catalog.known_models())):
        found.setdefault(known.id, known)
    return [model for model in found.values() if model.client == client]

"""The model table (catalog.json beside this module) and what it adds to the models a server lists.

A name that is not in the table is used unchanged, since the table cannot know new models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pkgutil import get_data
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve

from nimclient._api.urls import parse_endpoint
from nimclient._base import json as _json
from nimclient._base.init_lock import out_of_resources
from nimclient._base.types import is_array, is_object
from nimclient.errors import ConfigurationError

if TYPE_CHECKING:
    from nimclient.records.models import Model, ModelList

KINDS = ("chat", "vlm", "embedding", "ranking", "completions", "unknown")

THINKING_SWITCHES = (
    "enable_thinking",
    "thinking",
    "thinking_mode",
    "reasoning_effort",
    "detailed_thinking",
    "slash_think",
)

_SERVES: dict[str, tuple[str, ...]] = {
    "chat": ("chat", "vlm"),
    "completions": ("completions", "chat", "vlm"),
    "embedding": ("embedding",),
    "ranking": ("ranking",),
}
"""The kinds of model allowed for a kind of call."""

_CAPABILITIES = {
    "embed": "embedding",
    "embedding": "embedding",
    "embeddings": "embedding",
    "feature-extraction": "embedding",
    "rerank": "ranking",
    "score": "ranking",
    "text-ranking": "ranking",
    "chat": "chat",
    "completion": "chat",
    "completions": "chat",
    "generate": "chat",
    "text-generation": "chat",
    "completion_chat": "chat",
    "llm": "chat",
    "vlm": "vlm",
    "classify": "other",
    "image-generation": "other",
    "image_generation": "other",
    "audio_transcription": "other",
    "audio_speech": "other",
    "moderation": "other",
}
_STATEMENTS = ("capabilities", "task", "tasks", "type", "mode", "pipeline_tag", "supported_endpoint_types")
"""Fields in which servers state what a model is for: infinity, llama-server, Mistral, LM Studio, LiteLLM, model gateways."""

_NAMES = (
    (r"rerank|ranker|cross-?encoder", "ranking"),
    (r"embed|(?:^|[/_-])(?:e5|bge|gte|minilm|mpnet|colbert|splade)(?:[_-]|$)", "embedding"),
    (r"whisper|(?:^|[/_-])tts(?:[_-]|$)|guard(?:[_-]|$)|moderation|transcribe", "other"),
    (r"(?:^|[/_-])(?:dall-e|gpt-image|stable-diffusion|sdxl|flux|sora)(?:[_.-]|$)", "other"),
)


@cache
def _table() -> dict[str, Any]:
    try:
        text = get_data("nimclient._api", "catalog.json") or b""
    except OSError as error:
        raise out_of_resources(error.errno or 0) from None
    table: dict[str, Any] = _json.loads(text, "catalog")
    return table


@cache
def _kinds() -> dict[str, str]:
    return {entry["id"]: entry["kind"] for entry in _table()["models"]}


@cache
def catalog() -> dict[str, Model]:
    """All models of the table by id."""
    return {entry["id"]: _model(entry) for entry in _table()["models"]}


@cache
def aliases() -> dict[str, str]:
    """The ids of the table by the old names of its models."""
    return {alias: entry["id"] for entry in _table()["models"] for alias in entry.get("aliases", ())}


def lookup(name: str) -> Model | None:
    """The model of this id or alias, None if it is not in the table."""
    return catalog().get(name) or catalog().get(aliases().get(name, ""))


def lookup_weights(name: str) -> Model | None:
    """The model whose weights a self-hosted name refers to: an id, an alias, or the name of published weights."""
    return lookup(name) or catalog().get(name.lower().replace("_", "."))


def thinking_switch(name: str) -> str | None:
    """The thinking switch of the model of this name, None if the table has none."""
    known = lookup_weights(name)
    return None if known is None else known.thinking_switch


@cache
def _symmetric() -> frozenset[str]:
    return frozenset(entry["id"] for entry in _table()["models"] if entry.get("symmetric"))


def is_symmetric(name: str) -> bool:
    """Whether this is known as an embedding model that treats queries and passages alike."""
    known = lookup_weights(name)
    return known is not None and known.id in _symmetric()


@cache
def _with_assets() -> frozenset[str]:
    return frozenset(entry["id"] for entry in _table()["models"] if entry.get("assets"))


def takes_assets(name: str) -> bool:
    """Whether a hosted model of this id or alias needs large images as assets, not inside the message."""
    known = lookup(name)
    return known is not None and known.id in _with_assets()


def hosted_default(kind: str) -> str | None:
    """The default model of a kind in the hosted catalog."""
    default: str | None = _table()["defaults"].get(kind)
    return default


def hosted_ranking_url(name: str) -> str | None:
    """The URL of a hosted reranker that is not in the table: all of them have URLs of this pattern."""
    return f"https://ai.api.nvidia.com/v1/retrieval/{name.replace('.', '_')}/reranking" if "/" in name else None


class Catalog:
    """The model table with the caller's entries, which add to it or replace its own."""

    def __init__(self, own: Mapping[str, object] | None = None) -> None:
        self.own = cast("dict[str, Model]", dict(own or {}))
        self._aliases = {alias: model.id for model in self.own.values() for alias in model.aliases}

    def get(self, name: str) -> Model | None:
        """The model of this id."""
        return self.own.get(name) or catalog().get(name)

    def own_id(self, name: str) -> str | None:
        """The id of the caller's entry with this id or alias."""
        return name if name in self.own else self._aliases.get(name)

    def check_kind(self, name: str, wanted: str) -> None:
        """Raise ConfigurationError for a model known to be of another kind than the call needs."""
        kind = self.own[name].kind if name in self.own else _kinds().get(name, "unknown")
        if kind not in ("unknown", *_SERVES[wanted]):
            raise ConfigurationError(f"model {name!r} is of kind {kind}; this call needs one of kind {wanted}")

    def check_images(self, name: str) -> None:
        """Raise ConfigurationError for a model known to accept text only."""
        known = self.get(name)
        if known is not None and known.kind != "unknown" and not known.supports_images:
            like = next(m.id for m in catalog().values() if m.kind == known.kind and m.supports_images)
            raise ConfigurationError(f"model {name!r} accepts no images; {like!r} does")

    def described(
        self, listed: ModelList, *, hosted: bool, believed: bool = True, called: Mapping[str, bool] | None = None
    ) -> ModelList:
        """The server's model list with the table's data added; the server's own data takes precedence.

        `called`: the models that calls have shown to be callable or not; for the others `believed` says whether being
        listed means callable. Models with their own URL that the server does not list follow: the caller's, and in the
        `hosted` catalog those of the table, mainly rerankers.
        """
        from nimclient.records.models import ModelList

        called = called or {}
        models = [self._describe(model, called.get(model.id, True if believed else None)) for model in listed]
        elsewhere = [*self.own.values(), *(catalog().values() if hosted else ())]
        named = set(listed.ids)
        for model in elsewhere:
            if model.endpoint is not None and model.id not in named:
                named.add(model.id)
                models.append(evolve(model, callable=called.get(model.id)))
        return ModelList(models, listed.meta, listed.extra)

    def first_of_kind(self, models: ModelList, kind: str) -> str | None:
        """The default model: the first base model of the kind, else the first of unknown kind.

        The hosted default is preferred if the server lists it; deprecated models are avoided.
        An adapter (vLLM marks it with `parent`; `root` is the model's path and marks nothing) is never the default, nor
        is a model of unknown kind that the server does not list or whose name shows another kind.
        """
        bases = [model for model in models if model.parent is None]
        unknown = [m for m in bases if m.kind == "unknown" and m.listed]
        fitting = (
            [m for m in bases if m.kind in _SERVES[kind]]
            or [m for m in unknown if _shown_kind(m) == kind]
            or [m for m in unknown if _shown_kind(m) is None]
        )
        if not fitting:
            return None
        default = hosted_default(kind)
        return min(fitting, key=lambda model: (not model.listed, model.id != default, model.deprecated)).id

    def _describe(self, model: Model, callable: bool | None) -> Model:
        known = self.own.get(model.id) or lookup(model.id)
        if known is not None:
            return evolve(
                known,
                owned_by=model.owned_by,
                parent=model.parent,
                max_model_len=model.max_model_len,
                created=model.created,
                listed=model.listed,
                extra=model.extra,
                meta=model.meta,
                id=model.id,
                callable=callable,
            )
        base = None if model.parent is None else self.own.get(model.parent) or lookup(model.parent)
        if base is None:
            stated = _stated_kind(model)
            return evolve(model, kind=stated if stated in KINDS else model.kind, callable=callable)
        return evolve(
            model,
            kind=base.kind,
            supports_tools=base.supports_tools,
            supports_structured_output=base.supports_structured_output,
            supports_thinking=base.supports_thinking,
            supports_images=base.supports_images,
            thinking_switch=base.thinking_switch,
            callable=callable,
        )


def _stated_kind(model: Model) -> str | None:
    """The kind stated by the server, "other" for one that no call takes: words, or an object of words that are true."""
    for name in _STATEMENTS:
        stated: Any = model.extra.get(name)
        words = [word for word, holds in stated.items() if holds] if is_object(stated) else stated
        for word in words if is_array(words) else [words]:
            if isinstance(word, str) and (kind := _CAPABILITIES.get(word.lower().rpartition("/")[2])):
                return kind
    return None


def _shown_kind(model: Model) -> str | None:
    """The kind of a model of unknown kind: stated, or shown by its name, as for most rerankers and embedding models."""
    return _stated_kind(model) or next((kind for pattern, kind in _NAMES if re.search(pattern, model.id, re.I)), None)


def read_endpoints(endpoints: object) -> dict[str, Model]:
    """`endpoints=` of a client as entries of its catalog: a URL for a model, or a Model record.

    ConfigurationError for an invalid URL, a Model of another id, or an unknown kind or thinking switch.
    """
    if not isinstance(endpoints, Mapping):
        raise ConfigurationError(f"endpoints takes a mapping of models to URLs, not {type(endpoints).__name__}")
    from nimclient.records.models import Model

    own: dict[str, Model] = {}
    for name, given in cast(Mapping[Any, Any], endpoints).items():
        where = f"endpoints[{name!r}]"
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"endpoints has the key {name!r:.40}, which is not a model id")
        if isinstance(given, Model):
            _check_entry(given, name, where)
            entry, url = given, given.endpoint
        else:
            entry, url = catalog().get(name) or Model(name), given
        checked = None if url is None and isinstance(given, Model) else parse_endpoint(url, where)[0]
        thinks = entry.supports_thinking or entry.thinking_switch is not None
        own[name] = evolve(
            entry, endpoint=checked, supports_thinking=thinks, listed=False, callable=None, deprecated=False
        )
    return own


def _check_entry(model: Model, name: str, where: str) -> None:
    if model.id != name:
        raise ConfigurationError(f"{where} is the Model of another id, {model.id!r}")
    if model.kind not in KINDS:
        raise ConfigurationError(f"{where} is of kind {model.kind!r}; the kinds are {', '.join(KINDS)}")
    if model.thinking_switch not in (None, *THINKING_SWITCHES):
        known = ", ".join(THINKING_SWITCHES)
        raise ConfigurationError(f"{where} has the thinking_switch {model.thinking_switch!r}; there are {known}")


def _model(entry: dict[str, Any]) -> Model:
    from nimclient.records.models import Model

    return Model(
        id=entry["id"],
        kind=entry["kind"],
        supports_tools=entry.get("tools", False),
        supports_structured_output=entry.get("structured_output", False),
        supports_thinking="thinking" in entry,
        supports_images=entry.get("images", False),
        thinking_switch=entry.get("thinking"),
        aliases=tuple(entry.get("aliases", ())),
        deprecated=entry.get("deprecated", False),
        endpoint=entry.get("endpoint"),
    )

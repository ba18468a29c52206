"""The models the simulator serves: those given by name, else every id of the catalog included in nimclient.

Aliases are known to the client only and are not served. A model that the catalog does not know answers
every route, takes every kind of media and treats queries and passages alike.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

ANY_KIND: Final = "any"
INPUT_TYPES: Final = ("query", "passage")

_MEDIA: Final = frozenset({"image", "video", "audio"})
_LISTENS: Final = re.compile(r"omni|phi-4-multimodal|gemma-3n|voxtral|audio")
# Families whose chat template reasons unless switched off (their model cards).
_REASONS: Final = re.compile(
    r"nemotron-3(?:\.\d)?-(?!embed)|nemotron-nano-(?:9b|12b)-v2|super-49b-v1\.5|qwq|qwen3(?!.*(?:instruct|coder|embed|rerank))"
    r"|deepseek-(?:r1|v4)|gpt-oss|kimi-k2(?:-thinking|\.\d)|glm-?[45]|minimax-m\d|seed-oss|step-3|magistral|reasoning|thinking",
    re.IGNORECASE,
)
_SHORT_TOKENS: Final = 512
_LONG_TOKENS: Final = 8192


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model: its id, its purpose, and what it requires of embedding requests.

    `token_limit` is the longest input of an embedding or ranking model, in tokens; chat models have the simulator's.
    `media` is what it accepts besides text: "image", "video", "audio".
    """

    id: str
    kind: str = ANY_KIND
    symmetric: bool = True
    media: frozenset[str] = _MEDIA
    token_limit: int = _LONG_TOKENS

    @property
    def images(self) -> bool:
        """Whether it accepts images."""
        return "image" in self.media

    @property
    def reasons(self) -> bool:
        """Whether it reasons by default."""
        return _REASONS.search(self.id) is not None


def _from_entry(entry: dict[str, Any]) -> ServedModel:
    name: str = entry["id"]
    short = "e5" in name or name == "NV-Embed-QA"  # 512 tokens, all others of the family 8192
    return ServedModel(
        id=name,
        kind=entry["kind"],
        symmetric=entry["kind"] != "embedding" or bool(entry.get("symmetric")),
        media=_media(name) if entry.get("images") else frozenset(),
        token_limit=_SHORT_TOKENS if short else _LONG_TOKENS,
    )


def _media(name: str) -> frozenset[str]:
    return _MEDIA if _LISTENS.search(name) else _MEDIA - {"audio"}


_ROUTES: Final = {"chat": "chat", "vlm": "chat", "embedding": "embeddings", "ranking": "ranking"}


@cache
def _entries() -> list[dict[str, Any]]:
    text = files("nimclient").joinpath("_api", "catalog.json").read_bytes()
    entries: list[dict[str, Any]] = json.loads(text)["models"]
    return entries


@cache
def _catalog() -> tuple[ServedModel, ...]:
    return tuple(_from_entry(entry) for entry in _entries())


def hosted_paths() -> dict[str, str]:
    """The paths of hosted models with their own URL, and the route of each."""
    found = {urlsplit(str(entry["endpoint"])).path: entry["kind"] for entry in _entries() if entry.get("endpoint")}
    return {path: _ROUTES[kind] for path, kind in found.items() if kind in _ROUTES}


@cache
def models_with_assets() -> frozenset[str]:
    """The models that accept large images as assets only."""
    return frozenset(entry["id"] for entry in _entries() if entry.get("assets"))


def served_models(given: Iterable[str] = ()) -> dict[str, ServedModel]:
    """The models by id: those given, else the catalog in its own order."""
    catalog = {model.id: model for model in _catalog()}
    return {name: catalog.get(name, ServedModel(name)) for name in given} or catalog


def route_of(model: ServedModel, body: dict[str, Any]) -> str:
    """The route that serves a model's kind; for a model of any kind, as the body shows."""
    if model.kind in _ROUTES:
        return _ROUTES[model.kind]
    if "query" in body:
        return "ranking"
    return "embeddings" if "input" in body else "completions" if "prompt" in body else "chat"


def find_model(models: dict[str, ServedModel], name: str) -> tuple[ServedModel | None, str | None]:
    """The model of that name, and the input type in its name.

    Retriever NIMs take "-query" or "-passage" at the end of an embedding model's name in place of `input_type`.
    """
    if found := models.get(name):
        return found, None
    base, _, input_type = name.rpartition("-")
    found = models.get(base)
    if found is not None and input_type in INPUT_TYPES and found.kind in ("embedding", ANY_KIND):
        return found, input_type
    return None, None

"""The models the simulator serves: every id of the catalog that comes with nimclient, and those it is given by name.

Aliases are names of the client's, not of a server, and are not served. A model given by name answers every route and
makes no difference between queries and passages.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

ANY_KIND: Final = "any"
INPUT_TYPES: Final = ("query", "passage")

_SHORT_TOKENS: Final = 512
_LONG_TOKENS: Final = 8192


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model: its id, what it is for, and what its embedding side asks for.

    `token_limit` is the longest input of an embedding or ranking model, in tokens; chat models have the simulator's.
    """

    id: str
    kind: str = ANY_KIND
    symmetric: bool = True
    images: bool = False
    token_limit: int = _LONG_TOKENS


def _from_entry(entry: dict[str, Any]) -> ServedModel:
    name: str = entry["id"]
    short = "e5" in name or name == "NV-Embed-QA"  # 512 tokens, all others of the family 8192
    return ServedModel(
        id=name,
        kind=entry["kind"],
        symmetric=entry["kind"] != "embedding" or bool(entry.get("symmetric")),
        images=bool(entry.get("images")),
        token_limit=_SHORT_TOKENS if short else _LONG_TOKENS,
    )


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
    """The paths of hosted models that have one of their own, and which route each is."""
    found = {urlsplit(str(entry["endpoint"])).path: entry["kind"] for entry in _entries() if entry.get("endpoint")}
    return {path: _ROUTES[kind] for path, kind in found.items() if kind in _ROUTES}


@cache
def models_with_assets() -> frozenset[str]:
    """The models that take large images as assets only."""
    return frozenset(entry["id"] for entry in _entries() if entry.get("assets"))


def served_models(given: Iterable[str] = ()) -> dict[str, ServedModel]:
    """The table of models by id: those given first, then the catalog in its own order."""
    catalog = {model.id: model for model in _catalog()}
    return {name: catalog.get(name, ServedModel(name)) for name in given} | catalog


def find_model(models: dict[str, ServedModel], name: str) -> tuple[ServedModel | None, str | None]:
    """The model of that name and the input type its name carries.

    Retriever NIMs take "-query" or "-passage" at the end of an embedding model's name in place of `input_type`.
    """
    if found := models.get(name):
        return found, None
    base, _, input_type = name.rpartition("-")
    found = models.get(base)
    if found is not None and input_type in INPUT_TYPES and found.kind in ("embedding", ANY_KIND):
        return found, input_type
    return None, None

"""What a server tells of itself: arguments → Call (models, health, metadata and version, which differ by kind of server)."""

from __future__ import annotations

from urllib.parse import quote

from nimclient._api.call import Call
from nimclient._base.config import Dialect
from nimclient._base.types import Json
from nimclient._base.values import ResponseMeta
from nimclient.errors import ConfigurationError
from nimclient.records.models import Model, ModelList, decode_model, decode_models
from nimclient.records.server import Metadata, decode_metadata, decode_nim_version, decode_vllm_version


def list_call() -> Call[ModelList]:
    """The models a server lists."""
    return Call("GET", "/models", decode_models)


def get_call(model_id: str) -> Call[Model]:
    """One model; the id stays as it is in the path, slashes included."""
    if not isinstance(model_id, str) or not model_id:
        raise ConfigurationError(f"id must be a model id, not {model_id!r:.40}")
    if not {".", ".."}.isdisjoint(model_id.split("/")) or "\\" in model_id:
        raise ConfigurationError(f"id is {model_id!r:.80}, which is no model id: it would lead to another path")
    return Call("GET", "/models/" + quote(model_id, safe="/:@!$&'()*+,;=~-._"), decode_model)


def health_calls(what: str, dialect: Dialect | None) -> tuple[Call[None], Call[None]]:
    """Where "ready" or "live" may be asked, the likelier route first: NIM has /v1/health/…, vLLM /health, Dynamo /health
    and /live, these below the root.
    """
    nim = Call("GET", f"/health/{what}", _nothing)
    path = "/live" if dialect == "dynamo" and what == "live" else "/health"
    root = Call("GET", path, _nothing, at_root=True)
    return (root, nim) if dialect in ("vllm", "dynamo") else (nim, root)


def metadata_calls() -> tuple[Call[Metadata], ...]:
    """Where a server may tell its version, the one that tells most first. Dynamo and the hosted gateway have none of them."""
    return (
        Call("GET", "/metadata", decode_metadata),
        Call("GET", "/version", decode_nim_version),
        Call("GET", "/version", decode_vllm_version, at_root=True),
    )


def _nothing(value: Json, meta: ResponseMeta) -> None:
    """The body of a health route is not looked at."""

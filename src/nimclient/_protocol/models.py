"""Models and health: arguments → Call (GET /models, /models/{id}, /health/…)."""

from __future__ import annotations

from urllib.parse import quote

from nimclient._protocol.call import Call
from nimclient.errors import ConfigurationError
from nimclient.records.models import Model, ModelList, decode_model, decode_models


def list_call() -> Call[ModelList]:
    """The models a server lists."""
    return Call("GET", "/models", decode_models)


def get_call(model_id: str) -> Call[Model]:
    """One model; the id stays as it is in the path, slashes included."""
    if not isinstance(model_id, str) or not model_id:
        raise ConfigurationError(f"id must be a model id, not {model_id!r:.40}")
    return Call("GET", "/models/" + quote(model_id, safe="/:@!$&'()*+,;=~-._"), decode_model)

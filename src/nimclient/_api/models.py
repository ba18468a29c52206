"""Models, health, metadata and version: arguments → Call. The routes differ by server type."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from nimclient._api.call import Call
from nimclient._api.server_types import ServerType
from nimclient._base.types import Json
from nimclient._base.values import ResponseMeta
from nimclient.errors import ConfigurationError
from nimclient.records.models import Model, ModelList, decode_model, decode_models
from nimclient.records.server import Metadata, decode_metadata, decode_nim_version, decode_vllm_version


def list_call() -> Call[ModelList]:
    """The models a server lists."""
    return Call("GET", "/models", decode_models)


def get_call(model_id: str) -> Call[Model]:
    """One model; the id is not encoded in the path, including its slashes."""
    if not isinstance(model_id, str) or not model_id:
        raise ConfigurationError(f"id must be a model id, not {model_id!r:.40}")
    if not {".", ".."}.isdisjoint(model_id.split("/")) or "\\" in model_id:
        raise ConfigurationError(f"id is {model_id!r:.80}, which is not a model id: it would change the path")
    try:
        path = "/models/" + quote(model_id, safe="/:@!$&'()*+,;=~-._")
    except UnicodeEncodeError:
        raise ConfigurationError(f"id is {model_id!r:.80}, which is not valid Unicode") from None
    return Call("GET", path, decode_model)


_HEALTH_ROUTES: Mapping[str, Mapping[ServerType | None, tuple[str, ...]]] = {
    "ready": {
        None: ("/v1/health/ready", "/health"),
        "nim": ("/v1/health/ready", "/health"),
        "litellm": ("/health/readiness",),
        "sglang": ("/ready", "/health"),
    },
    "live": {
        None: ("/v1/health/live", "/health"),
        "nim": ("/v1/health/live", "/health"),
        "litellm": ("/health/liveliness",),
        "sglang": ("/ping", "/health"),
        "dynamo": ("/live",),
    },
}
"""Health routes below the root by server type, the most likely first; for other servers /health, then NIM's."""


def health_calls(what: str, server_type: ServerType | None, found: str | None = None) -> tuple[Call[None], ...]:
    """The calls that check whether a server is "ready" or "live", the most likely route first. The last one lists its models.

    `found` is the route that has worked for this server. `/health` is avoided for servers on which it is expensive:
    LiteLLM calls every model behind it, SGLang generates a token.
    """
    routes = _HEALTH_ROUTES[what].get(server_type, ("/health", f"/v1/health/{what}"))
    ordered = dict.fromkeys([*([found] if found else ()), *routes, "/v1/models"])
    return tuple(_health_call(route) for route in ordered)


def _health_call(route: str) -> Call[None]:
    below_api = route.startswith("/v1/")
    return Call("GET", route.removeprefix("/v1") if below_api else route, _nothing, at_root=not below_api)


def health_route(call: Call[None]) -> str:
    """The route of a health call, below the root."""
    return call.path if call.at_root else f"/v1{call.path}"


def is_health_answer(call: Call[None], headers: Mapping[str, str]) -> bool:
    """Whether a 200 to a health call comes from an inference server: never an HTML page, and the model list is JSON."""
    kind = headers.get("content-type", "")
    return "json" in kind if call.path == "/models" else "html" not in kind


def metadata_calls() -> tuple[Call[Metadata], ...]:
    """The routes with a server's version, the most detailed first. Dynamo and the hosted gateway have none of them."""
    return (
        Call("GET", "/metadata", decode_metadata),
        Call("GET", "/version", decode_nim_version),
        Call("GET", "/version", decode_vllm_version, at_root=True),
    )


def _nothing(value: Json, meta: ResponseMeta) -> None:
    """Ignore the body of a health route."""

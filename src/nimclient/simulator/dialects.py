"""What differs between the servers the simulator can play: routes, error bodies, and the small documents.

The one place for such differences. A dialect is a value without state; it computes no answers and does no I/O.
"nim" is a self-hosted NIM 2.x: vLLM's shapes for the language routes, the NeMo Retriever shapes for embeddings and
ranking.
"""

from collections.abc import Iterable
from typing import Any, Final

from .catalog import ServedModel
from .refusals import Refusal

# All stamps are this one (1 January 2026, UTC), so that equal requests have equal answers.
CREATED: Final = 1_767_225_600

_RETRIEVER_ROUTES: Final = frozenset({"embeddings", "ranking"})


class NimDialect:
    """A self-hosted NIM 2.x."""

    name = "nim"
    posts: Final = {
        "/v1/chat/completions": "chat",
        "/v1/completions": "completions",
        "/v1/embeddings": "embeddings",
        "/v1/ranking": "ranking",
        "/tokenize": "tokenize",
        "/detokenize": "detokenize",
    }
    gets: Final = {
        "/v1/models": "models",
        "/v1/health/live": "live",
        "/v1/health/ready": "ready",
        "/v1/metadata": "metadata",
        "/v1/version": "version",
    }
    generates: Final = frozenset({"chat", "completions", "embeddings", "ranking"})

    def refusal(self, refusal: Refusal, route: str) -> dict[str, Any]:
        """The error body. Retriever routes are flat, the others nested; an unknown model is nested everywhere."""
        if route in _RETRIEVER_ROUTES and refusal.status == 400:
            return {
                "object": "error",
                "message": refusal.message,
                "detail": {},
                "type": "invalid_request_error",
            }
        return {
            "error": {
                "message": refusal.message,
                "type": refusal.type,
                "param": refusal.param,
                "code": refusal.status,
            }
        }

    def too_many_requests(self) -> dict[str, Any]:
        """The body of a 429, as the hosted catalog sends it: no detail, and no Retry-After beside it."""
        return {"status": 429, "title": "Too Many Requests"}

    def no_such_route(self) -> dict[str, Any]:
        """FastAPI's body for an unknown path."""
        return {"detail": "Not Found"}

    def wrong_method(self) -> dict[str, Any]:
        """FastAPI's body for a known path with another method."""
        return {"detail": "Method Not Allowed"}

    def model(self, model: ServedModel, max_model_len: int) -> dict[str, Any]:
        """One entry of the model list."""
        return {
            "id": model.id,
            "object": "model",
            "created": CREATED,
            "owned_by": "system",
            "root": model.id,
            "parent": None,
            "max_model_len": max_model_len,
        }

    def live(self) -> dict[str, Any]:
        """The liveness body."""
        return {"object": "health.response", "message": "Service is live.", "status": "live"}

    def ready(self) -> dict[str, Any]:
        """The readiness body."""
        return {"object": "health.response", "message": "Service is ready."}

    def metadata(self, models: Iterable[ServedModel]) -> dict[str, Any]:
        """The metadata document; it says that it comes from a simulator."""
        return {
            "version": "2.1.4",
            "modelInfo": [{"shortName": model.id, "modelUrl": ""} for model in models],
            "assetInfo": [],
            "licenseInfo": {"name": "nimclient simulator", "path": "", "sha": "", "size": 0, "url": "", "type": ""},
            "repository_override": "",
            "selectedModelProfileId": "simulator",
        }

    def version(self) -> dict[str, Any]:
        """The version document."""
        return {"release": "2.1.4", "api": "1.0.0"}


_DIALECTS: Final = {NimDialect.name: NimDialect}


def dialect_named(name: str) -> NimDialect:
    """The dialect of that name; ValueError for one the simulator does not speak."""
    try:
        return _DIALECTS[name]()
    except KeyError:
        known = ", ".join(map(repr, _DIALECTS))
        raise ValueError(f"the simulator does not speak the dialect {name!r}; it speaks {known}") from None

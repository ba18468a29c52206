"""The hosted platform's functions: every model is one, with its own id, called at /v2/nvcf/pexec/functions/ID."""

import re
from collections.abc import Iterable, Mapping
from hashlib import md5
from typing import Any, Final
from uuid import UUID

from .catalog import ServedModel, route_of
from .rejections import Rejection

_PATH: Final = re.compile(r"/v2/nvcf/pexec/functions/([^/]+)(?:/versions/([^/]+))?")


def function_id(model: str, part: str = "function") -> str:
    """The id of a model's function, or of its only version; equal in every simulator."""
    return str(UUID(bytes=md5(f"{part} {model}".encode(), usedforsecurity=False).digest(), version=4))


def is_invocation(path: str) -> bool:
    """Whether a path calls a function by its id."""
    return _PATH.fullmatch(path) is not None


def invoked(path: str, body: dict[str, Any], models: Mapping[str, ServedModel]) -> tuple[str, dict[str, Any]]:
    """The route of a function call, and its body with the model added. Rejection (404) for an unknown function."""
    found = _PATH.fullmatch(path)
    name, version = (found[1], found[2]) if found else ("", None)
    for model in models.values():
        if function_id(model.id) == name and version in (None, function_id(model.id, "version")):
            return route_of(model, body), {"model": model.id, **body}
    raise Rejection(404, f"Function '{name}': Not found for account 'simulator'", type="Function")


def function_list(models: Iterable[ServedModel]) -> dict[str, Any]:
    """The body of GET /v2/nvcf/functions."""
    functions = [
        {
            "id": function_id(model.id),
            "versionId": function_id(model.id, "version"),
            "name": f"ai-{model.id.rpartition('/')[2].replace('.', '_')}",
            "status": "ACTIVE",
            "models": [{"name": model.id}],
        }
        for model in models
    ]
    return {"functions": functions}

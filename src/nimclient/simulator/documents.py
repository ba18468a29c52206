"""The documents of a server: models, health, metadata, version."""

from typing import Any, Final

from .dialects import NimDialect
from .endpoints import Endpoints
from .rejections import unknown_model

_ONE_MODEL: Final = "/v1/models/"


def is_document(path: str, dialect: NimDialect) -> bool:
    """Whether a path is one of the documents; a model's id may contain slashes."""
    return path in dialect.gets or (dialect.one_model and path.startswith(_ONE_MODEL))


def document(path: str, dialect: NimDialect, endpoints: Endpoints) -> dict[str, Any] | str:
    """The document at a path; a str is plain text. Raises Rejection (404) for an unknown model."""
    match dialect.gets.get(path):
        case "models":
            entries = [dialect.model(model, endpoints.max_model_len(model)) for model in endpoints.models.values()]
            return {"object": "list", "data": entries}
        case "live":
            return dialect.live()
        case "ready":
            return dialect.ready()
        case "metadata":
            return dialect.metadata(endpoints.models.values())
        case "version":
            return dialect.version()
        case _:
            model = endpoints.models.get(name := path.removeprefix(_ONE_MODEL))
            if model is None:
                raise unknown_model(name)
            return dialect.model(model, endpoints.max_model_len(model))

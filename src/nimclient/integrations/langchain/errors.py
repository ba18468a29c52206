"""nimclient's errors with LangChain's error classes as additional bases, so that fallbacks, summarization and traces of
agents work as with every provider. Class names and attributes are nimclient's; the message of a rejected request begins with
"[401] Unauthorized", as programs written for langchain-nvidia-ai-endpoints expect.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from attrs import frozen
from langchain_core import exceptions as core

from nimclient import errors
from nimclient._base import json as _json
from nimclient.errors import NimError


@frozen
class ErrorResponse:
    """The failed response in the form that LangChain's tracers expect: status, headers, text."""

    status_code: int
    text: str
    headers: dict[str, str]

    def json(self) -> Any:
        """The body decoded. Raises DecodeError if it is not JSON."""
        return _json.loads(self.text.encode(), "the error body")


class _Answered:
    """Gives an APIStatusError the attribute `response`, which LangChain stores with the failed run."""

    status: int
    body: str
    request_id: str | None

    @property
    def response(self) -> ErrorResponse:
        """The server's response."""
        headers = {} if self.request_id is None else {"x-request-id": self.request_id}
        return ErrorResponse(self.status, self.body, headers)


class ContextLengthError(_Answered, errors.ContextLengthError, core.ContextOverflowError):
    """The input is longer than the model takes."""


class BadRequestError(_Answered, errors.BadRequestError, core.ModelInvalidRequestError):
    """400."""


class UnprocessableEntityError(_Answered, errors.UnprocessableEntityError, core.ModelInvalidRequestError):
    """422."""


class RequestTooLargeError(_Answered, errors.RequestTooLargeError, core.ModelInvalidRequestError):
    """413."""


class PermissionDeniedError(_Answered, errors.PermissionDeniedError, core.ModelPermissionDeniedError):
    """403."""


class AuthenticationError(_Answered, errors.AuthenticationError, core.ModelAuthenticationError):
    """401."""


class ModelNotFoundError(_Answered, errors.ModelNotFoundError, core.ModelNotFoundError):
    """404: no such model."""


class NotFoundError(_Answered, errors.NotFoundError, core.ModelNotFoundError):
    """404."""


class GoneError(_Answered, errors.GoneError, core.ModelNotFoundError):
    """410."""


class RateLimitError(_Answered, errors.RateLimitError, core.ModelRateLimitError):
    """429."""


class ServiceUnavailableError(_Answered, errors.ServiceUnavailableError, core.ModelAPIError):
    """503."""


class ServerError(_Answered, errors.ServerError, core.ModelAPIError):
    """5xx."""


class APIStatusError(_Answered, errors.APIStatusError, core.ModelError):
    """Any other status."""


class RequestTimeoutError(errors.RequestTimeoutError, core.ModelTimeoutError):
    """A time limit was reached."""


class ConnectError(errors.ConnectError, core.ModelConnectionError):
    """No connection."""


class ConnectionLostError(errors.ConnectionLostError, core.ModelConnectionError):
    """The connection broke."""


_KINDS: dict[type[NimError], type[NimError]] = {
    kind.__mro__[2 if issubclass(kind, _Answered) else 1]: kind
    for kind in (
        ContextLengthError,
        BadRequestError,
        UnprocessableEntityError,
        RequestTooLargeError,
        PermissionDeniedError,
        AuthenticationError,
        ModelNotFoundError,
        NotFoundError,
        GoneError,
        RateLimitError,
        ServiceUnavailableError,
        ServerError,
        APIStatusError,
        RequestTimeoutError,
        ConnectError,
        ConnectionLostError,
    )
}


_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def as_langchain(error: NimError) -> NimError:
    """The error with LangChain's base class; unchanged if LangChain has none."""
    kind = _KINDS.get(type(error))
    if kind is None:
        return error
    rebuild, (_, message, state) = error.__reduce__()
    if isinstance(error, errors.APIStatusError):
        message = f"[{error.status}] {_PHRASES.get(error.status, 'Error')}: {message}"
    both: NimError = rebuild(kind, message, state)
    both.__cause__, both.__suppress_context__ = error.__cause__, True
    return both.with_traceback(error.__traceback__)


@contextmanager
def langchain_errors() -> Generator[None]:
    """Raise the client's errors with LangChain's base classes."""
    try:
        yield
    except NimError as error:
        both = as_langchain(error)
        if both is error:
            raise
        raise both from both.__cause__

"""What a refusal means: (status, headers, body) in five server dialects → one error of ours.

The body is sniffed, never trusted to be of a dialect: a hosted call may be answered by the platform (RFC 7807, plain
text) or by the container behind it (vLLM's nested error, the flat one of old vLLM and Dynamo, FastAPI's detail list). The
HTTP status decides the class; the words only refine it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from attrs import evolve, frozen

from nimclient._base import json as _json
from nimclient._base.types import Json, JsonDict
from nimclient._base.values import printable_id
from nimclient._retry.retry_after import retry_after
from nimclient._retry.wording import ARROWS, LOCATION, NAMED, NO_MODEL, TOO_LONG
from nimclient.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    DecodeError,
    GoneError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    ServiceUnavailableError,
    StreamFaultError,
    UnprocessableEntityError,
)
from nimclient.records._decode import int_or_none, object_or_empty, objects

MAX_ERROR_BODY = 64 * 1024
OFFLINE_SECONDS = 600.0
"""A Retry-After of a 503 that is no load any more: the hosted catalog says 10800 for a model that was taken offline."""

_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    410: GoneError,
    413: RequestTooLargeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    503: ServiceUnavailableError,
}
_ANSWERS = {"data", "rankings", "results"}
"""What answers hold that a gateway may send a `code` or `message` beside."""
_DEEPEST = 2
"""How many objects below each other are looked into for the words of an error."""
_HINTS = {
    401: "check the API key",
    403: "on the hosted catalog this also means a bad or unscoped API key",
}


@frozen
class Fault:
    """What a body says went wrong."""

    message: str
    code: str | int | None = None
    type: str | None = None
    param: str | None = None
    detail: Json = None
    request_id: str | None = None


def status_error(
    status: int, headers: Mapping[str, str], body: bytes, *, where: str, request_id: str | None, keyless: bool = False
) -> APIStatusError:
    """The error for a status of 400 or above. `where` is the method and path, for the text; `keyless`: no key was meant
    to be sent, so that a refusal is not about one.

    The request id is that of the headers, else the one that NVCF's workers write into the body.
    """
    text = body[:MAX_ERROR_BODY].decode("utf-8", "replace")
    fault = read_fault(text)
    request_id = request_id or fault.request_id
    wait = retry_after(headers)
    kind = _BY_STATUS.get(status, ServerError if 500 <= status <= 599 else APIStatusError)
    if status in (400, 422) and TOO_LONG.search(fault.message):
        kind = ContextLengthError
    elif status == 404 and (fault.param == "model" or NO_MODEL.search(fault.message)):
        kind = ModelNotFoundError
    return kind(
        _sentence(fault, status, where, request_id, wait, "" if keyless else _HINTS.get(status, "")),
        status=status,
        code=fault.code,
        type=fault.type,
        param=fault.param or (named_field(fault.message) if status in (400, 422) else None),
        detail=fault.detail,
        request_id=request_id,
        retry_after=wait,
        body=text,
    )


def _sentence(fault: Fault, status: int, where: str, request_id: str | None, wait: float | None, hint: str) -> str:
    words = fault.message or "empty error body"
    if status == 503 and wait is not None and wait >= OFFLINE_SECONDS:
        words += f"; the model is offline (it may be back in {wait / 3600:.3g} hours), choose another one"
    if status == 504 and not fault.message:  # what the hosted catalog says when its time is up
        words += "; the time for the answer was up and the work was cancelled, so that it cannot be asked for any more"
    if "not found for account" in words.lower():
        words += "; the catalog lists this model, but your account may not call it"
    if words == "404 page not found":
        words += "; the gateway knows no such model, or no such path"
    hint = hint and f"; {hint}"
    rid = f", request id {request_id}" if request_id else ""
    return f"{words[:500]}{hint} ({where} → {status}{rid})"


def read_fault(text: str) -> Fault:
    """Message, code, type, param and detail of an error body in any dialect; never raises."""
    try:
        value = _json.loads(text.encode())
    except DecodeError:
        return Fault(_plain_text(text))
    return fault_of(value)


def fault_of(value: Json, depth: int = 0) -> Fault:
    """The same of a decoded body, or of the object `depth` levels inside it."""
    if isinstance(value, str):
        return Fault(value)
    if not isinstance(value, dict):
        return Fault("" if value in (None, [], ()) else _short(value))
    data = cast(JsonDict, value)
    error = data.get("error")
    if isinstance(error, dict):
        return _flat(cast(JsonDict, error), depth)
    if isinstance(error, str):
        kind = _word(data.get("type")) or _word(data.get("error_type"))
        return Fault(error, _code(data), kind, request_id=_request_id(data))
    return _flat(data, depth)


def _flat(data: JsonDict, depth: int) -> Fault:
    """`{"message", "type", "param", "code"}`, RFC 7807's `{"title", "status", "detail"}`, FastAPI's `{"detail": [...]}`."""
    detail = data.get("detail")
    message = data.get("message")
    if isinstance(message, (dict, list)):
        message = _short(message)
    if message is None and isinstance(detail, dict) and detail and depth < _DEEPEST:
        return evolve(fault_of(cast(JsonDict, detail), depth + 1), detail=detail)
    words = _word(message) or _detail_text(detail) or _word(data.get("title")) or _word(data.get("msg"))
    if words is None:
        words = _short(data) if data else ""
    param = _word(data.get("param")) or next((_location(item) for item in objects(detail)), None) or None
    return Fault(words, _code(data), _word(data.get("type")), param, detail, _request_id(data))


def _detail_text(detail: Json) -> str | None:
    if isinstance(detail, str):
        return detail or None
    parts = [f"{_location(item)}: {item.get('msg', '')}" for item in objects(detail)]
    return "; ".join(parts) or None


def _location(item: JsonDict) -> str:
    """FastAPI's `loc` without its first element "body"."""
    loc = item.get("loc")
    steps = [str(step) for step in cast(list[Any], loc)] if isinstance(loc, list) else []
    return ".".join(steps[1:] if steps[:1] == ["body"] else steps)


def named_field(message: str) -> str | None:
    """The field that the words of a validation error name, where the error has no place for it.

    Dynamo's ``Unsupported parameter(s): `foo` `` and ``missing field `foo` ``, pydantic's `body -> foo` and `'loc': ('body',
    'foo')`, vLLM's `(parameter=foo, …)`.
    """
    if found := LOCATION.search(message):
        steps = [step.strip("'\" ") for step in found[1].split(",")]
        return ".".join(step for step in steps if step and step != "body") or None
    if found := ARROWS.search(message):
        return ".".join(step.strip() for step in found[1].split("->"))
    found = NAMED.search(message)
    return None if found is None else found[1] or found[2]


def is_fault_event(data: JsonDict) -> bool:
    """Whether an event of a 200 stream is an error: no choices, but the signs of one; or an error beside them."""
    if data.get("error"):
        return True
    return "choices" not in data and (
        data.get("object") == "error" or any(key in data for key in ("message", "detail", "title", "code"))
    )


def refuse_fault(value: Json) -> None:
    """Raise StreamFaultError where the body of a 200, or an event of it, is an error object (hosted gateways)."""
    data = object_or_empty(value)
    if data and ("choices" not in data or "error" in data) and not _ANSWERS & data.keys() and is_fault_event(data):
        raise stream_fault(data)


def stream_fault(value: Json, fallback: str = "") -> StreamFaultError:
    """The error for an event that is one; `fallback` is the text where the event has none (Dynamo's SSE comment)."""
    fault = fault_of(value)
    words = fault.message or fallback or "an error event without a text"
    text = f"the server reported an error in the stream: {words[:500]}"
    return StreamFaultError(text, code=fault.code, type=fault.type)


def no_route(error: APIStatusError, words: str, kind: type[NotFoundError] = NotFoundError) -> NotFoundError:
    """The error for what a server does not have, in our words, with all that its refusal said."""
    return kind(
        f"{words}: {error.message}",
        status=error.status,
        code=error.code,
        type=error.type,
        param=error.param,
        detail=error.detail,
        request_id=error.request_id,
        body=error.body,
        attempts=error.attempts,
    )


def _plain_text(text: str) -> str:
    """A body that is not JSON: HTML without its tags, white space folded."""
    if "<" in text:
        # linear whatever the text: an open tag ends at the next one, an open script at the end
        text = re.sub(r"(?is)<(script|style)\b.*?(?:</\1>|\Z)|<[^<>]*>", " ", text)
    return " ".join(text.split())[:2000]


def _word(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def _code(data: JsonDict) -> str | int | None:
    """The error's own code; a problem of RFC 7807 calls it `status`."""
    code = data.get("code")
    if isinstance(code, (str, int)) and not isinstance(code, bool):
        return code
    return int_or_none(data.get("status"))


def _request_id(data: JsonDict) -> str | None:
    value = _word(data.get("requestId")) or _word(data.get("request_id"))
    return None if value is None else printable_id(value)


def _short(value: Json) -> str:
    try:
        return repr(value)[:300]
    except RecursionError:
        return "an error that is nested too deeply"

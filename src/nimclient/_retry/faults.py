"""Error responses: (status, headers, body) of any server → an error of nimclient.

The form of the body is detected, not derived from the server type: the response to a hosted call may come from the
platform (RFC 7807, plain text), from the container behind it (vLLM's nested error, the flat one of old vLLM and Dynamo,
FastAPI's detail list), or from a gateway in between (Apigee's fault, Cloudflare's list). The HTTP status decides the class;
the text only refines it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, cast

from attrs import evolve, frozen

from nimclient._base import json as _json
from nimclient._base.types import Json, JsonDict, is_array, is_object
from nimclient._base.values import ResponseMeta, printable_id
from nimclient._retry.retry_after import retry_after, wait_in_words
from nimclient._retry.wording import (
    ARROWS,
    LOCATION,
    NAMED,
    NO_MODEL,
    NO_MODEL_400,
    NO_MODEL_CODES,
    NOT_TOKENS,
    PROMPTS,
    STATUS_OF_CODE,
    STRING_TOO_LONG,
    TOO_LONG,
    TOO_LONG_500,
    TOO_LONG_CODES,
    WANTS_REASONING,
)
from nimclient.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ContextLengthError,
    DecodeError,
    GoneError,
    ModelNotFoundError,
    NimError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    ServiceUnavailableError,
    StreamFaultError,
    UnprocessableEntityError,
)
from nimclient.records._decode import object_or_empty, objects, whole_number

MAX_ERROR_BODY = 64 * 1024
OFFLINE_SECONDS = 600.0
"""A Retry-After of a 503 beyond which the cause is not load: the hosted catalog sends 10800 for a model taken offline."""

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
"""Fields of ordinary responses, which a gateway may send together with a `code` or `message`."""
_WORDS = ("title", "details", "msg", "error_msg", "Message", "errorMessage", "reason", "description")
"""Other names of an error's text."""
_MAX_WORDS_DEPTH = 3
"""How many nested objects are searched for the text of an error."""

_MAX_DETAIL_DEPTH = 50
"""A deeper `detail` is kept as text, since it could not be pickled or printed."""

_MAX_CODE_LENGTH = 200
_HINTS = {
    401: "check the API key",
    403: "on the hosted catalog this also means a bad or unscoped API key",
    407: "a proxy requires credentials: pass them in proxy=, or set them in HTTP_PROXY or HTTPS_PROXY",
}


@frozen
class Fault:
    """The content of an error body."""

    message: str
    code: str | int | None = None
    type: str | None = None
    param: str | None = None
    detail: Json = None
    request_id: str | None = None
    status: int | None = None


def status_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    where: str,
    request_id: str | None,
    unauthenticated: bool = False,
    key: str = "",
    carried_by: int | None = None,
) -> APIStatusError:
    """The error for a status of 400 or above.

    Args:
        status: The HTTP status.
        headers: Response headers, for Retry-After and the request id.
        body: The body, as far as it was read.
        where: Method and path, for the message.
        request_id: From the headers; else the one that NVCF workers write into the body is used.
        unauthenticated: The request carried no credentials on purpose, so a 401 is not about the key.
        key: Which key was sent, or why none was, as text for the message.
        carried_by: The status of the response itself, if its body states another one.
    """
    text = body[:MAX_ERROR_BODY].decode("utf-8", "replace")
    fault = read_fault(text)
    request_id = request_id or fault.request_id
    wait = retry_after(headers)
    if wait is None and status in (429, 503):
        wait = wait_in_words(fault.message)
    hint = "" if unauthenticated else _HINTS.get(status, "")
    if hint and key and status != 407:
        hint = f"{hint}: {key}" if status == 401 else f"{hint} ({key})"
    place = f"{where} → {status}" if carried_by is None else f"{where} → {carried_by} with code {status}"
    return _class_of(status, fault)(
        _sentence(fault, status, place, request_id, wait, hint),
        status=status,
        code=fault.code,
        type=fault.type,
        param=fault.param or (named_field(fault.message) if status in (400, 422) else None),
        detail=fault.detail,
        request_id=request_id,
        retry_after=wait,
        body=text,
    )


def _class_of(status: int, fault: Fault) -> type[APIStatusError]:
    signs = {fault.code, fault.type}
    if _is_too_long(status, fault, signs):
        return ContextLengthError
    if status == 404 and (fault.param == "model" or NO_MODEL_CODES & signs or NO_MODEL.search(fault.message)):
        return ModelNotFoundError
    if status in (400, 422) and NO_MODEL_400.search(fault.message):
        return ModelNotFoundError
    if status in (400, 403, 422) and NO_MODEL_CODES & signs:
        return ModelNotFoundError
    return _BY_STATUS.get(status, ServerError if 500 <= status <= 599 else APIStatusError)


def _is_too_long(status: int, fault: Fault, signs: Collection[object]) -> bool:
    """Whether the input exceeds the model's context length."""
    if status in (400, 413, 422, 500) and not TOO_LONG_CODES.isdisjoint(signs):
        return True
    if status == 500:
        return TOO_LONG_500.search(fault.message) is not None
    if status not in (400, 413, 422):
        return False
    if STRING_TOO_LONG in signs:
        return (fault.param or PROMPTS[0]).startswith(PROMPTS)
    return TOO_LONG.search(fault.message) is not None and not NOT_TOKENS.search(fault.message)


def _sentence(fault: Fault, status: int, place: str, request_id: str | None, wait: float | None, hint: str) -> str:
    words = NimError(fault.message).message or "empty error body"
    if status == 503 and wait is not None and wait >= OFFLINE_SECONDS:
        words += f"; the model is offline (it may return in {wait / 3600:.3g} hours), choose another one"
    if status == 504 and not fault.message:  # the hosted catalog's own time limit
        words += (
            "; the server's time limit was reached and the request was cancelled, so that its result cannot be polled"
        )
    if "not found for account" in words.lower():
        words += "; the catalog may list this model, but it was removed, or your account may not call it"
    if status == 400 and WANTS_REASONING.search(words):
        words += "; this server requires a model's reasoning in the history: pass echo_reasoning=True"
    if words == "404 page not found":
        words += "; the gateway has no such model or path"
    hint = hint and f"; {hint}"
    rid = f", request id {request_id}" if request_id else ""
    return f"{words[:500]}{hint} ({place}{rid})"


def read_fault(text: str) -> Fault:
    """Message, code, type, param and detail of an error body of any server; never raises."""
    try:
        value = _json.loads(text.encode())
    except DecodeError:
        return Fault(_plain_text(text))
    return fault_of(value)


def fault_of(value: Json, depth: int = 0) -> Fault:
    """The fault in a decoded body, or in the object `depth` levels inside it."""
    if isinstance(value, str):
        return Fault(value)
    if is_array(value) and value and is_object(value[0]) and depth < _MAX_WORDS_DEPTH:  # Google's, some gateways'
        return fault_of(value[0], depth + 1)
    if not is_object(value):
        return Fault("" if value in (None, [], ()) else _short(value))
    data: JsonDict = value
    error = data.get("error")
    if is_object(error):
        fault = _flat(error, depth)
        return fault if fault.request_id else evolve(fault, request_id=_request_id(data))
    if isinstance(error, str) and error:
        kind = _word(data.get("type")) or _word(data.get("error_type"))
        words = _word(data.get("error_description")) or _word(data.get("message")) or error
        return Fault(words, _code(data), kind, request_id=_request_id(data))
    for name in ("errors", "fault", "error"):
        inner = data.get(name)
        if (is_array(inner) or is_object(inner)) and inner and depth < _MAX_WORDS_DEPTH:
            return _of_gateway(inner, data, depth)
    return _flat(data, depth)


def _of_gateway(inner: Json, data: JsonDict, depth: int) -> Fault:
    """Cloudflare's `{"errors": [{"code", "message"}]}`, Apigee's `{"fault": {"faultstring", "detail": {"errorcode"}}}`, and
    ASP.NET's `{"errors": {"field": ["words"]}}`.
    """
    if is_array(inner):
        return fault_of(inner if is_object(inner[0]) else "; ".join(str(item) for item in inner[:5]), depth + 1)
    if "faultstring" in inner:
        code = _word(object_or_empty(inner.get("detail")).get("errorcode"))
        return Fault(_word(inner["faultstring"]) or "", code, request_id=_request_id(data))
    name, words = next(iter(inner.items()))
    if is_array(words) and words and isinstance(words[0], str):
        return Fault(f"{name}: {words[0]}", _code(data), param=str(name), request_id=_request_id(data))
    return _flat(inner, depth + 1)


def _flat(data: JsonDict, depth: int) -> Fault:
    """`{"message", "type", "param", "code"}`, RFC 7807's `{"title", "status", "detail"}`, FastAPI's `{"detail": [...]}`."""
    detail = _shallow(data.get("detail"))
    message = data.get("message")
    if is_object(message) or is_array(message):
        message = _short(message)
    if message is None and is_object(detail) and detail and depth < _MAX_WORDS_DEPTH:
        return evolve(fault_of(detail, depth + 1), detail=detail)
    others = (data.get(name) for name in _WORDS)
    words = _word(message) or _detail_text(detail) or next((word for word in map(_word, others) if word), None)
    code, kind = _code(data), _word(data.get("type"))
    if words is None and (named := kind or code) is not None:  # an empty message with a code
        words = str(named)
    if words is None:
        words = _short(data) if any(value not in (None, "", [], {}) for value in data.values()) else ""
    param = _word(data.get("param")) or next((_location(item) for item in objects(detail)), None) or None
    return Fault(words, code, kind, param, detail, _request_id(data), whole_number(data.get("status")))


def _detail_text(detail: Json) -> str | None:
    if isinstance(detail, str):
        return detail or None
    parts = [_item_text(item) for item in detail] if is_array(detail) else []
    return "; ".join(part for part in parts if part) or None


def _item_text(item: Json) -> str:
    """An entry of a validation list: text, or FastAPI's `{"loc", "msg"}`."""
    if isinstance(item, str):
        return item
    entry = object_or_empty(item)
    place, words = _location(entry), _word(entry.get("msg")) or _word(entry.get("message")) or ""
    return f"{place}: {words}" if place and words else words or place


def _location(item: JsonDict) -> str:
    """FastAPI's `loc` without its first element "body"."""
    loc = item.get("loc")
    steps = [str(step) for step in cast(list[Any], loc)] if isinstance(loc, list) else []
    return ".".join(steps[1:] if steps[:1] == ["body"] else steps)


def named_field(message: str) -> str | None:
    """The field named in the text of a validation error, for errors without a `param`.

    Dynamo's ``Unsupported parameter(s): `foo` `` and ``missing field `foo` ``, pydantic's `body -> foo` and `'loc': ('body',
    'foo')`, vLLM's `(parameter=foo, …)`.
    """
    if found := LOCATION.search(message):
        steps = [step.strip("'\" ") for step in found[1].split(",")]
        return ".".join(step for step in steps if step and step != "body") or None
    if found := ARROWS.search(message):
        return ".".join(step.strip() for step in found[1].split("->"))
    found = NAMED.search(message)
    return None if found is None else found[1] or found[2] or found[3]


def is_fault_event(data: JsonDict) -> bool:
    """Whether an event of a 200 stream is an error: an error object instead of choices, or in addition to them."""
    if data.get("error"):
        return True
    return "choices" not in data and (
        data.get("object") == "error" or any(key in data for key in ("message", "detail", "title", "code"))
    )


def is_fault(value: Json) -> bool:
    """Whether the body of a 200, or an event of it, is an error object (hosted gateways)."""
    if not isinstance(value, dict) or not value:
        return False
    data: JsonDict = value  # pyright: ignore[reportUnknownVariableType]  # a cast costs a call
    return ("choices" not in data or "error" in data) and not _ANSWERS & data.keys() and is_fault_event(data)


def raise_plain_fault(value: Json, meta: ResponseMeta, where: str) -> None:
    """Raise if the body of a 200 is an error object: the error for the status in its code, else StreamFaultError.

    `where` is the method and path. Gateways send 200 before they have the response of the server behind them.
    """
    data = object_or_empty(value)
    if not is_fault(data):
        return
    fault = stream_fault(data, plain=True)
    status = fault.status or STATUS_OF_CODE.get(str(fault.code))
    if status is None:
        raise fault
    body = _json.dumps(data)
    raise status_error(status, meta.headers, body, where=where, request_id=meta.request_id, carried_by=meta.status)


def stream_fault(value: Json, fallback: str = "", *, plain: bool = False) -> StreamFaultError:
    """The error for an error event; `fallback` is the text if the event has none (Dynamo's SSE comment).

    `plain`: it was the whole body of the response.
    """
    fault = fault_of(value)
    words = NimError(fault.message).message or fallback or "an error event without text"
    text = f"the server reported an error in {'a 200 response' if plain else 'the stream'}: {words[:500]}"
    error = StreamFaultError(text, code=fault.code, type=fault.type)
    if error.status is None and fault.status is not None and 400 <= fault.status <= 599:
        error.status = fault.status
    return error


_ENDED_EARLY = ("abort", "error", "network_error")


def ended_early(answer: JsonDict) -> StreamFaultError | None:
    """The error for an answer, or an event, of which the server has ended a choice early; None for any other.

    It ends like a complete one, with status 200 and [DONE], when an engine is shut down or scaled down, or fails.
    """
    for choice in objects(answer.get("choices")):
        for name in ("finish_reason", "native_finish_reason"):  # OpenRouter says "stop" where its provider says "error"
            if (reason := choice.get(name)) in _ENDED_EARLY:
                if choice.get("error"):
                    return stream_fault(choice)
                return StreamFaultError(f"the server ended this answer early ({name} {reason!r})", code=str(reason))
    return None


def no_route(error: APIStatusError, words: str, kind: type[NotFoundError] = NotFoundError) -> NotFoundError:
    """The error for a route that a server does not have: our text followed by the server's, with all fields of its error."""
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


def advise(error: NimError, advice: str) -> None:
    """Add what to do next to an error's message."""
    error.args = (f"{error.message}; {advice}",)


def _plain_text(text: str) -> str:
    """A body that is not JSON: HTML without its tags, white space folded."""
    if "<" in text:
        # linear for any text: an unclosed tag ends at the next one, an unclosed script at the end
        text = re.sub(r"(?is)<(script|style)\b.*?(?:</\1>|\Z)|<[^<>]*>", " ", text)
    return " ".join(text.split())[:2000]


def _word(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def _code(data: JsonDict) -> str | int | None:
    """The error's own code; RFC 7807 calls it `status`, AWS `__type`. None for one that is too long."""
    code = data.get("code", data.get("__type"))
    if isinstance(code, float) and code.is_integer():
        code = int(code) if abs(code) < 2**53 else None
    if isinstance(code, str):
        return code if len(code) <= _MAX_CODE_LENGTH else f"{code[:_MAX_CODE_LENGTH]}…"
    if isinstance(code, int) and not isinstance(code, bool):
        return code
    return whole_number(data.get("status"))


def _request_id(data: JsonDict) -> str | None:
    value = _word(data.get("requestId")) or _word(data.get("request_id"))
    return None if value is None else printable_id(value)


def _short(value: Json) -> str:
    try:
        return _json.dumps(value).decode()[:300]
    except ConfigurationError:
        return "an error nested too deeply"


def _shallow(value: Json, depth: int = _MAX_DETAIL_DEPTH) -> Json:
    """The value, or its text if it is nested too deeply to be pickled."""
    return value if _fits(value, depth) else _short(value)


def _fits(value: Json, depth: int) -> bool:
    inner = value.values() if is_object(value) else value if is_array(value) else ()
    return depth > 0 and all(_fits(item, depth - 1) for item in inner)

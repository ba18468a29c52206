"""The failure table: what one failed attempt means, as a row of five columns. No other module classifies errors.

Retries read `retryable` and `state`, replicas `health`, calls over many items `scope` and `outage`. The class of
the error and its status select the row. Only `scope_of` also looks at the text of the error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum

from attrs import frozen

from nimclient._retry import wording
from nimclient.errors import (
    APIStatusError,
    BodyTooLargeError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ContextLengthError,
    DecodeError,
    EmbeddingMismatchError,
    ModelNotFoundError,
    NimError,
    ProtocolError,
    RequestTimeoutError,
    StreamFaultError,
    StreamInterruptedError,
)


class RequestState(Enum):
    """How far the request got."""

    NOT_SENT = "not sent"  # or rejected unread: a retry cannot execute it twice
    AMBIGUOUS = "ambiguous"  # sent, and possibly executed
    ANSWERED = "answered"  # a response arrived that cannot be used


class HealthSignal(Enum):
    """What the outcome of a request shows about the server."""

    OK = "ok"  # it responds; the latency is a sample
    REJECTED = "rejected"  # it responds, but rejects the request
    THROTTLED = "throttled"  # it responds that it is busy
    FAILING = "failing"  # it broke the connection, timed out, or sent a malformed response or 5xx
    UNREACHABLE = "unreachable"  # no connection could be made
    UNKNOWN = "unknown"  # the call was cancelled, or failed on the client's side


class FailureScope(Enum):
    """What a failure affects in a call that sends many items in slices."""

    CALL = "call"  # every slice would fail: model, key, options, no connection
    REQUEST = "request"  # too many texts in the request
    ITEM = "item"  # most likely one of the texts
    UNCLEAR = "unclear"  # one of the texts, or the server as a whole


@frozen
class FailureKind:
    """A row of the table.

    `retryable`: another attempt may succeed. `scope`: what the failure affects, as far as the class of the error shows.
    `outage`: a temporary failure unrelated to the items: calls over many items wait for its end without using attempts.
    """

    retryable: bool
    state: RequestState
    health: HealthSignal
    scope: FailureScope = FailureScope.CALL
    outage: bool = False

    @property
    def is_throttled(self) -> bool:
        """Whether the server is busy or still starting and has not begun the request: a later retry is safe."""
        return self.outage and self.state is RequestState.NOT_SENT

    @property
    def is_away(self) -> bool:
        """Whether the server cannot be reached for the time being."""
        return self.outage and self.health in (HealthSignal.UNREACHABLE, HealthSignal.FAILING)


_S, _H, _F = RequestState, HealthSignal, FailureScope

REJECTED = FailureKind(False, _S.ANSWERED, _H.REJECTED)
CONFLICT = FailureKind(True, _S.AMBIGUOUS, _H.REJECTED, _F.UNCLEAR)
THROTTLED = FailureKind(True, _S.NOT_SENT, _H.THROTTLED, outage=True)
SERVER_ERROR = FailureKind(True, _S.AMBIGUOUS, _H.FAILING, _F.UNCLEAR)
NO_UPSTREAM = FailureKind(True, _S.AMBIGUOUS, _H.FAILING, outage=True)  # a gateway cannot reach the server behind it
UNSUPPORTED = FailureKind(False, _S.ANSWERED, _H.UNKNOWN)
CONNECTION_REFUSED = FailureKind(True, _S.NOT_SENT, _H.UNREACHABLE, outage=True)
UNREACHABLE = FailureKind(True, _S.NOT_SENT, _H.UNREACHABLE)
UNTRUSTED = FailureKind(
    False, _S.NOT_SENT, _H.UNREACHABLE
)  # TLS: the same server would fail again, another one may not
# of this machine: what is in flight frees some
OUT_OF_RESOURCES = FailureKind(True, _S.NOT_SENT, _H.UNKNOWN, outage=True)
STALE_CONNECTION = FailureKind(True, _S.AMBIGUOUS, _H.UNKNOWN, _F.UNCLEAR)
INTERRUPTED = FailureKind(True, _S.AMBIGUOUS, _H.FAILING, _F.UNCLEAR)
OUT_OF_TIME = FailureKind(False, _S.AMBIGUOUS, _H.FAILING, _F.UNCLEAR)
LOST_RESULT = FailureKind(
    False, _S.AMBIGUOUS, _H.FAILING
)  # accepted, but the result was not received: it may still run
MALFORMED = FailureKind(True, _S.ANSWERED, _H.FAILING, _F.UNCLEAR)
MISMATCHED = FailureKind(True, _S.ANSWERED, _H.FAILING, _F.ITEM)
TOO_LARGE = FailureKind(False, _S.ANSWERED, _H.UNKNOWN, _F.REQUEST)
ACCEPTED = FailureKind(False, _S.ANSWERED, _H.UNKNOWN)  # a 202 that cannot be polled: a retry would start it twice
BAD_BODY = FailureKind(False, _S.NOT_SENT, _H.UNKNOWN, _F.ITEM)
LOCAL = FailureKind(False, _S.NOT_SENT, _H.UNKNOWN)

_STATUSES = {
    **dict.fromkeys((429, 503, 529), THROTTLED),
    **dict.fromkeys((408, 409, 425), CONFLICT),
    **dict.fromkeys((500, *range(520, 529)), SERVER_ERROR),
    **dict.fromkeys((502, 504, 521, 522, 523, 530), NO_UPSTREAM),  # from 521 on Cloudflare's
}


def classify(error: NimError) -> FailureKind:
    """The row of a failed attempt, before any part of the response was delivered to the caller."""
    match error:
        case ContextLengthError():
            return REJECTED  # llama-server sends a 500
        case APIStatusError(status=status) | StreamFaultError(status=int() as status):
            return classify_status(status)
        case ConnectError(kind=kind):
            return _CONNECT_KINDS.get(kind, UNREACHABLE)
        case RequestTimeoutError(phase=phase):
            return _TIMEOUT_PHASES.get(phase or "", LOST_RESULT)
        case ConnectionLostError(reused=True):
            return STALE_CONNECTION
        case ConnectionLostError() | StreamInterruptedError() | StreamFaultError():
            return INTERRUPTED
        case BodyTooLargeError():
            return TOO_LARGE
        case DecodeError(status=202):
            return ACCEPTED
        case EmbeddingMismatchError():
            return MISMATCHED
        case ProtocolError() | DecodeError():
            return MALFORMED
        case ConfigurationError(path="body"):  # the body exceeds a limit
            return BAD_BODY
        case _:
            return LOCAL


_CONNECT_KINDS = {"refused": CONNECTION_REFUSED, "tls": UNTRUSTED, "resources": OUT_OF_RESOURCES}
_TIMEOUT_PHASES = {
    "pool": LOCAL,
    "connect": UNREACHABLE,
    **dict.fromkeys(("headers", "first_event", "idle"), INTERRUPTED),
    "total": OUT_OF_TIME,
}


def classify_status(status: int) -> FailureKind:
    """The row of a status of 400 or above."""
    return _STATUSES.get(status) or (REJECTED if status < 500 else UNSUPPORTED)


def health_of(error: BaseException | None) -> HealthSignal:
    """What the outcome of one request shows about the server; None is a success."""
    if error is None:
        return HealthSignal.OK
    return classify(error).health if isinstance(error, NimError) else HealthSignal.UNKNOWN


def scope_of(error: NimError, fields: Collection[str]) -> FailureScope:
    """What the failure of a slice affects. `fields` are the body's fields other than `input`: an error that names one affects
    the whole call.

    A 5xx, a hang and a broken connection may be caused by one text (a crash of the tokenizer), so they do not affect the
    call; throttling that exhausted its retries does.
    """
    if not is_status(error, 400, 413, 422):
        return classify(error).scope
    if isinstance(error, ContextLengthError):
        return FailureScope.ITEM
    if rejects_count(error):
        return FailureScope.REQUEST
    return FailureScope.CALL if _names_the_call(error, fields) else FailureScope.ITEM


def _names_the_call(error: NimError, fields: Collection[str]) -> bool:
    param = (getattr(error, "param", None) or "").partition(".")[0].partition("[")[0]
    if param:
        return param == "model" or param in fields
    words = error.message
    if wording.BAD_MODEL.search(words) or wording.BAD_KEY.search(words):
        return True
    return any(wording.mentions(words, name) for name in fields if name != "model")


def is_status(error: NimError, *statuses: int) -> bool:
    """Whether the server sent one of these statuses, as the response's own or in an error object of a 200."""
    return isinstance(error, (APIStatusError, StreamFaultError)) and error.status in statuses


def rejects_count(error: NimError) -> bool:
    """Whether the error says that the request has too many texts."""
    return is_status(error, 400, 413, 422) and wording.TOO_MANY_TEXTS.search(error.message) is not None


def max_texts(error: NimError, count: int) -> int | None:
    """The maximum number of texts, if the rejection of `count` texts states it ("maximum allowed batch size 32")."""
    numbers = map(int, wording.ALLOWED_NUMBER.findall(error.message)) if rejects_count(error) else ()
    return next((number for number in numbers if 0 < number < count), None)


_OTHER_NAMES = {
    "stream_options": ("stream_options", "include_usage"),
    "encoding_format": ("encoding_format", "base64"),  # older vLLM: "base64 encoding is not currently supported"
    "bytes_only": ("bytes_only", "encoding_format", "embed_dtype"),
}
"""The words by which a rejection names a field, where there is more than its name."""


def rejects_field(error: APIStatusError, field: str) -> bool:
    """Whether a 400 or 422 is about this field of the body or its content."""
    names = _OTHER_NAMES.get(field, (field,))
    return error.status in (400, 422) and (
        error.param in names or any(wording.mentions(error.body, name) for name in names)
    )


def rejects_form(error: APIStatusError, names: Iterable[str]) -> bool:
    """Whether a 400 or 422 is about one of these fields or types of an output format, rather than the schema in it."""
    if isinstance(error, ContextLengthError) or error.status not in (400, 422):
        return False
    words = f"{error.param or ''} {error.message}"
    return not wording.BAD_SCHEMA.search(words) and any(wording.mentions(words, name) for name in names)


def is_no_route(error: APIStatusError) -> bool:
    """Whether the server has no such route, rather than no such model."""
    return error.status in (404, 405, 501) and not isinstance(error, ModelNotFoundError)

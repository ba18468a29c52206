"""THE failure table: what one failed attempt means, in one row of five columns. Nothing else in the package judges an error.

Retries read `retryable` and `state`, replicas `health`, calls over many items `scope` and `outage`. The rows are named; what
picks one is the class of the error and its status. Words are asked only by `scope_of`, which says whose failure it is.
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
    """How far the request came."""

    NOT_SENT = "not sent"  # or turned away unread: a repeat carries it out once
    AMBIGUOUS = "ambiguous"  # sent, and it may have been carried out
    ANSWERED = "answered"  # an answer came, and it is no use


class HealthSignal(Enum):
    """What the outcome of a request tells about the server it went to."""

    OK = "ok"  # it answers, and this is how long it takes
    REJECTED = "rejected"  # it answers, and does not like the request
    THROTTLED = "throttled"  # it answers that it is busy
    FAILING = "failing"  # it broke the connection, timed out, or answered nonsense or 5xx
    UNREACHABLE = "unreachable"  # no connection to it could be made
    UNKNOWN = "unknown"  # the caller gave up, or the fault was on this side


class FailureScope(Enum):
    """Whose failure it is, of a call that sends many items in slices."""

    CALL = "call"  # every slice would meet it: model, key, options, no connection
    REQUEST = "request"  # too many texts at once
    ITEM = "item"  # one of the texts, most likely
    UNCLEAR = "unclear"  # one of the texts, or the server as a whole


@frozen
class FailureKind:
    """A row of the table.

    `retryable`: another attempt may end differently. `scope`: whose failure it is as far as the class of the error tells.
    `outage`: it tells nothing of the items, and passes: calls over many items wait for its end and spend no attempt.
    """

    retryable: bool
    state: RequestState
    health: HealthSignal
    scope: FailureScope = FailureScope.CALL
    outage: bool = False

    @property
    def is_throttled(self) -> bool:
        """Whether the server is busy, or not up yet, and has not begun the request: a repeat is safe, later."""
        return self.outage and self.state is RequestState.NOT_SENT


_S, _H, _F = RequestState, HealthSignal, FailureScope

REJECTED = FailureKind(False, _S.ANSWERED, _H.REJECTED)
CONFLICT = FailureKind(True, _S.AMBIGUOUS, _H.REJECTED, _F.UNCLEAR)
THROTTLED = FailureKind(True, _S.NOT_SENT, _H.THROTTLED, outage=True)
SERVER_ERROR = FailureKind(True, _S.AMBIGUOUS, _H.FAILING, _F.UNCLEAR)
NO_UPSTREAM = FailureKind(True, _S.AMBIGUOUS, _H.FAILING, outage=True)  # a gateway does not reach the server behind it
UNSUPPORTED = FailureKind(False, _S.ANSWERED, _H.UNKNOWN)
CONNECTION_REFUSED = FailureKind(True, _S.NOT_SENT, _H.UNREACHABLE, outage=True)
UNREACHABLE = FailureKind(True, _S.NOT_SENT, _H.UNREACHABLE)
UNTRUSTED = FailureKind(False, _S.NOT_SENT, _H.UNREACHABLE)  # TLS: the same server would fail again, another may not
OUT_OF_RESOURCES = FailureKind(True, _S.NOT_SENT, _H.UNKNOWN)
STALE_CONNECTION = FailureKind(True, _S.AMBIGUOUS, _H.UNKNOWN, _F.UNCLEAR)
INTERRUPTED = FailureKind(True, _S.AMBIGUOUS, _H.FAILING, _F.UNCLEAR)
OUT_OF_TIME = FailureKind(False, _S.AMBIGUOUS, _H.FAILING, _F.UNCLEAR)
LOST_RESULT = FailureKind(False, _S.AMBIGUOUS, _H.FAILING)  # accepted, and the result did not come: it may still run
MALFORMED = FailureKind(True, _S.ANSWERED, _H.FAILING, _F.UNCLEAR)
MISMATCHED = FailureKind(True, _S.ANSWERED, _H.FAILING, _F.ITEM)
TOO_LARGE = FailureKind(False, _S.ANSWERED, _H.UNKNOWN, _F.REQUEST)
ACCEPTED = FailureKind(False, _S.ANSWERED, _H.UNKNOWN)  # a 202 that cannot be asked for: a repeat would start it twice
BAD_BODY = FailureKind(False, _S.NOT_SENT, _H.UNKNOWN, _F.ITEM)
LOCAL = FailureKind(False, _S.NOT_SENT, _H.UNKNOWN)

_STATUSES = {
    **dict.fromkeys((429, 503, 529), THROTTLED),
    **dict.fromkeys((408, 409, 425), CONFLICT),
    **dict.fromkeys((502, 504), NO_UPSTREAM),
    **dict.fromkeys((500, *range(520, 529)), SERVER_ERROR),
}


def classify(error: NimError) -> FailureKind:
    """The row of a failure of one attempt, before anything of the answer was handed out."""
    match error:
        case ContextLengthError():
            return REJECTED  # llama-server says so with a 500
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
        case ConfigurationError(path="body"):  # larger than a request may be
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
    """What the outcome of one request tells of the server; None is a success."""
    if error is None:
        return HealthSignal.OK
    return classify(error).health if isinstance(error, NimError) else HealthSignal.UNKNOWN


def scope_of(error: NimError, fields: Collection[str]) -> FailureScope:
    """Whose failure a slice's is. `fields` are those of the body beside `input`: an error that names one is the call's.

    A server's own 5xx, a hang and a broken connection may be one text's doing (a crash of the tokenizer), so they are not
    the call's; throttling, which has used up its patience by now, is.
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
    """Whether the server said one of these statuses, as the answer's own or in an error object of a 200."""
    return isinstance(error, (APIStatusError, StreamFaultError)) and error.status in statuses


def rejects_count(error: NimError) -> bool:
    """Whether the server says that there are too many texts in the request."""
    return is_status(error, 400, 413, 422) and wording.TOO_MANY_TEXTS.search(error.message) is not None


def max_texts(error: NimError, count: int) -> int | None:
    """The number of texts that the rejection of `count` says is allowed ("maximum allowed batch size 32"), if it does."""
    numbers = map(int, wording.ALLOWED_NUMBER.findall(error.message)) if rejects_count(error) else ()
    return next((number for number in numbers if 0 < number < count), None)


def rejects_field(error: APIStatusError, field: str) -> bool:
    """Whether a 400 or 422 names this field of the body, or what is in it, as what it objects to."""
    names = ("stream_options", "include_usage") if field == "stream_options" else (field,)
    return error.status in (400, 422) and (
        error.param in names or any(wording.mentions(error.body, name) for name in names)
    )


def rejects_form(error: APIStatusError, names: Iterable[str]) -> bool:
    """Whether a 400 or 422 names one of these fields or types of an output format, not the schema in it."""
    if isinstance(error, ContextLengthError) or error.status not in (400, 422):
        return False
    words = f"{error.param or ''} {error.message}"
    return not wording.BAD_SCHEMA.search(words) and any(wording.mentions(words, name) for name in names)


def is_no_route(error: APIStatusError) -> bool:
    """Whether the server says that there is no such route, rather than no such model."""
    return error.status in (404, 405, 501) and not isinstance(error, ModelNotFoundError)

"""The failure table: each class of error and each status has one row, and every part of the client reads the same one."""

from typing import Any

import pytest

from nimclient._retry.classify import (
    ACCEPTED,
    BAD_BODY,
    CONFLICT,
    CONNECTION_REFUSED,
    INTERRUPTED,
    LOCAL,
    LOST_RESULT,
    MALFORMED,
    MISMATCHED,
    NO_UPSTREAM,
    OUT_OF_RESOURCES,
    OUT_OF_TIME,
    REJECTED,
    SERVER_ERROR,
    STALE_CONNECTION,
    THROTTLED,
    TOO_LARGE,
    UNREACHABLE,
    UNSUPPORTED,
    UNTRUSTED,
    FailureKind,
    FailureScope,
    HealthSignal,
    RequestState,
    classify,
    classify_status,
    health_of,
    is_no_route,
    max_texts,
    rejects_field,
    rejects_form,
    scope_of,
)
from nimclient.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BodyTooLargeError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ContextLengthError,
    DecodeError,
    EmbeddingMismatchError,
    GoneError,
    ModelNotFoundError,
    NimError,
    ProtocolError,
    RateLimitError,
    RedirectError,
    RequestTimeoutError,
    RequestTooLargeError,
    RerankMismatchError,
    ServerError,
    StreamFaultError,
    StreamInterruptedError,
    UnprocessableEntityError,
)
from support.rejections import rejected
from support.schemas import FORM_NAMES, Via


def status(number: int) -> APIStatusError:
    return APIStatusError("x", status=number)


def timeout(phase: Any) -> RequestTimeoutError:
    return RequestTimeoutError("x", phase=phase)


ROWS: list[tuple[NimError, FailureKind]] = [
    *[(status(s), THROTTLED) for s in (429, 503, 529)],
    *[(status(s), CONFLICT) for s in (408, 409, 425)],
    *[(status(s), SERVER_ERROR) for s in (500, 520, 524, 528)],
    *[(status(s), NO_UPSTREAM) for s in (502, 504, 521, 522, 523, 530)],
    *[(status(s), REJECTED) for s in (400, 401, 402, 403, 404, 405, 410, 413, 418, 422)],
    *[(status(s), UNSUPPORTED) for s in (501, 505, 599, 600)],
    *[(StreamFaultError("x", code=c), THROTTLED) for c in (429, "503", 529)],
    *[(StreamFaultError("x", code=c), INTERRUPTED) for c in (None, "overloaded", 200)],
    (StreamFaultError("x", code=500), SERVER_ERROR),
    (StreamFaultError("x", code=400), REJECTED),
    (ContextLengthError("x", status=500), REJECTED),  # of llama-server
    (ConnectError("x", kind="refused"), CONNECTION_REFUSED),
    (ConnectError("x", kind="dns"), UNREACHABLE),
    (ConnectError("x", kind="unreachable"), UNREACHABLE),
    (ConnectError("x", kind="proxy"), UNREACHABLE),
    (ConnectError("x", kind="resources"), OUT_OF_RESOURCES),
    (ConnectError("x", kind="tls"), UNTRUSTED),
    (timeout("connect"), UNREACHABLE),
    *[(timeout(p), INTERRUPTED) for p in ("headers", "first_event", "idle")],
    (timeout("pool"), LOCAL),
    (timeout("poll"), LOST_RESULT),
    (timeout("total"), OUT_OF_TIME),
    (ConnectionLostError("x"), INTERRUPTED),
    (ConnectionLostError("x", reused=True), STALE_CONNECTION),
    (StreamInterruptedError("x"), INTERRUPTED),
    (BodyTooLargeError("x", limit=1), TOO_LARGE),
    (RedirectError("x", host="h"), LOCAL),
    (ProtocolError("x"), MALFORMED),
    (DecodeError("x"), MALFORMED),
    (RerankMismatchError("x"), MALFORMED),
    (EmbeddingMismatchError("x"), MISMATCHED),
    (DecodeError("x", status=202), ACCEPTED),
    (ConfigurationError("x"), LOCAL),
    (ConfigurationError("x", path="body"), BAD_BODY),
    (ClientClosedError("x"), LOCAL),
]


@pytest.mark.parametrize(("error", "row"), ROWS, ids=lambda value: repr(value)[:50])
def test_every_failure_has_its_row(error: NimError, row: FailureKind) -> None:
    """The class of an error, and its status, kind or phase, pick the row."""
    assert classify(error) == row
    assert health_of(error) is row.health


def test_a_server_is_judged_by_what_it_did() -> None:
    """A success is one; what the caller or Python raised tells nothing of the server."""
    assert health_of(None) is HealthSignal.OK
    assert health_of(KeyboardInterrupt()) is HealthSignal.UNKNOWN
    assert health_of(ValueError("x")) is HealthSignal.UNKNOWN


def test_what_is_not_sent_is_safe_to_repeat() -> None:
    """Throttling, a refused connection and no descriptor for one are the rows that a repeat, later, carries out once."""
    rows = {kind for _, kind in ROWS if kind.is_throttled}
    assert rows == {THROTTLED, CONNECTION_REFUSED, OUT_OF_RESOURCES}
    assert all(kind.retryable and kind.state is RequestState.NOT_SENT for kind in rows)


def test_a_server_that_is_away() -> None:
    """It cannot be connected to, or a gateway cannot; one that is busy is there, and so is one that fails."""
    assert {kind for _, kind in ROWS if kind.is_away} == {CONNECTION_REFUSED, NO_UPSTREAM}


def test_every_status_has_a_row() -> None:
    """What a status below 500 says is never held against the server's health, other than being busy."""
    healthy = (HealthSignal.REJECTED, HealthSignal.THROTTLED)
    unhealthy = {number for number in range(400, 600) if classify_status(number).health not in healthy}
    assert unhealthy == set(range(500, 600)) - {503, 529}


@pytest.mark.parametrize(
    ("status", "body", "named"),
    [
        (400, {"error": {"message": "x", "param": "input_type"}}, True),
        (400, {"error": "Unsupported parameter(s): `input_type`"}, True),
        (422, {"detail": [{"loc": ["body", "input_type"], "msg": "extra"}]}, True),
        (422, {"detail": "the input_types are wrong"}, False),
        (400, {"error": "bad temperature"}, False),
        (404, {"error": "input_type"}, False),
        (500, {"error": "input_type"}, False),
    ],
)
def test_a_rejected_field_is_recognised(status: int, body: object, named: bool) -> None:
    """Only a 400 or 422 that says the field's whole name rejects it."""
    error = rejected(status, body)
    assert rejects_field(error, "input_type") is named


@pytest.mark.parametrize("words", ["stream_options", "include_usage"])
def test_a_rejected_field_is_recognised_by_what_is_in_it(words: str) -> None:
    """An error about `include_usage` is one about `stream_options`."""
    assert rejects_field(rejected(400, {"error": f"Unknown field: {words}"}), "stream_options")


def test_a_rejection_of_base64_is_one_of_the_encoding() -> None:
    """An older vLLM says "base64 encoding is not currently supported" and does not name the field."""
    error = rejected(400, {"object": "error", "message": "base64 encoding is not currently supported", "code": 400})
    assert rejects_field(error, "encoding_format")
    assert not rejects_field(error, "input_type")


def rejection(status: int, words: str = "no", **fields: Any) -> NimError:
    kind = {400: BadRequestError, 413: RequestTooLargeError, 422: UnprocessableEntityError}[status]
    return kind(words, status=status, **fields)


FIELDS = {"model", "dimensions", "truncate", "input_type", "encoding_format"}


@pytest.mark.parametrize(
    ("error", "scope"),
    [
        (rejection(400), FailureScope.ITEM),
        (rejection(413, "Payload Too Large"), FailureScope.ITEM),
        (rejection(422, "input.3: string too short", param="input.3"), FailureScope.ITEM),
        (rejection(400, "dimensions of the input", param="input[3]"), FailureScope.ITEM),
        (ContextLengthError("This model's maximum context length is 512; set truncate", status=400), FailureScope.ITEM),
        (EmbeddingMismatchError("NaN"), FailureScope.ITEM),
        (StreamFaultError("bad text", code=400), FailureScope.ITEM),
        (rejection(400, "The model `x` does not exist."), FailureScope.CALL),
        (rejection(400, "nothing", param="model"), FailureScope.CALL),
        (rejection(422, "nothing", param="truncate"), FailureScope.CALL),
        (rejection(400, "does not support changing output dimensions"), FailureScope.CALL),
        (rejection(400, "invalid API key"), FailureScope.CALL),
        (rejection(400, "user is not allowed"), FailureScope.ITEM),
        (rejection(413, "batch size 64 > maximum allowed batch size 32"), FailureScope.REQUEST),
        (rejection(422, "input: List should have at most 32 items after validation, not 64"), FailureScope.REQUEST),
        (rejection(400, "too many inputs"), FailureScope.REQUEST),
        (BodyTooLargeError("", limit=1), FailureScope.REQUEST),
        (ServerError("", status=500), FailureScope.UNCLEAR),
        (ConnectionLostError(""), FailureScope.UNCLEAR),
        (RequestTimeoutError("", phase="headers"), FailureScope.UNCLEAR),
        (RequestTimeoutError("", phase="total"), FailureScope.UNCLEAR),
        (DecodeError(""), FailureScope.UNCLEAR),
        (StreamFaultError(""), FailureScope.UNCLEAR),
        (AuthenticationError("", status=401), FailureScope.CALL),
        (ModelNotFoundError("", status=404), FailureScope.CALL),
        (GoneError("", status=410), FailureScope.CALL),
        (RateLimitError("", status=429), FailureScope.CALL),
        (ConnectError("", kind="refused"), FailureScope.CALL),
        (ConnectError("", kind="dns"), FailureScope.CALL),
        (RequestTimeoutError("", phase="pool"), FailureScope.CALL),
        (ClientClosedError(""), FailureScope.CALL),
        (ConfigurationError(""), FailureScope.CALL),
        (ConfigurationError("", path="body.input_type"), FailureScope.CALL),
        (ConfigurationError("", path="body"), FailureScope.ITEM),
    ],
    ids=lambda value: str(value)[:40],
)
def test_whose_failure_it_is(error: NimError, scope: FailureScope) -> None:
    """Texts are blamed for what one of them can bring about, the call for what every slice would meet."""
    assert scope_of(error, FIELDS) is scope


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("batch size 64 > maximum allowed batch size 32", 32),
        ("batch size 64 > maximum allowed batch size 1", 1),
        ("batch size 64 > maximum allowed batch size 0", None),
        ("List should have at most 32 items after validation, not 64", 32),
        ("array too long. Expected an array with maximum length 48, but got an array with length 64 instead", 48),
        ("too many inputs: the limit is 64", None),
        ("too many inputs", None),
        ("at most 32 tokens", None),
    ],
)
def test_the_number_that_a_rejection_names(words: str, number: int | None) -> None:
    """How many texts are allowed is taken from the words, where it makes sense."""
    assert max_texts(rejection(422, words), 64) == number


@pytest.mark.parametrize(
    ("error", "via", "rejected"),
    [
        (BadRequestError("no", status=400, param="response_format"), "json_schema", True),
        (BadRequestError("no", status=400, param="response_format.type"), "json_object", True),
        (UnprocessableEntityError("guided_json: Extra inputs are not permitted", status=422), "guided_json", True),
        (BadRequestError("Unsupported parameter(s): `nvext`", status=400), "nvext", True),
        (BadRequestError("json_schema is not supported", status=400), "json_schema", True),
        (BadRequestError("structured_outputs", status=400), "structured_outputs", True),
        (BadRequestError("no", status=400, param="guided_json_x"), "guided_json", False),
        (BadRequestError("max_tokens is too large", status=400), "json_schema", False),
        (BadRequestError("Invalid schema for response_format 'City'", status=400), "json_schema", False),
        (BadRequestError("the schema in response_format contains features not supported by xgrammar", status=400),
         "json_schema", False),
        (BadRequestError("no", status=400, body="you sent response_format"), "json_schema", False),
        (ContextLengthError("response_format", status=400), "json_schema", False),
        (ServerError("response_format", status=500), "json_schema", False),
    ],
)  # fmt: skip
def test_only_a_400_or_422_that_names_the_field_rejects_a_form(error: APIStatusError, via: Via, rejected: bool) -> None:
    """Not a complaint about the schema in it, nor one about something else."""
    assert rejects_form(error, FORM_NAMES[via]) is rejected


@pytest.mark.parametrize(
    ("status", "says"), [(404, True), (405, True), (501, True), (400, False), (500, False), (502, False)]
)
def test_what_shows_that_there_is_no_such_route(status, says):
    """404, 405 and 501 without a word about the model; a model that is not there is on a route that is."""
    assert is_no_route(APIStatusError("no", status=status)) is says
    assert not is_no_route(ModelNotFoundError("no", status=status))

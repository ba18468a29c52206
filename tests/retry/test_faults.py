"""Every rejection becomes the error a user can act on, in every dialect, and no body whatever makes that fail."""

import copy
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient import ResponseMeta, errors
from nimclient._retry.faults import (
    MAX_ERROR_BODY,
    Fault,
    fault_of,
    is_fault_event,
    raise_plain_fault,
    read_fault,
    status_error,
    stream_fault,
)
from nimclient.records import Headers


def refusal(status, body, headers=None, request_id=None):
    if not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    data = body.encode() if isinstance(body, str) else body
    return status_error(status, headers or {}, data, where="POST /chat/completions", request_id=request_id)


def problem(status, title, detail=None, **rest):
    return {"status": status, "title": title, **({} if detail is None else {"detail": detail}), **rest}


GONE = "The model 'x' has reached its end of life on 2026-01-01 and is no longer available."
WORKER = "urn:nvcf-worker-service:problem-details:unprocessable-entity"
REPR = "[{'type': 'extra_forbidden', 'loc': ('body','prompt_cache_key')}]"
NOT_FOUND_UUID = "Function '6b1c': Not found for account 'abc'"
TOO_LONG = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
BUSY = "ResourceExhausted: Worker local total request limit reached (163/32)"

# status, body, class, the words, code, type, param
DIALECTS = [
    pytest.param(
        400,
        {"error": {"message": "Please make sure your payload is below 26214400 bytes", "type": "invalid_request_error",
                   "param": None, "code": "invalid_image_format"}},
        errors.BadRequestError, "below 26214400 bytes", "invalid_image_format", "invalid_request_error", None,
        id="gateway: body too large",
    ),
    pytest.param(
        400, {"error": {"message": "no model", "code": "missing_required_field"}},
        errors.BadRequestError, "no model", "missing_required_field", None, None, id="gateway: no model",
    ),
    pytest.param(
        400, {"message": "Validation: Unsupported parameter(s): `foo`", "type": "Bad Request", "code": 400},
        errors.BadRequestError, "Unsupported parameter(s): `foo`", 400, "Bad Request", "foo", id="Dynamo",
    ),
    pytest.param(
        400, {"error": REPR}, errors.BadRequestError, "extra_forbidden", None, None, "prompt_cache_key", id="error is a str"
    ),
    pytest.param(
        400, {"object": "error", "message": "bad", "type": "BadRequestError", "param": None, "code": 400},
        errors.BadRequestError, "bad", 400, "BadRequestError", None, id="old vLLM",
    ),
    pytest.param(
        400, {"error": {"message": TOO_LONG, "type": "BadRequestError", "param": "input_tokens", "code": 400}},
        errors.ContextLengthError, "maximum context length", 400, "BadRequestError", "input_tokens", id="vLLM: too long",
    ),
    pytest.param(
        400, {"error": "Input length 600 exceeds maximum allowed token size 512"},
        errors.ContextLengthError, "exceeds maximum allowed", None, None, None, id="embedding NIM: too long",
    ),
    pytest.param(
        422, {"detail": "Input length 600 exceeds maximum allowed token size 512"},
        errors.ContextLengthError, "exceeds maximum allowed", None, None, None, id="too long as 422",
    ),
    pytest.param(
        401, "Header of type `authorization` was missing",
        errors.AuthenticationError, "`authorization` was missing", None, None, None, id="no header: text",
    ),
    pytest.param(
        401, problem(401, "Unauthorized", "Authentication failed"),
        errors.AuthenticationError, "Authentication failed", 401, None, None, id="unknown key",
    ),
    pytest.param(401, {"error": "Unauthorized"}, errors.AuthenticationError, "Unauthorized", None, None, None, id="vLLM 401"),
    pytest.param(
        402, {"detail": "You have reached your limit of credits."},
        errors.APIStatusError, "limit of credits", None, None, None, id="credits",
    ),
    pytest.param(
        403, problem(403, "Forbidden", "Authorization failed"),
        errors.PermissionDeniedError, "Authorization failed; on the hosted catalog", 403, None, None, id="bad key",
    ),
    pytest.param(
        404, problem(404, "Not Found", NOT_FOUND_UUID),
        errors.ModelNotFoundError, "your account may not call it", 404, None, None, id="not enabled for the account",
    ),
    pytest.param(
        404, "404 page not found", errors.NotFoundError, "404 page not found; the gateway has no such model", None, None,
        None, id="gateway 404",
    ),
    pytest.param(
        404, {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}},
        errors.ModelNotFoundError, "The model `x` does not exist.", 404, "NotFoundError", "model", id="vLLM: no model",
    ),
    pytest.param(
        404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
        errors.ModelNotFoundError, "does not exist", 404, "NotFoundError", None, id="old vLLM: no model",
    ),
    pytest.param(404, {"detail": "Not Found"}, errors.NotFoundError, "Not Found", None, None, None, id="FastAPI path"),
    pytest.param(
        405, {"detail": "Method Not Allowed"}, errors.APIStatusError, "Method Not Allowed", None, None, None, id="method"
    ),
    pytest.param(
        413, "<html><head><title>413 Request Entity Too Large</title></head><body>nginx</body></html>",
        errors.RequestTooLargeError, "413 Request Entity Too Large nginx", None, None, None, id="nginx HTML",
    ),
    pytest.param(
        410, {"type": "about:blank", **problem(410, "Gone", GONE)},
        errors.GoneError, "end of life", 410, "about:blank", None, id="model removed",
    ),
    pytest.param(
        412, problem(412, "Precondition Failed"), errors.APIStatusError, "Precondition Failed", 412, None, None, id="412"
    ),
    pytest.param(
        422, {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "field required", "type": "missing"},
                         {"loc": ["body", "x"], "msg": "extra", "type": "extra"}]},
        errors.UnprocessableEntityError, "messages.0.role: field required; x: extra", None, None, "messages.0.role",
        id="FastAPI validation",
    ),
    pytest.param(
        422, {"error": "body -> presence_penalty\n  Extra inputs are not permitted (type=extra_forbidden)"},
        errors.UnprocessableEntityError, "body -> presence_penalty Extra inputs", None, None,
        "presence_penalty", id="pydantic text",
    ),
    pytest.param(
        422, {"type": WORKER, **problem(422, "Unprocessable", "bad asset", instance="/x", requestId="r")},
        errors.UnprocessableEntityError, "bad asset", 422, WORKER, None, id="worker",
    ),
    pytest.param(
        422, {"error": {"message": "could not fetch", "type": "UnprocessableEntityError"}},
        errors.UnprocessableEntityError, "could not fetch", None, "UnprocessableEntityError", None, id="vLLM media",
    ),
    pytest.param(
        429, problem(429, "Too Many Requests"), errors.RateLimitError, "Too Many Requests", 429, None, None, id="429"
    ),
    pytest.param(
        500, {"type": "urn:inference-service", **problem(500, "Internal", "Inference error")},
        errors.ServerError, "Inference error", 500, "urn:inference-service", None, id="container error",
    ),
    pytest.param(500, "invalid JSON", errors.ServerError, "invalid JSON", None, None, None, id="500 text"),
    pytest.param(
        502, problem(502, "Bad Gateway", "Upstream request failed."),
        errors.ServerError, "Upstream request failed.", 502, None, None, id="proxy",
    ),
    pytest.param(
        503, {"error": {"message": BUSY, "type": "Service Unavailable", "code": 503}},
        errors.ServiceUnavailableError, "(163/32)", 503, "Service Unavailable", None, id="worker busy",
    ),
    pytest.param(504, b"", errors.ServerError, "empty error body", None, None, None, id="504 empty"),
    pytest.param(529, {"message": "overloaded"}, errors.ServerError, "overloaded", None, None, None, id="Dynamo overload"),
    pytest.param(418, "teapot", errors.APIStatusError, "teapot", None, None, None, id="418"),
    pytest.param(600, "?", errors.APIStatusError, "?", None, None, None, id="600"),
    pytest.param(999, "?", errors.APIStatusError, "?", None, None, None, id="999"),
    pytest.param(400, "null", errors.BadRequestError, "empty error body", None, None, None, id="null"),
    pytest.param(400, "[]", errors.BadRequestError, "empty error body", None, None, None, id="empty list"),
    pytest.param(400, "{}", errors.BadRequestError, "empty error body", None, None, None, id="empty object"),
    pytest.param(400, "[1, 2]", errors.BadRequestError, "[1,2]", None, None, None, id="list"),
    pytest.param(400, '"just words"', errors.BadRequestError, "just words", None, None, None, id="string"),
    pytest.param(400, "false", errors.BadRequestError, "false", None, None, None, id="boolean"),
    pytest.param(400, b"\xff\x00\xfe", errors.BadRequestError, "\ufffd", None, None, None, id="garbage"),
    pytest.param(400, {"error": {}}, errors.BadRequestError, "empty error body", None, None, None, id="empty error"),
    pytest.param(400, {"error": [1]}, errors.BadRequestError, "1 (POST", None, None, None, id="error is a list"),
    pytest.param(400, {"msg": "words"}, errors.BadRequestError, "words", None, None, None, id="msg"),
    pytest.param(422, {"details": "words"}, errors.UnprocessableEntityError, "words", None, None, None, id="details"),
    pytest.param(
        400, {"message": {"text": "odd"}}, errors.BadRequestError, '{"text":"odd"}', None, None, None, id="message object"
    ),
    pytest.param(400, {"message": "m", "code": True}, errors.BadRequestError, "m", None, None, None, id="boolean code"),
    pytest.param(400, {"detail": ""}, errors.BadRequestError, "empty error body", None, None, None, id="empty detail"),
    pytest.param(
        422, {"detail": [{"msg": "no place"}]}, errors.UnprocessableEntityError, "no place", None, None, None,
        id="detail without a place",
    ),
    pytest.param(
        400, {"error": "too bad", "code": 7, "type": "T"}, errors.BadRequestError, "too bad", 7, "T", None,
        id="str error with code",
    ),
    pytest.param(
        400, {"error": {"message": "[] is too short - 'tools'", "type": "BadRequestError", "param": "tools", "code": 400}},
        errors.BadRequestError, "is too short", 400, "BadRequestError", "tools", id="vLLM: validation",
    ),
    pytest.param(
        400, {"error": {"message": "top_k must be -1 or at least 1 (parameter=top_k, value=-5)", "param": None, "code": 400}},
        errors.BadRequestError, "at least 1", 400, None, "top_k", id="vLLM: parameter in the words",
    ),
    pytest.param(
        400, {"message": "Failed to deserialize the JSON body: missing field `messages`", "type": "Bad Request", "code": 400},
        errors.BadRequestError, "missing field", 400, "Bad Request", "messages", id="Dynamo: missing field",
    ),
    pytest.param(
        400, {"message": "unknown field `guided_json`, expected one of", "type": "Bad Request", "code": 400},
        errors.BadRequestError, "unknown field", 400, "Bad Request", "guided_json", id="Dynamo: unknown field",
    ),
    pytest.param(
        404, {"message": "Model not found", "type": "Not Found", "code": 404},
        errors.ModelNotFoundError, "Model not found", 404, "Not Found", None, id="Dynamo: no model",
    ),
    pytest.param(
        529, {"message": "Service temporarily overloaded", "type": "Overloaded", "code": 529},
        errors.ServerError, "overloaded", 529, "Overloaded", None, id="Dynamo: overload",
    ),
    pytest.param(
        400, {"object": "error", "message": "passages: required", "detail": {}, "type": "invalid_request_error"},
        errors.BadRequestError, "passages: required", None, "invalid_request_error", None, id="retriever NIM: flat",
    ),
    pytest.param(
        422, {"error": {"object": "error", "message": "no", "type": "X", "param": "n", "code": "c"}},
        errors.UnprocessableEntityError, "no", "c", "X", "n", id="old vLLM in a stream",
    ),
    pytest.param(
        422, {"detail": [{"type": "missing", "loc": ["body", "query", "text"], "msg": "Field required", "input": {}}]},
        errors.UnprocessableEntityError, "query.text: Field required", None, None, "query.text", id="FastAPI: nested place",
    ),
    pytest.param(
        422, {"detail": [{"loc": ["header", "x-key"], "msg": "missing"}, "odd", None]},
        errors.UnprocessableEntityError, "header.x-key: missing", None, None, "header.x-key", id="FastAPI: a header",
    ),
    pytest.param(
        400, {"detail": {"message": "inner", "code": "c1", "type": "T", "param": "p"}},
        errors.BadRequestError, "inner", "c1", "T", "p", id="FastAPI: detail is an object",
    ),
    pytest.param(
        400, {"detail": {"error": {"message": "deep"}}}, errors.BadRequestError, "deep", None, None, None,
        id="FastAPI: detail holds an error",
    ),
    pytest.param(
        400, {"error": "[{'type': 'x', 'loc': ('body', 'messages', 0, 'role'), 'msg': 'm'}]"},
        errors.BadRequestError, "'msg': 'm'", None, None, "messages.0.role", id="a nested place in a str",
    ),
    pytest.param(
        400, {"error": "[{'loc': ('body',), 'msg': 'm'}]"}, errors.BadRequestError, "'msg': 'm'", None, None, None,
        id="a place that is the body",
    ),
    pytest.param(
        422, {"error": "body -> messages -> 0 -> role\n  bad"}, errors.UnprocessableEntityError, "bad", None, None,
        "messages.0.role", id="pydantic text: nested place",
    ),
    pytest.param(
        424, {"error": "Model is overloaded", "error_type": "Backend"}, errors.APIStatusError, "overloaded", None, "Backend",
        None, id="TEI",
    ),
    pytest.param(
        400, {"error": "unexpected inference input 'X' for model 'm'"}, errors.BadRequestError, "input 'X'", None, None, None,
        id="Triton",
    ),
    pytest.param(
        500, {"message": "unknown field `x`", "code": 500}, errors.ServerError, "unknown field", 500, None, None,
        id="a field that nobody validated",
    ),
    pytest.param(
        500, {"type": "urn:inference-connection", **problem(500, "Error", "Inference connection error while making")},
        errors.ServerError, "connection error", 500, "urn:inference-connection", None, id="worker lost its container",
    ),
    pytest.param(
        503, problem(503, "Service Unavailable", "offline"), errors.ServiceUnavailableError, "offline", 503, None, None,
        id="taken offline",
    ),
    pytest.param(415, {"detail": "no JSON"}, errors.APIStatusError, "no JSON", None, None, None, id="415"),
    pytest.param(400, {"message": "m", "status": "bad"}, errors.BadRequestError, "m", None, None, None, id="status in words"),
    pytest.param(
        400, {"error": {"code": 400, "message": "the request exceeds the available context size",
                        "type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}},
        errors.ContextLengthError, "available context", 400, "exceed_context_size_error", None, id="llama.cpp: too long",
    ),
    pytest.param(
        500, {"error": {"code": 500, "message": "input (7 tokens) is too large to process. increase the physical batch size",
                        "type": "server_error"}},
        errors.ContextLengthError, "physical batch size", 500, "server_error", None, id="llama-server: embedding too long",
    ),
    pytest.param(
        400, {"error": {"message": "Requested tokens (600) exceed context window of 512", "type": "invalid_request_error",
                        "param": "messages", "code": "context_length_exceeded"}},
        errors.ContextLengthError, "context window", "context_length_exceeded", "invalid_request_error", "messages",
        id="llama-cpp-python: too long",
    ),
    pytest.param(
        400, {"error": {"message": "no words of length", "code": "context_length_exceeded"}},
        errors.ContextLengthError, "no words", "context_length_exceeded", None, None, id="the code alone: too long",
    ),
    pytest.param(
        400, {"error": {"message": "litellm.ContextWindowExceededError: litellm.BadRequestError: x. Received Model Group=m",
                        "type": None, "param": None, "code": "400"}},
        errors.ContextLengthError, "ContextWindowExceededError", "400", None, None, id="LiteLLM: too long",
    ),
    pytest.param(
        400, {"error": {"message": "AnthropicException - input length and `max_tokens` exceed context "
                                   "limit: 179413 + 32768 > 200000", "type": None, "param": None, "code": "400"}},
        errors.ContextLengthError, "context limit", "400", None, None, id="LiteLLM: too long, untranslated",
    ),
    pytest.param(
        400, {"error": {"message": "The input token count (2800010) exceeds the maximum number of tokens allowed (1048575).",
                        "code": 400, "status": "INVALID_ARGUMENT"}},
        errors.ContextLengthError, "token count", 400, None, None, id="Gemini: too long",
    ),
    pytest.param(
        400, {"object": "error", "message": "The input (60 tokens) is longer than the model's context length (40 tokens).",
              "type": "BadRequestError", "param": None, "code": 400},
        errors.ContextLengthError, "is longer", 400, "BadRequestError", None, id="SGLang: too long",
    ),
    pytest.param(
        422, {"error": "`inputs` must have less than 1024 tokens. Given: 2000", "error_type": "validation"},
        errors.ContextLengthError, "1024 tokens", None, "validation", None, id="TGI: too long",
    ),
    pytest.param(
        422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 1000 `inputs` tokens "
                       "and 2000 `max_new_tokens`", "error_type": "validation"},
        errors.ContextLengthError, "<= 2048", None, "validation", None, id="TGI: too long with the answer",
    ),
    pytest.param(
        413, {"error": "`inputs` must have less than 512 tokens. Given: 700", "error_type": "Validation"},
        errors.ContextLengthError, "512 tokens", None, "Validation", None, id="TEI: too long",
    ),
    pytest.param(
        400, {"error": {"message": "/chat/completions: Invalid model name passed in model=zz. Call `/v1/models` to view them",
                        "type": "invalid_request_error", "param": "model", "code": "400"}},
        errors.ModelNotFoundError, "Invalid model name", "400", "invalid_request_error", "model", id="LiteLLM: no model",
    ),
    pytest.param(
        400, {"error": {"message": "Invalid model: Engine for model name `zz` not found. Available model names are: ['m']",
                        "type": None, "param": None, "code": 400}},
        errors.ModelNotFoundError, "Engine for model name", 400, None, None, id="infinity: no model",
    ),
    pytest.param(
        400, {"detail": "Server is pinned to 'tiny', but request asked for 'zz'"},
        errors.ModelNotFoundError, "pinned to", None, None, None, id="transformers serve: no model",
    ),
    pytest.param(
        400, {"error": {"message": "nope", "code": "model_not_found"}},
        errors.ModelNotFoundError, "nope", "model_not_found", None, None, id="the code alone: no model",
    ),
    pytest.param(
        400, {"error": {"message": "temperature: model weights not found to matter", "param": "temperature"}},
        errors.BadRequestError, "temperature", None, None, "temperature", id="words that only look like a missing model",
    ),
    pytest.param(
        400, [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}],
        errors.BadRequestError, "API key not valid.", 400, None, None, id="an error in an array",
    ),
    pytest.param(
        401, {"fault": {"faultstring": "Invalid ApiKey", "detail": {"errorcode": "oauth.v2.InvalidApiKey"}}},
        errors.AuthenticationError, "Invalid ApiKey; check", "oauth.v2.InvalidApiKey", None, None, id="Apigee",
    ),
    pytest.param(
        400, {"success": False, "errors": [{"code": 7003, "message": "Could not route"}], "messages": [], "result": None},
        errors.BadRequestError, "Could not route", 7003, None, None, id="Cloudflare",
    ),
    pytest.param(
        400, {"errors": {"messages": ["The messages field is required."]}, "title": "Validation errors."},
        errors.BadRequestError, "messages: The messages field", None, None, "messages", id="ASP.NET",
    ),
    pytest.param(
        429, {"error": {"message": "", "type": "rate_limit_error", "code": "rate_limit_exceeded"}},
        errors.RateLimitError, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error", None, id="an empty message",
    ),
    pytest.param(
        403, {"Message": "User is not authorized", "__type": "AccessDeniedException"},
        errors.PermissionDeniedError, "not authorized", "AccessDeniedException", None, None, id="AWS",
    ),
    pytest.param(
        422, {"detail": "Unexpected fields in the request: {'x'}"},
        errors.UnprocessableEntityError, "Unexpected fields", None, None, "x", id="transformers serve: a field",
    ),
    pytest.param(
        422, {"detail": ["first problem", "second problem"]},
        errors.UnprocessableEntityError, "first problem; second problem", None, None, None, id="a list of words",
    ),
    pytest.param(
        400, {"error": "invalid_request", "error_description": "The grant is wrong"},
        errors.BadRequestError, "The grant is wrong", None, None, None, id="OAuth",
    ),
    pytest.param(400, {"detail": [], "title": "t"}, errors.BadRequestError, "t", None, None, None, id="no details"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "words", "code", "type_", "param"), DIALECTS)
def test_every_dialect_is_read(status, body, kind, words, code, type_, param):
    """Class, words, code, type and param of every error body that is known from the wire."""
    error = refusal(status, body)
    assert type(error) is kind
    assert words in error.message
    assert "\n" not in error.message
    assert (error.status, error.code, error.type, error.param) == (status, code, type_, param)


def test_the_message_says_what_where_and_which_request():
    """The one line names the words, the method and path, the status and the request id."""
    error = refusal(401, {"error": "Unauthorized"}, request_id="r-1")
    assert str(error) == "Unauthorized; check the API key (POST /chat/completions → 401, request id r-1)"
    assert error.request_id == "r-1"


@pytest.mark.parametrize("key", ["detail", "error", "message", "x"])
def test_no_nesting_is_too_deep(key):
    """A body of objects inside each other, as deep as JSON is read, is an error like any other."""
    error = refusal(400, f'{{"{key}":' * 1000 + "1" + "}" * 1000)
    assert type(error) is errors.BadRequestError
    assert len(error.message) < 700


@pytest.mark.parametrize("field", ["code", "message", "param", "type"])
def test_a_number_of_thousands_of_digits_is_no_trouble(field):
    """A code of 5,000 digits, as a number or as text, is an error like any other, and so is that of a stream's event."""
    for value in ("9" * 5000, f'"{"9" * 5000}"'):
        error = refusal(400, f'{{"error": {{"message": "m", "{field}": {value}}}}}')
        assert type(error) is errors.BadRequestError
        assert len(error.message) < 700
        assert len(str(error.code)) < 400
    assert stream_fault({"message": "m", "code": "9" * 5000}).status is None


def test_a_deep_detail_can_be_pickled_and_copied():
    """Validation details nested 200 levels deep are kept as text, so that the error can be shown, copied and pickled."""
    deep = "[" * 200 + "1" + "]" * 200
    error = refusal(422, f'{{"detail": {deep}, "message": "m"}}')
    assert isinstance(error.detail, str)
    assert pickle.loads(pickle.dumps(error)).detail == copy.deepcopy(error).detail == error.detail


META = ResponseMeta(200, Headers([(b"Retry-After", b"2"), (b"x-request-id", b"r-9")]), "http://h/v1/chat/completions")


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        (503, errors.ServiceUnavailableError, 503),
        ("429", errors.RateLimitError, 429),
        ("rate_limit_exceeded", errors.RateLimitError, 429),
        ("model_not_found", errors.ModelNotFoundError, 404),
        (None, errors.StreamFaultError, None),
        (7, errors.StreamFaultError, None),
    ],
)
def test_an_error_object_in_a_200_is_the_status_that_its_code_says(code, kind, status):
    """A gateway that answers 200 and then an error object is read as if it had answered with the code; headers count."""
    with pytest.raises(kind) as caught:
        raise_plain_fault({"error": {"message": "no room", "code": code}}, META, "POST /v1/chat/completions")
    assert caught.value.status == status
    assert "no room" in caught.value.message
    assert "stream" not in caught.value.message
    if status is not None:
        assert (caught.value.retry_after, caught.value.request_id) == (2.0, "r-9")
        assert f"(POST /v1/chat/completions → 200 with code {status}, request id r-9)" in caught.value.message


def test_what_is_no_error_object_passes():
    """An answer, and one with a null error beside it, are no faults."""
    raise_plain_fault({"choices": [], "error": None}, META, "POST /x")
    raise_plain_fault({"data": [], "message": "ok"}, META, "POST /x")


@pytest.mark.parametrize("status", [401, 403])
def test_the_advice_says_which_key_was_sent(status):
    """After a 401 or 403 the text says which key went out, or why none did."""
    note = "that of NVIDIA_API_KEY was sent"
    error = status_error(status, {}, b"{}", where="GET /v1/models", request_id=None, key=note)
    assert note in error.message


IDS = {
    "header": ({"title": "t"}, "r-0", "r-0"),
    "problem": (problem(422, "t", "d", requestId="r-1"), None, "r-1"),
    "header before body": (problem(422, "t", "d", requestId="r-1"), "r-0", "r-0"),
    "str error": ({"error": "no", "request_id": "r-2"}, None, "r-2"),
    "nested": ({"error": {"message": "no", "request_id": "r-3"}}, None, "r-3"),
    "in the detail": ({"detail": {"message": "no", "requestId": "r-4"}}, None, "r-4"),
    "hostile": ({"message": "no", "requestId": "a\r\nb" + "c" * 900}, None, "ab" + "c" * 198),
    "no str": ({"message": "no", "requestId": 5}, None, None),
}


@pytest.mark.parametrize(("body", "header", "found"), IDS.values(), ids=IDS)
def test_the_request_id_is_found(body, header, found):
    """The id is that of the headers, else that of the body, without what could break a line."""
    error = refusal(422, body, request_id=header)
    assert error.request_id == found
    assert found is None or f"request id {found}" in error.message


def test_detail_and_body_are_kept():
    """The validation list and the body as received are on the error."""
    body = {"detail": [{"loc": ["body", "x"], "msg": "m"}]}
    error = refusal(422, body)
    assert error.detail == body["detail"]
    assert json.loads(error.body) == body


def test_retry_after_of_the_headers_is_kept():
    """A Retry-After header becomes .retry_after in seconds."""
    assert refusal(503, b"", Headers([(b"Retry-After", b"10800")])).retry_after == 10800


def test_a_huge_body_is_cut():
    """At most 64 KiB of a body are kept, and the message stays short."""
    error = refusal(500, b"x" * 10**6)
    assert len(error.body) == MAX_ERROR_BODY
    assert len(error.message) < 700


def test_html_loses_its_tags_scripts_and_styles():
    """A gateway's page is reduced to its words."""
    page = "<html><style>b{color:red}</style>\n<h1>502</h1> Bad <b>Gateway</b><script>x<1</script>"
    assert read_fault(page) == Fault("502 Bad Gateway")
    assert read_fault("a < b").message == "a < b"
    assert read_fault("<script>never closed").message == ""


@pytest.mark.parametrize("tag", ["<", "<script ", "<a", "</", "<style>", "<script></script"])
def test_hostile_markup_is_read_in_linear_work(tag):
    """Tags that never end cannot make the reading quadratic: four megabytes of them would take hours then."""
    assert len(read_fault(tag * (4_000_000 // len(tag))).message) <= 2000


json_bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "detail", "code", "type", "param", "title", "msg", "loc", "status", "object"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(json_bodies, st.integers(400, 999))
def test_any_json_body_gives_an_error(body, status):
    """No JSON body makes the reading of a rejection fail, and its text is one line."""
    error = refusal(status, json.dumps(body))
    assert error.status == status
    assert len(error.message.splitlines()) == 1
    assert isinstance(error.code, (str, int, type(None)))
    assert error.type is None or isinstance(error.type, str)
    assert error.param is None or isinstance(error.param, str)


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([400, 404, 422, 500]))
def test_any_bytes_give_an_error(body, status):
    """No bytes make it fail either."""
    error = refusal(status, body)
    assert len(error.message.splitlines()) == 1
    assert error.body == body.decode("utf-8", "replace")


@settings(deadline=None)
@given(json_bodies)
def test_any_event_is_judged_without_an_error(body):
    """An event of any shape can be read as a fault of the stream."""
    fault = stream_fault(body, "spare words")
    assert fault.message.startswith("the server reported an error in the stream: ")
    assert fault.status is None or 400 <= fault.status <= 599


# in-band faults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "is_fault"),
    [
        ({"error": {"message": "m"}}, True),
        ({"error": "m"}, True),
        ({"error": {"message": "m"}, "choices": []}, True),
        ({"object": "error"}, True),
        ({"message": "m"}, True),
        ({"detail": "m"}, True),
        ({"title": "m"}, True),
        ({"code": 500, "details": "m"}, True),
        ({"choices": [], "message": "m"}, False),
        ({"choices": [], "error": None}, False),
        ({"error": None}, False),
        ({}, False),
        ({"object": "chat.completion.chunk", "usage": {}}, False),
    ],
)
def test_signs_of_a_fault_in_an_event(event, is_fault):
    """An error beside or instead of choices is a fault; an annotation is not."""
    assert is_fault_event(event) is is_fault


@pytest.mark.parametrize(
    ("event", "fallback", "words", "code", "status"),
    [
        ({"error": {"message": "boom", "type": "InternalServerError", "code": 500}}, "", "boom", 500, 500),
        ({"error": {"object": "error", "message": "boom", "code": 400}}, "", "boom", 400, 400),
        ({"error": "boom"}, "", "boom", None, None),
        ({"error": {"message": "boom", "code": "429"}}, "", "boom", "429", 429),
        ({"error": {"message": "boom", "code": "overloaded"}}, "", "boom", "overloaded", None),
        ({"message": "boom", "code": 200}, "", "boom", 200, None),
        (problem(503, "Unavailable", "boom"), "", "boom", 503, 503),
        (None, "no worker is free", "no worker is free", None, None),
        (None, "", "an error event without text", None, None),
        ("boom", "", "boom", None, None),
    ],
)
def test_the_error_of_a_fault_event(event, fallback, words, code, status):
    """Words, code and status of an error event; the comment stands in where there is no data (Dynamo)."""
    fault = stream_fault(event, fallback)
    assert fault.message == f"the server reported an error in the stream: {words}"
    assert (fault.code, fault.status) == (code, status)


@pytest.mark.parametrize("value", [0, 1.5, True, (), [None]])
def test_bodies_that_are_no_objects_are_shown(value):
    """A decoded body of any other type is shown as it is; an empty one says nothing."""
    assert fault_of(value).message == ("" if value == () else json.dumps(value))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "Context size has been exceeded."),  # LM Studio
        (
            400,
            "Trying to keep the first 5000 tokens. However, the model is loaded with context length of only 4096 tokens",
        ),
        (400, "Prompt is 11543 tokens but the model context window is 4096 tokens."),  # rkllama
        (
            400,
            "The sum of prompt length (5000) and query length (0) should not exceed max_num_tokens (4096)",
        ),  # TensorRT-LLM
        (400, "default_max_tokens (-100) should be greater than 0"),
        (400, "PromptTuning: Prompt length (5000) exceeds maximum input length (4096)."),  # Triton
        (400, "Input length 5000 is larger than session_len 4096"),  # LMDeploy
        (400, "This model's maximum prompt length is 131072 but the request contains 200000 tokens."),  # xAI
        (
            400,
            "This model's maximum embedding input length is 1000 tokens. However, you requested 1451 tokens.",
        ),  # vLLM 0.11
        (400, "the input token count is 109362 but the model supports up to 20000."),  # Vertex
        (400, "max_tokens must be at least 1, got -160"),  # vLLM, where a prompt leaves no room
        (400, "Prompt tokens exceed max model length"),
        (500, "the input length exceeds the context length"),  # Ollama
        (500, "input prompt is too big compared to KV size, please increase KV size"),  # llama-box
    ],
)
def test_other_words_for_too_long(status, words):
    """What servers say of an input that exceeds the context is ContextLengthError, whatever their words."""
    assert isinstance(refusal(status, {"error": {"message": words}}), errors.ContextLengthError)


@pytest.mark.parametrize(
    "fields",
    [
        {"message": "Invalid 'tools[0].function.name': string too long. Expected a string with maximum length 64",
         "param": "tools[0].function.name", "code": "string_above_max_length"},
        {"message": "Request URI too long"},
        {"message": "the image exceeds maximum allowed size of 20MB"},
    ],
    ids=["the name of a tool", "a URI", "bytes"],
)  # fmt: skip
def test_what_else_may_be_too_long(fields):
    """A name, a URI or a file that is too long says nothing of the context."""
    assert type(refusal(400, {"error": fields})) is errors.BadRequestError


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (400, {"message": "Invalid model: zz", "type": "invalid_model", "code": "1500"}),  # Mistral
        (400, {"message": "Model Not Exist", "type": "invalid_request_error"}),  # DeepSeek
        (400, {"message": "zz is not a valid model ID", "code": 400}),  # OpenRouter
        (400, {"message": "could not find real modelID for zz"}),  # llama-swap
        (400, {"message": "No models loaded. Please load a model in the developer page"}),  # LM Studio
        (403, {"message": "Project p does not have access to model zz", "code": "model_not_found"}),  # OpenAI
        (404, {"message": "models/zz is not found for API version v1main", "status": "NOT_FOUND"}),  # Gemini
        (404, {"message": "model: zz", "type": "not_found_error"}),  # Anthropic
        (404, {"message": "Unable to access zz", "code": "model_not_available"}),  # Together
    ],
)
def test_other_words_for_no_such_model(status, fields):
    """What servers say of a model that they do not serve is ModelNotFoundError, whatever their words and status."""
    assert isinstance(refusal(status, {"error": fields}), errors.ModelNotFoundError)

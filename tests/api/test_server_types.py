"""The server type is detected by signs that only one type gives, and what is known is not unlearned."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient._api.server_types import (
    Dialects,
    type_of_answer,
    type_of_error,
    type_of_headers,
    type_of_health,
)
from nimclient.records import Headers
from support.rejections import rejected

HERE = "http://nim:8000/v1/models"


def refusal(status: int, body: Any) -> Any:
    return rejected(status, body)


@pytest.mark.parametrize(
    ("headers", "dialect"),
    [
        ([(b"NVCF-REQID", b"x")], "hosted"),
        ([(b"nvcf-status", b"errored")], "hosted"),
        ([(b"x-dynamo-request-id", b"x")], "dynamo"),
        ([(b"x-request-id", b"x"), (b"server", b"uvicorn")], None),
        ([(b"Server", b"llama.cpp")], "llama.cpp"),
        ([(b"x-litellm-version", b"1.106.0")], "litellm"),
        ([(b"x-litellm-call-id", b"x"), (b"llm_provider-nvcf-reqid", b"y")], "litellm"),
        ([(b"x-compute-type", b"cpu"), (b"x-inference-time", b"3")], "tei"),
        ([(b"x-compute-type", b"cpu")], None),
        ([], None),
    ],
)
def test_headers(headers, dialect):
    """Gateways and some servers mark their responses; an X-Request-Id or uvicorn may be anybody's."""
    assert type_of_headers(Headers(headers)) == dialect


VLLM = {"id": "m", "object": "model", "owned_by": "vllm", "root": "/m", "parent": None, "max_model_len": 9}
NIM = {"id": "m", "object": "model", "owned_by": "system", "root": "m", "parent": None}
DYNAMO = {"id": "m", "object": "model", "owned_by": "nvidia", "context_window": 2048}


@pytest.mark.parametrize(
    ("path", "value", "dialect"),
    [
        ("/models", {"data": [VLLM]}, "vllm"),
        ("/models", {"data": [{"id": "x"}, NIM]}, "nim"),
        ("/models", {"data": [DYNAMO]}, "dynamo"),
        ("/models", {"data": [{"id": "a/b", "owned_by": "nvidia"}]}, None),
        ("/models", {"data": [{"id": "a", "owned_by": "system"}]}, None),
        ("/models", {"data": [{"id": "m", "owned_by": "llamacpp", "meta": {}}], "models": []}, "llama.cpp"),
        ("/models", {"data": [{"id": "m", "owned_by": "infinity", "capabilities": ["embed"]}]}, "infinity"),
        ("/models", {"data": [{"id": "m", "owned_by": "sglang"}]}, "sglang"),
        ("/models", {"data": [{"id": "m", "owned_by": "lmdeploy", "root": "m"}]}, "lmdeploy"),
        ("/models", {"data": [{"id": "m", "owned_by": "openai"}, {"id": "n", "owned_by": ["vllm"]}]}, None),
        ("/models", {"data": [{"id": "m", "created": 1, "object": "model", "owned_by": "vllm"}]}, None),
        ("/models", {"data": []}, None),
        ("/models", [], None),
        ("/models/m", VLLM, "vllm"),
        ("/models/a/b", DYNAMO, "dynamo"),
        ("/models/m", {"id": "m"}, None),
        ("/metadata", {"version": "1", "modelInfo": []}, "nim"),
        ("/metadata", {"licenseInfo": {}}, "nim"),
        ("/metadata", {"anything": 1}, None),
        ("/version", {"release": "1.8.3", "api": "1.0.0"}, "nim"),
        ("/version", {"version": "0.32.0"}, "vllm"),
        ("/version", {}, None),
        ("/embeddings", {"id": "embd-1", "data": []}, "vllm"),
        ("/embeddings", {"id": 5, "data": []}, None),
        ("/embeddings", {"data": []}, None),
        ("/chat/completions", {"id": "embd-1", "choices": []}, None),
        ("/chat/completions", {"system_fingerprint": "vllm-0.32.0-abc"}, "vllm"),
        ("/chat/completions", {"system_fingerprint": "fp_1"}, None),
        ("/chat/completions", {"choices": [], "guardrails": {"config_id": "rails"}}, "guardrails"),
        ("/chat/completions", {"system_fingerprint": None}, None),
        ("/ranking", None, None),
    ],
)
def test_answers(path, value, dialect):
    """Lists of models, versions, ids and fingerprints give away who made them."""
    assert type_of_answer(path, value) == dialect


@pytest.mark.parametrize(
    ("error", "dialect"),
    [
        (refusal(404, {"message": "Route not found: GET /x", "type": "Not Found", "code": 404}), "dynamo"),
        (refusal(400, {"message": "no", "type": "Bad Request", "code": 404}), None),
        (refusal(400, {"object": "error", "message": "no", "type": "Bad Request", "code": 400}), None),
        (refusal(404, {"error": {"message": "no", "type": "NotFoundError", "code": 404}}), None),
        (refusal(404, {"detail": "Not Found"}), None),
        (
            refusal(404, {"status": 404, "title": "Not Found", "detail": "Function 'x': Not found for account 'y'"}),
            "hosted",
        ),
        (refusal(422, {"type": "urn:nvcf-worker-service:problem-details:x", "detail": "no"}), "hosted"),
        (refusal(401, {"status": 401, "title": "Unauthorized", "detail": "Authentication failed"}), None),
        (refusal(404, "404 page not found"), None),
        (refusal(500, ""), None),
        (refusal(500, [1]), None),
    ],
)
def test_refusals(error, dialect):
    """Dynamo's three fields and NVCF's own words; what several server types send says nothing."""
    assert type_of_error(error) == dialect


def test_what_is_known_stays():
    """By origin; only vLLM may turn out to be a NIM, which it is inside."""
    known = Dialects()
    assert known.get(HERE) is None
    known.learn(known.server(HERE), None)
    known.learn(known.server(HERE), "vllm")
    assert (known.get("http://nim:8000"), known.get("http://nim:8000/health")) == ("vllm", "vllm")
    assert known.get("http://nim:80010/v1") is None
    known.learn(known.server(HERE), "dynamo")
    assert known.get(HERE) == "vllm"
    known.learn(known.server(HERE), "nim")
    known.learn(known.server(HERE), "vllm")
    assert known.get(HERE) == "nim"


def test_headers_of_the_first_responses_are_looked_at():
    """A 404 may have fewer headers than what follows; later ones cost nothing."""
    known = Dialects()
    known.inspect_headers(known.server(HERE), {})
    known.inspect_headers(known.server(HERE), {"x-litellm-version": "1"})
    assert (known.type_of(HERE), known.get(HERE)) == ("litellm", None)
    late = Dialects()
    for _ in range(16):
        late.inspect_headers(late.server(HERE), {})
    late.inspect_headers(late.server(HERE), {"nvcf-reqid": "x"})
    assert late.type_of(HERE) is None
    late.inspect_headers(late.server("http://other/v1"), {"nvcf-reqid": "x"})
    assert late.get("http://other") == late.type_of("http://other") == "hosted"


def test_bodies_are_looked_at_while_it_is_open():
    """A verdict ends the search; that of vLLM is open to a NIM's own routes."""
    known = Dialects()
    known.read(known.server(HERE), "/models", {"data": [VLLM]})
    known.read(known.server(HERE), "/models", {"data": [DYNAMO]})
    known.inspect_error(known.server(HERE), refusal(404, {"message": "m", "type": "Not Found", "code": 404}))
    assert known.get(HERE) == "vllm"
    known.read(known.server(HERE), "/metadata", {"modelInfo": []})
    assert known.get(HERE) == "nim"
    other = Dialects()
    other.inspect_error(other.server(HERE), refusal(404, {"message": "m", "type": "Not Found", "code": 404}))
    assert other.get(HERE) == "dynamo"


DYNAMO_HEALTH = b'{"status": "healthy", "endpoints": [], "instances": [{"component": "backend"}]}'


@pytest.mark.parametrize(
    ("path", "kind", "body", "server_type"),
    [
        ("/health/ready", "application/json", b'{"message": "Service is ready."}', "nim"),
        ("/health/live", "", b"", "nim"),
        ("/health/ready", "text/html", b"<html>", None),
        ("/health", "", b"", None),
        ("/health", "application/json", b'{"status": "ok"}', None),
        ("/health", "application/json", b'{"unix": 1762.5}', None),
        ("/health", "application/json", b"not json", None),
        ("/health", "application/json", b"[1]", None),
        ("/health", "application/json", DYNAMO_HEALTH, "dynamo"),
        ("/health/readiness", "application/json", b'{"status": "connected"}', None),
        ("/health/liveliness", "application/json", b'"I\'m alive!"', None),
    ],
)
def test_health_routes(path, kind, body, server_type):
    """A NIM's are its own; what is below the root may be anybody's, unless its body lists Dynamo's instances."""
    headers = {"content-type": kind} if kind else {}
    assert type_of_health(path, headers, body) == server_type
    known = Dialects()
    known.inspect_health(known.server(HERE), path, headers, body)
    assert known.type_of(HERE) == server_type


def test_where_health_was_told_is_remembered():
    """By origin and question."""
    known = Dialects()
    assert known.server(HERE).health_paths == {}
    known.server(HERE).health_paths["ready"] = "/health"
    assert known.server("http://nim:8000/v1/x").health_paths == {"ready": "/health"}
    assert known.server("http://nim:8001").health_paths == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "id", "owned_by", "root", "context_window", "type", "code", "message", "detail"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(json_values, st.sampled_from(["/models", "/models/x", "/metadata", "/version", "/embeddings", "/x"]))
def test_no_answer_makes_the_look_fail(value, path):
    """Any JSON of any route can be looked at."""
    known = {None, "nim", "vllm", "dynamo", "hosted", "llama.cpp", "infinity", "sglang", "lmdeploy"}
    assert type_of_answer(path, value) in known
    assert type_of_error(refusal(400, value)) in (None, "dynamo", "hosted")

"""What kind of server answers is told from signs that only one kind gives, and what is known is not unlearned."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient._api.server_types import (
    Dialects,
    dialect_of_answer,
    dialect_of_headers,
    dialect_of_refusal,
)
from nimclient._base.values import Headers
from nimclient._retry.faults import status_error

HERE = "http://nim:8000/v1/models"


def refusal(status: int, body: Any) -> Any:
    text = body if isinstance(body, str) else json.dumps(body)
    return status_error(status, {}, text.encode(), where="GET /x", request_id=None)


@pytest.mark.parametrize(
    ("headers", "dialect"),
    [
        ([(b"NVCF-REQID", b"x")], "hosted"),
        ([(b"nvcf-status", b"errored")], "hosted"),
        ([(b"x-dynamo-request-id", b"x")], "dynamo"),
        ([(b"x-request-id", b"x"), (b"server", b"uvicorn")], None),
        ([], None),
    ],
)
def test_headers(headers, dialect):
    """NVCF and Dynamo mark their answers; an X-Request-Id or uvicorn may be anybody's."""
    assert dialect_of_headers(Headers(headers)) == dialect


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
        ("/chat/completions", {"system_fingerprint": None}, None),
        ("/ranking", None, None),
    ],
)
def test_answers(path, value, dialect):
    """Lists of models, versions, ids and fingerprints give away who made them."""
    assert dialect_of_answer(path, value) == dialect


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
    """Dynamo's three fields and NVCF's own words; what several kinds of servers send says nothing."""
    assert dialect_of_refusal(error) == dialect


def test_what_is_known_stays():
    """By origin; only vLLM may turn out to be a NIM, which it is inside."""
    known = Dialects()
    assert known.get(HERE) is None
    known.learn(HERE, None)
    known.learn(HERE, "vllm")
    assert (known.get("http://nim:8000"), known.get("http://nim:8000/health")) == ("vllm", "vllm")
    assert known.get("http://nim:80010/v1") is None
    known.learn(HERE, "dynamo")
    assert known.get(HERE) == "vllm"
    known.learn(HERE, "nim")
    known.learn(HERE, "vllm")
    assert known.get(HERE) == "nim"


def test_headers_are_looked_at_once():
    """The first answer of a server; later ones cost nothing."""
    known = Dialects()
    known.inspect_headers(HERE, {})
    known.inspect_headers(HERE, {"nvcf-reqid": "x"})
    assert known.get(HERE) is None
    known.inspect_headers("http://other/v1", {"nvcf-reqid": "x"})
    assert known.get("http://other") == "hosted"


def test_bodies_are_looked_at_while_it_is_open():
    """A verdict ends the search; that of vLLM is open to a NIM's own routes."""
    known = Dialects()
    known.read(HERE, "/models", {"data": [VLLM]})
    known.read(HERE, "/models", {"data": [DYNAMO]})
    known.inspect_error(HERE, refusal(404, {"message": "m", "type": "Not Found", "code": 404}))
    assert known.get(HERE) == "vllm"
    known.read(HERE, "/metadata", {"modelInfo": []})
    assert known.get(HERE) == "nim"
    other = Dialects()
    other.inspect_error(HERE, refusal(404, {"message": "m", "type": "Not Found", "code": 404}))
    assert other.get(HERE) == "dynamo"


@pytest.mark.parametrize(
    ("path", "type_", "dialect"),
    [
        ("/health/ready", "", "nim"),
        ("/health", "", "vllm"),
        ("/health", "application/json", "dynamo"),
        ("/live", "application/json", "dynamo"),
    ],
)
def test_health_routes(path, type_, dialect):
    """A NIM's are its own; below the root vLLM's body is empty and Dynamo's is JSON."""
    known = Dialects()
    known.inspect_health(HERE, path, {"content-type": type_} if type_ else {})
    assert known.get(HERE) == dialect


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
    assert dialect_of_answer(path, value) in (None, "nim", "vllm", "dynamo", "hosted")
    assert dialect_of_refusal(refusal(400, value)) in (None, "dynamo", "hosted")

"""`nimclient doctor` against simulators of every dialect, and against everything that can be wrong."""

import json
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme

from nimclient.cli.findings import counted, failed, remedy_for
from nimclient.cli.network import proxy_of, tls_handshake
from nimclient.errors import (
    ConnectError,
    ConnectionLostError,
    DecodeError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RedirectError,
    ServerError,
    ServiceUnavailableError,
)
from nimclient.records import Model
from nimclient.simulator import Simulator, SimulatorThread
from support.server import FaultServer, ServerThread, Stall
from support.wire import answer, chat_body, embedded, error, http, vectors

KEY = "nvapi-never-to-be-seen-0123456789"
LIST = {"object": "list", "data": [{"id": "mine/own", "owned_by": "me"}]}


@pytest.fixture
def server():
    """A scripted server with a list of one model and nothing else."""
    with ServerThread() as server:
        server.script(error(404))
        server.script(answer(LIST), path="/v1/models")
        yield server


def found(ran: Any) -> dict[str, dict[str, Any]]:
    """The findings of --json by name."""
    assert KEY not in ran.out + ran.err
    value = json.loads(ran.out)
    assert value["ok"] is (ran.code == 0)
    return {one["name"]: one for one in value["findings"]}


@pytest.mark.parametrize(
    ("dialect", "kind", "version", "path", "measure"),
    [
        ("nim", "nim", "2.1.4", "/v1/ranking", "logit"),
        ("vllm", "vllm", "0.32.0", "/v1/rerank", "relevance_score"),
        ("dynamo", "dynamo", None, "/v1/rerank", "score"),
    ],
)
def test_every_kind_of_server(run, monkeypatch, dialect, kind, version, path, measure):
    """Of a server that works it tells kind, version, models, context, base64, form of reranking, and that all is well."""
    monkeypatch.setenv("NVIDIA_NIM_API_KEY", KEY)
    with SimulatorThread(Simulator(dialect=dialect)) as url:
        ran = run("doctor", "--base-url", url)
        facts = found(run("doctor", "--base-url", url, "--json"))
    assert (ran.code, ran.err) == (0, "")
    assert KEY not in ran.out
    assert ran.out.startswith(f"{url} (from --base-url)\n")
    assert ran.out.endswith("everything works\n")
    assert len(ran.out.splitlines()) == 10
    assert {one["state"] for one in facts.values()} == {"ok"}
    if kind is not None:
        assert (facts["server"]["kind"], facts["server"]["version"]) == (kind, version)
        assert facts["server"]["ready"] is True
    assert len(facts["models"]["models"]) > 100
    assert facts["context"]["tokens"] == 131_072
    assert facts["context"]["model"] == facts["chat"]["model"]
    assert 0 < facts["chat"]["ttft_seconds"] <= facts["chat"]["seconds"]
    assert (facts["embeddings"]["dimensions"], facts["embeddings"]["base64"]) == (1024, True)
    assert (facts["reranking"]["path"], facts["reranking"]["measure"]) == (path, measure)
    assert facts["connection"]["proxy"] is facts["connection"]["tls"] is None
    assert facts["connection"]["seconds"] > 0
    assert (facts["key"]["source"], facts["key"]["sent"]) == ("NVIDIA_NIM_API_KEY", True)


def test_the_hosted_catalog(run, monkeypatch):
    """Of the hosted catalog every kind is tried with its default, and a request that worked shows that the key is valid."""
    monkeypatch.setenv("NVIDIA_NIM_API_KEY", KEY)
    monkeypatch.setattr("nimclient.cli.diagnosis.is_hosted", lambda _: True)
    with SimulatorThread(Simulator(dialect="hosted")) as url:
        ran = run("doctor", "--base-url", url)
        facts = found(run("doctor", "--base-url", url, "--json"))
    assert ran.code == 0
    assert ran.out.endswith("everything works\n")
    assert (facts["key"]["text"], facts["key"]["valid"]) == ("the one from NVIDIA_NIM_API_KEY is valid", True)
    assert {facts[name]["state"] for name in ("chat", "embeddings", "reranking")} == {"ok"}


def test_the_catalog_is_not_asked_whether_it_is_ready(run, server):
    """NVIDIA's gateway, known by its headers, has neither version nor health."""
    server.script(answer(LIST, 200, "NVCF-REQID: 1"), path="/v1/models")
    facts = found(run("doctor", "--base-url", server.url, "--json"))
    assert (facts["server"]["kind"], facts["server"]["text"]) == ("hosted", "NVIDIA's hosted catalog")
    assert server.count("/v1/health/ready") == 0


def test_no_key_where_one_is_needed(run, monkeypatch):
    """A server that wants a key and gets none: one problem found, and it says which key goes where."""
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    with SimulatorThread(Simulator(dialect="hosted")) as url:
        ran = run("doctor", "--base-url", url)
        facts = found(run("doctor", "--base-url", url, "--json"))
    assert ran.code == 1
    assert ran.out.endswith("one problem found\n")
    assert "NVIDIA_API_KEY goes to NVIDIA's own hosts only" in ran.out
    assert [name for name, one in facts.items() if one["state"] == "failed"] == ["key"]
    assert facts["key"]["valid"] is False
    assert "--api-key-file" in facts["key"]["remedy"]
    assert facts["reranking"]["text"] == "not tried without a valid key"


def test_no_key_where_none_is_needed(run, url):
    """Without a key, and with none wanted, the key is no problem."""
    facts = found(run("doctor", "--base-url", url, "--json"))
    assert (facts["key"]["state"], facts["key"]["sent"]) == ("ok", False)


def test_a_wrong_key(run, server, tmp_path):
    """A key that the server rejects from the first request on is named by where it comes from; nothing more is tried."""
    (tmp_path / "key").write_text(KEY)
    server.script(error(401, f"bad key {KEY}"), path="/v1/models")
    ran = run("doctor", "--base-url", server.url, "--api-key-file", "key")
    assert ran.code == 1
    assert KEY not in ran.out + ran.err
    assert "the one from --api-key-file is rejected" in ran.out
    assert len(server.requests) == 1
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_key_that_nothing_has_tried(run, server, monkeypatch):
    """A key is not called valid where no request has needed it."""
    monkeypatch.setenv("NVIDIA_NIM_API_KEY", KEY)
    facts = found(run("doctor", "--base-url", server.url, "--json"))
    assert (facts["key"]["state"], facts["key"]["valid"]) == ("note", None)


def test_a_key_of_the_base_urls_own(run, url, monkeypatch):
    """The hosted key goes to a server that NVIDIA_BASE_URL names."""
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    monkeypatch.setenv("NVIDIA_BASE_URL", url)
    ran = run("doctor")
    assert ran.code == 0
    assert f"{url} (from NVIDIA_BASE_URL)" in ran.out
    assert "the one from NVIDIA_API_KEY was sent" in ran.out


def test_nobody_listens(run):
    """A refused connection is one finding with what to do, and ends the examination."""
    ran = run("doctor", "--base-url", "http://127.0.0.1:9")
    assert ran.code == 1
    assert "FAILED  connection" in ran.out
    assert "start the server" in ran.out
    assert len(ran.out.splitlines()) == 4


def test_a_socket_that_never_answers(run, server):
    """A server that accepts and says nothing is given up after --timeout."""
    server.script([Stall()], path="/v1/models")
    ran = run("doctor", "--base-url", server.url, "--timeout", "0.3")
    assert ran.code == 1
    assert "--timeout" in ran.out
    assert len(server.requests) == 1


def test_a_wrong_path(run, url):
    """A base URL with a path that leads nowhere says so."""
    ran = run("doctor", "--base-url", url.replace("/v1", "/nim/v1"))
    assert ran.code == 1
    assert "check the path in --base-url" in ran.out


def test_a_page_that_is_no_list(run, server):
    """A web page where the models should be is no inference server."""
    server.script(http(b"<html>hello</html>", type="text/html"), path="/v1/models")
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 1
    assert "not an inference server" in ran.out


@pytest.mark.parametrize("argv", [["--base-url", "localhost"], ["--api-key-file", "gone"], []])
def test_wrong_usage(run, argv):
    """A base URL that is none, a key file that is not there, and no server and no key at all, are usage errors."""
    ran = run("doctor", *argv)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1


def test_a_bad_key_in_the_environment(run, monkeypatch):
    """A key that cannot stand in a header is a usage error that does not show it."""
    monkeypatch.setenv("NVIDIA_NIM_API_KEY", f"{KEY} and more")
    ran = run("doctor", "--base-url", "http://127.0.0.1:9")
    assert ran.code == 2
    assert KEY not in ran.err


def test_a_server_of_unknown_models(run, server):
    """Unknown models are tried for everything; what they do not do is no fault."""
    server.script(answer(chat_body()), path="/v1/chat/completions")
    facts = found(run("doctor", "--base-url", server.url, "--json"))
    assert facts["models"]["text"] == "mine/own (unknown)"
    assert (facts["chat"]["state"], facts["chat"]["model"]) == ("ok", "test-model")
    assert facts["embeddings"]["text"] == facts["reranking"]["text"] == "not served (404)"
    assert facts["context"]["state"] == "note"
    assert facts["server"]["text"].startswith("an OpenAI-compatible server of unknown kind")


def test_a_server_that_refuses_base64(run, server):
    """Whether base64 is accepted comes out of a rejection that names the field."""

    def choosy(request: Any) -> bytes:
        return error(400, "encoding_format") if b"base64" in request.body else answer(embedded(["1"]))

    server.script(choosy, path="/v1/embeddings")
    facts = found(run("doctor", "--base-url", server.url, "--json"))
    assert (facts["embeddings"]["base64"], facts["embeddings"]["dimensions"]) == (False, 2)
    assert "rejected" in facts["embeddings"]["text"]


def test_a_server_that_ignores_base64(run, server):
    """A server that answers numbers although base64 was asked for is detected."""
    vectors = embedded(["1"])
    vectors["data"][0]["embedding"] = [1.0, 2.0]
    server.script(answer(vectors), path="/v1/embeddings")
    facts = found(run("doctor", "--base-url", server.url, "--json"))
    assert facts["embeddings"]["base64"] is False
    assert "ignored" in facts["embeddings"]["text"]


@pytest.mark.parametrize(("drift", "state"), [(0.0, "ok"), (0.01, "ok"), (0.5, "failed")])
def test_a_server_that_mixes_up_batches(run, server, drift, state):
    """A text that has another vector among others than alone is a fault; what rounding leaves is none."""

    def mixing(request: Any) -> bytes:
        texts = request.json["input"]
        others = drift * (len(texts) > 1)
        return answer(vectors([[1.0, len(text) / 9 + others, others] for text in texts]))

    server.script(mixing, path="/v1/embeddings")
    ran = run("doctor", "--base-url", server.url, "--json")
    finding = found(ran)["embeddings"]
    assert finding["state"] == state
    assert (finding["cosine_among_others"] > 0.999) is (drift < 0.1)
    assert ("among other texts" in finding["text"]) is (state == "failed")
    assert ("batch_size=1" in (finding["remedy"] or "")) is (state == "failed")


def test_vectors_that_cannot_be_compared(run, server):
    """A server that throttles after the first texts is judged by their vectors."""

    def throttling(request: Any) -> bytes:
        texts = request.json["input"]
        return answer(vectors([[1.0, 2.0]])) if texts == ["ok"] else error(429, "slow down")

    server.script(throttling, path="/v1/embeddings")
    finding = found(run("doctor", "--base-url", server.url, "--json"))["embeddings"]
    assert (finding["state"], finding["cosine_among_others"]) == ("ok", None)


def test_a_server_that_is_not_ready(run, server):
    """A server that loads its model says why it is not ready; a request that fails is a second thing."""
    server.script(error(503, "loading weights"))
    server.script(answer({"object": "list", "data": [{"id": "meta/llama-3.1-8b-instruct"}]}), path="/v1/models")
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 1
    assert "not ready: " in ran.out
    assert "loading weights" in ran.out
    assert "2 problems found" in ran.out


def test_health_that_is_no_http(run, server):
    """Nonsense from the health route is a finding, not the end."""
    server.script(b"nonsense\r\n\r\n", path="/v1/health/ready")
    facts = found(run("doctor", "--base-url", server.url, "--json"))
    assert facts["server"]["state"] == "failed"
    assert "key" in facts


def test_a_model_that_is_not_there(run, url):
    """--model names a model: one that the server does not list is a failure with some that it does."""
    ran = run("doctor", "--base-url", url, "--model", "no/such-model")
    assert ran.code == 1
    assert "no/such-model is not among" in ran.out
    assert "name one of them with --model: " in ran.out


def test_one_model(run, url):
    """With --model only what that model does is tried."""
    facts = found(run("doctor", "--base-url", url, "--model", "nvidia/llama-nemotron-embed-1b-v2", "--json"))
    assert facts["embeddings"]["state"] == "ok"
    assert (facts["chat"]["state"], facts["reranking"]["state"]) == ("note", "note")
    assert facts["context"]["model"] == "nvidia/llama-nemotron-embed-1b-v2"


def test_a_server_without_a_list(run, server):
    """A NIM that lists no models but is healthy is examined as far as that goes."""
    server.script(error(404), path="/v1/models")
    server.script(http(), path="/v1/health/ready")
    facts = found(run("doctor", "--base-url", server.url, "--json"))
    assert facts["connection"]["state"] == "ok"
    assert facts["models"]["text"] == "the server lists none"
    assert facts["chat"]["state"] == "note"


def test_a_server_that_has_nothing(run, server):
    """Where there is neither a list nor health, the path is in question."""
    server.script(error(404))
    server.script(error(404), path="/v1/models")
    server.script(b"nonsense\r\n\r\n", path="/v1/health/ready")
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 1
    assert "check the path in --base-url" in ran.out


def test_adapters_are_counted(run, server):
    """Adapters are distinguished, and a short list is written out."""
    entries = [{"id": "base"}, {"id": "tuned", "parent": "base"}]
    server.script(answer({"object": "list", "data": entries}), path="/v1/models")
    facts = found(run("doctor", "--base-url", server.url, "--json"))
    assert facts["models"]["text"] == "base (unknown), tuned (unknown); 1 of them adapters"


def test_a_list_that_is_empty(run, server):
    """A server that lists nothing has nothing to try."""
    server.script(answer({"object": "list", "data": []}), path="/v1/models")
    facts = found(run("doctor", "--base-url", server.url, "--json"))
    assert {facts[name]["state"] for name in ("models", "chat", "embeddings", "reranking")} == {"note"}


def test_a_web_application_with_a_health_route_is_called_one(run, server):
    """It is healthy, and nothing that a model does was tried: that is no success, and no "everything works"."""
    server.script(error(404), path="/v1/models")
    server.script(answer({"status": "up"}), path="/health")
    server.script(http(), path="/v1/health/ready")
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 1
    assert "this is a web server, but not an inference server" in ran.out
    assert "everything works" not in ran.out
    facts = found(run("doctor", "--base-url", server.url, "--json"))
    assert facts["requests"]["state"] == "failed"


@pytest.mark.parametrize(
    ("models", "headers", "name"),
    [
        ({"id": "m", "owned_by": "infinity"}, (), "infinity"),
        ({"id": "m", "owned_by": "llamacpp"}, (), "llama-server"),
        ({"id": "m", "owned_by": "openai"}, ("x-litellm-call-id: 1",), "LiteLLM"),
    ],
)
def test_servers_of_others_are_named(run, server, models, headers, name):
    """A server that says what it is, by the owner of its models or by a header, is called that."""
    server.script(answer({"object": "list", "data": [models]}, 200, *headers), path="/v1/models")
    server.script(answer({"status": "ok"}), path="/health")
    facts = found(run("doctor", "--base-url", server.url, "--json"))
    assert facts["server"]["text"].startswith(name)


def test_guardrails_in_front_of_a_server_are_named(run, server):
    """NeMo Guardrails copies the owners of the models behind it, and serves chat only: no vLLM, and no fault."""
    relayed = [
        {"id": name, "created": 1, "object": "model", "owned_by": "vllm"}
        for name in ("meta/llama-3.1-8b-instruct", "nvidia/nv-embedqa-e5-v5")
    ]
    server.script(answer({"data": relayed}), path="/v1/models")
    server.script(answer([{"id": "rails"}]), path="/v1/rails/configs")
    server.script(answer(chat_body("ok")), path="/v1/chat/completions")
    ran = run("doctor", "--base-url", server.url, "--json")
    facts = found(ran)
    assert facts["server"]["text"].startswith("NeMo Guardrails")
    assert (facts["embeddings"]["state"], facts["reranking"]["state"]) == ("note", "note")
    assert (ran.code, facts["chat"]["state"]) == (0, "ok")


def test_a_server_that_has_only_some_routes_without_v1(run, server):
    """infinity without --url-prefix answers at its root, of which only /rerank is found: the remedy says more."""
    server.script(error(404), path="/v1/models")
    server.script(answer({"object": "list", "data": [{"id": "m", "owned_by": "infinity"}]}), path="/models")
    server.script(error(400, "Invalid model: Engine for model name `default` not found."), path="/rerank")
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 1
    assert "the routes of this server are at its root" in ran.out
    assert "--url-prefix /v1" in ran.out


def test_a_web_application_that_answers_everything_is_called_one(run, server):
    """The same object with status 200 on every path is no model's answer."""
    server.script(answer({"message": "hello"}))
    server.script(answer({"message": "hello"}), path="/v1/models")
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 1
    assert "this is a web server, but not an inference server" in ran.out


def test_a_web_server_that_has_a_page_for_everything_is_called_one(run, server):
    """HTML with status 200 on every path, as single-page applications have it."""
    page = http(b"<!doctype html><html>app</html>", type="text/html")
    server.script(page)
    server.script(page, path="/v1/models")
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 1
    assert "this is a web server, but not an inference server" in ran.out


def test_routes_without_v1_are_found(run, server):
    """A server whose routes lie at its root is distinguished from one that has none."""
    server.script(error(404), path="/v1/models")
    server.script(answer(LIST), path="/models")
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 1
    assert "the routes of this server are at its root, without /v1" in ran.out


@pytest.mark.parametrize(
    ("status", "words"), [(401, "no"), (403, "no"), (400, "Authentication Error, Invalid API key")]
)
def test_a_wrong_key_that_only_inference_finds_out(run, server, monkeypatch, status, words):
    """The list is open to everybody; gateways say 400 as well."""
    monkeypatch.setenv("NVIDIA_NIM_API_KEY", KEY)
    for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/rerank", "/v1/ranking"):
        server.script(error(status, words), path=path)
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 1
    assert "the one from NVIDIA_NIM_API_KEY is rejected" in ran.out
    assert ran.out.endswith("one problem found\n")


@pytest.mark.parametrize("status", [400, 404, 405, 422, 500, 501])
def test_a_server_of_one_purpose_is_healthy(run, server, status):
    """An embedding server whose chat route is missing, or rejects its model: what works, and what it does not serve."""
    server.script(error(status, "this model does not chat"), path="/v1/chat/completions")
    server.script(answer(embedded(["1"])), path="/v1/embeddings")
    ran = run("doctor", "--base-url", server.url)
    assert (ran.code, ran.err) == (0, "")
    assert "FAILED" not in ran.out
    assert ran.out.endswith("embeddings works; not served, or not tried: chat, reranking\n")
    assert json.loads(run("doctor", "--base-url", server.url, "--json").out)["works"] == ["embeddings"]


@pytest.mark.parametrize("listing", [error(500, "oops"), error(404), http(b"Model type: reranker", type="text/plain")])
def test_a_server_whose_list_cannot_be_read_is_tried_all_the_same(run, server, listing):
    """A reranker that lists no models ranks."""
    server.script(listing, path="/v1/models")
    server.script(
        answer({"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]}),
        path="/v1/rerank",
    )
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 0
    assert "the models are not listed" in ran.out
    assert server.count("/v1/models") == 2  # the list, and once more for the health: nothing is waited for
    assert ran.out.endswith("reranking works; not served, or not tried: chat, embeddings\n")


def test_models_that_answer_nothing_are_no_success(run, server):
    """A list alone shows nothing: the model has not answered."""
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 1
    assert "no request was answered by a model" in ran.out


def test_a_server_that_fails_at_everything(run, server):
    """LiteLLM's proxy answers 500 to a request without a key: that is no lack of a route or a model."""
    for path in ("models", "chat/completions", "embeddings", "rerank", "ranking"):
        server.script(error(500, "Internal Server Error"), path=f"/v1/{path}")
    server.script(answer({"status": "healthy"}), path="/health/readiness")
    ran = run("doctor", "--base-url", server.url)
    assert ran.code == 1
    assert "the server fails with status 500, whatever is requested" in ran.out
    assert "set NVIDIA_NIM_API_KEY" in ran.out
    assert "not served" not in ran.out.replace("not served, or not tried", "")


# TLS and proxies ---------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path):
    """A scripted server with TLS, and the file of the CA that signed its certificate."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=10, hours=1)).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    thread = ServerThread()
    thread.server = FaultServer(ssl=context)
    with thread as server:
        server.script(error(404))
        server.script(answer(LIST), path="/v1/models")
        yield server, str(tmp_path / "ca.pem")


def test_a_certificate_that_nobody_trusts(run, secure):
    """A certificate of an unknown authority fails, with the variable that makes it known."""
    ran = run("doctor", "--base-url", secure[0].url)
    assert ran.code == 1
    assert "FAILED  connection" in ran.out
    assert "SSL_CERT_FILE" in ran.out


def test_a_trusted_certificate(run, secure, monkeypatch):
    """TLS that works is described: version, issuer, days left, and a word when these are few."""
    monkeypatch.setenv("SSL_CERT_FILE", secure[1])
    monkeypatch.setattr("nimclient._http.tls._context", lambda *_: ssl.create_default_context())  # reads the variable
    facts = found(run("doctor", "--base-url", secure[0].url, "--json"))["connection"]
    assert facts["state"] == "ok"
    assert facts["tls"]["version"].startswith("TLSv1.")
    assert facts["tls"]["issuer"].startswith("trustme")
    assert facts["tls"]["days_left"] == 10
    assert "renew" in facts["remedy"]


def test_a_handshake_that_fails_tells_nothing(secure):
    """Of a server that is not trusted, or not there, the second look says nothing."""
    assert tls_handshake(secure[0].url, 5) is None
    assert tls_handshake("https://127.0.0.1:9", 5) is None


def test_tls_where_the_second_look_says_nothing(run, secure, monkeypatch):
    """A connection that works is fine even where nothing more is known of its certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", secure[1])
    monkeypatch.setattr("nimclient._http.tls._context", lambda *_: ssl.create_default_context())  # reads the variable
    monkeypatch.setattr("nimclient.cli.diagnosis.tls_handshake", lambda *_: None)
    facts = found(run("doctor", "--base-url", secure[0].url, "--json"))["connection"]
    assert facts["state"] == "ok"
    assert facts["text"].startswith("TLS, certificate valid")


def test_a_proxy_is_named_without_its_password(run, url, server, monkeypatch):
    """The proxy in use is named; user and password are not."""
    monkeypatch.setenv("http_proxy", f"http://user:S3CRET@127.0.0.1:{server.port}")
    monkeypatch.setenv("no_proxy", "")
    server.script(answer(LIST))
    ran = run("doctor", "--base-url", "http://nim.test")
    assert f"through the proxy http://127.0.0.1:{server.port}" in ran.out
    assert "S3CRET" not in ran.out
    assert proxy_of("https://nim.test") is None


# what to do --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        *[
            (ConnectError("x", kind=kind), words)
            for kind, words in [
                ("dns", "host name"),
                ("refused", "start the server"),
                ("unreachable", "firewall"),
                ("proxy", "no_proxy"),
                ("resources", "ulimit"),
            ]
        ],
        (ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number", kind="tls"), "http://"),
        (ConnectError("certificate has expired", kind="tls"), "expired"),
        (ConnectError("Hostname mismatch, certificate is not valid for 'x'", kind="tls"), "another name"),
        (ConnectError("self-signed certificate", kind="tls"), "SSL_CERT_FILE"),
        (PermissionDeniedError("x", status=403), "build.nvidia.com"),
        (ModelNotFoundError("x", status=404), "--model"),
        (NotFoundError("x", status=404), "path"),
        (RateLimitError("x", status=429), "wait"),
        (ServiceUnavailableError("x", status=503), "starting"),
        (ServerError("x", status=500), "log"),
        (RedirectError("x", host="h"), "redirects"),
        (ConnectionLostError("x"), "log"),
        (ProtocolError("x"), "port"),
        (DecodeError("x"), "not an inference server"),
    ],
)
def test_every_failure_has_a_remedy(error, words):
    """Each kind of error comes with what to do about it."""
    assert words in remedy_for(error)
    one = failed("x", error)
    assert (one.state, one.to_dict()["error"]) == ("failed", type(error).__name__)


def test_kinds_are_counted():
    """Models are counted by kind."""
    assert counted([Model("a", kind="chat"), Model("b"), Model("c", kind="chat")]) == {"chat": 2, "unknown": 1}


def test_replicas_one_by_one(run, url):
    """Of several servers each is examined; one that does not work is enough for 1. With --json each is a line."""
    ran = run("doctor", "--base-url", url, "--base-url", "http://127.0.0.1:9")
    assert ran.code == 1
    assert "everything works\nhttp://127.0.0.1:9/v1 (from --base-url)\n" in ran.out
    ran = run("doctor", "--base-url", url, "--base-url", "http://127.0.0.1:9", "--json")
    assert [json.loads(line)["ok"] for line in ran.out.splitlines()] == [True, False]
    ran = run("doctor", "--base-url", url, "--base-url", url)
    assert ran.code == 2
    assert "--base-url names" in ran.err

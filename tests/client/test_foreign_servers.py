"""Servers that are neither NIM nor vLLM, answered for as they answer: llama-server, LiteLLM, infinity, TEI and the like."""

from typing import Any

import pytest

from nimclient import AsyncClient, RetryPolicy
from nimclient.errors import (
    BadRequestError,
    ConfigurationError,
    DecodeError,
    NimError,
    RedirectError,
    RequestTimeoutError,
    RerankMismatchError,
)
from nimclient.testing import FakeRequest, FakeTransport
from support.server import FaultServer, Stall
from support.wire import answer

FASTAPI_404 = (404, {}, {"detail": "Not Found"})
LITELLM = {"content-security-policy": "frame-ancestors 'none'", "x-frame-options": "DENY"}
LLAMA = {"Server": "llama.cpp"}


class Routes:
    """Answers by path; what is not there is a 404. `asked` are the paths in the order in which they came."""

    def __init__(self, routes: dict[str, Any], missing: Any = FASTAPI_404) -> None:
        self.routes = routes
        self.missing = missing
        self.asked: list[str] = []
        self.requests: list[FakeRequest] = []

    def __call__(self, request: FakeRequest) -> Any:
        path = request.url.removeprefix("http://host:1")
        self.asked.append(path)
        self.requests.append(request)
        found = self.routes.get(path, self.missing)
        return found(request) if callable(found) else found

    def client(self, **settings: Any) -> AsyncClient:
        return AsyncClient(
            "k", "http://host:1", transport=FakeTransport(self), retry=RetryPolicy(attempts=1), **settings
        )


# health --------------------------------------------------------------------------------------------------------------


async def test_litellms_health_is_not_asked() -> None:
    """LiteLLM's /health calls every model behind it: its own two routes are asked, from the second time on at once."""
    ok = (200, LITELLM, {"status": "healthy"})
    routes = Routes(
        {"/health/readiness": ok, "/health/liveliness": ok}, missing=(404, LITELLM, {"detail": "Not Found"})
    )
    client = routes.client()
    assert await client.health.ready()
    assert await client.health.live()
    assert routes.asked == ["/v1/health/ready", "/health/readiness", "/health/liveliness"]
    assert await client.health.ready()
    assert routes.asked[3:] == ["/health/readiness"]


@pytest.mark.parametrize(
    "health",
    [
        (200, LLAMA, {"status": "ok"}),
        (200, {}, {"unix": 1762.25}),
        (200, {}, {"status": "ok"}),
        (200, {}, b""),
        (200, {"Content-Type": "text/plain"}, b"OK"),
    ],
    ids=["llama-server", "infinity", "transformers serve", "empty", "text"],
)
async def test_a_health_route_of_any_form_says_ready_and_live(health: Any) -> None:
    """It is live at the first question and at all later ones, and is not taken for Dynamo or vLLM."""
    routes = Routes({"/health": health})
    client = routes.client()
    for _ in range(3):
        assert await client.health.ready()
        assert await client.health.live()
    assert client.dialect is None
    assert set(routes.asked[4:]) == {"/health"}


async def test_a_server_without_a_health_route_lists_its_models() -> None:
    """llama-cpp-python and NeMo Guardrails have none: that they list their models makes them ready."""
    routes = Routes({"/v1/models": {"object": "list", "data": [{"id": "m", "owned_by": "me"}]}})
    client = routes.client()
    await client.health.wait_ready(timeout=5)
    assert await client.health.live()
    assert routes.asked[:3] == ["/v1/health/ready", "/health", "/v1/models"]


@pytest.mark.parametrize(
    "unknown",
    [
        (400, {}, {"error": "unknown path"}),
        (307, {"Location": "/health/"}, b""),
    ],
    ids=lambda unknown: str(unknown[0]),
)
async def test_a_gateway_that_rejects_unknown_paths_lists_its_models(unknown: Any) -> None:
    """A rejection or redirect where others have a health route does not make a server that lists its models unready."""
    routes = Routes({"/v1/models": {"object": "list", "data": [{"id": "m"}]}}, missing=unknown)
    client = routes.client()
    await client.health.wait_ready(timeout=5)
    assert await client.health.live()


async def test_a_redirect_of_everything_is_said() -> None:
    """A server that redirects its health routes and its list is elsewhere: the error names the place."""
    client = Routes({}, missing=(302, {"Location": "https://login.test/"}, b"")).client()
    with pytest.raises(RedirectError, match=r"login\.test"):
        await client.health.wait_ready(timeout=5)


async def test_the_same_json_for_every_path_is_no_nim() -> None:
    """A web application that answers everything with an object of its own is of unknown type."""
    client = Routes({}, missing=(200, {}, {"hello": "world"})).client()
    assert await client.health.ready()
    assert client.dialect is None


async def test_a_server_that_wants_a_key_for_its_list_is_alive() -> None:
    """A 401 answers the question whether the process answers, not whether it is ready."""
    routes = Routes({"/v1/models": (401, {}, {"error": "Unauthorized"})})
    assert await routes.client().health.live()
    assert not await routes.client().health.ready()


async def test_a_web_server_is_not_ready() -> None:
    """A page at every path is no inference server."""
    routes = Routes({}, missing=(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Welcome</html>"))
    client = routes.client()
    assert not await client.health.ready()
    assert not await client.health.live()
    with pytest.raises(RequestTimeoutError, match=r"returned text/html, which no inference server does"):
        await client.health.wait_ready(timeout=0.05)
    assert client.dialect is None


async def test_the_time_is_for_all_routes_together(server: FaultServer) -> None:
    """A server whose every route is slow is not asked longer than the timeout in all."""
    server.script(answer({}, 404))
    server.script([Stall()], path="/health")
    async with AsyncClient("k", server.url) as client:
        assert not await client.health.ready(timeout=0.3)
    assert [request.path for request in server.requests] == ["/v1/health/ready", "/health"]


# tokens --------------------------------------------------------------------------------------------------------------


def llama_tokens(request: FakeRequest) -> Any:
    text = request.json.get("content", "")
    return 200, LLAMA, {"tokens": [len(word) for word in text.split()]}


async def test_tokens_of_llama_server() -> None:
    """It answers 200 with no tokens to `prompt`: it is asked again in its own form, and from then on at once."""
    routes = Routes({"/tokenize": llama_tokens, "/detokenize": (200, LLAMA, {"content": "a text"})})
    client = routes.client()
    for _ in range(2):
        assert (await client.tokenize("five words are in here", model="m")).count == 5
    assert [sorted(r.json.keys() - {"model"}) for r in routes.requests] == [["prompt"], ["content"], ["content"]]
    found = await client.detokenize([1, 2], model="m")
    assert (found.text, found.extra) == ("a text", {})


async def test_no_tokens_are_no_answer() -> None:
    """A count of none for what is not empty is a DecodeError, on any server; an empty text has none."""
    client = Routes({"/tokenize": {"tokens": [], "count": 0}}).client()
    with pytest.raises(DecodeError, match="counted no tokens in a non-empty text"):
        await client.tokenize("hi", model="m")
    with pytest.raises(DecodeError, match="counted no tokens in the messages; it may accept only a text here"):
        await client.tokenize([{"role": "user", "content": "hi"}], model="m")
    assert (await client.tokenize("", model="m")).count == 0


# the default model ---------------------------------------------------------------------------------------------------

CHAT = {"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
MODELS = {
    "infinity": [
        {"id": "mixedbread/x-small", "owned_by": "infinity", "capabilities": ["rerank"]},
        {"id": "a/small", "owned_by": "infinity", "capabilities": ["embed"]},
    ],
    "an object": [
        {"id": "a", "capabilities": {"embeddings": True, "completion_chat": False}},
        {"id": "b", "capabilities": {"embeddings": False, "completion_chat": True}},
    ],
    "types": [{"id": "a", "type": "embeddings"}, {"id": "b", "type": "llm"}],
    "modes": [{"id": "a", "mode": "embedding"}, {"id": "b", "mode": "chat"}],
    "paths": [{"id": "a", "supported_endpoint_types": ["/v1/embeddings"]}, {"id": "b"}],
    "others": [
        {"id": "dall-e-3"},
        {"id": "omni-moderation-latest"},
        {"id": "c", "capabilities": ["classify"]},
        {"id": "b"},
    ],
    "names": [{"id": "BAAI/bge-reranker-v2-m3"}, {"id": "intfloat/e5-large"}, {"id": "my-model"}],
}


@pytest.mark.parametrize(
    ("listed", "kind", "chosen"),
    [
        ("infinity", "embedding", "a/small"),
        ("infinity", "ranking", "mixedbread/x-small"),
        *[(name, "embedding", "a") for name in ("an object", "types", "modes", "paths")],
        *[(name, "chat", "b") for name in ("an object", "types", "modes", "paths", "others")],
        ("names", "embedding", "intfloat/e5-large"),
        ("names", "ranking", "BAAI/bge-reranker-v2-m3"),
        ("names", "chat", "my-model"),
    ],
)
async def test_the_default_model_is_one_of_the_kind(listed: str, kind: str, chosen: str) -> None:
    """What the server states of its models, else what their names tell, decides which is the default of a call."""
    routes = Routes(
        {
            "/v1/models": {"data": MODELS[listed]},
            "/v1/chat/completions": CHAT,
            "/v1/embeddings": {"data": [{"index": 0, "embedding": [1.0, 2.0]}]},
            "/v1/rerank": {"results": [{"index": 0, "relevance_score": 0.5}]},
        }
    )
    client = routes.client()
    if kind == "chat":
        await client.chat.create("hi")
    elif kind == "embedding":
        await client.embeddings.create(["a"])
    else:
        await client.rerank("q", ["a"])
    assert routes.requests[-1].json["model"] == chosen


async def test_no_model_of_the_kind_is_said_at_once() -> None:
    """A server of rerankers and embedding models only is not asked to chat."""
    client = Routes({"/v1/models": {"data": MODELS["infinity"]}}).client()
    with pytest.raises(ConfigurationError, match="lists no model of kind chat"):
        await client.chat.create("hi")
    models = await client.models.list()
    assert [model.kind for model in models] == ["ranking", "embedding"]


# reranking -----------------------------------------------------------------------------------------------------------


def ranked(request: FakeRequest, default: int = 3) -> Any:
    body = request.json
    count = min(body.get("top_n", default), len(body["documents"]))
    return {"results": [{"index": n, "relevance_score": 1 - n / 100} for n in range(count)]}


async def test_a_server_that_gives_the_best_three_by_itself() -> None:
    """A default of the server's own for top_n does not cut: it is asked for all, and from then on at once."""
    routes = Routes({"/v1/rerank": ranked})
    client = routes.client()
    for _ in range(2):
        assert len((await client.rerank("q", list("abcde"), model="m")).results) == 5
    sent = [r.json.get("top_n") for r in routes.requests if r.url.endswith("/rerank")]
    assert sent == [None, 5, 5]
    assert len((await client.rerank("q", list("abcde"), model="m", top_n=2)).results) == 2


async def test_a_server_that_gives_too_few_whatever_is_asked() -> None:
    """It is an error, not an endless question."""
    routes = Routes({"/v1/rerank": {"results": [{"index": 0, "relevance_score": 0.5}]}})
    with pytest.raises(RerankMismatchError, match="1 ranks for 5 documents"):
        await routes.client().rerank("q", list("abcde"), model="m")


def tei(request: FakeRequest) -> Any:
    texts = request.json.get("texts")
    if texts is None:
        words = "Failed to deserialize the JSON body into the target type: missing field `texts` at line 1 column 60"
        return 422, {"Content-Type": "text/plain"}, words.encode()
    if len(texts) > 2:
        return 413, {}, {"error": "batch size 3 > maximum allowed batch size 2", "error_type": "Validation"}
    rows = [{"index": n, "score": len(text) / 10} for n, text in enumerate(texts)]
    return 200, {"Content-Type": "application/json"}, json_bytes(rows)


def json_bytes(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


async def test_the_form_and_the_batch_limit_of_tei() -> None:
    """Its field is `texts`, found out by its 422; its batch limit by its 413. Both are remembered."""
    routes = Routes({"/rerank": tei})
    client = routes.client()
    ranking = await client.rerank("q", ["a", "bbb", "cc", "dddd", "e"], model="m", truncate=None)
    assert [result.index for result in ranking.results] == [3, 1, 2, 0, 4]
    before = len(routes.requests)
    again = await client.rerank("q", ["a", "bbb", "cc"], model="m")
    assert [result.index for result in again.results] == [1, 2, 0]
    assert [len(r.json["texts"]) for r in routes.requests[before:]] == [2, 1]


@pytest.mark.parametrize(
    "refusal",
    [
        (400, {}, {"error": {"message": "too many documents: at most 4 documents"}}),
        (422, {}, {"detail": [{"loc": ["body", "documents"], "msg": "List should have at most 4 items"}]}),
        (413, {}, {"error": "payload too large"}),
        (400, {}, {"error": {"message": "bad request"}}),
    ],
    ids=["400", "422", "413", "no words"],
)
async def test_batch_limits_are_learned(refusal: Any) -> None:
    """A slice that the server says is too large goes in pieces; the limit that it names holds for later calls."""

    def limited(request: FakeRequest) -> Any:
        return refusal if len(request.json["documents"]) > 4 else ranked(request, 100)

    routes = Routes({"/v1/rerank": limited})
    client = routes.client()
    documents = [f"document {n}" for n in range(10)]
    for _ in range(2):
        ranking = await client.rerank("q", documents, model="m")
        assert sorted(result.index for result in ranking.results) == list(range(10))
    largest = [len(r.json["documents"]) for r in routes.requests if r.url.endswith("/rerank")]
    assert largest[:1] + largest[-3:] == [10, 4, 4, 2] if "4" in str(refusal[2]) else max(largest[-4:]) < 10


async def test_a_rejection_of_the_whole_call_is_not_sent_in_pieces() -> None:
    """A 400 that names a field of the call, or that few documents get, is the answer."""
    for documents, words in ((list("abc"), "bad request"), ([*"abcdefghijklmno"], "top_n must be positive")):
        routes = Routes({"/v1/rerank": (400, {}, {"error": {"message": words}})})
        with pytest.raises(BadRequestError):
            await routes.client().rerank("q", documents, model="m")
        assert routes.asked == ["/v1/ranking", "/v1/rerank"]


async def test_a_server_that_lists_no_models_ranks_with_its_own() -> None:
    """TEI has no list of models: no model is sent."""
    routes = Routes({"/rerank": tei})
    assert len((await routes.client().rerank("q", ["a", "bbb"])).results) == 2
    assert "model" not in routes.requests[-1].json


async def test_scores_of_several_models_are_told() -> None:
    """Slices that were ranked by different models do not compare: a warning once, an error for a strict client."""
    answers = iter([*"ababab"])

    def ranks(request: FakeRequest) -> Any:
        return {**ranked(request, 9), "model": next(answers)}

    routes = Routes({"/v1/rerank": ranks})
    with pytest.warns(UserWarning, match=r"several models \(a, b\)"):
        await routes.client(dialect="vllm").rerank("q", list("abcd"), model="m", batch_size=2)
    with pytest.raises(RerankMismatchError, match="not comparable"):
        await routes.client(dialect="vllm", strict=True).rerank("q", list("abcd"), model="m", batch_size=2)


async def test_a_single_document_that_is_too_large_is_an_error() -> None:
    """What cannot be cut any more is the server's word."""
    routes = Routes({"/v1/rerank": (413, {}, {"error": "payload too large"})})
    with pytest.raises(NimError, match="payload too large") as caught:
        await routes.client().rerank("q", ["a", "b", "c"], model="m")
    assert getattr(caught.value, "status", None) == 413

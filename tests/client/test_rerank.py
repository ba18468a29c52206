"""client.rerank on every server type: which form it takes is detected once, and what comes back is the same record."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Client, Image
from nimclient.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ModelNotFoundError,
    NotFoundError,
    RerankMismatchError,
)
from nimclient.simulator import Simulator
from support.leaks import shared_state
from support.server import FaultServer
from support.wire import answer, error

MakeClient = Callable[..., AsyncClient]
MODEL = "nvidia/llama-nemotron-rerank-1b-v2"
PICTURES = "nvidia/llama-nemotron-rerank-vl-1b-v2"
PIXEL = Image("data:image/png;base64,iVBORw0KGgo=")
DOCUMENTS = ["cats purr", "csv files have commas", "dogs bark", "commas end nothing"]
MISSING = answer({"detail": "Not Found"}, 404)
SCORES = answer({"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]})
HOSTED = "https://integrate.api.nvidia.com/v1"
RETRIEVAL = "https://ai.api.nvidia.com/v1/retrieval/nvidia"


def paths(sim: Simulator) -> list[str]:
    return [request.path for request in sim.requests]


@pytest.mark.parametrize(
    ("dialect", "route", "tried", "measure"),
    [
        ("nim", "/v1/ranking", [], "logit"),
        ("vllm", "/v1/rerank", ["/v1/ranking"], "relevance_score"),
        ("dynamo", "/v1/rerank", ["/v1/ranking"], "score"),
        ("hosted", "/v1/ranking", [], "logit"),
    ],
)
async def test_every_kind_of_server(dialect: str, route: str, tried: list[str], measure: str) -> None:
    """The form is detected by the first call and remembered; ranks, documents and the best n are the same everywhere."""
    async with Simulator(dialect=dialect) as sim, AsyncClient("nvapi-a-key", sim.base_url, model=MODEL) as client:
        ranking = await client.rerank("csv files", DOCUMENTS)
        assert ranking.results[0].document == DOCUMENTS[1]
        assert sorted(result.index for result in ranking.results) == [0, 1, 2, 3]
        assert ranking.measure == measure
        for result in ranking.results:
            fields = {"logit": result.logit, "relevance_score": result.relevance_score}
            assert fields.pop(measure, result.score) == result.score
            assert set(fields.values()) == {None}
        best = await client.rerank("csv files", DOCUMENTS, top_n=1)
        assert best.results == ranking.results[:1]
        cut = await client.rerank("csv files", DOCUMENTS, batch_size=1, top_n=3)
        assert cut.results == ranking.results[:3]
    assert paths(sim) == [*tried, *[route] * 6]


async def test_a_known_server_is_asked_straight_away() -> None:
    """The list of models, fetched for the default, already tells that it is vLLM: nothing is tried in vain."""
    async with Simulator(dialect="vllm") as sim, AsyncClient(base_url=sim.base_url) as client:
        await client.rerank("csv files", DOCUMENTS)
        assert client.dialect == "vllm"
    assert paths(sim) == ["/v1/models", "/v1/rerank"]


@pytest.mark.parametrize("dialect", ["vllm", "dynamo"])
async def test_the_callers_word(dialect: Any) -> None:
    """dialect= says it beforehand: the first request is the right one."""
    async with (
        Simulator(dialect=dialect) as sim,
        AsyncClient(base_url=sim.base_url, dialect=dialect, model=MODEL) as client,
    ):
        await client.rerank("csv files", DOCUMENTS)
    assert paths(sim) == ["/v1/rerank"]


async def test_the_callers_word_is_not_doubted(server: FaultServer, make_client: MakeClient) -> None:
    """Where the caller says it is a NIM no other form is tried."""
    server.script(MISSING)
    with pytest.raises(NotFoundError, match="the server has no route for reranking"):
        await make_client(dialect="nim").rerank("q", ["a", "b"])
    assert [request.path for request in server.requests] == ["/v1/ranking"]


@pytest.mark.parametrize("status", [404, 405])
async def test_a_route_at_the_root(server: FaultServer, make_client: MakeClient, status: int) -> None:
    """Some servers have /rerank below the root only; with_options copies know it too."""
    server.script(answer({"detail": "no"}, status))
    server.script(SCORES, path="/proxy/rerank")
    client = make_client(f"http://127.0.0.1:{server.port}/proxy/v1")
    assert (await client.rerank("q", ["a", "b"])).results[0].document == "b"
    await client.with_options(timeouts=5).rerank("q", ["a", "b"])
    routes = ["/proxy/v1/ranking", "/proxy/v1/rerank", "/proxy/rerank", "/proxy/rerank"]
    assert [request.path for request in server.requests] == routes
    assert server.requests[-1].json == {"model": "test-model", "query": "q", "documents": ["a", "b"]}


async def test_no_route_at_all(server: FaultServer, client: AsyncClient) -> None:
    """A server without reranking is a NotFoundError that says so, with what the server said."""
    server.script(answer({"detail": "Not Found"}, 404, "X-Request-Id: r-9"))
    with pytest.raises(NotFoundError, match="no route for reranking: Not Found") as caught:
        await client.rerank("q", ["a", "b"])
    assert (caught.value.status, caught.value.request_id) == (404, "r-9")
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [(error(401), AuthenticationError), (error(404, "The model `x` does not exist."), ModelNotFoundError)],
    ids=["key", "model"],
)
async def test_other_refusals_end_the_search(
    server: FaultServer, client: AsyncClient, refusal: bytes, kind: type[Exception]
) -> None:
    """A rejected key or model is no missing route."""
    server.script(refusal)
    with pytest.raises(kind):
        await client.rerank("q", ["a", "b"])
    assert len(server.requests) == 1


async def test_a_server_that_was_replaced(server: FaultServer, client: AsyncClient) -> None:
    """What was remembered is tried first, not for ever."""
    server.script(MISSING)
    server.script(SCORES, path="/v1/rerank")
    await client.rerank("q", ["a", "b"])
    server.script(MISSING, path="/v1/rerank")
    server.script(answer({"rankings": [{"index": i, "logit": i} for i in (0, 1)]}), path="/v1/ranking")
    assert (await client.rerank("q", ["a", "b"])).measure == "logit"
    assert [request.path for request in server.requests][2:] == ["/v1/rerank", "/v1/ranking"]


async def test_many_slices_find_out_once(server: FaultServer, client: AsyncClient) -> None:
    """While the form is open the first slice goes alone: the others need not try in vain."""
    server.script(MISSING)
    server.script(lambda r: answer({"results": [{"index": 0, "relevance_score": 0.5}]}), path="/v1/rerank")
    await client.rerank("q", list("abcdefgh"), batch_size=1, concurrency=8)
    assert server.count("/v1/ranking") == 1
    assert server.count("/v1/rerank") == 8


async def test_many_slices_find_the_model_once(server: FaultServer, make_client: MakeClient) -> None:
    """The default model is looked up before the slices are sent, not by each of them."""
    server.script(answer({"data": [{"id": MODEL}]}), path="/v1/models")
    server.script(answer({"rankings": [{"index": 0, "logit": 0.5}]}))
    await make_client(model=None, dialect="nim").rerank("q", list("abcdefgh"), batch_size=1, concurrency=8)
    assert (server.count("/v1/models"), server.count("/v1/ranking")) == (1, 8)


async def test_slices_in_different_kinds_of_scores(server: FaultServer, client: AsyncClient) -> None:
    """A balancer in front of unlike servers gives no ranking that mixes logits and scores."""
    logit, score = ({"index": 0, name: 0.5} for name in ("logit", "relevance_score"))
    server.script(answer({"rankings": [logit]}), answer({"results": [score]}))
    with pytest.raises(RerankMismatchError, match="different kinds of scores"):
        await client.rerank("q", ["a", "b"], batch_size=1)


async def test_a_slice_that_fails(server: FaultServer, make_client: MakeClient) -> None:
    """The error says which document its slice begins with, and carries what the other slices have ranked."""
    good = answer({"rankings": [{"index": 0, "logit": 1.0}, {"index": 1, "logit": 2.0}]})
    server.script(good, good, error(400, "passages[1] is too odd"))
    client = make_client(dialect="nim")
    with pytest.raises(BadRequestError, match="too odd") as caught:
        await client.rerank("q", list("abcdef"), batch_size=2, concurrency=1)
    assert caught.value.index == 4
    finished = {start: [result.document for result in part.results] for start, part in caught.value.completed}
    assert finished == {0: ["b", "a"], 2: ["d", "c"]}
    with pytest.raises(BadRequestError) as alone:
        await client.rerank("q", ["a", "b"])
    assert (alone.value.index, alone.value.completed) == (None, ())


# images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["nim", "vllm"])
async def test_pages_as_images(dialect: str) -> None:
    """Images, alone and beside a text, are ranked among texts, and come back as they were passed."""
    documents = ["csv files", PIXEL, {"text": "csv", "image": PIXEL}]
    async with Simulator(dialect=dialect) as sim, AsyncClient(base_url=sim.base_url, model=PICTURES) as client:
        ranking = await client.rerank("csv files", documents)
    assert {result.index: result.document for result in ranking.results} == dict(enumerate(documents))
    sent = sim.requests[-1].json
    assert sent["passages"][1] == {"image": PIXEL.url} if dialect == "nim" else sent["documents"][1]["content"]


async def test_a_model_that_reads_texts_only(nim_simulator: Simulator) -> None:
    """Where the catalog knows that a model accepts no images, nothing is sent; the error names one that does."""
    async with AsyncClient(base_url=nim_simulator.base_url) as client:
        with pytest.raises(ConfigurationError, match=f"{MODEL}.* accepts no images; '{PICTURES}' does"):
            await client.rerank("q", [PIXEL], model=MODEL)
    assert nim_simulator.requests == ()


# the hosted catalog ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "url"),
    [
        (None, f"{RETRIEVAL}/llama-nemotron-rerank-1b-v2/reranking"),
        ("nvidia/llama-3.2-nv-rerankqa-1b-v1", f"{RETRIEVAL}/llama-3_2-nv-rerankqa-1b-v1/reranking"),
        ("nv-rerank-qa-mistral-4b:1", f"{RETRIEVAL}/reranking"),
        ("nvidia/new-rerank-9.1", f"{RETRIEVAL}/new-rerank-9_1/reranking"),
    ],
)
async def test_hosted_models_have_urls_of_their_own(canned: Any, model: str | None, url: str) -> None:
    """In the hosted catalog a reranker is called at its URL with its dotted id; an unknown one where all of them are."""
    canned.post(url, payload={"rankings": [{"index": 0, "logit": 1.0}]})
    async with AsyncClient("k", HOSTED, transport=canned.transport) as client:
        ranking = await client.rerank("q", ["a"], model=model, top_n=1)
    assert ranking.results[0].logit == 1.0
    assert (model or MODEL).encode() in canned.sent(url)[0]


async def test_an_unknown_hosted_name_without_a_vendor(canned: Any) -> None:
    """A name that is no vendor/model has no URL of that pattern: it goes to the base URL, which answers for itself."""
    canned.post(HOSTED + "/ranking", status=404, body="404 page not found")
    async with AsyncClient("k", HOSTED, transport=canned.transport) as client:
        with pytest.raises(NotFoundError, match="page not found"):
            await client.rerank("q", ["a"], model="plain")


@pytest.mark.parametrize(
    ("path", "body", "measure"),
    [
        ("/reranking", {"rankings": [{"index": 0, "logit": 1.0}]}, "logit"),
        ("/any/path", {"rankings": [{"index": 0, "logit": 1.0}]}, "logit"),
        ("/v2/rerank", {"results": [{"index": 0, "relevance_score": 1.0}]}, "relevance_score"),
    ],
)
async def test_an_endpoint_says_its_form_by_its_end(
    server: FaultServer, make_client: MakeClient, path: str, body: Any, measure: str
) -> None:
    """A URL given for the model decides by itself, and is not remembered for other models."""
    server.script(answer(body), path=path)
    client = make_client(endpoints={"mine": f"http://127.0.0.1:{server.port}{path}"})
    assert (await client.rerank("q", ["a"], model="mine")).measure == measure
    assert ("documents" in server.requests[0].json) == path.endswith("/rerank")
    assert shared_state(client).ranking_form is None


# what one form does not have -------------------------------------------------------------------------------------


async def test_truncate_is_nims(server: FaultServer, make_client: MakeClient) -> None:
    """The other form has no truncate: said once, and not sent."""
    server.script(SCORES)
    client = make_client(dialect="vllm")
    with pytest.warns(UserWarning, match="ignores truncate"):
        await client.rerank("q", ["a", "b"], truncate="END")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await client.rerank("q", ["a", "b"], truncate="END")
    assert "truncate" not in server.requests[0].json


async def test_a_strict_client_refuses_truncate(server: FaultServer, make_client: MakeClient) -> None:
    """With strict=True it is an error before anything is sent."""
    with pytest.raises(ConfigurationError, match="ignores truncate"):
        await make_client(dialect="vllm", strict=True).rerank("q", ["a", "b"], truncate="END")
    assert server.requests == []


def test_the_blocking_client(nim_simulator_url: str) -> None:
    """Client.rerank takes images and dicts as well."""
    with Client(base_url=nim_simulator_url, model=PICTURES) as client:
        assert client.rerank("csv", ["csv", PIXEL, {"text": "x"}]).results[0].index == 0

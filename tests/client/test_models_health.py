"""client.models, client.health and client.rerank, against the simulator and against scripted servers."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from nimclient import AsyncClient, RetryPolicy
from nimclient.errors import (
    ConfigurationError,
    ConnectionLostError,
    DecodeError,
    ModelNotFoundError,
    ProtocolError,
    RerankMismatchError,
    ServerError,
)
from nimclient.records import ModelList
from nimclient.simulator import Simulator
from nimclient.simulator.catalog import served_models
from support.server import Close, FaultServer, Stall
from support.wire import answer, error, http

MakeClient = Callable[..., AsyncClient]
CHAT = "meta/llama-3.1-8b-instruct"
ONE = {"rankings": [{"index": 1, "logit": 2.5}, {"index": 0, "logit": -1}]}


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(models=["mine/own", *served_models()]) as sim:
        yield sim


@pytest.fixture
def nim(sim: Simulator, make_client: MakeClient) -> AsyncClient:
    return make_client(sim.base_url, model=None)


# models ----------------------------------------------------------------------------------------------------------


async def test_the_models_of_a_server(nim: AsyncClient) -> None:
    """models.list() gives what the server lists with what our table knows of it."""
    models = await nim.models.list()
    known = next(model for model in models if model.id == CHAT)
    assert (known.kind, known.supports_tools, known.listed) == ("chat", True, True)
    assert next(model for model in models if model.id == "mine/own").kind == "unknown"
    assert models.meta is not None
    assert models.meta.status == 200
    assert models.meta.request_id
    assert set(models.to_dict()) >= {"object", "data"}
    assert len(models) == len(models.ids) == len(models.to_dict()["data"])


@pytest.mark.parametrize("kind", ["chat", "vlm", "embedding", "ranking", "unknown"])
async def test_the_models_of_one_kind(nim: AsyncClient, kind: str) -> None:
    """models.list(kind) keeps one kind, and the meta of the answer."""
    models = await nim.models.list(kind)
    assert isinstance(models, ModelList)
    assert {model.kind for model in models} <= {kind}
    assert models.meta is not None


async def test_one_model(nim: AsyncClient) -> None:
    """models.get() finds a model by its id, slashes included, with meta, extra and to_dict()."""
    model = await nim.models.get(CHAT)
    assert (model.id, model.kind) == (CHAT, "chat")
    assert model.meta is not None
    assert model.meta.url.endswith("/v1/models/" + CHAT)
    assert model.to_dict()["id"] == CHAT
    assert isinstance(model.extra, dict)
    with pytest.raises(ModelNotFoundError):
        await nim.models.get("no/such-model")


async def test_one_model_of_a_server_that_only_lists(server: FaultServer, client: AsyncClient) -> None:
    """Where /models/{id} does not exist the entry of the list is given; what is not in it is not found."""
    listed = answer({"data": [{"id": CHAT, "owned_by": "me", "new_field": 1}]})
    server.script(lambda request: listed if request.path == "/v1/models" else error(404, "no route"))
    model = await client.models.get(CHAT)
    assert (model.kind, model.owned_by, model.extra) == ("chat", "me", {"new_field": 1})
    assert model.meta is not None
    with pytest.raises(ModelNotFoundError, match="the server lists no model 'nvidia/nv-embedqa-e5-v5': no route"):
        await client.models.get("nvidia/nv-embedqa-e5-v5")


async def test_an_id_is_quoted(server: FaultServer, client: AsyncClient) -> None:
    """Ids with odd characters stay one path."""
    server.script(answer({"id": "a b?c#d"}))
    assert (await client.models.get("a b?c#d")).id == "a b?c#d"
    assert server.requests[0].path == "/v1/models/a%20b%3Fc%23d"


@pytest.mark.parametrize("id", ["", None, 5])
async def test_ids_that_are_none(server: FaultServer, client: AsyncClient, id: Any) -> None:
    """What is no id is rejected before anything is asked."""
    with pytest.raises(ConfigurationError, match="id must be a model id"):
        await client.models.get(id)
    assert server.requests == []


async def test_an_alias_of_the_hosted_catalog(canned: Any) -> None:
    """The hosted catalog has no /models/{id}: an id or alias that our table knows is found all the same."""
    base = "https://integrate.api.nvidia.com/v1/models"
    canned.get(base + "/" + CHAT, status=404, body="404 page not found", repeat=True)
    canned.get(base, payload={"data": []}, repeat=True)
    async with AsyncClient("some-key", transport=canned.transport) as client:
        model = await client.models.get(CHAT)
    assert (model.id, model.listed, model.meta) == (CHAT, False, None)


@pytest.mark.parametrize("body", [[], {}, {"data": None}, {"data": [5]}, {"id": 5}], ids=str)
async def test_answers_that_are_no_models(server: FaultServer, client: AsyncClient, body: Any) -> None:
    """A 200 that holds something else is DecodeError."""
    server.script(answer(body))
    with pytest.raises(DecodeError):
        await client.models.list()
    with pytest.raises(DecodeError):
        await client.models.get("x")


async def test_a_get_is_sent_as_often_as_the_policy_says(server: FaultServer, make_client: MakeClient) -> None:
    """Nothing below the engine repeats a GET: a lost connection is one attempt, a stale one is replaced once."""
    client = make_client(retry=RetryPolicy(attempts=1))
    server.script([Close()])
    with pytest.raises(ConnectionLostError):
        await client.models.list()
    assert len(server.requests) == 1
    server.script(answer({"data": []}), [Close()], answer({"data": []}))
    await client.models.list()
    await client.models.list()
    assert len(server.requests) == 4


async def test_a_list_is_repeated_freely(server: FaultServer, client: AsyncClient) -> None:
    """Listing models is tried as often as the policy allows."""
    server.script(error(500), error(500), answer({"data": []}))
    models = await client.models.list()
    assert models.meta is not None
    assert (len(models), models.meta.attempts) == (0, 3)


# health ----------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_ready(nim: AsyncClient, sim: Simulator) -> None:
    """The simulator is alive and ready; once it has gone it is neither."""
    assert await nim.health.ready()
    assert await nim.health.live()
    await sim.aclose()
    assert not await nim.health.ready()
    assert not await nim.health.live()


@pytest.mark.parametrize(
    ("script", "ready"),
    [
        (http(b"", 200, type=None), True),
        (http(b"not json", 200), True),
        (answer({"status": "ready"}), True),
        (error(503, "loading"), False),
        (error(500), False),
        (error(401), False),
        ([Close()], False),
        ([Stall()], False),
    ],
    ids=["empty", "text", "JSON", "503", "500", "401", "lost", "late"],
)
async def test_what_ready_means(server: FaultServer, client: AsyncClient, script: Any, ready: bool) -> None:
    """Readiness is the status of one try; who does not answer in time is not ready."""
    server.script(script)
    assert await client.health.ready(timeout=0.1) is ready
    assert [request.path for request in server.requests] == ["/v1/health/ready"]
    server.script(script)
    assert await client.health.live(timeout=0.1) is ready
    assert server.requests[-1].path == "/v1/health/live"


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (404, False)])
async def test_a_vllm_server(server: FaultServer, make_client: MakeClient, status: int, ready: bool) -> None:
    """Where there is no NIM health route, /health below the root is asked."""
    client = make_client(f"http://127.0.0.1:{server.port}/prefix/v1")
    server.script(http(b"", 404))
    server.script(http(b"", status, type=None), path="/prefix/health")
    assert await client.health.ready() is ready
    asked = ["/prefix/v1/health/ready", "/prefix/health", *(["/prefix/v1/models"] if status == 404 else [])]
    assert [r.path for r in server.requests] == asked


async def test_a_peer_that_is_no_server(server: FaultServer, client: AsyncClient) -> None:
    """Something that does not speak HTTP is an error rather than a server that is not ready."""
    server.script([b"garbage\r\n\r\n", Close()])
    with pytest.raises(ProtocolError):
        await client.health.ready()


# rerank ----------------------------------------------------------------------------------------------------------


async def test_a_ranking(nim: AsyncClient) -> None:
    """rerank() sorts the documents, best first, and cuts at top_n."""
    documents = ["cats purr", "csv files have commas", "dogs bark"]
    ranking = await nim.rerank("csv files", documents)
    assert ranking.results[0].document == documents[1]
    scores = [result.score for result in ranking.results]
    assert scores == sorted(scores, reverse=True)
    assert ranking.meta is not None
    assert ranking.meta.timings.total is not None
    assert ranking.to_dict()["results"][0]["index"] == 1
    assert ranking.results[0].to_dict()["document"] == documents[1]
    assert len((await nim.rerank("csv files", documents, top_n=2)).results) == 2


async def test_what_a_ranking_sends(server: FaultServer, client: AsyncClient) -> None:
    """A ranking is NIM's: query and passages as objects; negative logits are scores, extras are kept."""
    server.script(answer({**ONE, "usage": {"prompt_tokens": 3, "total_tokens": 3}, "new": 1}))
    ranking = await client.rerank("q", ["a", "b"], truncate="END", extra_body={"x": 1})
    request = server.requests[0]
    assert request.path == "/v1/ranking"
    assert request.json == {
        "model": "test-model",
        "query": {"text": "q"},
        "passages": [{"text": "a"}, {"text": "b"}],
        "truncate": "END",
        "x": 1,
    }
    assert [(r.index, r.score, r.logit, r.relevance_score, r.document) for r in ranking.results] == [
        (1, 2.5, 2.5, None, "b"),
        (0, -1.0, -1.0, None, "a"),
    ]
    assert ranking.usage is not None
    assert ranking.usage.prompt_tokens == 3
    assert ranking.extra == {"new": 1}


MISMATCHES = {
    "fewer": [{"index": 0, "logit": 1}],
    "more": [{"index": i, "logit": 1} for i in range(3)],
    "twice": [{"index": 0, "logit": 1}] * 2,
    "unknown index": [{"index": 0, "logit": 1}, {"index": 2, "logit": 1}],
    "negative index": [{"index": 0, "logit": 1}, {"index": -1, "logit": 1}],
    "no index": [{"index": 0, "logit": 1}, {"logit": 1}],
    "bool index": [{"index": 0, "logit": 1}, {"index": True, "logit": 1}],
    "str logit": [{"index": 0, "logit": 1}, {"index": 1, "logit": "high"}],
    "no logit": [{"index": 0, "logit": 1}, {"index": 1}],
    "null logit": [{"index": 0, "logit": 1}, {"index": 1, "logit": None}],
}


@pytest.mark.parametrize("rankings", MISMATCHES.values(), ids=MISMATCHES)
async def test_rankings_that_do_not_fit(server: FaultServer, client: AsyncClient, rankings: list[Any]) -> None:
    """A ranking that does not cover the documents once each is RerankMismatchError; one more try is made."""
    server.script(answer({"rankings": rankings}))
    with pytest.raises(RerankMismatchError):
        await client.rerank("q", ["a", "b"])
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", [[], {}, {"rankings": 5}, {"rankings": ["a", "b"]}], ids=str)
async def test_answers_that_are_no_rankings(server: FaultServer, client: AsyncClient, body: Any) -> None:
    """A 200 that holds something else is DecodeError."""
    server.script(answer(body))
    with pytest.raises(DecodeError):
        await client.rerank("q", ["a", "b"])


async def test_a_ranking_that_is_refused(server: FaultServer, make_client: MakeClient) -> None:
    """Rankings are retried like all pure functions."""
    client = make_client(retry=RetryPolicy(attempts=2, first_delay=0))
    server.script(error(500))
    with pytest.raises(ServerError) as caught:
        await client.rerank("q", ["a", "b"])
    assert caught.value.attempts == 2
    server.script(error(503), answer(ONE))
    assert len((await client.rerank("q", ["a", "b"])).results) == 2


async def test_equal_scores_keep_the_order(server: FaultServer, client: AsyncClient) -> None:
    """Ties are sorted by the order in which the documents were sent."""
    server.script(answer({"rankings": [{"index": i, "logit": 1} for i in (2, 0, 1)]}))
    assert [r.index for r in (await client.rerank("q", ["a", "b", "c"])).results] == [0, 1, 2]

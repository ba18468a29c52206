from typing import Any

import aiohttp
import pytest

from nimclient.simulator import Simulator

from .raw import RANK, RawClient

PASSAGES = [
    "Rome is a large city.",
    "The capital of France is Paris.",
    "What is the capital of France?",
    "France has many capitals of fashion.",
]
QUERY = "What is the capital of France?"
MODEL = "nvidia/llama-nemotron-rerank-1b-v2"
VISUAL = "nvidia/llama-nemotron-rerank-vl-1b-v2"
IMAGE = "data:image/png;base64,QUJD"


async def test_the_best_passage_comes_first(raw: RawClient) -> None:
    """All passages are ranked by falling logit, between -10 and 10, with the index of the request."""
    status, body, _ = await raw.rank(QUERY, PASSAGES)
    assert status == 200
    logits = [entry["logit"] for entry in body["rankings"]]
    assert [entry["index"] for entry in body["rankings"]] == [2, 1, 3, 0]
    assert logits == sorted(logits, reverse=True)
    assert logits[0] == pytest.approx(10.0)
    assert -10.0 <= logits[-1] < -5.0
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0


async def test_passages_are_judged_one_by_one(raw: RawClient) -> None:
    """A passage's logit does not depend on the others of its request."""
    together = {entry["index"]: entry["logit"] for entry in (await raw.rank(QUERY, PASSAGES)).body["rankings"]}
    for index, passage in enumerate(PASSAGES):
        assert (await raw.rank(QUERY, [passage])).body["rankings"][0]["logit"] == together[index]


async def test_a_query_of_stop_words_still_ranks(raw: RawClient) -> None:
    """A query without a content word is ranked by its features alone."""
    assert len((await raw.rank("what is this?", PASSAGES)).body["rankings"]) == 4


async def test_too_long_pairs_are_rejected_or_cut(raw: RawClient) -> None:
    """A query and passage beyond the limit are rejected unless truncate is END."""
    rejected = await raw.rank(QUERY, ["word " * 9000])
    assert rejected.status == 400
    assert "exceeds maximum allowed token size" in rejected.body["message"]
    assert (await raw.rank(QUERY, ["word " * 9000], truncate="END")).status == 200


async def test_visual_rerankers_take_images(raw: RawClient) -> None:
    """A visual model takes an image beside or instead of the text, but no empty text beside it."""
    body = {"model": VISUAL, "query": {"text": "cat"}, "passages": [{"text": "a dog"}, {"image": IMAGE}]}
    body["passages"].append({"text": "a cat", "image": IMAGE})
    assert (await raw.post("/v1/ranking", body)).body["rankings"][0]["index"] == 2
    rejected = await raw.post("/v1/ranking", {**body, "passages": [{"text": "", "image": IMAGE}]})
    assert rejected.status == 400
    assert "passages.0.text" in rejected.body["message"]
    assert (await raw.post("/v1/ranking", {**body, "model": RANK})).status == 400


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"query": None}, "query"),
        ({"query": "cat"}, "query"),
        ({"query": {}}, "query.text"),
        ({"query": {"text": " "}}, "query.text"),
        ({"passages": None}, "passages"),
        ({"passages": []}, "passages"),
        ({"passages": ["cat"]}, "passages"),
        ({"passages": [{"text": 3}]}, "passages.0.text"),
        ({"passages": [{"text": "x"}] * 513}, "between 1 and 512"),
        ({"truncate": "START"}, "truncate"),
    ],
)
async def test_wrong_options_are_rejected_by_name(raw: RawClient, options: Any, name: str) -> None:
    """A wrong field is a 400 in the flat shape that names it."""
    body = {"model": RANK, "query": {"text": "cat"}, "passages": [{"text": "a cat"}], **options}
    status, answer, _ = await raw.post("/v1/ranking", body)
    assert status == 400
    assert answer["object"] == "error"
    assert name in answer["message"]


async def post(simulator: Simulator, path: str, body: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session:
        response = await session.post(simulator.base_url.removesuffix("/v1") + path, json=body)
        return response.status, await response.json()


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_vllms_form(path: str) -> None:
    """vLLM's routes answer with scores between 0 and 1, the best first, and the texts."""
    async with Simulator(dialect="vllm") as simulator:
        status, body = await post(simulator, path, {"model": MODEL, "query": "cats", "documents": ["dogs", "cats"]})
    assert status == 200
    assert [result["index"] for result in body["results"]] == [1, 0]
    assert all(0 < result["relevance_score"] < 1 for result in body["results"])
    assert body["results"][0]["document"] == {"text": "cats", "multi_modal": None}
    assert body["usage"]["total_tokens"] > 0


async def test_dynamos_form() -> None:
    """Dynamo's answer is a bare list, cut at top_n."""
    async with Simulator(dialect="dynamo") as simulator:
        asked = {"model": MODEL, "query": "cats", "documents": ["dogs", "cats"], "top_n": 1}
        status, body = await post(simulator, "/v1/rerank", asked)
    assert (status, len(body), body[0]["index"], body[0]["document"]) == (200, 1, 1, "cats")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": " ", "documents": ["a"]}, "must not be empty"),
        ({"query": "a"}, "at least one document"),
        ({"query": "a", "documents": []}, "at least one document"),
        ({"query": "a", "documents": [5]}, "documents.0: must be a string"),
        ({"query": "a", "documents": [{"content": [{"image_url": {"url": "data:,x"}}]}]}, "takes no images"),
    ],
)
async def test_what_reranking_refuses(body: Any, words: str) -> None:
    """A request that is none is a 400 that names the field."""
    async with Simulator(dialect="vllm") as simulator:
        status, answer = await post(simulator, "/rerank", {"model": MODEL, **body})
    assert status == 400
    assert words in answer["error"]["message"]


async def test_ranking_is_nims_alone() -> None:
    """A NIM has no /v1/rerank, vLLM and Dynamo have no /v1/ranking."""
    for dialect, path in (("nim", "/v1/rerank"), ("vllm", "/v1/ranking"), ("dynamo", "/v1/ranking")):
        async with Simulator(dialect=dialect) as simulator:
            assert (await post(simulator, path, {}))[0] == 404

"""vLLM as an embedding server and as a reranker: what it ignores is noticed, and its rankings come out as ours."""

import os
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nimclient import AsyncClient, RetryPolicy
from nimclient.errors import ConfigurationError, ModelNotFoundError
from nimclient.simulator import Simulator
from servers.same import both, shape
from servers.vllm import KEY, MODEL, SWITCH, Vllm
from support.leaks import assert_idle, assert_no_strays

if not os.environ.get(SWITCH):
    pytest.skip("it takes 2.5 GB: `nox -s vllm` installs vLLM and runs these", allow_module_level=True)

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]
ONCE = RetryPolicy(attempts=1)
DOCUMENTS = ["cats purr", "csv files have commas", "dogs bark"]


@pytest.fixture
async def ranker(vllm_ranker: Vllm) -> AsyncIterator[AsyncClient]:
    """A client of the reranker that leaves nothing behind."""
    async with AsyncClient(KEY, vllm_ranker.base_url, model=MODEL, retry=ONCE) as client:
        yield client
        assert_idle(client)
    await assert_no_strays()


async def test_a_ranking(ranker: AsyncClient) -> None:
    """The form is detected; scores lie between 0 and 1, the best first, and every document is there."""
    ranking = await ranker.rerank("csv files", DOCUMENTS)
    assert ranking.measure == "relevance_score"
    assert sorted(result.document for result in ranking.results) == sorted(DOCUMENTS)
    assert all(0 <= result.score <= 1 and result.logit is None for result in ranking.results)
    assert ranking.usage is not None
    assert ranking.usage.total_tokens > 0
    assert ranking.model == MODEL
    assert ranking.meta is not None
    assert ranking.meta.url.endswith("/v1/rerank")


async def test_the_best_and_the_slices(ranker: AsyncClient) -> None:
    """top_n keeps the best; slices merged by score rank like one request."""
    whole = await ranker.rerank("csv files", DOCUMENTS)
    assert [r.index for r in (await ranker.rerank("csv files", DOCUMENTS, top_n=2)).results] == [
        r.index for r in whole.results[:2]
    ]
    cut = await ranker.rerank("csv files", DOCUMENTS, batch_size=1)
    assert [r.score for r in cut.results] == pytest.approx([r.score for r in whole.results], abs=1e-5)


async def test_a_model_that_is_not_there(ranker: AsyncClient) -> None:
    """An unknown model is no missing route."""
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        await ranker.rerank("q", ["a"], model="none")


async def test_the_callers_word(vllm_ranker: Vllm) -> None:
    """With dialect="vllm" the first request is the right one, and truncate is not sent in vain."""
    seen: list[Any] = []
    client = AsyncClient(KEY, vllm_ranker.base_url, model=MODEL, dialect="vllm", on_attempt=seen.append)
    async with client:
        with pytest.warns(UserWarning, match="ignores truncate"):
            await client.rerank("csv", DOCUMENTS, truncate="END")
    assert [event.status for event in seen] == [200]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
@pytest.mark.parametrize("extra", [{}, {"top_n": 1}, {"model": "none"}], ids=["all", "best", "no model"])
async def test_the_simulator_ranks_in_the_same_shape(vllm_ranker: Vllm, path: str, extra: dict[str, Any]) -> None:
    """The simulator's answers and rejections have the fields of the real ones."""
    body = {"model": MODEL, "query": "csv", "documents": DOCUMENTS, **extra}
    async with Simulator(dialect="vllm", models=[MODEL]) as simulator:
        real, simulated = await both(vllm_ranker.base_url, simulator, path, body, KEY)
    assert simulated[:2] == real[:2]
    assert shape(simulated[2], nulls=True) == shape(real[2], nulls=True)
    assert len(simulated[2].get("results", [])) == len(real[2].get("results", []))


# embeddings ------------------------------------------------------------------------------------------------------


async def test_vectors(vllm_embedder: Vllm) -> None:
    """Base64 is taken; texts come back in order, and a list embeds like its texts one by one."""
    async with AsyncClient(KEY, vllm_embedder.base_url, model=MODEL) as client:
        vectors = await client.embeddings.embed_documents(DOCUMENTS, prefix="")
        single = await client.embeddings.embed_query(DOCUMENTS[1], prefix="")
        assert len(vectors) == 3
        assert vectors[1].tolist() == pytest.approx(single.tolist(), abs=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
async def test_raw_bytes_are_those_of_base64(vllm_embedder: Vllm, dtype: Any) -> None:
    """The same bits in the same order, for texts of unlike lengths; a rejection is JSON as ever."""
    texts = [f"{'word ' * (number % 7)}number {number}" for number in range(40)]
    async with AsyncClient(KEY, vllm_embedder.base_url, model=MODEL, dialect="vllm", retry=ONCE) as client:
        raw = await client.embeddings.embed_documents(texts, prefix="", embed_dtype=dtype, concurrency=1)
        base64 = await client.embeddings.embed_documents(
            texts, prefix="", embed_dtype=dtype, concurrency=1, encoding_format="base64"
        )
        assert raw == base64
        assert (raw.dtype, raw.usage) == (dtype, None)
        assert base64.usage is not None
        with pytest.raises(ModelNotFoundError):
            await client.embeddings.create(texts, model="none", encoding_format="bytes_only")


async def test_what_it_ignores_is_noticed(vllm_embedder: Vllm) -> None:
    """The first answer's id gives vLLM away: input_type is warned of once, and rejected by a strict client."""
    async with AsyncClient(KEY, vllm_embedder.base_url, model=MODEL) as client:
        with pytest.warns(UserWarning, match="ignores input_type"):
            await client.embeddings.embed_query("a")
        assert client.dialect == "vllm"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await client.embeddings.embed_query("a")
    async with AsyncClient(KEY, vllm_embedder.base_url, strict=True) as client:  # the list of models tells it
        with pytest.raises(ConfigurationError, match="ignores input_type"):
            await client.embeddings.embed_query("a")
        with pytest.raises(ConfigurationError, match="ignores truncate"):
            await client.embeddings.create(["a"], truncate="END")


@pytest.mark.parametrize("model", [MODEL, "none"])
async def test_the_simulator_embeds_in_the_same_shape(vllm_embedder: Vllm, model: str) -> None:
    """The simulator's answers and rejections have the fields of the real ones."""
    body = {"model": model, "input": DOCUMENTS}
    async with Simulator(dialect="vllm", models=[MODEL]) as simulator:
        real, simulated = await both(vllm_embedder.base_url, simulator, "/v1/embeddings", body, KEY)
    assert simulated[:2] == real[:2]
    assert shape(simulated[2], nulls=True) == shape(real[2], nulls=True)

"""Reranking more documents than one request takes."""

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError
from nimclient.simulator import Simulator

DOCUMENTS = [f"document {n} about {'csv' if n % 7 == 0 else 'json'} files" for n in range(60)]


@pytest.mark.parametrize("batch_size", [1, 7, 60, None])
async def test_slices_rank_like_one_request(nim_simulator: Simulator, batch_size: int | None) -> None:
    """However the documents are cut, the order, the scores and the usage are those of a single request."""
    async with AsyncClient(base_url=nim_simulator.base_url) as client:
        whole = await client.rerank("csv files", DOCUMENTS)
        cut = await client.rerank("csv files", DOCUMENTS, batch_size=batch_size, concurrency=3)
    assert [(r.index, r.document) for r in cut.results] == [(r.index, r.document) for r in whole.results]
    assert [r.logit for r in cut.results] == pytest.approx([r.logit for r in whole.results])
    assert cut.usage is not None
    assert len(nim_simulator.requests) == 1 + 1 + -(-60 // (batch_size or 512))  # one lists the models


async def test_more_than_512_documents_are_cut_by_themselves(nim_simulator: Simulator) -> None:
    """NIM takes 512 passages a request; more of them become several requests."""
    async with AsyncClient(base_url=nim_simulator.base_url, model="nvidia/llama-nemotron-rerank-1b-v2") as client:
        ranking = await client.rerank("csv", [f"text {n}" for n in range(1030)], top_n=3)
    assert len(ranking.results) == 3
    assert len(nim_simulator.requests) == 3


@pytest.mark.parametrize("setting", [{"batch_size": 0}, {"concurrency": 0}, {"top_n": 0}])
async def test_impossible_sizes_are_refused(nim_simulator: Simulator, setting: dict[str, int]) -> None:
    """Sizes below one are a ConfigurationError that names the argument, before anything is sent."""
    async with AsyncClient(base_url=nim_simulator.base_url) as client:
        with pytest.raises(ConfigurationError, match=next(iter(setting))):
            await client.rerank("q", ["a"], **setting)
    assert nim_simulator.requests == ()

"""client.rerank: documents sorted by how well they answer a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from nimclient._fanout import run_all
from nimclient._protocol.call import Call
from nimclient._protocol.embeddings import check_batch
from nimclient._protocol.pacing import Gate
from nimclient._protocol.ranking import MOST_PASSAGES, check_ranking, merged, ranking_call
from nimclient._resources.base import Resource
from nimclient.records.ranking import Ranking

DEFAULT_CONCURRENCY = 8


class AsyncRanking(Resource):
    """Reranking (NIM's POST /v1/ranking). `AsyncClient.rerank` is its public face."""

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        model: str | None,
        top_n: int | None,
        truncate: str | None,
        batch_size: int | None,
        concurrency: int | None,
        options: Mapping[str, Any],
    ) -> Ranking:
        """Check, send in slices side by side, merge, cut."""
        checked = check_ranking(query, documents, top_n, truncate, options)
        check_batch(batch_size, concurrency)
        step = batch_size or MOST_PASSAGES
        starts = range(0, len(checked), step)
        gate = Gate(self._engine.config.retry)
        parts: dict[int, Ranking] = {}

        async def rank(start: int) -> Ranking:
            def build(name: str | None) -> Call[Ranking]:
                return ranking_call(query, checked[start : start + step], name, truncate, options)

            return await self._with_model(
                "ranking",
                model,
                build,
                lambda call: self._engine.send(call, options, gate if len(starts) > 1 else None),
                options,
            )

        await run_all(starts, rank, concurrency or DEFAULT_CONCURRENCY, lambda i, part: parts.update({starts[i]: part}))
        ranking = merged(parts)
        return ranking if top_n is None else evolve(ranking, results=ranking.results[:top_n])

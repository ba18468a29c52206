"""client.rerank: documents sorted by how well they answer a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from nimclient._protocol.call import Call
from nimclient._protocol.ranking import check_ranking, ranking_call
from nimclient._resources.base import Resource
from nimclient.records.ranking import Ranking


class AsyncRanking(Resource):
    """Reranking (NIM's POST /v1/ranking). `AsyncClient.rerank` is its public face."""

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        model: str | None,
        top_n: int | None,
        truncate: str | None,
        options: Mapping[str, Any],
    ) -> Ranking:
        """Check, send, sort, cut."""
        checked = check_ranking(query, documents, top_n, truncate, options)

        def build(name: str | None) -> Call[Ranking]:
            return ranking_call(query, checked, name, truncate, options)

        ranking = await self._send("ranking", model, build, options)
        return ranking if top_n is None else evolve(ranking, results=ranking.results[:top_n])

"""client.rerank: documents sorted by how well they answer a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from nimclient._fanout import run_all
from nimclient._protocol.call import Call
from nimclient._protocol.catalog import hosted_ranking_url
from nimclient._protocol.embeddings import check_batch
from nimclient._protocol.faults import is_no_route, no_route
from nimclient._protocol.ranking import Document, Form, check_ranking, forms, merged, ranking_call, slices
from nimclient._resources.base import Resource
from nimclient.errors import APIStatusError
from nimclient.records.ranking import Ranking


class AsyncRanking(Resource):
    """Reranking (NIM's POST /v1/ranking, vLLM's and others' /v1/rerank). `AsyncClient.rerank` is its public face."""

    async def rerank(
        self,
        query: str,
        documents: Sequence[Document],
        model: str | None,
        top_n: int | None,
        truncate: str | None,
        batch_size: int | None,
        concurrency: int | None,
        options: Mapping[str, Any],
    ) -> Ranking:
        """Check, send in slices side by side, merge, cut."""
        passages = check_ranking(query, documents, top_n, truncate, options)
        check_batch(batch_size, concurrency)
        spans = list(slices(passages, batch_size))
        gate = self._engine.gate(concurrency, work=lambda part: len(part.results))
        several = len(spans) > 1
        with_images = any(passage.image is not None for passage in passages)

        def build(span: range, name: str | None, form: Form | None = None) -> Call[Ranking]:
            form = form or self._forms(name)[0]
            if with_images and name is not None:
                self._engine.catalog.check_images(name)
            if truncate is not None and not form.nim:
                self._warn_ignored("truncate", "pass extra_body={'truncate_prompt_tokens': …} instead")
            chosen = passages[span.start : span.stop]
            return ranking_call(form, query, chosen, name, top_n=top_n, truncate=truncate, options=options)

        async def rank(span: range) -> Ranking:
            async def send(call: Call[Ranking]) -> Ranking:
                missing: APIStatusError | None = None
                for form in self._forms(call.model):
                    tried = call if form.is_of(call) else build(span, call.model, form)
                    try:
                        ranking = await self._engine.send(tried, options, gate if several else None)
                    except APIStatusError as error:
                        if not is_no_route(error):
                            raise
                        missing = error
                    else:
                        self._remember(call.model, form)
                        return ranking
                assert missing is not None
                raise no_route(missing, "the server has no route for reranking") from missing

            return await self._with_model("ranking", model, lambda name: build(span, name), send, options)

        if self._known_model("ranking", model) is None:  # find the default once, not once per slice
            build(spans[0], None)
            await self._ensure_default("ranking", options)
        parts: dict[int, Ranking] = {}
        if len(spans) > 1 and len(self._forms(model)) > 1 and self._engine.core.ranking_form is None:
            parts[0] = await rank(spans.pop(0))  # the first one finds out how this server is asked
        await run_all(spans, rank, gate.width, lambda i, part: parts.update({spans[i].start: part}))
        ranking = merged(parts)
        return ranking if top_n is None else evolve(ranking, results=ranking.results[:top_n])

    def _forms(self, model: str | None) -> Sequence[Form]:
        """The forms in which to ask for a ranking of this model; the one that has worked before comes first."""
        engine = self._engine
        endpoint = None if model is None else engine.endpoint_of(model)
        if endpoint is None and engine.is_hosted and model is not None:
            endpoint = hosted_ranking_url(model)
        found = forms(engine.config.dialect, engine.dialect_for(model), endpoint)
        worked = engine.core.ranking_form
        return sorted(found, key=lambda form: form != worked) if worked is not None else found

    def _remember(self, model: str | None, form: Form) -> None:
        if "://" not in form.path:
            self._engine.core.ranking_form = form

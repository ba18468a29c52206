"""client.rerank: documents sorted by how well they answer a query, in whichever form the server takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from nimclient._api.call import Call
from nimclient._api.catalog import hosted_ranking_url
from nimclient._api.embeddings import check_batch
from nimclient._api.ranking import Document, Form, Passage, check_ranking, forms, merged, ranking_call, slices
from nimclient._bulk.gate import Gate
from nimclient._bulk.workers import run_all
from nimclient._resources.base import Resource
from nimclient._retry.classify import is_no_route
from nimclient._retry.faults import no_route
from nimclient.errors import APIStatusError, NimError
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
        run = _Run(self, query, passages, model, top_n, truncate, options, gate if len(spans) > 1 else None)
        name = self._known_model("ranking", model)
        if name is None:  # find the default once, not once per slice
            run.build(spans[0], None)
            await self._ensure_default("ranking", options)
        try:
            if len(spans) > 1 and len(self.forms(name)) > 1 and self._engine.core.ranking_form is None:
                run.parts[0] = await run.rank(spans.pop(0))  # the first one finds out how this server is asked
            await run_all(spans, run.rank, gate.width, lambda at, part: run.parts.update({spans[at].start: part}))
        except NimError as error:
            error.completed = tuple(sorted(run.parts.items()))
            raise
        ranking = merged(run.parts)
        return ranking if top_n is None else evolve(ranking, results=ranking.results[:top_n])

    def forms(self, model: str | None) -> Sequence[Form]:
        """The forms in which to ask for a ranking of this model; the one that has worked before comes first."""
        engine = self._engine
        told = engine.config.dialect or ("hosted" if engine.is_hosted else None)
        endpoint = None if model is None else engine.endpoint_of(model)
        if endpoint is None and engine.is_hosted and model is not None:
            endpoint = hosted_ranking_url(model)
        found = forms(told, engine.dialect_for(model), endpoint)
        worked = engine.core.ranking_form
        return sorted(found, key=lambda form: form != worked) if worked is not None else found


@frozen
class _Run:
    """One call of `rerank`: what is asked, and the rankings of its slices by the position of their first document."""

    resource: AsyncRanking
    query: str
    passages: Sequence[Passage]
    model: str | None
    top_n: int | None
    truncate: str | None
    options: Mapping[str, Any]
    gate: Gate | None
    parts: dict[int, Ranking] = field(factory=dict[int, Ranking])

    def build(self, span: range, name: str | None, form: Form | None = None) -> Call[Ranking]:
        """The call for a slice, in the likeliest form unless another is given."""
        form = form or self.resource.forms(name)[0]
        chosen = self.passages[span.start : span.stop]
        if name is not None and any(passage.image is not None for passage in chosen):
            self.resource._engine.catalog.check_images(name)
        if self.truncate is not None and not form.nim:
            self.resource._warn_ignored("truncate", "pass extra_body={'truncate_prompt_tokens': …} instead")
        return ranking_call(
            form, self.query, chosen, name, top_n=self.top_n, truncate=self.truncate, options=self.options
        )

    async def rank(self, span: range) -> Ranking:
        """The ranking of a slice. An error has the position of its first document, where there are several."""

        async def send(call: Call[Ranking]) -> Ranking:
            return await self._in_some_form(span, call)

        try:
            return await self.resource._with_model(
                "ranking", self.model, lambda name: self.build(span, name), send, self.options
            )
        except NimError as error:
            if self.gate is not None:
                error.index = span.start
            raise

    async def _in_some_form(self, span: range, call: Call[Ranking]) -> Ranking:
        """Send in one form after the other, until the server has a route for it; remember the one that it had."""
        engine = self.resource._engine
        missing: APIStatusError | None = None
        for form in self.resource.forms(call.model):
            tried = call if form.is_of(call) else self.build(span, call.model, form)
            try:
                ranking = await engine.send(tried, self.options, self.gate)
            except APIStatusError as error:
                if not is_no_route(error):
                    raise
                missing = error
            else:
                if form.path.startswith("/"):  # not the URL of one model
                    engine.core.ranking_form = form
                return ranking
        assert missing is not None
        raise no_route(missing, "the server has no route for reranking") from missing

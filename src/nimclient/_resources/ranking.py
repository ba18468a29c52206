"""client.rerank: documents sorted by how well they answer a query, in whichever form the server takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, evolve, field

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


async def rerank(
    resource: Resource,
    query: str,
    documents: Sequence[Document],
    *,
    model: str | None,
    top_n: int | None,
    truncate: str | None,
    batch_size: int | None,
    concurrency: int | None,
    options: Mapping[str, Any],
) -> Ranking:
    """See AsyncClient.rerank: check, send in slices side by side, merge, cut."""
    passages = check_ranking(query, documents, top_n, truncate, options)
    check_batch(batch_size, concurrency)
    spans = list(slices(passages, batch_size))
    gate = resource._engine.gate(concurrency, work=_documents)
    run = _Run(resource, query, passages, top_n, truncate, options, gate if len(spans) > 1 else None)
    run.model = resource._known_model("ranking", model)
    if run.model is None:
        run.call(spans[0])  # bad input must be found before the server is asked
        run.model = await resource._default_model("ranking", options)
    try:
        if len(spans) > 1 and len(run.forms()) > 1 and resource._engine.core.ranking_form is None:
            await run.rank(spans.pop(0))  # the first one finds out how this server is asked
        await run_all(spans, run.rank, gate.width, _note)
    except NimError as error:
        error.completed = tuple(sorted(run.parts.items()))
        raise
    ranking = merged(run.parts)
    return ranking if top_n is None else evolve(ranking, results=ranking.results[:top_n])


def _documents(part: Ranking) -> float:
    """How much work a ranking was."""
    return float(len(part.results))


def _note(_: int, __: None) -> None:
    """A slice is ranked: its run keeps the ranking."""


@define
class _Run:
    """One call of `rerank`: what is asked, and the rankings of its slices by the position of their first document."""

    resource: Resource
    query: str
    passages: Sequence[Passage]
    top_n: int | None
    truncate: str | None
    options: Mapping[str, Any]
    gate: Gate | None
    model: str | None = None
    parts: dict[int, Ranking] = field(factory=dict[int, Ranking])

    def forms(self) -> Sequence[Form]:
        """The forms in which to ask for a ranking of the model; the one that has worked before comes first."""
        engine, model = self.resource._engine, self.model
        told = engine.config.dialect or ("hosted" if engine.is_hosted else None)
        endpoint = None if model is None else engine.endpoint_of(model)
        if endpoint is None and engine.is_hosted and model is not None:
            endpoint = hosted_ranking_url(model)
        found = forms(told, engine.dialect_for(model), endpoint)
        worked = engine.core.ranking_form
        return sorted(found, key=worked.__ne__) if worked is not None else found

    def call(self, span: range, form: Form | None = None) -> Call[Ranking]:
        """The call for a slice, in the likeliest form unless another is given."""
        form = form or self.forms()[0]
        chosen = self.passages[span.start : span.stop]
        if self.model is not None and any(passage.image is not None for passage in chosen):
            self.resource._engine.catalog.check_images(self.model)
        if self.truncate is not None and not form.nim:
            self.resource._warn_ignored("truncate", "pass extra_body={'truncate_prompt_tokens': …} instead")
        return ranking_call(
            form, self.query, chosen, self.model, top_n=self.top_n, truncate=self.truncate, options=self.options
        )

    async def rank(self, span: range) -> None:
        """Rank a slice. An error has the position of its first document, where there are several."""
        try:
            self.parts[span.start] = await self._in_some_form(span)
        except NimError as error:
            if self.gate is not None:
                error.index = span.start
            raise

    async def _in_some_form(self, span: range) -> Ranking:
        """Send in one form after the other, until the server has a route for it; remember the one that it had."""
        missing: APIStatusError | None = None
        for form in self.forms():
            try:
                ranking = await self.resource._send(self.call(span, form), self.options, self.gate)
            except APIStatusError as error:
                if not is_no_route(error):
                    raise
                missing = error
            else:
                if form.path.startswith("/"):  # not the URL of one model
                    self.resource._engine.core.ranking_form = form
                return ranking
        assert missing is not None
        raise no_route(missing, "the server has no route for reranking") from missing

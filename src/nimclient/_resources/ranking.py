"""client.rerank: sorts documents by relevance to a query, in the form that the server accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, evolve, field

from nimclient._api.call import Call
from nimclient._api.catalog import hosted_ranking_url
from nimclient._api.embeddings import check_batch
from nimclient._api.ranking import (
    Document,
    Form,
    Passage,
    check_ranking,
    forms,
    merged,
    other_form,
    ranking_call,
    slices,
)
from nimclient._api.server_types import truncate_instead
from nimclient._base import observers
from nimclient._bulk.gate import Gate
from nimclient._bulk.slicing import Sizes
from nimclient._bulk.workers import run_all
from nimclient._resources.base import Resource
from nimclient._retry.classify import FailureScope, is_no_route, is_status, max_texts, rejects_count, scope_of
from nimclient._retry.faults import no_route
from nimclient.errors import APIStatusError, NimError, RerankMismatchError
from nimclient.records.ranking import Ranking

SMALL_SPAN = 4
"""Documents: no server is known that accepts fewer in a request."""
_FIELDS = ("model", "query", "top_n", "truncate")


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
    """See AsyncClient.rerank: validate, send slices concurrently, merge, truncate."""
    options = resource._with_defaults("ranking", options)
    top_n, truncate, batch_size, concurrency = resource._chosen(
        "ranking", top_n=top_n, truncate=truncate, batch_size=batch_size, concurrency=concurrency
    )
    passages = check_ranking(query, documents, top_n, truncate, options)
    check_batch(batch_size, concurrency)
    gate = resource._engine.gate("ranking", concurrency, work=_documents)
    run = _Run(resource, query, passages, top_n, truncate, options, gate)
    run.model = resource._known_model("ranking", model)
    spans = list(slices(passages, batch_size))
    if run.model is None:
        run.call(spans[0])  # invalid input must raise before anything is sent
        run.model = await _default_model(resource, options)
    if (max_texts := run.sizes().texts) is not None:
        spans = list(slices(passages, min(batch_size or max_texts, max_texts)))
    if len(spans) == 1:
        run.gate = None
    if len(spans) == 1 or not observers.installed:
        return await run.rank_all(spans, gate)
    with resource._whole("ranking", run.model) as observed:
        ranking = await run.rank_all(spans, gate)
        observed.append(ranking)
    return ranking


async def _default_model(resource: Resource, options: Mapping[str, Any]) -> str | None:
    """The default model; None on a server that lists none (TEI), which uses its own."""
    try:
        return await resource._default_model("ranking", options)
    except APIStatusError as error:
        if is_no_route(error):
            return None
        raise


def _documents(part: Ranking) -> float:
    """The work of a ranking: its documents."""
    return float(len(part.results))


def _note(_: int, __: None) -> None:
    """Nothing to do: the run keeps the rankings."""


@define
class _Run:
    """One call of `rerank`: its arguments, and the rankings of its slices by the position of their first document."""

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
        """The forms to try for the model, starting with the one that has worked before."""
        engine, model = self.resource._engine, self.model
        endpoint = None if model is None else engine.endpoint_of(model)
        if endpoint is None and engine.is_hosted and model is not None:
            endpoint = hosted_ranking_url(model)
        found = forms(engine.stated_dialect, engine.server_type_for(model), endpoint)
        worked = engine.core.ranking_form
        if worked is None or endpoint is not None:
            return found
        return (worked, *(form for form in found if form != evolve(worked, asks_all=False)))

    def call(self, span: range, form: Form | None = None) -> Call[Ranking]:
        """The call for a slice, in the most likely form unless another is given."""
        form = form or self.forms()[0]
        chosen = self.passages[span.start : span.stop]
        if self.model is not None and any(passage.image is not None for passage in chosen):
            self.resource._engine.catalog.check_images(self.model)
        if self.truncate is not None and not form.takes_truncate:
            server = self.resource._engine.server_type_for(self.model)
            self.resource._warn_ignored("truncate", truncate_instead(server))
        return ranking_call(
            form, self.query, chosen, self.model, top_n=self.top_n, truncate=self.truncate, options=self.options
        )

    async def rank_all(self, spans: list[range], gate: Gate) -> Ranking:
        """Rank the slices concurrently. An error has, as `.completed`, the rankings of those that were finished."""
        try:
            if len(spans) > 1 and len(self.forms()) > 1 and self.resource._engine.core.ranking_form is None:
                await self.rank(spans.pop(0))  # the first slice finds the server's form
            await run_all(spans, self.rank, gate.width, _note)
        except NimError as error:
            error.completed = tuple(sorted(self.parts.items()))
            raise
        self._check_models()
        ranking = merged(self.parts)
        return ranking if self.top_n is None else evolve(ranking, results=ranking.results[: self.top_n])

    def _check_models(self) -> None:
        """Warn once if several models ranked the slices: their scores are not comparable. A strict client raises."""
        models = sorted({part.model for part in self.parts.values() if part.model})
        if len(models) > 1:
            problem = (
                f"the documents were ranked by several models ({', '.join(models)}): their scores are not comparable"
            )
            if self.resource._engine.config.strict:
                raise RerankMismatchError(problem)
            self.resource._engine.core.warn_once(problem)

    async def rank(self, span: range) -> None:
        """Rank a slice, in pieces if the server says it is too large. An error has the position of its first document."""
        try:
            self.parts[span.start] = await self._in_some_form(span)
        except NimError as error:
            if len(span) > 1 and (rejects_count(error) or is_status(error, 413) or self.may_be_size(span, error)):
                await self._rank_in_pieces(span, error)
                return
            if self.gate is not None:
                error.index = span.start
            raise
        if self.resource._engine.core.sizes:
            self.sizes().accepted(len(span))

    def may_be_size(self, span: range, error: NimError) -> bool:
        """Whether a 400 or 422 that names nothing may be about the number of documents, as with embeddings."""
        return len(span) > SMALL_SPAN and scope_of(error, _FIELDS) is FailureScope.ITEM

    async def _rank_in_pieces(self, span: range, error: NimError) -> None:
        """Rank a slice in pieces of the size that the server states, else in halves; record the accepted size."""
        size = min(max_texts(error, len(span)) or (len(span) + 1) // 2, len(span) - 1)
        for start in range(span.start, span.stop, size):
            await self.rank(range(start, min(start + size, span.stop)))
        sizes = self.sizes()
        if rejects_count(error) or is_status(error, 413):
            sizes.texts = min(size, sizes.texts or size)
        else:
            sizes.learn(error, size, 0)

    def sizes(self) -> Sizes:
        """The batch sizes the server was found to accept."""
        engine = self.resource._engine
        call = self.call(range(1))
        return engine.core.sizes.setdefault((engine.url_of(call), call.model), Sizes())

    async def _in_some_form(self, span: range) -> Ranking:
        """Try the forms until the server has a route for one; remember it."""
        missing: APIStatusError | None = None
        waiting = list(self.forms())
        while waiting:
            form = waiting.pop(0)
            try:
                ranking = await self.resource._send(self.call(span, form), self.options, self.gate)
            except (APIStatusError, RerankMismatchError) as error:
                other = other_form(form, error, self.top_n)
                if other is not None:
                    waiting.insert(0, other)
                elif isinstance(error, APIStatusError) and is_no_route(error):
                    missing = error
                else:
                    raise
            else:
                if form.path.startswith("/"):  # not a model's own URL
                    self.resource._engine.core.ranking_form = form
                return ranking
        assert missing is not None
        raise no_route(missing, "the server has no route for reranking") from missing

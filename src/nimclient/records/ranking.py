"""Records of rerankers: NIM's logits (unbounded, often negative), the relevance scores of vLLM, Jina and Cohere (0 to 1),
and the scores of Dynamo and SGLang, whose scale is unspecified.

They are never mixed: each has its own field, and `score` is the one that the server sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from attrs import frozen

from nimclient._base.types import Json, JsonDict
from nimclient._base.values import ResponseMeta
from nimclient.errors import RerankMismatchError
from nimclient.records._decode import (
    as_list,
    as_object,
    finite_number,
    object_or_empty,
    text_or_none,
    whole_number,
    wrong,
)
from nimclient.records._html import html_table
from nimclient.records._record import Record, TopRecord
from nimclient.records.usage import Usage, decode_usage

_SPINES = {"rankings": "logit", "results": "relevance_score", "data": "score"}
_MEASURES = ("logit", "relevance_score", "score")


@frozen(repr=False)
class RankedDocument(Record):
    """A document with its rank. `index` is its position among the documents that were sent.

    `logit` (NIM) is a raw score; `relevance_score` (vLLM, Jina, Cohere) lies between 0 and 1, unless the request disabled
    the activation. The one that the server did not send is None; both are None for a `score` of unspecified scale
    (Dynamo, SGLang). `document` is the caller's document.
    """

    index: int
    score: float
    logit: float | None
    relevance_score: float | None
    document: Any


@frozen(repr=False)
class Ranking(TopRecord):
    """Documents sorted by score, highest first; equal scores keep the order in which they were sent."""

    results: tuple[RankedDocument, ...]
    model: str | None = None
    usage: Usage | None = None

    def _repr_html_(self) -> str:
        """The best documents as a table, for notebooks."""
        rows = [(result.index, result.score, result.document) for result in self.results]
        return html_table(("index", self.measure, "document"), rows, f"Ranking of {len(rows)} documents")

    @property
    def measure(self) -> str:
        """What `score` is: "logit", "relevance_score", or "score" if the server does not specify it."""
        first = self.results[0] if self.results else None
        if first is None or (first.logit is None and first.relevance_score is None):
            return "score"
        return "logit" if first.logit is not None else "relevance_score"


def decode_ranking(
    value: Json, documents: Sequence[Any], meta: ResponseMeta | None = None, *, top_n: int | None = None
) -> Ranking:
    """NIM's `{"rankings": [{"index", "logit"}], "usage"?}`, `{"results": [{"index", "relevance_score"}], …}` of vLLM, Jina
    and Cohere, or a plain list of `{"index", "score"}` (Dynamo, SGLang).

    Every document must appear exactly once; with `top_n`, only the best ones may appear.
    """
    data, path, items = _spine(value, meta)
    if len(items) not in {len(documents), min(top_n or len(documents), len(documents))}:
        raise wrong(f"{len(items)} ranks for {len(documents)} documents", path, meta, RerankMismatchError)
    measure = _measure(items, path)
    ranked: dict[int, RankedDocument] = {}
    for position, item in enumerate(items):
        place = f"{path}[{position}]"
        index, score = _index_and_score(item, measure, len(documents), place, meta)
        if index in ranked:
            raise wrong(f"document {index} is ranked twice", place, meta, RerankMismatchError)
        logit = score if measure == "logit" else None
        relevance = score if measure == "relevance_score" else None
        ranked[index] = RankedDocument(index, score, logit, relevance, documents[index])
    results = sorted(ranked.values(), key=lambda document: (-document.score, document.index))
    usage = decode_usage(data.pop("usage", None))
    return Ranking(tuple(results), text_or_none(data.pop("model", None)), usage, extra=data, meta=meta)


def _spine(value: Json, meta: ResponseMeta | None) -> tuple[JsonDict, str, list[Any]]:
    """The other fields, the path of the ranks, and the ranks."""
    if isinstance(value, list):
        return {}, "body", cast(list[Any], value)
    data = dict(as_object(value, "body", meta))
    path = next((name for name in _SPINES if name in data), None)
    if path is None:
        raise wrong("it is missing", "rankings", meta)
    return data, path, as_list(data.pop(path), path, meta)


def _measure(items: list[Any], path: str) -> str:
    """The name of the score of all ranks: that of the first one, else the usual one for this form of response."""
    first = object_or_empty(items[0]) if items else {}
    return next((name for name in _MEASURES if name in first), _SPINES.get(path, "score"))


def _index_and_score(item: Json, name: str, count: int, path: str, meta: ResponseMeta | None) -> tuple[int, float]:
    data = as_object(item, path, meta)
    index, score = whole_number(data.get("index")), finite_number(data.get(name))
    if index is None or not 0 <= index < count:
        problem = f"index {data.get('index')!r:.40} is not one of {count} documents"
        raise wrong(problem, f"{path}.index", meta, RerankMismatchError)
    if score is None:
        problem = f"{data.get(name)!r:.40} is not a finite number"
        raise wrong(problem, f"{path}.{name}", meta, RerankMismatchError)
    return index, score

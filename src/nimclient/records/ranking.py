"""What rerankers answer: NIM's /v1/ranking logits (unbounded, often negative), vLLM's /rerank scores of 0 to 1.

The two are never mixed: each lands in its own field, and `score` is whichever of them the server sent.
"""

from __future__ import annotations

import math
from typing import Any

from attrs import field, frozen

from nimclient._types import Json, JsonDict
from nimclient._wire import ResponseMeta
from nimclient.errors import RerankMismatchError
from nimclient.records._decode import as_list, as_object, text_or_none, to_dict, wrong
from nimclient.records.usage import Usage, decode_usage


@frozen
class RankedDocument:
    """A document with its rank. `index` is its position among the documents that were sent.

    `logit` (NIM) is a raw score, `relevance_score` (vLLM, Jina, Cohere) lies between 0 and 1; the other one is None.
    `document` is what the caller had passed.
    """

    index: int
    score: float
    logit: float | None
    relevance_score: float | None
    document: Any

    def to_dict(self) -> JsonDict:
        """The document as a JSON object."""
        return to_dict(self)


@frozen
class Ranking:
    """Documents sorted by score, highest first; equal scores keep the order in which they were sent."""

    results: tuple[RankedDocument, ...]
    model: str | None = None
    usage: Usage | None = None
    extra: JsonDict = field(factory=dict[str, Any])
    meta: ResponseMeta | None = field(default=None, eq=False, repr=False)

    def to_dict(self) -> JsonDict:
        """The ranking as a JSON object."""
        return to_dict(self)


def decode_nim_ranking(value: Json, documents: list[Any], meta: ResponseMeta | None = None) -> Ranking:
    """NIM's `{"rankings": [{"index", "logit"}], "usage"?}`; every document must appear exactly once."""
    data = dict(as_object(value, "body", meta))
    if "rankings" not in data:
        raise wrong("there is none", "rankings", meta)
    items = as_list(data.pop("rankings"), "rankings", meta)
    if len(items) != len(documents):
        raise wrong(f"{len(items)} ranks for {len(documents)} documents", "rankings", meta, RerankMismatchError)
    ranked: dict[int, RankedDocument] = {}
    for position, item in enumerate(items):
        index, logit = _index_and_number(item, "logit", len(documents), f"rankings[{position}]", meta)
        if index in ranked:
            raise wrong(f"document {index} is ranked twice", f"rankings[{position}]", meta, RerankMismatchError)
        ranked[index] = RankedDocument(index, logit, logit, None, documents[index])
    results = sorted(ranked.values(), key=lambda document: (-document.score, document.index))
    usage = decode_usage(data.pop("usage", None))
    return Ranking(tuple(results), text_or_none(data.pop("model", None)), usage, data, meta)


def _index_and_number(item: Json, name: str, count: int, path: str, meta: ResponseMeta | None) -> tuple[int, float]:
    data = as_object(item, path, meta)
    index, number = data.get("index"), data.get(name)
    if type(index) is not int or not 0 <= index < count:
        raise wrong(f"index {index!r} is not one of {count} documents", f"{path}.index", meta, RerankMismatchError)
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        raise wrong(f"{number!r} is not a finite number", f"{path}.{name}", meta, RerankMismatchError)
    return index, float(number)

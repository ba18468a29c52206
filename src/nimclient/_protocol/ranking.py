"""Reranking: arguments → Call (NIM's POST /ranking: query and passages as objects, at most 512 passages a request)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from attrs import evolve

from nimclient._protocol.call import Call
from nimclient._protocol.options import (
    check_names,
    check_text,
    check_texts,
    check_whole,
    check_word,
    merge_fields,
    names_of,
)
from nimclient._types import Json, JsonDict
from nimclient._wire import ResponseMeta
from nimclient.records.chat import Usage
from nimclient.records.params import CallOptions
from nimclient.records.ranking import Ranking, decode_nim_ranking

RANKING_OPTIONS = names_of(CallOptions)
TRUNCATES = ("NONE", "END")
MOST_PASSAGES = 512


def check_ranking(
    query: object, documents: object, top_n: int | None, truncate: str | None, options: Mapping[str, Any]
) -> list[str]:
    """The documents, checked. TypeError for a str where a list belongs, ConfigurationError for bad input."""
    check_names("rerank", options, RANKING_OPTIONS)
    check_text("query", query)
    check_whole("top_n", top_n, 1)
    check_word("truncate", truncate, TRUNCATES)
    return check_texts("documents", documents)


def ranking_call(
    query: str, documents: Sequence[str], model: str | None, truncate: str | None, options: Mapping[str, Any]
) -> Call[Ranking]:
    """The call for documents that are checked already."""
    fields: JsonDict = {} if model is None else {"model": model}
    fields["query"] = {"text": query}
    fields["passages"] = [{"text": document} for document in documents]
    if truncate is not None:
        fields["truncate"] = truncate
    merge_fields(fields, options)
    return Call("POST", "/ranking", partial(_decode, documents=list(documents)), fields, model=model)


def merged(parts: Mapping[int, Ranking]) -> Ranking:
    """One ranking of those of slices, by the position of their first document.

    Logits of separate requests can be compared: a cross-encoder looks at one pair at a time.
    """
    if len(parts) == 1:
        return next(iter(parts.values()))
    results = [evolve(r, index=start + r.index) for start, part in parts.items() for r in part.results]
    results.sort(key=lambda document: (-document.score, document.index))
    first = parts[0]
    usage = sum((part.usage or Usage() for part in parts.values()), start=Usage())
    return evolve(first, results=tuple(results), usage=usage if any(p.usage for p in parts.values()) else None)


def _decode(value: Json, meta: ResponseMeta, *, documents: list[Any]) -> Ranking:
    return decode_nim_ranking(value, documents, meta)

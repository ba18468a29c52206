"""The results of a demo, as rows of a table and as one JSON object. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from attrs import define, field

from nimclient.cli.text import Hit


@define
class Report:
    """Filled step by step; the values of a half that could not run stay None. Times are seconds."""

    base_url: str
    simulated: bool
    requests: int = 0
    out: str | None = None
    embedding_model: str | None = None
    texts: int | None = None
    dimensions: int | None = None
    embedding_seconds: float | None = None
    embedding_tokens: int | None = None
    searches: list[tuple[str, list[Hit]]] = field(factory=list[tuple[str, list[Hit]]])
    chat_model: str | None = None
    question: str = ""
    answer: str | None = None
    sources: list[str] = field(factory=list[str])
    ttft: float | None = None
    inter_token: Sequence[float] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def texts_per_second(self) -> float | None:
        """Texts embedded per second of the whole call."""
        return self.texts / self.embedding_seconds if self.texts and self.embedding_seconds else None

    @property
    def complete(self) -> bool:
        """Whether both halves ran."""
        return self.texts is not None and self.answer is not None


def rows(report: Report) -> list[tuple[str, str]]:
    """The short table at the end; a dash where there is nothing to report."""
    p50, p95 = (_milliseconds(percentile(report.inter_token, share)) for share in (0.5, 0.95))
    return [
        ("texts", _count(report.texts)),
        ("requests", _count(report.requests)),
        ("texts/s", _count(report.texts_per_second)),
        ("time to first token", _milliseconds(report.ttft)),
        ("inter-token latency p50", p50),
        ("inter-token latency p95", p95),
        ("tokens embedded", _count(report.embedding_tokens)),
        ("tokens in the prompt", _count(report.prompt_tokens)),
        ("tokens in the answer", _count(report.completion_tokens)),
    ]


def to_json(report: Report) -> dict[str, Any]:
    """Everything as a JSON object; null where there is nothing to report."""
    return {
        "base_url": report.base_url,
        "simulated": report.simulated,
        "models": {"embedding": report.embedding_model, "chat": report.chat_model},
        "out": report.out,
        "texts": report.texts,
        "dimensions": report.dimensions,
        "requests": report.requests,
        "texts_per_second": report.texts_per_second,
        "ttft_seconds": report.ttft,
        "itl_p50_seconds": percentile(report.inter_token, 0.5),
        "itl_p95_seconds": percentile(report.inter_token, 0.95),
        "tokens": {
            "embedded": report.embedding_tokens,
            "prompt": report.prompt_tokens,
            "answer": report.completion_tokens,
        },
        "searches": [
            {"query": query, "hits": [{"name": hit.name, "score": hit.score, "summary": hit.summary} for hit in hits]}
            for query, hits in report.searches
        ],
        "question": report.question,
        "answer": report.answer,
        "sources": report.sources,
    }


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which this share lies, interpolated; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _count(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:,.1f} ms"

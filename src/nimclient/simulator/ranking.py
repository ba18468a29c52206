"""`/v1/ranking` like a NeMo Retriever NIM, `/v1/rerank` like vLLM and Dynamo.

A passage's logit, between about -10 and 10, comes from the cosine of its features with the query's and from the
share of the query's words it holds. Each passage is scored independently, so that logits of separate requests are comparable,
as those of a cross-encoder.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, cast

from .catalog import ServedModel
from .embeddings import fitted, without_images
from .features import Features, dot
from .fields import Fields
from .rejections import bad_field
from .text import content_stems

MAX_PASSAGES: Final = 512

_TRUNCATE: Final = ("NONE", "END")
_COSINE_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True)
class RankingRequest:
    """A checked request."""

    query: str
    passages: tuple[str, ...]
    truncate: str
    top_n: int | None = None


def read_ranking(fields: Fields, model: ServedModel) -> RankingRequest:
    """Validate a request; Rejection (400) names what is wrong."""
    query = fields.object("query")
    if query is None:
        raise fields.missing("query")
    text = Fields(query, "query").need_text("text")
    if not text.strip():
        raise bad_field("query.text", "must not be empty.")
    passages = fields.objects("passages")
    if passages is None:
        raise fields.missing("passages")
    if not 1 <= len(passages) <= MAX_PASSAGES:
        raise bad_field("passages", f"must hold between 1 and {MAX_PASSAGES} passages, got {len(passages)}.")
    return RankingRequest(
        query=text,
        passages=tuple(_passage(Fields(passage, f"passages.{at}"), model) for at, passage in enumerate(passages)),
        truncate=fields.one_of("truncate", _TRUNCATE) or "NONE",
    )


def _passage(passage: Fields, model: ServedModel) -> str:
    image = passage.text("image") if model.images else None
    if image is None:
        return passage.need_text("text")
    text = passage.text("text")
    if text == "":
        raise bad_field(passage.path("text"), "must not be empty; leave it out for a passage that is only an image.")
    return without_images(f"{text} {image}" if text else image)


def read_rerank(fields: Fields, model: ServedModel) -> RankingRequest:
    """The same for a query and documents as vLLM accepts them: texts, or objects with a list of content parts."""
    query = fields.need_text("query")
    if not query.strip():
        raise bad_field("query", "must not be empty.")
    documents = fields.array("documents")
    if not documents:
        raise bad_field("documents", "must hold at least one document.")
    return RankingRequest(
        query=query,
        passages=tuple(_document(document, f"documents.{at}", model) for at, document in enumerate(documents)),
        truncate="END",
        top_n=fields.integer("top_n", min=0) or None,
    )


def _document(document: Any, path: str, model: ServedModel) -> str:
    if isinstance(document, str):
        return document
    if not isinstance(document, dict):
        raise bad_field(path, "must be a string or an object with content parts.")
    parts = Fields(cast("dict[str, Any]", document), path).objects("content") or []
    if not model.images and any("image_url" in part for part in parts):
        raise bad_field(path, "this model takes no images.")
    return without_images(" ".join(text for part in parts if isinstance(text := _part(part), str)))


def _part(part: dict[str, Any]) -> Any:
    """A content part's text, or the URL of its image."""
    image: dict[str, Any] = part.get("image_url") or {}
    return part.get("text") or image.get("url")


def rank(request: RankingRequest, model: ServedModel, features: Features) -> dict[str, Any]:
    """NIM's answer: all passages, the best first."""
    order, logits, tokens = _ranked(request, model, features)
    return {
        "rankings": [{"index": at, "logit": logits[at]} for at in order],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def rerank(request: RankingRequest, model: ServedModel, features: Features, request_id: str) -> dict[str, Any]:
    """vLLM's answer: the best `top_n` documents with scores between 0 and 1, and their texts."""
    order, logits, tokens = _ranked(request, model, features)
    return {
        "id": f"score-{request_id}",
        "model": model.id,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": [
            {
                "index": at,
                "document": {"text": request.passages[at], "multi_modal": None},
                "relevance_score": 1.0 / (1.0 + math.exp(-logits[at])),
            }
            for at in order[: request.top_n]
        ],
    }


def sglang_rerank(request: RankingRequest, model: ServedModel, features: Features) -> list[dict[str, Any]]:
    """Dynamo's answer, which is SGLang's: a plain list with raw scores."""
    order, logits, _ = _ranked(request, model, features)
    return [{"score": logits[at], "index": at, "document": request.passages[at]} for at in order[: request.top_n]]


def _ranked(request: RankingRequest, model: ServedModel, features: Features) -> tuple[list[int], list[float], int]:
    """The positions of the passages, the best first; their logits in the order of the request; the total number of tokens."""
    query, query_tokens = fitted(request.query, model.token_limit, request.truncate)
    room = max(model.token_limit - query_tokens, 1)
    passages = [fitted(passage, room, request.truncate) for passage in request.passages]
    tokens = sum(query_tokens + count for _, count in passages)
    vector = features.unit_vector(query)
    asked = set(content_stems(query))
    logits = [logit(vector, asked, passage, features) for passage, _ in passages]
    return sorted(range(len(logits)), key=lambda at: (-logits[at], at)), logits, tokens


def logit(query: list[float], asked: set[str], passage: str, features: Features) -> float:
    """The score of a passage: -10 if nothing is shared, 10 if it is the query itself."""
    cosine = max(0.0, dot(query, features.unit_vector(passage)))
    covered = len(asked.intersection(content_stems(passage))) / len(asked) if asked else 0.0
    return round(20.0 * (_COSINE_SHARE * cosine + (1.0 - _COSINE_SHARE) * covered) - 10.0, 4)

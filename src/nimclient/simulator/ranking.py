"""`/v1/ranking` as a NeMo Retriever NIM answers it.

A passage's logit, between about -10 and 10, comes from the cosine of its features with the query's and from the
share of the query's words it holds. Each passage is judged by itself, so that logits of separate requests compare,
as those of a cross-encoder do.
"""

from dataclasses import dataclass
from typing import Any, Final

from .catalog import ServedModel
from .embeddings import fitted, without_images
from .features import Features, dot
from .fields import Fields
from .refusals import bad_field
from .text import content_stems

MOST_PASSAGES: Final = 512

_TRUNCATE: Final = ("NONE", "END")
_COSINE_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True)
class RankingRequest:
    """A checked request."""

    query: str
    passages: tuple[str, ...]
    truncate: str


def read_ranking(fields: Fields, model: ServedModel) -> RankingRequest:
    """Check and collect a request; Refusal (400) names what is wrong."""
    query = fields.object("query")
    if query is None:
        raise fields.missing("query")
    text = Fields(query, "query").need_text("text")
    if not text.strip():
        raise bad_field("query.text", "must not be empty.")
    passages = fields.objects("passages")
    if passages is None:
        raise fields.missing("passages")
    if not 1 <= len(passages) <= MOST_PASSAGES:
        raise bad_field("passages", f"must hold between 1 and {MOST_PASSAGES} passages, got {len(passages)}.")
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


def rank(request: RankingRequest, model: ServedModel, features: Features) -> dict[str, Any]:
    """The body of the answer: all passages, the best first."""
    query, query_tokens = fitted(request.query, model.token_limit, request.truncate)
    room = max(model.token_limit - query_tokens, 1)
    passages = [fitted(passage, room, request.truncate) for passage in request.passages]
    tokens = sum(query_tokens + count for _, count in passages)
    vector = features.unit_vector(query)
    asked = set(content_stems(query))
    logits = [logit(vector, asked, passage, features) for passage, _ in passages]
    order = sorted(range(len(logits)), key=lambda at: (-logits[at], at))
    return {
        "rankings": [{"index": at, "logit": logits[at]} for at in order],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def logit(query: list[float], asked: set[str], passage: str, features: Features) -> float:
    """How well a passage answers: -10 when nothing is shared, 10 when it is the query itself."""
    cosine = max(0.0, dot(query, features.unit_vector(passage)))
    covered = len(asked.intersection(content_stems(passage))) / len(asked) if asked else 0.0
    return round(20.0 * (_COSINE_SHARE * cosine + (1.0 - _COSINE_SHARE) * covered) - 10.0, 4)

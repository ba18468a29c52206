"""Token counts, as chat, completions, embeddings and rankings carry them."""

from __future__ import annotations

from attrs import frozen

from nimclient._base.types import Json, JsonDict
from nimclient.records._decode import int_or_none, object_or_empty
from nimclient.records._record import WireRecord


@frozen(repr=False)
class Usage(WireRecord):
    """Token counts. vLLM sends the details when it was started with --enable-prompt-tokens-details."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: JsonDict | None = None
    completion_tokens_details: JsonDict | None = None

    def __add__(self, other: Usage) -> Usage:
        """The counts added; details are left out."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
        )


def decode_usage(value: Json) -> Usage | None:
    """Token counts, or None."""
    if not isinstance(value, dict):
        return None
    data = dict(object_or_empty(value))
    return Usage(
        prompt_tokens=int_or_none(data.pop("prompt_tokens", None)) or 0,
        completion_tokens=int_or_none(data.pop("completion_tokens", None)) or 0,
        total_tokens=int_or_none(data.pop("total_tokens", None)) or 0,
        prompt_tokens_details=data.pop("prompt_tokens_details", None),
        completion_tokens_details=data.pop("completion_tokens_details", None),
        extra=data,
    )

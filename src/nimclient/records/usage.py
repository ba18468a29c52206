"""Token counts, as chat, completions, embeddings and rankings carry them."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from nimclient._base.types import Json, JsonDict
from nimclient.records._decode import pop_counts
from nimclient.records._html import html_table
from nimclient.records._record import WireRecord

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_OTHER_NAMES = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}


@frozen(repr=False)
class Usage(WireRecord):
    """Token counts. vLLM sends the details if it was started with --enable-prompt-tokens-details."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: JsonDict | None = None
    completion_tokens_details: JsonDict | None = None

    def _repr_html_(self) -> str:
        """The counts as a table, for notebooks."""
        return html_table(_COUNTS, [(self.prompt_tokens, self.completion_tokens, self.total_tokens)], "Usage")

    def __add__(self, other: Usage) -> Usage:
        """The sum of the counts, without details."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
        )


def total_of(usages: Iterable[Usage | None]) -> Usage | None:
    """The sum of the counts, without details; None if one of them is unknown."""
    total = Usage()
    for usage in usages:
        if usage is None:
            return None
        total += usage
    return total


def decode_usage(value: Json) -> Usage | None:
    """Token counts, or None. A value that is not a count, such as a negative number, stays in `extra`.

    Some gateways keep other names, `input_tokens` and `output_tokens`: those of /v1/responses, and Anthropic's without a sum.
    """
    if not isinstance(value, dict):
        return None
    data: JsonDict = {**value}  # pyright: ignore[reportUnknownVariableType]  # a cast costs a call
    is_renamed = "prompt_tokens" not in data and "input_tokens" in data
    if is_renamed:
        data.update({name: data.pop(other) for other, name in _OTHER_NAMES.items() if other in data})
    prompt, completion, total = pop_counts(data, _COUNTS)
    return Usage(
        prompt or 0,
        completion or 0,
        total or ((prompt or 0) + (completion or 0) if is_renamed else 0),
        data.pop("prompt_tokens_details", None),
        data.pop("completion_tokens_details", None),
        extra=data,
    )

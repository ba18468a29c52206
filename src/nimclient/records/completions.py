"""Records of text completions: the completion, its choices, log probabilities, and the chunks of a stream.

Every prompt × every sample is a choice: prompt p, sample k has the index p * n + k. `stop_reason`, `token_ids`,
`prompt_token_ids` and `prompt_logprobs` come from vLLM and NIM 2.x. Everything else is kept in `.extra`.
"""

from __future__ import annotations

from typing import Any, cast

from attrs import frozen

from nimclient._base.types import Json, JsonDict
from nimclient._base.values import ResponseMeta
from nimclient.records._chunks import AnswerChunk
from nimclient.records._decode import (
    as_list,
    as_object,
    finite_number,
    object_or_empty,
    objects,
    pop_number,
    pop_time,
    text_or_none,
    whole_number,
    wrong,
)
from nimclient.records._record import TopRecord, WireRecord
from nimclient.records.chat import decode_token
from nimclient.records.usage import Usage, decode_usage


@frozen(repr=False)
class CompletionLogprobs(WireRecord):
    """Log probabilities of a choice, one entry a token; those of the prompt come first if it is echoed.

    `token_logprobs` and `top_logprobs` (token → log probability) have None for the first token of an echoed prompt.
    `text_offset` is where each token begins in the text.
    """

    tokens: tuple[str, ...] = ()
    token_logprobs: tuple[float | None, ...] = ()
    top_logprobs: tuple[dict[str, float] | None, ...] = ()
    text_offset: tuple[int, ...] = ()


@frozen(repr=False)
class CompletionChoice(WireRecord):
    """One continuation of one prompt. `finish_reason` is an open set: stop, length, …

    `token_ids` and `prompt_token_ids` come with `return_token_ids=True`; `prompt_logprobs`, a list with one entry a token
    of the prompt, with `prompt_logprobs=`. `stop_reason` is the stop string or token id.
    """

    index: int
    text: str
    finish_reason: str | None = None
    logprobs: CompletionLogprobs | None = None
    stop_reason: str | int | None = None
    token_ids: tuple[int, ...] | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    prompt_logprobs: tuple[Json, ...] | None = None


@frozen(repr=False)
class Completion(TopRecord):
    """A complete text completion. The shortcuts (`text`, `finish_reason`, `logprobs`) refer to the first choice."""

    id: str | None
    model: str | None
    choices: tuple[CompletionChoice, ...]
    usage: Usage | None = None
    created: int | None = None
    object: str | None = None
    system_fingerprint: str | None = None

    @property
    def text(self) -> str:
        """The first choice's text; empty if there is none."""
        return self.choices[0].text if self.choices else ""

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return self.choices[0].finish_reason if self.choices else None

    @property
    def logprobs(self) -> CompletionLogprobs | None:
        """The first choice's log probabilities."""
        return self.choices[0].logprobs if self.choices else None


class CompletionChunk(AnswerChunk):
    """One event of a streamed completion. It keeps the event's JSON object and builds its parts on access.

    `text` is what the event adds to the text of the choice with index 0, possibly empty. Read-only.
    """

    __slots__ = ()

    @property
    def choices(self) -> tuple[CompletionChoice, ...]:
        """The choices in this event, each with the piece it adds: none in the usage event of vLLM."""
        return tuple(_decode_choice(choice, 0) for choice in self._raw_choices())

    @property
    def logprobs(self) -> CompletionLogprobs | None:
        """The log probabilities of the first choice's new tokens."""
        return decode_logprobs(self._first_choice().get("logprobs"))


def decode_completion(value: Json, meta: ResponseMeta | None = None) -> Completion:
    """A completion; raises DecodeError if `choices` is missing or not a list of objects with texts."""
    data = dict(as_object(value, "body", meta))
    if "choices" not in data:
        raise wrong("it is missing", "choices", meta)
    choices = as_list(data.pop("choices"), "choices", meta)
    for position, choice in enumerate(choices):
        if _text_of(as_object(choice, f"choices[{position}]", meta)) is None:
            raise wrong("it is missing", f"choices[{position}].text", meta)
    return Completion(
        id=text_or_none(data.pop("id", None)),
        model=text_or_none(data.pop("model", None)),
        choices=tuple(_decode_choice(choice, position) for position, choice in enumerate(choices)),
        usage=decode_usage(data.pop("usage", None)),
        created=pop_time(data, "created"),
        object=text_or_none(data.pop("object", None)),
        system_fingerprint=text_or_none(data.pop("system_fingerprint", None)),
        extra=data,
        meta=meta,
    )


def _decode_choice(value: JsonDict, position: int) -> CompletionChoice:
    data = {key: item for key, item in value.items() if key != "text"}
    index = pop_number(data, "index")
    return CompletionChoice(
        index=position if index is None else index,
        text=_text_of(value) or "",
        finish_reason=text_or_none(data.pop("finish_reason", None)),
        logprobs=decode_logprobs(data.pop("logprobs", None)),
        stop_reason=data.pop("stop_reason", None),
        token_ids=_tuple_or_none(data.pop("token_ids", None)),
        prompt_token_ids=_tuple_or_none(data.pop("prompt_token_ids", None)),
        prompt_logprobs=_tuple_or_none(data.pop("prompt_logprobs", None)),
        extra=data,
    )


def _text_of(choice: JsonDict) -> str | None:
    """The text of a choice, which may have the form of a chat; None if there is none."""
    text = choice.get("text")
    return text_or_none(object_or_empty(choice.get("message")).get("content") if text is None else text)


def decode_logprobs(value: Json) -> CompletionLogprobs | None:
    """Log probabilities of a choice, or None."""
    if not isinstance(value, dict):
        return None
    data = dict(object_or_empty(value))
    if "content" in data and "tokens" not in data:
        return _of_chat_form(data)
    return CompletionLogprobs(
        tokens=_tuple_or_none(data.pop("tokens", None)) or (),
        token_logprobs=tuple(map(finite_number, _tuple_or_none(data.pop("token_logprobs", None)) or ())),
        top_logprobs=tuple(map(_top_logprobs, _tuple_or_none(data.pop("top_logprobs", None)) or ())),
        text_offset=tuple(whole_number(place) or 0 for place in _tuple_or_none(data.pop("text_offset", None)) or ()),
        extra=data,
    )


def _top_logprobs(value: Json) -> dict[str, float] | None:
    """The alternatives at one place; one whose log probability is none is left out."""
    if not isinstance(value, dict):
        return None
    numbers = {token: finite_number(number) for token, number in object_or_empty(value).items()}
    return {token: number for token, number in numbers.items() if number is not None}


def _of_chat_form(data: JsonDict) -> CompletionLogprobs:
    """Log probabilities in the form of chat completions, one object per token (llama-server), without text offsets."""
    tokens = [decode_token(item) for item in objects(data.pop("content"))]
    return CompletionLogprobs(
        tokens=tuple(token.token for token in tokens),
        token_logprobs=tuple(token.logprob for token in tokens),
        top_logprobs=tuple({top.token: top.logprob for top in token.top_logprobs} for token in tokens),
        extra=data,
    )


def _tuple_or_none(value: Json) -> tuple[Any, ...] | None:
    return tuple(cast(list[Any], value)) if isinstance(value, list) else None

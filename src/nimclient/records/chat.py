"""Records of chat completions: the completion, its choices and messages, tool calls, log probabilities, usage, chunks.

Which server sends which field: `reasoning` vLLM ≥ 0.15 and NIM 2.x, `reasoning_content` older vLLM, NIM 1.x and
Dynamo (both become `.reasoning`; `.extra` keeps the old name), `<think>` tags in the text: servers without a reasoning
parser (split off; `.extra["raw_content"]` keeps the original text); `stop_reason`, `token_ids`, `prompt_logprobs` vLLM;
`system_fingerprint` vLLM ≥ 0.25 and the hosted catalog; `nvext` Dynamo. Everything else is kept in `.extra`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve, field, frozen

from nimclient._base.types import Json, JsonDict, is_object
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
from nimclient.records._record import Record, TopRecord, WireRecord, missing_attribute
from nimclient.records._tags import CLOSE, RAW_CONTENT, split_tags, without_stray_tag
from nimclient.records.tool_calls import ToolCall as ToolCall
from nimclient.records.tool_calls import decode_tool_calls, function_of, last_cut_off
from nimclient.records.usage import Usage as Usage
from nimclient.records.usage import decode_usage as decode_usage

_REASONING = ("reasoning", "reasoning_content")
BLOCKS = ("reasoning_details", "thinking_blocks")
"""Fields of a message with blocks of reasoning and their signatures (OpenRouter, LiteLLM)."""
_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING_PARTS = ("thinking", "reasoning")

Content = str | Sequence[Any] | None
"""Message content: text, a list of parts (dicts, or str for a text part), or None."""


def _as_calls(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    return tuple(calls)


@frozen(repr=False)
class Message(WireRecord):
    """One message of a conversation, received from a server or built by the caller: `Message("user", "hi")`."""

    role: str
    content: Content = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = field(default=(), converter=_as_calls)
    tool_call_id: str | None = None
    reasoning: str | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """The text of the content: of a list, its text parts joined; never None."""
        if isinstance(self.content, str):
            return self.content
        return text_of_parts(self.content if isinstance(self.content, Sequence) else content_parts(self.content))


def _none_if_nan(number: float) -> float | None:
    return None if math.isnan(number) else number


@frozen(repr=False)
class TokenLogprob(WireRecord):
    """One token with its log probability (natural logarithm; NaN: unknown; vLLM clamps minus infinity to −9999)."""

    token: str
    logprob: float = field(eq=_none_if_nan)
    bytes: tuple[int, ...] | None = None
    top_logprobs: tuple[TokenLogprob, ...] = ()


@frozen(repr=False)
class Logprobs(WireRecord):
    """Log probabilities of a choice: of its content tokens, and of a refusal if there is one."""

    content: tuple[TokenLogprob, ...] = ()
    refusal: tuple[TokenLogprob, ...] = ()


@frozen(repr=False)
class Choice(WireRecord):
    """One answer. `finish_reason` is an open set: stop, length, tool_calls, content_filter, …

    An answer that ends with abort or error is a StreamFaultError, and in its `.partial`. With a named tool_choice vLLM
    reports `stop` with tool calls. `stop_reason` (vLLM) is the stop string or token id.
    """

    index: int
    message: Message
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    stop_reason: str | int | None = None


def _cut(value: Any, size: int) -> str:
    return _cut_text(repr(value), size)


def _cut_text(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 1]}…"


@frozen(repr=False)
class ChatCompletion(TopRecord):
    """A complete chat answer. The shortcuts (`text`, `reasoning`, …) refer to the first choice."""

    id: str | None
    model: str | None
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    created: int | None = None
    object: str | None = None
    system_fingerprint: str | None = None

    def __repr__(self) -> str:
        """At most 200 characters of what people look for; `to_dict()` has everything."""
        try:
            return _cut_text(f"ChatCompletion({', '.join(self._shown())})", 200)
        except AttributeError:  # built by hand of something else
            return super().__repr__()

    def _shown(self) -> Iterator[str]:
        if self.model is not None:
            yield f"model={_cut(self.model, 44)}"
        if self.text:
            yield f"text={_cut(self.text, 64)}"
        if self.tool_calls:
            yield f"tool_calls={_cut([call.name for call in self.tool_calls], 40)}"
        if len(self.choices) > 1:
            yield f"choices={len(self.choices)}"
        yield f"finish_reason={_cut(self.finish_reason, 16)}"
        if self.usage is not None:
            yield f"usage={self.usage.prompt_tokens}+{self.usage.completion_tokens} tokens"

    if not TYPE_CHECKING:  # to a checker it is an unknown attribute like any other

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute(self, name)

    @property
    def message(self) -> Message | None:
        """The first choice's message, None without choices."""
        return self.choices[0].message if self.choices else None

    @property
    def text(self) -> str:
        """The first choice's text; empty if there is none."""
        return self.choices[0].message.text if self.choices else ""

    @property
    def reasoning(self) -> str | None:
        """The first choice's reasoning."""
        return self.choices[0].message.reasoning if self.choices else None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The first choice's tool calls."""
        return self.choices[0].message.tool_calls if self.choices else ()

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return self.choices[0].finish_reason if self.choices else None

    @property
    def logprobs(self) -> Logprobs | None:
        """The first choice's log probabilities."""
        return self.choices[0].logprobs if self.choices else None


@frozen(repr=False)
class ToolCallDelta(Record):
    """A piece of a tool call in a stream; `arguments` is the piece of text, possibly empty.

    In a chunk `index` is the place of the call in the whole answer, whatever the server calls it; id and name come once.
    """

    index: int | None
    id: str | None
    name: str | None
    arguments: str


@frozen(repr=False)
class Delta(Record):
    """What one event adds to one choice."""

    role: str | None
    content: str | None
    reasoning: str | None
    refusal: str | None
    tool_calls: tuple[ToolCallDelta, ...]


@frozen(repr=False)
class ChunkChoice(Record):
    """One choice of a chunk."""

    index: int
    delta: Delta
    finish_reason: str | None
    logprobs: Logprobs | None


class ChatChunk(AnswerChunk):
    """One event of a chat stream. It keeps the event's JSON object and builds its parts on access.

    `text` is what the event adds to the text of the choice with index 0, possibly empty. Read-only.
    """

    __slots__ = ()

    @property
    def choices(self) -> tuple[ChunkChoice, ...]:
        """The choices in this event: none in the usage event of vLLM."""
        return tuple(_decode_chunk_choice(choice) for choice in self._raw_choices())

    @property
    def reasoning(self) -> str | None:
        """What the event adds to the first choice's reasoning."""
        return reasoning_of(self._delta())

    @property
    def tool_calls(self) -> tuple[ToolCallDelta, ...]:
        """Pieces of the first choice's tool calls."""
        return _decode_tool_deltas(self._delta().get("tool_calls"))

    def _delta(self) -> JsonDict:
        return object_or_empty(self._first_choice().get("delta"))


def decode_chat(value: Json, meta: ResponseMeta | None = None) -> ChatCompletion:
    """A chat completion; raises DecodeError if `choices` is missing or not a list of objects with messages."""
    data = dict(as_object(value, "body", meta))
    if "choices" not in data:
        raise wrong("it is missing", "choices", meta)
    pop = data.pop
    choices = as_list(pop("choices"), "choices", meta)
    usage = decode_usage(pop("usage", None)) or usage_of_choices(choices)
    return ChatCompletion(
        text if isinstance(text := pop("id", None), str) else None,
        text if isinstance(text := pop("model", None), str) else None,
        tuple([_decode_choice(choice, position, meta) for position, choice in enumerate(choices)]),
        usage,
        pop_time(data, "created"),
        text if isinstance(text := pop("object", None), str) else None,
        text if isinstance(text := pop("system_fingerprint", None), str) else None,
        extra=data,
        meta=meta,
    )


def _decode_choice(value: Json, position: int, meta: ResponseMeta | None) -> Choice:
    data = dict(as_object(value, f"choices[{position}]", meta))
    pop = data.pop
    message: Json = pop("message", None)
    if message is None and isinstance(data.get("delta"), dict):  # the form of an event
        message = pop("delta")
    elif message is None and isinstance(data.get("text"), str):  # the form of a text completion
        message = {"content": pop("text")}
    if not isinstance(message, dict):
        raise wrong("it is missing", f"choices[{position}].message", meta)
    index = pop_number(data, "index")
    finish_reason = text if isinstance(text := pop("finish_reason", None), str) else None
    decoded = decode_message(message)  # pyright: ignore[reportUnknownArgumentType]  # a cast costs a call
    if finish_reason == "length":
        decoded = evolve(decoded, tool_calls=last_cut_off(decoded.tool_calls))
    return Choice(
        position if index is None else index,
        decoded,
        finish_reason,
        None if (logprobs := pop("logprobs", None)) is None else decode_logprobs(logprobs),
        pop("stop_reason", None),
        extra=data,
    )


def decode_message(value: JsonDict) -> Message:
    """A message; `reasoning_content` is read if `reasoning` is absent, and kept in `extra` unless both are the same text.

    If the server sends no reasoning, text between `<think>` tags becomes the reasoning; the original content is kept in
    `extra` as "raw_content".
    """
    data = dict(value)
    pop = data.pop
    reasoning = reasoning_of(data)
    if (named := pop("reasoning", None)) and named == data.get("reasoning_content"):
        pop("reasoning_content")
    role = text_or_none(pop("role", None)) or "assistant"
    content: Json = pop("content", None)
    if not isinstance(content, str):
        content = content_parts(content) or content
    if role == "assistant" and reasoning is None:
        if not isinstance(content, str):
            reasoning = reasoning_of_parts(as_parts(content)) or None
        elif split := split_tags(content):
            data[RAW_CONTENT] = content
            reasoning, content = split[0] or None, split[1]
    elif reasoning is not None and isinstance(content, str) and CLOSE in content:
        content = without_stray_tag(content)
    return Message(
        role,
        content,
        text if isinstance(text := pop("name", None), str) else None,
        decode_tool_calls(calls) if (calls := pop("tool_calls", None)) else (),
        text if isinstance(text := pop("tool_call_id", None), str) else None,
        reasoning,
        text if isinstance(text := pop("refusal", None), str) else None,
        extra=data,
    )


def reasoning_of(data: JsonDict) -> str | None:
    """The reasoning text of a message or delta under any of its names, a list of parts too; None if it is empty."""
    for name in _REASONING:
        value = data.get(name)
        if value and (text := value if isinstance(value, str) else text_of_parts(content_parts(value))):
            return text
    return _reasoning_of_details(data["reasoning_details"]) if "reasoning_details" in data else None


def _reasoning_of_details(details: Json) -> str | None:
    """The text in OpenRouter's blocks of reasoning, which MiniMax sends alone; None if they are encrypted."""
    texts = (detail.get("text") or detail.get("summary") for detail in objects(details))
    return "".join(text for text in texts if isinstance(text, str)) or None


def decode_logprobs(value: Json) -> Logprobs | None:
    """Log probabilities of a choice, or None."""
    if not isinstance(value, dict):
        return None
    data = dict(object_or_empty(value))
    return Logprobs(_decode_tokens(data.pop("content", None)), _decode_tokens(data.pop("refusal", None)), extra=data)


def _decode_tokens(value: Json) -> tuple[TokenLogprob, ...]:
    return tuple(decode_token(item) for item in objects(value))


def decode_token(value: JsonDict) -> TokenLogprob:
    """One token with its log probability and those of its alternatives."""
    data = dict(value)
    raw = data.pop("bytes", None)
    return TokenLogprob(
        token=text_or_none(data.pop("token", None)) or "",
        logprob=_pop_logprob(data),
        bytes=tuple(cast(list[int], raw)) if isinstance(raw, list) else None,
        top_logprobs=_decode_tokens(data.pop("top_logprobs", None)),
        extra=data,
    )


def _pop_logprob(data: JsonDict) -> float:
    """NaN if there is none: 0.0 would mean that the token was certain. A value that is not a number stays, for `extra`."""
    value: Json = data.pop("logprob", None)
    if (number := finite_number(value)) is not None:
        return number
    if value is not None:
        data["logprob"] = value
    return math.nan


def _decode_chunk_choice(value: JsonDict) -> ChunkChoice:
    data = object_or_empty(value.get("delta"))
    return ChunkChoice(
        index=whole_number(value.get("index")) or 0,
        delta=Delta(
            role=text_or_none(data.get("role")),
            content=text_or_none(data.get("content")),
            reasoning=reasoning_of(data),
            refusal=text_or_none(data.get("refusal")),
            tool_calls=_decode_tool_deltas(data.get("tool_calls")),
        ),
        finish_reason=text_or_none(value.get("finish_reason")),
        logprobs=decode_logprobs(value.get("logprobs")),
    )


def _decode_tool_deltas(value: Json) -> tuple[ToolCallDelta, ...]:
    return tuple(_decode_tool_delta(item) for item in objects(value))


def _decode_tool_delta(value: JsonDict) -> ToolCallDelta:
    data = function_of(value)
    return ToolCallDelta(
        index=whole_number(value.get("index")),
        id=text_or_none(value.get("id")),
        name=text_or_none(data.get("name")),
        arguments=text_or_none(data.get("arguments")) or "",
    )


def text_of_parts(parts: Iterable[Any]) -> str:
    """The text of a content list."""
    return "".join(map(_text_of_part, parts))


def reasoning_of_parts(parts: Iterable[Any]) -> str:
    """The reasoning in a content list: parts of type "thinking" (Mistral) or "reasoning", each a text or a list of parts."""
    found = [part.get(part["type"], part.get("text")) for part in parts if is_object(part) and _is_reasoning(part)]
    return "".join(item if isinstance(item, str) else text_of_parts(as_parts(item)) for item in found)


def _is_reasoning(part: JsonDict) -> bool:
    return part.get("type") in _REASONING_PARTS


def content_parts(value: Json) -> list[Any]:
    """A content list as it is, an object as a list of that one part, anything else as an empty one."""
    return [value] if is_object(value) else as_parts(value)


def as_parts(value: Json) -> list[Any]:
    """A content list as it is, anything else as an empty one."""
    return cast(list[Any], value) if isinstance(value, list) else []


def is_text_part(part: Any) -> bool:
    """Whether a part of a content list is text."""
    return isinstance(part, str) or (is_object(part) and part.get("type") in _TEXT_PARTS)


def usage_of_choices(choices: Iterable[Any]) -> Usage | None:
    """The usage, which some servers put into a choice."""
    found = (decode_usage(object_or_empty(choice).get("usage")) for choice in choices)
    return next((usage for usage in found if usage is not None), None)


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    return text_or_none(object_or_empty(part).get("text")) or "" if is_text_part(part) else ""

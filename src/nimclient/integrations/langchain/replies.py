"""The client's records → LangChain's messages, whole and in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall, ToolCall
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.json import parse_partial_json

import nimclient
from nimclient import ChatChunk, ChatCompletion, Choice, Message, Usage
from nimclient._base.types import JsonDict
from nimclient.errors import ToolError
from nimclient.integrations.langchain.messages import REASONING_FIELDS, SIGNATURES
from nimclient.records import Logprobs, ToolCallDelta
from nimclient.records.chat import BLOCKS
from nimclient.records.tool_calls import signature_of

_RAW_CONTENT = "raw_content"  # the client's key for a text with reasoning in tags
_UNREADABLE_ENDS = ('"]', "]", '"}', "}", '""]', '""}')
"""Each ends a string, if there is one, and closes what is not open."""


def chat_result(completion: ChatCompletion, model: str | None) -> ChatResult:
    """One generation per choice; `llm_output` has the model's name and the usage."""
    name = completion.model or model or ""
    generations = [_generation(choice, completion, name) for choice in completion.choices]
    output: JsonDict = {"model_name": name}
    if completion.usage is not None:
        output["token_usage"] = completion.usage.to_dict()
    return ChatResult(generations=generations, llm_output=output)


def _generation(choice: Choice, completion: ChatCompletion, model: str) -> ChatGeneration:
    message = choice.message
    calls, invalid = _read_calls(message.tool_calls)
    more: JsonDict = {}
    if message.reasoning:
        more["reasoning_content"] = message.reasoning
        if _RAW_CONTENT not in message.extra:
            more.update(_named_reasoning(message.reasoning, message.extra.get("reasoning_content")))
    more.update(_signed(message))
    if message.tool_calls:
        more["tool_calls"] = [call.to_dict() for call in message.tool_calls]
    if message.refusal:
        more["refusal"] = message.refusal
    info = _generation_info(choice.finish_reason, choice.logprobs)
    first = choice is completion.choices[0]
    metadata: JsonDict = {
        **completion.extra,
        "role": message.role,
        "model_name": model,
        **info,
        **_given(
            id=completion.id,
            system_fingerprint=completion.system_fingerprint,
            stop_reason=choice.stop_reason,
            token_usage=None if completion.usage is None else completion.usage.to_dict(),
        ),
    }
    reply = AIMessage(
        content=message.text,
        tool_calls=calls,
        invalid_tool_calls=invalid,
        additional_kwargs=more,
        response_metadata=metadata,
        usage_metadata=usage_metadata(completion.usage) if first else None,  # once for all choices
        id=completion.id,
        role=message.role,
    )
    return ChatGeneration(message=reply, generation_info=info)


def _named_reasoning(reasoning: str, old: Any) -> JsonDict:
    """The reasoning under both names, and a note of the server's names. `old`: another text, or that of the old name only."""
    names = ["reasoning"] if not old else ["reasoning_content", *(["reasoning"] if old != reasoning else [])]
    return {"reasoning_content": old or reasoning, "reasoning": reasoning, REASONING_FIELDS: names}


def _signed(message: Message | None) -> JsonDict:
    """What a server wants back unchanged: blocks of reasoning, and the signatures of calls."""
    if message is None:
        return {}
    signatures = {call.id: signed for call in message.tool_calls if (signed := signature_of(call))}
    blocks = {name: message.extra[name] for name in BLOCKS if message.extra.get(name)}
    return {**blocks, **({SIGNATURES: signatures} if signatures else {})}


def _generation_info(finish_reason: str | None, logprobs: Logprobs | None) -> JsonDict:
    return _given(finish_reason=finish_reason, logprobs=None if logprobs is None else logprobs.to_dict())


def _given(**values: Any) -> JsonDict:
    return {name: value for name, value in values.items() if value is not None}


def _read_calls(calls: tuple[nimclient.ToolCall, ...]) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Calls with decoded arguments, and those whose arguments are not a JSON object."""
    valid: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in calls:
        try:
            valid.append(tool_call(name=call.name, args=call.parse(), id=call.id))
        except ToolError as error:
            invalid.append(invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error=str(error)))
    return valid, invalid


def _unreadable_end(arguments: str) -> str:
    """What keeps LangChain from completing arguments that were cut off: it would call the tool with half of them."""
    return next((end for end in _UNREADABLE_ENDS if not _would_be_read(arguments + end)), "")


def _would_be_read(arguments: str) -> bool:
    try:
        return isinstance(parse_partial_json(arguments), dict)
    except ValueError:
        return False


def usage_metadata(usage: Usage | None) -> UsageMetadata | None:
    """Token counts, with those of cached, audio and reasoning tokens if the server sends them."""
    if usage is None:
        return None
    counts = UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens or usage.prompt_tokens + usage.completion_tokens,
    )
    sent = _counts(usage.prompt_tokens_details, {"cached_tokens": "cache_read", "audio_tokens": "audio"})
    made = _counts(usage.completion_tokens_details, {"reasoning_tokens": "reasoning", "audio_tokens": "audio"})
    if sent:
        counts["input_token_details"] = cast(InputTokenDetails, sent)
    if made:
        counts["output_token_details"] = cast(OutputTokenDetails, made)
    return counts


def _counts(details: JsonDict | None, names: dict[str, str]) -> dict[str, int]:
    found = {ours: (details or {}).get(theirs) for theirs, ours in names.items()}
    return {name: count for name, count in found.items() if isinstance(count, int)}


class ChunkReader:
    """Converts the chunks of one stream to LangChain's. Usage and names are on the last only."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._id: str | None = None
        self._fingerprint: str | None = None
        self._role = "assistant"
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._reasoned = False
        self._calls: dict[int, str | None] = {}  # ids by index
        self._arguments: dict[int, list[str]] = {}
        self._blocks: list[str] = []  # blocks of reasoning and text before the calls

    def read(self, chunk: ChatChunk) -> ChatGenerationChunk | None:
        """What an event adds, None if nothing visible."""
        if self._id is None:
            self._note(chunk)
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._usage = chunk.usage or self._usage
        choice = next((choice for choice in chunk.choices if choice.index == 0), None)
        if choice is None:
            return None
        more = self._reasoning(chunk, choice.delta.reasoning)
        if choice.delta.refusal:
            more["refusal"] = choice.delta.refusal
        if chunk.text or choice.delta.reasoning:
            self._count_block("text" if chunk.text else "reasoning")
        info = _generation_info(None, choice.logprobs)
        calls = [self._call(delta) for delta in choice.delta.tool_calls]
        if not (chunk.text or more or calls or info):
            return None
        message = AIMessageChunk(
            content=chunk.text, additional_kwargs=more, tool_call_chunks=calls, response_metadata=info, id=self._id
        )
        return ChatGenerationChunk(message=message, generation_info=info or None)

    def last(self, completion: ChatCompletion) -> ChatGenerationChunk:
        """The chunk that ends the stream: usage, finish reason, names, and what only the whole answer has."""
        info = _generation_info(self._finish_reason, None)
        metadata: JsonDict = {
            "role": self._role,
            **info,
            **_given(
                model_name=self._model,
                system_fingerprint=self._fingerprint,
                stop_reason=completion.choices[0].stop_reason if completion.choices else None,
                token_usage=None if self._usage is None else self._usage.to_dict(),
            ),
        }
        message = AIMessageChunk(
            content="",
            additional_kwargs=_signed(completion.message),
            usage_metadata=usage_metadata(self._usage),
            response_metadata=metadata,
            id=self._id,
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message, generation_info=info or None)

    def _note(self, chunk: ChatChunk) -> None:
        """Record what every event repeats."""
        event = chunk.extra
        self._id = event.get("id")
        self._model = event.get("model") or self._model
        self._fingerprint = event.get("system_fingerprint")

    def _reasoning(self, chunk: ChatChunk, piece: str | None) -> JsonDict:
        if not piece:
            return {}
        delta = _raw_delta(chunk)
        if _RAW_CONTENT in delta:
            return {"reasoning_content": piece}  # it was in the text, between tags
        old = delta.get("reasoning_content")
        more = _named_reasoning(piece, None if old == delta.get("reasoning") else old)
        if self._reasoned:
            del more[REASONING_FIELDS]  # lists are added up, too
        self._reasoned = True
        return more

    def _call(self, delta: ToolCallDelta) -> ToolCallChunk:
        """A piece of a call, in the sequence of content blocks."""
        index = delta.index or 0
        self._calls[index] = self._calls.get(index) or delta.id
        self._arguments.setdefault(index, []).append(delta.arguments)
        return tool_call_chunk(name=delta.name, args=delta.arguments, id=delta.id, index=index + len(self._blocks))

    def ends(self) -> Iterator[ChatGenerationChunk]:
        """What calls lack: an id, by which a result says where it belongs; something behind arguments that were cut off."""
        last = max(self._calls, default=0)
        for index, call_id in self._calls.items():
            arguments = "".join(self._arguments[index])
            is_cut_off = self._finish_reason == "length" and index == last
            valid, _ = _read_calls((nimclient.ToolCall("", "", arguments, cut_off=is_cut_off),))
            end = "" if valid else _unreadable_end(arguments)
            if end or not call_id:
                new_id = None if call_id else f"call_{index}"
                call = tool_call_chunk(name=None, args=end, id=new_id, index=index + len(self._blocks))
                yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[call], id=self._id))

    def _count_block(self, kind: str) -> None:
        """Content blocks and calls share one sequence of indexes (output_version "v1"): equal ones would be merged."""
        if not self._calls and self._blocks[-1:] != [kind]:
            self._blocks.append(kind)


def _raw_delta(chunk: ChatChunk) -> JsonDict:
    choices: list[JsonDict] = chunk.to_dict().get("choices") or [{}]
    return cast(JsonDict, choices[0].get("delta") or {})

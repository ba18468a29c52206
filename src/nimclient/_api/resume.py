"""Builds the request that continues an interrupted chat answer, or says why there is none.

Two requests continue an answer (vLLM, and NIM on vLLM): a text completion whose prompt is the token ids of the prompt and of
the answer so far, which is exact; and the chat with the answer so far as its last message, and two fields that say to
continue it. A chat with that message alone would begin a new turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from attrs import evolve, frozen

from nimclient._api.call import Call
from nimclient._api.options import TOKEN_LIMITS
from nimclient._base.types import JsonDict, is_array, is_object
from nimclient.records._decode import object_or_empty, objects, whole_number
from nimclient.records._tags import OPEN

CONTINUING = ("vllm", "nim")
"""The server types that continue a chat message when told to."""

_SCHEMAS = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar")
_OF_CHAT = frozenset(
    {"messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "max_completion_tokens", "n", "echo"}
    | {"logprobs", "top_logprobs", "chat_template", "chat_template_kwargs", "add_generation_prompt", "documents"}
    | {"continue_final_message", "return_prompt_text", "reasoning_effort", "include_reasoning", "thinking_token_budget"}
    | {"mm_processor_kwargs", "media_io_kwargs", "add_special_tokens", "truncate_prompt_tokens", "truncation_side"}
)
"""Fields that are already part of the prompt, or that a text completion does not have or understands differently."""


@frozen
class Received:
    """What arrived of an answer: its text, and as many of its tokens as are whole in it.

    `tokens` counts them, and `solid` those up to the last that is more than white space. `ids` are the token ids, and
    `prompt_ids` those of the prompt; both are empty where the server sends none. `prompt_tokens` counts the prompt's.
    """

    text: str
    tokens: int
    solid: int
    ids: Sequence[int] = ()
    prompt_ids: Sequence[int] = ()
    prompt_tokens: int | None = None
    has_reasoning: bool = False


@frozen
class Resumption:
    """A request that continues an answer of which `tokens` are kept. `call` None: the limit of tokens is reached.

    `space`: white space at the end of the text that is not sent, as the answer brings it again. `held`: text of the tokens
    that the server held back, because a stop string might begin in it. `full`: the limit of tokens is reached, and the
    request only tells how long the prompt is.
    """

    call: Call[Any] | None
    tokens: int
    space: str = ""
    held: str = ""
    full: bool = False


def never_resumed(fields: Mapping[str, Any]) -> str | None:
    """Why no answer to this request can be continued so that it equals an uninterrupted one, or None."""
    if (whole_number(fields.get("n")) or 1) > 1:
        return "several choices are asked for (n)"
    if fields.get("logprobs") or fields.get("prompt_logprobs") is not None:
        return "log probabilities are asked for"
    nvext = object_or_empty(fields.get("nvext"))
    kind = object_or_empty(fields.get("response_format")).get("type", "text")
    if kind != "text" or any(source.get(name) is not None for name in _SCHEMAS for source in (fields, nvext)):
        return "the answer is bound to a schema, which would begin again"
    choice = fields.get("tool_choice")
    if choice == "required" or is_object(choice):
        return "a tool call is asked for (tool_choice)"
    if fields.get("presence_penalty") or fields.get("frequency_penalty"):
        return "a penalty would not see the tokens before the break"
    return "the answer repeats the last message (echo)" if fields.get("echo") else None


def is_open(message: Mapping[str, Any]) -> str | None:
    """The reason why no server can continue a partial message, or None."""
    if message.get("tool_calls") or message.get("function_call"):
        return "a tool call is open"
    if message.get("refusal") or message.get("audio") or is_array(message.get("content")):
        return "the answer has more than text"
    return None


def is_all_ids(call: Call[Any], got: Received) -> bool:
    """Whether token ids are the whole of a prompt and what came of its answer, and a text is all that may follow."""
    fields = call.fields or {}
    return bool(got.ids and got.prompt_ids) and not fields.get("tools") and _is_text(fields["messages"])


def by_ids(call: Call[Any], got: Received, context: int | None, held: str = "") -> Resumption | None:
    """The exact continuation, by the token ids of prompt and answer; None without any limit of tokens.

    `context`: the model's context length, for a call without a limit of its own. `held`: see Resumption.
    """
    fields = call.fields or {}
    limit = call.max_answer
    if limit is None and context is None:
        return None
    rest = context - len(got.prompt_ids) if limit is None and context is not None else limit
    assert rest is not None
    kept = {name: value for name, value in fields.items() if name not in _OF_CHAT}
    sent = {
        **_counted(kept, got.tokens),
        "prompt": [*got.prompt_ids, *got.ids],
        "max_tokens": rest - got.tokens,
        "return_token_ids": True,
    }
    continued = evolve(call, path="/completions", fields=sent) if rest > got.tokens else None
    return Resumption(continued, got.tokens, held=held)


def by_text(call: Call[Any], got: Received) -> Resumption | str:
    """The continuation by the text of the answer, or why there is none."""
    fields, sent = call.fields or {}, got.text.rstrip()
    if got.has_reasoning:
        return "reasoning came before its text, and the server gives no token ids"
    if OPEN.startswith(sent.lstrip()):
        return "too little text arrived"
    if fields.get("continue_final_message"):
        return "the request itself continues a message"
    if fields.get("truncate_prompt_tokens") is not None:
        return "the prompt is truncated"
    limit = call.max_answer
    full = limit is not None and limit <= got.tokens
    has_usage = object_or_empty(fields.get("stream_options")).get("include_usage")
    if full and (got.prompt_tokens is not None or not has_usage):
        return Resumption(None, got.tokens)
    usage = {"include_usage": True, "continuous_usage_stats": True}  # shows at once whether a new turn has begun
    again = {
        **_counted(fields, got.solid),
        "messages": [*fields["messages"], {"role": "assistant", "content": sent}],
        "continue_final_message": True,
        "add_generation_prompt": False,
    }
    if "stream_options" in fields:
        again["stream_options"] = {**object_or_empty(fields["stream_options"]), **usage}
    if full:
        again |= {name: 1 for name in TOKEN_LIMITS if name in again}
        return Resumption(evolve(call, fields=again), got.tokens, full=True)
    return Resumption(evolve(call, fields=again), got.solid, space=got.text[len(sent) :])


def _counted(fields: Mapping[str, Any], tokens: int) -> JsonDict:
    """The fields of a request for the rest of an answer; the id of the broken one may still be in use."""
    rest: JsonDict = {name: value for name, value in fields.items() if name != "request_id"}
    for name in TOKEN_LIMITS:
        if (limit := whole_number(rest.get(name))) is not None:
            rest[name] = limit - tokens
    if least := whole_number(rest.pop("min_tokens", None)):
        rest["min_tokens"] = max(0, least - tokens)
    return rest


def _is_text(messages: object) -> bool:
    """Whether messages have no images, audio or video, which are not in their token ids."""
    contents = [message.get("content") for message in objects(cast(Any, messages))]
    parts = [part for content in contents if is_array(content) for part in content]
    return all(isinstance(part, str) or object_or_empty(part).get("type") == "text" for part in parts)

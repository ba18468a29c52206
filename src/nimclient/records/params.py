"""The options of the methods, as TypedDicts that are unpacked into them: a wrong name is a type error and, for callers
without a type checker, a TypeError. None always means "not given" and is never sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from nimclient._base.config import Timeouts
from nimclient._base.types import Json


class CallOptions(TypedDict, total=False):
    """What every call takes: `extra_body` (merged last), `extra_headers`, `timeout` (seconds or Timeouts)."""

    extra_body: Mapping[str, Json] | None
    extra_headers: Mapping[str, str] | None
    timeout: float | Timeouts | None


class SamplingOptions(CallOptions, total=False):
    """What chat and text completions have in common. The second part are extensions of vLLM and NIM 2.x (top level)."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    seed: int | None
    n: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: Mapping[str, float] | None
    user: str | None
    stream_usage: bool | None

    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    length_penalty: float | None
    use_beam_search: bool | None
    min_tokens: int | None
    ignore_eos: bool | None
    stop_token_ids: Sequence[int] | None
    include_stop_str_in_output: bool | None
    skip_special_tokens: bool | None
    spaces_between_special_tokens: bool | None
    bad_words: Sequence[str] | None
    allowed_token_ids: Sequence[int] | None
    truncate_prompt_tokens: int | None
    truncation_side: str | None
    prompt_logprobs: int | None
    logprob_token_ids: Sequence[int] | None
    return_tokens_as_token_ids: bool | None
    return_token_ids: bool | None
    add_special_tokens: bool | None
    structured_outputs: Mapping[str, Json] | None
    guided_json: Json
    guided_regex: str | None
    guided_choice: Sequence[str] | None
    guided_grammar: str | None
    guided_decoding_backend: str | None
    guided_whitespace_pattern: str | None
    response_format: Mapping[str, Json] | None
    priority: int | None
    request_id: str | None
    cache_salt: str | None
    kv_transfer_params: Mapping[str, Json] | None
    ec_transfer_params: Mapping[str, Json] | None
    vllm_xargs: Mapping[str, Json] | None
    nvext: Mapping[str, Json] | None


class TurnOptions(SamplingOptions, total=False):
    """What all calls of chat have in common."""

    max_completion_tokens: int | None
    logprobs: bool | None
    top_logprobs: int | None
    tool_choice: str | bool | Mapping[str, Json] | None
    parallel_tool_calls: bool | None
    reasoning_effort: str | None
    thinking: bool | None
    echo_reasoning: bool | None

    chat_template: str | None
    chat_template_kwargs: Mapping[str, Json] | None
    add_generation_prompt: bool | None
    continue_final_message: bool | None
    echo: bool | None
    documents: Sequence[Mapping[str, Json]] | None
    include_reasoning: bool | None
    thinking_token_budget: int | None
    reasoning_budget: int | None
    return_prompt_text: bool | None
    mm_processor_kwargs: Mapping[str, Json] | None
    media_io_kwargs: Mapping[str, Json] | None


class ToolRunOptions(TurnOptions, total=False):
    """The options of chat completions beside `tools`, which run_tools takes as an argument of its own."""

    session_id: str | None


class ConversationOptions(TurnOptions, total=False):
    """The options of chat completions beside `session_id`, which a conversation takes as an argument of its own.

    `tools`: functions, functions marked with @tool, and specs, mixed.
    """

    tools: Sequence[Callable[..., Any] | Mapping[str, Json]] | None


class ChatOptions(ConversationOptions, total=False):
    """The options of chat completions."""

    session_id: str | None


class CompletionOptions(SamplingOptions, total=False):
    """The options of text completions.

    `logprobs`: that many of the likeliest tokens at each place (-1: all, vLLM); with `echo` of the prompt's tokens too.
    `suffix`: what follows the gap (vLLM up to 0.25 refuses it); `best_of`: gone from vLLM since 0.12; `prompt_embeds`
    (vLLM started with --enable-prompt-embeds): a base64 tensor, or a list of them, instead of a prompt or beside it.
    """

    session_id: str | None
    suffix: str | None
    echo: bool | None
    logprobs: int | None
    best_of: int | None
    prompt_embeds: str | Sequence[str] | None


class TokenizeOptions(CallOptions, total=False):
    """The options of `tokenize` (vLLM, NIM 2.x).

    `add_special_tokens`: for a text, True on the server unless given; `return_token_strs`: also the tokens as texts. The
    others are for messages and mean what they mean in a chat.
    """

    add_special_tokens: bool | None
    return_token_strs: bool | None
    add_generation_prompt: bool | None
    continue_final_message: bool | None
    chat_template: str | None
    chat_template_kwargs: Mapping[str, Json] | None
    tools: Sequence[Callable[..., Any] | Mapping[str, Json]] | None


class EmbeddingOptions(CallOptions, total=False):
    """The options of embeddings beside input_type, truncate, dimensions and encoding_format.

    `embedding_type` (NIM): float, int8, uint8, binary, ubinary; `modality` (NIM's vision-language models): text, image,
    text_image or a list of them; `prefix` is put before every text, for servers without input_type (vLLM); "" says that
    the model wants none.
    """

    embedding_type: str | None
    modality: str | Sequence[str] | None
    user: str | None
    prefix: str | None

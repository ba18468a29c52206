"""The options of the methods as TypedDicts: an unknown name is a type error and, at run time, a TypeError. None always means
"not given" and is never sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from nimclient._base.config import Timeouts
from nimclient._base.types import Json


class CallOptions(TypedDict, total=False):
    """Options of every call: `extra_body` (merged last), `extra_headers`, `timeout` (seconds or Timeouts)."""

    extra_body: Mapping[str, Json] | None
    extra_headers: Mapping[str, str] | None
    timeout: float | Timeouts | None


class SamplingOptions(CallOptions, total=False):
    """Options shared by chat and text completions. The second part are extensions of vLLM and NIM 2.x (top level)."""

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
    """Options shared by all calls of chat."""

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
    """The options of chat completions except `tools`, which run_tools takes as an argument."""

    session_id: str | None


class ConversationOptions(TurnOptions, total=False):
    """The options of chat completions except `session_id`, which a conversation takes as an argument.

    `tools`: functions, functions marked with @tool, and specs, mixed.
    """

    tools: Sequence[Callable[..., Any] | Mapping[str, Json]] | None


class ChatOptions(ConversationOptions, total=False):
    """The options of chat completions."""

    session_id: str | None


class CompletionOptions(SamplingOptions, total=False):
    """The options of text completions.

    `logprobs`: the number of likeliest tokens at each position (-1: all, vLLM); with `echo` also for the prompt's tokens.
    `suffix`: text after the insertion (vLLM up to 0.25 rejects it); `best_of`: removed in vLLM 0.12; `prompt_embeds` (vLLM
    started with --enable-prompt-embeds): a base64 tensor, or a list of them, instead of or in addition to a prompt.
    """

    session_id: str | None
    suffix: str | None
    echo: bool | None
    logprobs: int | None
    best_of: int | None
    prompt_embeds: str | Sequence[str] | None


class TokenizeOptions(CallOptions, total=False):
    """The options of `tokenize` (vLLM, NIM 2.x).

    `add_special_tokens`: for a text, the server's default is True; `return_token_strs`: also return the tokens as texts. The
    others apply to messages and have the same meaning as in a chat.
    """

    add_special_tokens: bool | None
    return_token_strs: bool | None
    add_generation_prompt: bool | None
    continue_final_message: bool | None
    chat_template: str | None
    chat_template_kwargs: Mapping[str, Json] | None
    tools: Sequence[Callable[..., Any] | Mapping[str, Json]] | None


class EmbeddingOptions(CallOptions, total=False):
    """The options of embeddings except input_type, truncate, dimensions and encoding_format.

    `embedding_type` (NIM): float, int8, uint8, binary, ubinary; `modality` (NIM's vision-language models): text, image,
    text_image or a list of them; `prefix` is prepended to every text, for servers without input_type (vLLM); "" states
    that the model needs none.
    """

    embedding_type: str | None
    modality: str | Sequence[str] | None
    user: str | None
    prefix: str | None

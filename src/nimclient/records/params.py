"""The options of the methods as TypedDicts: an unknown name is a type error and, at run time, a TypeError. None always means
"not given" and is never sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from nimclient._base.config import Timeouts
from nimclient._base.types import Json


class CallOptions(TypedDict, total=False):
    """Options of every call: `extra_body` (merged last), `extra_headers`, `timeout` (seconds or Timeouts)."""

    extra_body: Mapping[str, Json] | None
    """Fields that are merged into the body last, for options that this package does not know yet."""
    extra_headers: Mapping[str, str] | None
    """Headers of this call, beside those of the client."""
    timeout: float | Timeouts | None
    """Seconds for the whole call, all attempts included; or Timeouts."""


class SamplingOptions(CallOptions, total=False):
    """Options shared by chat and text completions. The second part are extensions of vLLM and NIM 2.x (top level)."""

    temperature: float | None
    """How random the tokens are; 0 takes the most likely one."""
    top_p: float | None
    """Sample from the most likely tokens that together have this probability."""
    max_tokens: int | None
    """Maximum number of tokens to generate; when it is reached `finish_reason` is "length"."""
    stop: str | Sequence[str] | None
    """Texts that end the answer; they are not part of it."""
    seed: int | None
    """Equal seeds give equal answers as far as the server can."""
    n: int | None
    """How many answers; `.choices` has them all."""
    frequency_penalty: float | None
    """From -2 to 2: above 0 a token is less likely the more often it has occurred."""
    presence_penalty: float | None
    """From -2 to 2: above 0 a token that has occurred is less likely."""
    logit_bias: Mapping[str, float] | None
    """Added to the score of a token, by its id: -100 to 100."""
    user: str | None
    """An id of your user, for the server's own records."""
    stream_usage: bool | None
    """Whether a stream ends with the usage; False leaves out `stream_options`. Default: True."""

    top_k: int | None
    """Sample from this many of the most likely tokens; -1 or 0: from all."""
    min_p: float | None
    """Exclude tokens whose probability is below this fraction of the most likely one's."""
    repetition_penalty: float | None
    """Above 1: tokens that occur in the prompt or the answer are less likely."""
    length_penalty: float | None
    """Above 1: beam search prefers longer answers."""
    use_beam_search: bool | None
    """Search with `n` beams in place of sampling."""
    min_tokens: int | None
    """Minimum number of tokens to generate."""
    ignore_eos: bool | None
    """Continue after the model's end token, up to `max_tokens`: for benchmarks."""
    stop_token_ids: Sequence[int] | None
    """Token ids that end the answer."""
    include_stop_str_in_output: bool | None
    """Keep the text of `stop` in the answer."""
    skip_special_tokens: bool | None
    """Leave special tokens out of the text. Server default: True."""
    spaces_between_special_tokens: bool | None
    """Put spaces between special tokens in the text. Server default: True."""
    bad_words: Sequence[str] | None
    """Texts that are never generated."""
    allowed_token_ids: Sequence[int] | None
    """Generate these tokens only."""
    truncate_prompt_tokens: int | None
    """Keep this many tokens of the prompt; -1: as many as the model takes."""
    truncation_side: str | None
    """Which end of a long prompt is cut off: "left" or "right"."""
    prompt_logprobs: int | None
    """Log probabilities of this many tokens at each position of the prompt."""
    logprob_token_ids: Sequence[int] | None
    """Log probabilities of these token ids at each position."""
    return_tokens_as_token_ids: bool | None
    """Name tokens in log probabilities as "token_id:N"."""
    return_token_ids: bool | None
    """Return the token ids of the prompt and the answer, too."""
    add_special_tokens: bool | None
    """Add the tokenizer's special tokens to the prompt."""
    structured_outputs: Mapping[str, Json] | None
    """vLLM's constraint of the answer: {"json": …}, {"regex": …}, {"choice": …} or {"grammar": …}."""
    guided_json: Json
    """The same by the older name: a JSON schema."""
    guided_regex: str | None
    """The same by the older name: a regular expression."""
    guided_choice: Sequence[str] | None
    """The same by the older name: the possible answers."""
    guided_grammar: str | None
    """The same by the older name: an EBNF grammar."""
    guided_decoding_backend: str | None
    """The backend for the older names, such as "xgrammar"."""
    guided_whitespace_pattern: str | None
    """What white space may be in guided JSON, as a regular expression."""
    response_format: Mapping[str, Json] | None
    """{"type": "json_object"}, or "json_schema" with the schema; `chat.parse` builds it for a type."""
    priority: int | Literal["high", "normal", "low"] | None
    """Which requests the server runs first, if it schedules by priority. A word is sent with the sign of the server type
    (vLLM: lower first; Dynamo and SGLang: higher first), and to none that has no priorities; a number unchanged."""
    request_id: str | None
    """The id that the server uses for this request."""
    cache_salt: str | None
    """Prompts share their cached prefixes only with those of the same salt."""
    kv_transfer_params: Mapping[str, Json] | None
    """Where a KV cache comes from or goes to, in disaggregated serving."""
    ec_transfer_params: Mapping[str, Json] | None
    """Where an encoder cache comes from or goes to, in disaggregated serving."""
    vllm_xargs: Mapping[str, Json] | None
    """Arguments of vLLM's own extensions."""
    nvext: Mapping[str, Json] | None
    """NIM 1.x and Dynamo: guided decoding, `agent_hints`, annotations."""


class TurnOptions(SamplingOptions, total=False):
    """Options shared by all calls of chat."""

    max_completion_tokens: int | None
    """As `max_tokens`, reasoning included, under OpenAI's newer name."""
    logprobs: bool | None
    """Return the log probability of each token."""
    top_logprobs: int | None
    """And of this many of the most likely tokens at each position."""
    tool_choice: str | bool | Mapping[str, Json] | None
    """"auto", "none", "required" (also "any" and True), False, the name of a tool, or a spec."""
    parallel_tool_calls: bool | None
    """Whether several tools may be called at once."""
    reasoning_effort: str | None
    """How much the model reasons: "none", "low", "medium", "high", as far as it knows them."""
    thinking: bool | None
    """Turn reasoning on or off by the switch that the model has."""
    echo_reasoning: bool | None
    """Send the reasoning of earlier answers back to the server. Not a field of the body."""
    resume: int | None
    """How often an interrupted stream is continued where it was interrupted. Not a field of the body."""

    chat_template: str | None
    """A Jinja template in place of the model's."""
    chat_template_kwargs: Mapping[str, Json] | None
    """Variables of the chat template, such as {"enable_thinking": false}."""
    add_generation_prompt: bool | None
    """Whether the template opens the assistant's turn. Server default: True."""
    continue_final_message: bool | None
    """Continue the last message in place of answering it."""
    echo: bool | None
    """Repeat the last message before the answer."""
    documents: Sequence[Mapping[str, Json]] | None
    """Documents for templates that take them, for RAG."""
    include_reasoning: bool | None
    """Whether reasoning is in the response."""
    thinking_token_budget: int | None
    """Maximum number of reasoning tokens (vLLM)."""
    reasoning_budget: int | None
    """Maximum number of reasoning tokens (NIM)."""
    return_prompt_text: bool | None
    """Return the prompt as rendered by the template."""
    mm_processor_kwargs: Mapping[str, Json] | None
    """Arguments for the processor of images, audio and video."""
    media_io_kwargs: Mapping[str, Json] | None
    """Arguments of the loading of media, by their kind."""


class ToolRunOptions(TurnOptions, total=False):
    """The options of chat completions except `tools`, which run_tools takes as an argument."""

    session_id: str | None
    """The conversation that the call belongs to; sent in the header that the server type knows."""


class ConversationOptions(TurnOptions, total=False):
    """The options of chat completions except `session_id`, which a conversation takes as an argument."""

    tools: Sequence[Callable[..., Any] | Mapping[str, Json]] | None
    """Functions, functions marked with @tool, and specs, mixed."""


class ChatOptions(ConversationOptions, total=False):
    """The options of chat completions."""

    session_id: str | None
    """The conversation that the call belongs to; sent in the header that the server type knows."""


class CompletionOptions(SamplingOptions, total=False):
    """The options of text completions."""

    session_id: str | None
    """The conversation that the call belongs to; sent in the header that the server type knows."""
    suffix: str | None
    """Text that follows the insertion; vLLM up to 0.25 rejects it."""
    echo: bool | None
    """Put the prompt before the answer."""
    logprobs: int | None
    """Log probabilities of this many of the most likely tokens; -1: of all (vLLM). With `echo` also of the prompt's."""
    best_of: int | None
    """Generate this many and return the best `n`; removed in vLLM 0.12."""
    prompt_embeds: str | Sequence[str] | None
    """A base64 tensor, or several, in place of a prompt or beside it (vLLM with --enable-prompt-embeds)."""


class TokenizeOptions(CallOptions, total=False):
    """The options of `tokenize` (vLLM, NIM 2.x)."""

    add_special_tokens: bool | None
    """Add the tokenizer's special tokens to a text. Server default: True."""
    return_token_strs: bool | None
    """Also return the tokens as texts."""
    add_generation_prompt: bool | None
    """Whether the template opens the assistant's turn. Server default: True."""
    continue_final_message: bool | None
    """Continue the last message in place of answering it."""
    chat_template: str | None
    """A Jinja template in place of the model's."""
    chat_template_kwargs: Mapping[str, Json] | None
    """Variables of the chat template, such as {"enable_thinking": false}."""
    tools: Sequence[Callable[..., Any] | Mapping[str, Json]] | None
    """Functions, functions marked with @tool, and specs, mixed."""


class EmbeddingOptions(CallOptions, total=False):
    """The options of embeddings except input_type, truncate, dimensions and encoding_format."""

    embedding_type: str | None
    """The type of the numbers (NIM): "float", "int8", "uint8", "binary" or "ubinary"."""
    embed_dtype: Literal["float32", "float16"] | None
    """The type of the vectors' numbers; float16 is sent by vLLM as raw bytes, and else rounded from float32 here."""
    modality: str | Sequence[str] | None
    """What the inputs are, for models that embed images (NIM): "text", "image", "text_image", or one for each."""
    user: str | None
    """An id of your user, for the server's own records."""
    prefix: str | None
    """Put before every text, for servers without `input_type` (vLLM); "" says that the model needs none."""

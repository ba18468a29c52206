"""The options that chat and completions share, and how they are applied to a generated text.

Temperatures and penalties are validated and have no effect: nothing is sampled. Length, stop strings,
`n` and `seed` work as they do in vLLM.
"""

from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

from .fields import Fields
from .rejections import Rejection, bad_field
from .text import pieces

MAX_CHOICES: Final = 128
MAX_STOPS: Final = 4  # VLLM_MAX_STOP_STRINGS


@dataclass(frozen=True, slots=True)
class Sampling:
    """`max_tokens` None is "to the end"; `min_tokens` pads a shorter answer by repeating it."""

    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    keep_stop: bool = False
    seed: int = 0
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False

    @property
    def room_needed(self) -> int:
        """The number of tokens that the context must have left for the answer."""
        return max(self.max_tokens or 0, self.min_tokens)


@dataclass(frozen=True, slots=True)
class Cut:
    """A text after applying length and stop strings; its tokens joined are the text."""

    tokens: tuple[str, ...]
    finish_reason: str
    stop_reason: str | None = None


def read_sampling(fields: Fields, *, default_max: int | None, min_max_tokens: int = 1) -> Sampling:
    """Validate the options; Rejection (400) names the invalid one."""
    for name, low, high in (
        ("temperature", 0, None),
        ("frequency_penalty", -2, 2),
        ("presence_penalty", -2, 2),
        ("min_p", 0, 1),
        ("repetition_penalty", 0, None),
    ):
        fields.number(name, min=low, max=high)
    fields.integer("top_k", min=-1)
    top_p = fields.number("top_p", max=1)
    if top_p is not None and top_p <= 0:
        raise bad_field("top_p", f"must be in (0, 1], got {top_p}.")
    max_tokens = fields.integer("max_completion_tokens", min=min_max_tokens)
    older = fields.integer("max_tokens", min=min_max_tokens)
    max_tokens = next((limit for limit in (max_tokens, older) if limit is not None), default_max)
    min_tokens = fields.integer("min_tokens", min=0) or 0
    if max_tokens is not None and min_tokens > max_tokens:
        raise bad_field("min_tokens", f"must be less than or equal to max_tokens={max_tokens}, got {min_tokens}.")
    if fields.flag("ignore_eos") and max_tokens is not None:
        min_tokens = max_tokens
    stream = fields.flag("stream")
    usage = _stream_options(fields, stream)
    return Sampling(
        n=fields.integer("n", min=1, max=MAX_CHOICES) or 1,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        stop=_stop_strings(fields),
        keep_stop=fields.flag("include_stop_str_in_output"),
        seed=fields.integer("seed") or 0,
        stream=stream,
        include_usage=usage.flag("include_usage"),
        continuous_usage=usage.flag("continuous_usage_stats"),
    )


def _stream_options(fields: Fields, stream: bool) -> Fields:
    options = fields.object("stream_options")
    if options is not None and not stream:
        raise bad_field("stream_options", "Stream options can only be defined when `stream=True`.")
    return Fields(options or {}, "stream_options")


def _stop_strings(fields: Fields) -> tuple[str, ...]:
    stops = fields.texts("stop") or []
    if len(stops) > MAX_STOPS:
        raise bad_field("stop", f"at most {MAX_STOPS} stop strings are allowed, got {len(stops)}.")
    if "" in stops:
        raise bad_field("stop", "cannot contain an empty string.")
    return tuple(stops)


def cut_text(text: str, sampling: Sampling, budget: int | None) -> Cut:
    """Apply min_tokens, the stop strings and the token `budget` (None: no limit) to a text.

    A stop string counts only after the first `min_tokens` tokens, and only when it comes before the budget ends.
    """
    tokens = _padded(text, sampling.min_tokens)
    whole = "".join(tokens)
    reached = len("".join(tokens[: sampling.min_tokens]))
    found = [(at, stop) for stop in sampling.stop if (at := whole.find(stop, reached)) >= 0]
    if found:
        at, stop = min(found)
        stopped = pieces(whole[: at + len(stop) if sampling.keep_stop else at])
        if budget is None or len(stopped) <= budget:
            return Cut(tuple(stopped), "stop", stop)
    if budget is not None and len(tokens) > budget:
        return Cut(tuple(tokens[:budget]), "length")
    if budget is not None and len(tokens) == budget == sampling.min_tokens:
        return Cut(tuple(tokens), "length")  # ignore_eos: the limit ended it, not the text
    return Cut(tuple(tokens), "stop")


def _padded(text: str, min_tokens: int) -> list[str]:
    tokens = pieces(text)
    if len(tokens) >= min_tokens:
        return tokens
    again = pieces(f" {text}") or [" ."]
    return tokens + list(islice(cycle(again), min_tokens - len(tokens)))


def check_context(prompt_tokens: int, room_needed: int, max_model_len: int) -> None:
    """Reject (400) a prompt that leaves no room, with vLLM's message."""
    if prompt_tokens >= max_model_len:
        raise Rejection(
            400,
            f"This model's maximum context length is {max_model_len} tokens. However, your request has "
            f"{prompt_tokens} input tokens. Please reduce the length of the input messages.",
            param="input_tokens",
        )
    if prompt_tokens + room_needed > max_model_len:
        raise Rejection(
            400,
            f"'max_tokens' or 'max_completion_tokens' is too large: {room_needed}. This model's maximum context length "
            f"is {max_model_len} tokens and your request has {prompt_tokens} input tokens.",
            param="max_tokens",
        )

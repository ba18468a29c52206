"""The attributes of requests, responses and errors by the conventions, without content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast
from urllib.parse import urlsplit

from attrs import frozen

from nimclient._base.types import is_array, is_object
from nimclient._base.values import ResponseMeta
from nimclient.errors import APIStatusError, Attempt, NimError
from nimclient.records import ChatCompletion, Completion, Embeddings, Ranking, Usage, Vectors

Attributes: TypeAlias = dict[str, str | int | float | bool | Sequence[str]]

CHAT = "chat"
TEXT_COMPLETION = "text_completion"
EMBEDDINGS = "embeddings"
RERANK = "rerank"
EXECUTE_TOOL = "execute_tool"
INFERENCES = (CHAT, TEXT_COMPLETION)
OPERATIONS = {"chat": CHAT, "completions": TEXT_COMPLETION, "embedding": EMBEDDINGS, "ranking": RERANK}
"""The operation of a call, by the kind of its model. The conventions have no operation for reranking."""

NUMBERS = {
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
    "frequency_penalty": ("frequency_penalty", float),
    "presence_penalty": ("presence_penalty", float),
    "max_tokens": ("max_tokens", int),
    "max_completion_tokens": ("max_tokens", int),
    "seed": ("seed", int),
}
"""Fields of a body that are numbers: their names in `gen_ai.request.…`, and their types there."""


@frozen
class Tokens:
    """Token counts of one response; None if the server does not send them. `modality`: of the input."""

    input: int
    output: int
    cached: int | None = None
    reasoning: int | None = None
    modality: str = "text"


def server_of(url: str) -> dict[str, str | int]:
    """The server of a URL."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return {"server.address": parts.hostname or "", **({} if port is None else {"server.port": port})}


def request_attributes(fields: Mapping[str, Any], *, latest: bool) -> Attributes:
    """The attributes of a request body."""
    found: Attributes = {}
    for name, (word, kind) in NUMBERS.items():
        value = fields.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[f"gen_ai.request.{word}"] = kind(value)
    top_k = fields.get("top_k")
    if isinstance(top_k, int) and not isinstance(top_k, bool):
        found["gen_ai.request.top_k"] = top_k if latest else float(top_k)
    choices = fields.get("n")
    if isinstance(choices, int) and choices != 1:
        found["gen_ai.request.choice.count"] = choices
    stop = fields.get("stop")
    if stop:
        found["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else _texts(stop)
    if isinstance(fields.get("reasoning_effort"), str):
        found["gen_ai.request.reasoning.level"] = fields["reasoning_effort"]
    if isinstance(fields.get("encoding_format"), str):
        found["gen_ai.request.encoding_formats"] = [fields["encoding_format"]]
    form = fields.get("response_format")
    if is_object(form):
        found["gen_ai.output.type"] = "text" if form.get("type") == "text" else "json"
    return found


def response_attributes(result: object) -> Attributes:
    """The attributes of a response: a record, or the list of records of many calls."""
    found: Attributes = {}
    if is_array(result):
        failures = sum(isinstance(reply, NimError) for reply in result)
        found["nimclient.items"] = len(result)
        if failures:
            found["nimclient.failures"] = failures
    elif isinstance(result, (ChatCompletion, Completion)):
        if result.id:
            found["gen_ai.response.id"] = result.id
        reasons = [choice.finish_reason for choice in result.choices if choice.finish_reason]
        if reasons:
            found["gen_ai.response.finish_reasons"] = reasons
    vectors = result.vectors if isinstance(result, Embeddings) else result
    if isinstance(vectors, Vectors) and vectors.dimensions:
        found["gen_ai.embeddings.dimension.count"] = vectors.dimensions
    if (model := model_of(result)) is not None:
        found["gen_ai.response.model"] = model
    if (tokens := tokens_of(result)) is not None:
        found |= _usage_attributes(tokens, has_output=not isinstance(result, (Embeddings, Ranking, Vectors)))
    meta = meta_of(result)
    if meta is not None and meta.request_id:
        found["nimclient.request_id"] = meta.request_id
    return found


def model_of(result: object) -> str | None:
    """The model in the response; of several, the first."""
    if is_array(result):
        return next(filter(None, map(model_of, result)), None)
    if isinstance(result, (ChatCompletion, Completion, Embeddings, Ranking, Vectors)):
        return result.model or None
    return None


def meta_of(result: object) -> ResponseMeta | None:
    """The exchange behind a record."""
    meta = getattr(result, "meta", None)
    return meta if isinstance(meta, ResponseMeta) else None


def tokens_of(result: object, modality: str = "text") -> Tokens | None:
    """The tokens of a record; of several, added up."""
    if is_array(result):
        return _added(filter(None, map(tokens_of, result)))
    usage = getattr(result, "usage", None)
    if not isinstance(usage, Usage):
        return None
    return Tokens(
        usage.prompt_tokens,
        usage.completion_tokens,
        _count(usage.prompt_tokens_details, "cached_tokens"),
        _count(usage.completion_tokens_details, "reasoning_tokens"),
        modality,
    )


def input_modality(fields: Mapping[str, Any]) -> str:
    """text, or unknown if a message has other parts: servers count them together."""
    for message in fields.get("messages") or ():
        content = message.get("content") if is_object(message) else None
        if isinstance(content, list):
            for part in cast(list[Any], content):
                if is_object(part) and part.get("type") != "text":
                    return "unknown"
    return "text"


def error_type(error: BaseException) -> str:
    """The status of a rejected call, else the name of the class."""
    return str(error.status) if isinstance(error, APIStatusError) else type(error).__name__


def attempt_attributes(attempt: Attempt, number: int) -> Attributes:
    """The attributes of an attempt: number, server, outcome, seconds."""
    found: Attributes = {"nimclient.attempt.number": number, "nimclient.attempt.seconds": attempt.seconds}
    found |= server_of(attempt.base_url)
    if isinstance(attempt.outcome, int):
        found["http.response.status_code"] = attempt.outcome
    if isinstance(attempt.outcome, str) or attempt.outcome >= 400:
        found["error.type"] = str(attempt.outcome)
    return found


def _usage_attributes(tokens: Tokens, *, has_output: bool) -> Attributes:
    found: Attributes = {"gen_ai.usage.input_tokens": tokens.input}
    if has_output:
        found["gen_ai.usage.output_tokens"] = tokens.output
    if tokens.cached is not None:
        found["gen_ai.usage.cache_read.input_tokens"] = tokens.cached
    if tokens.reasoning is not None:
        found["gen_ai.usage.reasoning.output_tokens"] = tokens.reasoning
    return found


def _added(all_tokens: Iterable[Tokens]) -> Tokens | None:
    several = list(all_tokens)
    if not several:
        return None
    return Tokens(sum(one.input for one in several), sum(one.output for one in several))


def _count(details: Mapping[str, Any] | None, name: str) -> int | None:
    value = None if details is None else details.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _texts(value: object) -> list[str]:
    return [item for item in cast(Sequence[object], value) if isinstance(item, str)] if isinstance(value, list) else []

"""Text completions: arguments → Call (POST /completions).

A prompt is a text or a list of token ids; a list may hold several of either, and each gives n choices. In a stream,
log probabilities and token ids are appended and texts joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from nimclient._api.call import Call
from nimclient._api.options import check_names, merge_fields, names_of
from nimclient._api.priority import with_priority
from nimclient._api.server_types import ServerType
from nimclient._api.sessions import session_headers
from nimclient._base.types import JsonDict, is_items
from nimclient._retry.policy import Replay
from nimclient._streams.completions import CompletionAccumulator
from nimclient.errors import ConfigurationError
from nimclient.records.completions import Completion, decode_completion
from nimclient.records.params import CompletionOptions

Prompt: TypeAlias = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]

COMPLETION_OPTIONS = names_of(CompletionOptions)
_NOT_SENT = frozenset({"session_id", "stream_usage"})


def completion_call(
    method: str,
    prompt: object,
    model: str | None,
    options: Mapping[str, Any],
    *,
    stream: bool,
    server: ServerType | None = None,
) -> Call[Completion]:
    """The call for this prompt. TypeError for an unknown option; ConfigurationError for a prompt that cannot be sent.

    Args:
        method: The name of the public method, for errors.
        prompt: A text, token ids, or a list of either; None beside `prompt_embeds`.
        model: None while it is unknown.
        options: CompletionOptions.
        stream: Whether the response is streamed.
        server: The server type, which decides where a session goes, and where and with which sign a priority.
    """
    check_names(method, options, COMPLETION_OPTIONS)
    fields: JsonDict = {} if model is None else {"model": model}
    if prompt is not None or options.get("prompt_embeds") is None:
        fields["prompt"] = wire_prompt(prompt)
    droppable_fields: tuple[str, ...] = ()
    if stream:
        fields["stream"] = True
        droppable_fields = ("stream",)
        if options.get("stream_usage") is not False:
            fields["stream_options"] = {"include_usage": True}
            droppable_fields = ("stream", "stream_options")
    if isinstance(options.get("priority"), str):
        droppable_fields = (*droppable_fields, "priority")
    options, warning = with_priority(options, server)
    merge_fields(fields, options, not_sent=_NOT_SENT)
    return Call(
        "POST",
        "/completions",
        decode_completion,
        fields,
        model=model,
        droppable_fields=droppable_fields,
        replay=Replay.ONCE,
        stream=stream,
        headers=session_headers(options, server),
        accumulator=CompletionAccumulator,
        warnings=() if warning is None else (warning,),
        kind="completions",
    )


def wire_prompt(prompt: object) -> str | list[Any]:
    """A text, a list of texts, a list of token ids or a list of such lists; TypeError for another type.

    ConfigurationError names the position of an item that is empty or of another type than those before it.
    """
    if isinstance(prompt, str):
        return _text(prompt, "prompt")
    if not is_items(prompt):
        raise TypeError(f"prompt takes a str, a list of str or token ids, not {type(prompt).__name__}")
    items = list(prompt)
    if not items:
        raise ConfigurationError("prompt is empty; pass a text or token ids", path="prompt")
    if isinstance(items[0], str):
        return [_text(item, f"prompt[{index}]") for index, item in enumerate(items)]
    if is_items(items[0]):
        return [_token_ids(item, f"prompt[{index}]") for index, item in enumerate(items)]
    return _token_ids(items, "prompt")


def _text(text: object, path: str) -> str:
    if not isinstance(text, str):
        raise ConfigurationError(f"{path} must be a str like the first one, not {type(text).__name__}", path=path)
    if not text:
        raise ConfigurationError(f"{path} is empty; servers reject empty prompts", path=path)
    return text


def _token_ids(tokens: object, path: str) -> list[int]:
    if isinstance(tokens, str) or not is_items(tokens):
        raise ConfigurationError(f"{path} must be a list of token ids, not {type(tokens).__name__}", path=path)
    ids = list(tokens)
    if not ids:
        raise ConfigurationError(f"{path} has no token ids", path=path)
    if set(map(type, ids)) != {int}:
        place, wrong = next((i, token) for i, token in enumerate(ids) if type(token) is not int)
        kind = type(wrong).__name__
        raise ConfigurationError(f"{path}[{place}] must be a token id (int), not {kind}", path=f"{path}[{place}]")
    return ids

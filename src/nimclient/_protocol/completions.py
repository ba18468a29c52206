"""Text completions: arguments → Call (POST /completions), and the chunks of a stream → the completion they amount to.

A prompt is a text or a list of token ids; a list may hold several of either, and each gives n choices. Log probabilities
and token ids of a stream are appended, texts joined, everything else is set by the last value that is not null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from nimclient._protocol.call import Call, Replay
from nimclient._protocol.events import chunks_of
from nimclient._protocol.options import check_names, merge_fields, names_of
from nimclient._types import JsonDict, is_items
from nimclient._wire import ResponseMeta
from nimclient.errors import ConfigurationError
from nimclient.records._decode import object_or_empty, objects
from nimclient.records.completions import Completion, decode_completion
from nimclient.records.params import CompletionOptions

Prompt: TypeAlias = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]

COMPLETION_OPTIONS = names_of(CompletionOptions)
_NOT_SENT = frozenset({"stream_usage"})


def completion_call(
    method: str, prompt: object, model: str | None, options: Mapping[str, Any], *, stream: bool
) -> Call[Completion]:
    """The call for this prompt. TypeError for an unknown option; ConfigurationError for a prompt that cannot be sent."""
    check_names(method, options, COMPLETION_OPTIONS)
    fields: JsonDict = {} if model is None else {"model": model}
    if prompt is not None or options.get("prompt_embeds") is None:
        fields["prompt"] = wire_prompt(prompt)
    ours: tuple[str, ...] = ()
    if stream:
        fields["stream"] = True
        ours = ("stream",)
        if options.get("stream_usage") is not False:
            fields["stream_options"] = {"include_usage": True}
            ours = ("stream", "stream_options")
    merge_fields(fields, options, not_sent=_NOT_SENT)
    return Call(
        "POST",
        "/completions",
        decode_completion,
        fields,
        model=model,
        ours=ours,
        replay=Replay.ONCE,
        stream=stream,
        accumulator=CompletionAccumulator,
    )


def wire_prompt(prompt: object) -> str | list[Any]:
    """A text, a list of texts, a list of token ids or a list of such lists; TypeError for another type.

    ConfigurationError names the place of what is empty, or of another type than what came before it.
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
        raise ConfigurationError(f"{path} is empty; servers refuse empty prompts", path=path)
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


class CompletionAccumulator:
    """Feed events in order; `completion()` at any time gives what has arrived so far."""

    __slots__ = ("_choices", "_top", "_whole", "finished")

    def __init__(self) -> None:
        self._top: JsonDict = {}
        self._choices: dict[int, _Choice] = {}
        self._whole: JsonDict | None = None  # a plain answer, where that is what came
        self.finished = False
        """Whether every choice seen so far has its finish_reason."""

    def add(self, event: JsonDict) -> tuple[str, bool]:
        """Take one event in. Returns what it adds to the text of choice 0, and whether it carries content at all."""
        text = ""
        content = False
        for choice in objects(event["choices"]):
            index = choice.get("index")
            index = index if type(index) is int else 0
            state = self._choices.get(index)
            if state is None:
                state = self._choices[index] = _Choice()
                self.finished = False
            content = state.add(choice) or content
            if choice.get("finish_reason"):
                self.finished = all(state.fields.get("finish_reason") for state in self._choices.values())
            piece = choice.get("text")
            if not index and isinstance(piece, str):
                text += piece
        self._top.update((key, value) for key, value in event.items() if key != "choices" and value is not None)
        return text, content

    def adopt(self, answer: JsonDict) -> list[JsonDict]:
        """Take a plain answer for the whole of it. Returns the events it amounts to; DecodeError where it is none."""
        decode_completion(answer)
        self._whole = answer
        return chunks_of(answer)

    def answer(self) -> JsonDict | None:
        """The plain answer so far, None where no choice has begun."""
        if self._whole is not None:
            return self._whole
        if not self._choices:
            return None
        return {**self._top, "choices": [state.as_choice(index) for index, state in sorted(self._choices.items())]}

    def completion(self, meta: ResponseMeta | None = None) -> Completion | None:
        """The completion so far, None where no choice has begun."""
        answer = self.answer()
        return None if answer is None else decode_completion(answer, meta)


class _Choice:
    """What has arrived of one choice."""

    __slots__ = ("fields", "logprobs", "text", "token_ids")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.token_ids: list[Any] = []
        self.logprobs: JsonDict | None = None
        self.fields: JsonDict = {}

    def add(self, choice: JsonDict) -> bool:
        """Merge a piece; returns whether it carries content."""
        content = False
        for key, value in choice.items():
            if value is None or key == "index":
                continue
            if key == "text":
                self.text.append(value if isinstance(value, str) else "")
                content = content or bool(value)
            elif key == "token_ids":
                self.token_ids.extend(cast(list[Any], value) if isinstance(value, list) else ())
                content = content or bool(choice["token_ids"])
            elif key == "logprobs":
                self._add_logprobs(object_or_empty(value))
            else:
                self.fields[key] = value
        return content

    def _add_logprobs(self, logprobs: JsonDict) -> None:
        self.logprobs = self.logprobs or {}
        for name, value in logprobs.items():
            if isinstance(value, list):
                self.logprobs.setdefault(name, []).extend(cast(list[Any], value))
            elif value is not None:
                self.logprobs[name] = value

    def as_choice(self, index: int) -> JsonDict:
        """The choice as a plain answer has it."""
        choice: JsonDict = {"index": index, "text": "".join(self.text), **self.fields}
        if self.token_ids:
            choice["token_ids"] = self.token_ids
        if self.logprobs is not None:
            choice["logprobs"] = self.logprobs
        return choice

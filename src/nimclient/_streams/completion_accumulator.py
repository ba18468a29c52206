"""The chunks of a streamed text completion joined into the answer that a plain call would have given."""

from __future__ import annotations

from typing import Any, cast

from nimclient._base.types import JsonDict
from nimclient._base.values import ResponseMeta
from nimclient._streams.events import chunks_of
from nimclient.records._decode import object_or_empty, objects
from nimclient.records.completions import Completion, decode_completion


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

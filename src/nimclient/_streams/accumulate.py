"""Chunks of a chat stream → the completion that the plain call would have returned.

Pieces are merged by declared field: text, reasoning, refusal and tool arguments are concatenated, log probabilities and
token ids appended, everything else is set by the last value that is not null. Linear: pieces are joined once, at the end.
"""

from __future__ import annotations

from typing import Any, cast

from nimclient._base import json as _json
from nimclient._base.types import JsonDict
from nimclient._base.values import ResponseMeta
from nimclient._streams.events import chunks_of
from nimclient._streams.reasoning import TagSplitter
from nimclient.records._decode import object_or_empty, objects
from nimclient.records._tags import RAW_CONTENT
from nimclient.records.chat import ChatCompletion, decode_chat

_CONCATENATED = ("content", "reasoning", "reasoning_content", "refusal")


class ChatAccumulator:
    """Feed events in order; `completion()` at any time gives what has arrived so far."""

    __slots__ = ("_choices", "_names", "_top", "_whole", "finished")

    def __init__(self) -> None:
        self._top: JsonDict = {}
        self._names: object = None  # the last event's: one with other fields is looked at closely
        self._choices: dict[int, _Choice] = {}
        self._whole: JsonDict | None = None  # a plain answer, where that is what came
        self.finished = False
        """Whether every choice seen so far has its finish_reason."""

    def add(self, event: JsonDict) -> tuple[str, bool]:
        """Take one event in. Returns what it adds to the text of choice 0, and whether it carries content at all.

        A choice with `<think>` tags in its text gets another delta: text and reasoning apart, `raw_content` as it came.
        """
        text = ""
        content = False
        choices: list[JsonDict] | None = event["choices"]
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            index: int = choice.get("index") or 0
            if type(index) is not int:
                index = 0
            state = self._choices.get(index)
            if state is None:
                state = self._choices[index] = _Choice()
                self.finished = False
                self._remember(event)
            delta: JsonDict | None = choice.get("delta")
            if delta and isinstance(delta, dict):
                piece = delta.get("content")
                if not isinstance(piece, str):
                    piece = ""
                if piece and len(delta) == 1:  # the shape of nearly every event
                    state.text.append(piece)
                    content = True
                else:
                    content = state.add_delta(delta) or content
                if piece and state.splitter is not None:
                    piece = state.split(choice, piece)
                if not index:
                    text += piece
            if (len(choice) > 2 or "delta" not in choice or "index" not in choice) and state.add_rest(choice):
                if state.splitter is not None:
                    rest = state.end_split(choice)
                    text += "" if index else rest
                self.finished = all(c.fields.get("finish_reason") for c in self._choices.values())
                self._remember(event)
        if "usage" in event or event.keys() != self._names:
            self._names = event.keys()
            self._remember(event)
        return text, content

    def adopt(self, answer: JsonDict) -> list[JsonDict]:
        """Take a plain answer for the whole of it. Returns the events it amounts to; DecodeError where it is none."""
        decode_chat(answer)
        self._whole = answer
        return chunks_of(answer)

    def answer(self) -> JsonDict | None:
        """The plain answer so far, None where no choice has begun."""
        if self._whole is not None:
            return self._whole
        if not self._choices:
            return None
        choices = [state.as_choice(index) for index, state in sorted(self._choices.items())]
        return {**self._top, "object": "chat.completion", "choices": choices}

    def completion(self, meta: ResponseMeta | None = None) -> ChatCompletion | None:
        """The completion so far, None where no choice has begun."""
        answer = self.answer()
        return None if answer is None else decode_chat(answer, meta)

    def _remember(self, event: JsonDict) -> None:
        self._top.update((key, value) for key, value in event.items() if key != "choices" and value is not None)


class _Choice:
    """What has arrived of one choice."""

    __slots__ = ("calls", "fields", "lists", "message", "pieces", "splitter", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.pieces: dict[str, list[str]] = {}
        self.message: JsonDict = {}
        self.calls = _ToolCalls()
        self.lists: dict[str, list[Any]] = {}
        self.fields: JsonDict = {}
        self.splitter: TagSplitter | None = TagSplitter()  # None once all that follows is text

    def add_delta(self, delta: JsonDict) -> bool:
        """Merge a delta; returns whether it carries content (a role alone does not)."""
        content = False
        for key, value in delta.items():
            if value is None:
                continue
            if key == "content" and isinstance(value, str):
                self.text.append(value)
            elif key in _CONCATENATED and isinstance(value, str):
                self.pieces.setdefault(key, []).append(value)
            elif key == "tool_calls":
                for position, call in enumerate(objects(value)):
                    self.calls.add(call, position)
            else:
                self.message[key] = value
            content = content or (key != "role" and bool(value))
        return content

    def add_rest(self, choice: JsonDict) -> bool:
        """Merge the choice's fields beside its delta; returns whether it is finished by them."""
        finished = False
        for key, value in choice.items():
            if value is None or key in ("index", "delta"):
                continue
            if key == "logprobs":
                for name, tokens in object_or_empty(value).items():
                    if isinstance(tokens, list):
                        self.lists.setdefault(f"logprobs.{name}", []).extend(cast(list[Any], tokens))
            elif key == "token_ids" and isinstance(value, list):
                self.lists.setdefault(key, []).extend(cast(list[Any], value))
            else:
                self.fields[key] = value
                finished = finished or (key == "finish_reason" and bool(value))
        return finished

    def split(self, choice: JsonDict, piece: str) -> str:
        """Split the text of a choice's delta; returns what of it is text."""
        if self.splitter is None or "reasoning" in self.pieces or "reasoning_content" in self.pieces:
            self.splitter = None  # the server has a parser: what it calls text is text
            return piece
        reasoning, text = self.splitter.feed(piece)
        if self.splitter.done:
            self.splitter = None
        if text != piece:
            choice["delta"] = {**choice["delta"], "content": text, RAW_CONTENT: piece, **_said(reasoning)}
        return text

    def end_split(self, choice: JsonDict) -> str:
        """Add what is held to the delta of a choice's last event; returns what of it is text."""
        reasoning, text = self.splitter.flush() if self.splitter is not None else ("", "")
        self.splitter = None
        if reasoning or text:
            delta = object_or_empty(choice.get("delta"))
            before = delta.get("content") or ""
            reasoning = (delta.get("reasoning") or "") + reasoning
            choice["delta"] = {RAW_CONTENT: before, **delta, "content": before + text, **_said(reasoning)}
        return text

    def as_choice(self, index: int) -> JsonDict:
        """The choice as a plain answer has it."""
        message: JsonDict = {"role": "assistant", **self.message}
        calls = self.calls.as_list()
        text = "".join(self.text)
        message["content"] = text if text or not (calls or self.pieces) else None
        for key, pieces in self.pieces.items():
            message[key] = "".join(pieces)
        if calls:
            message["tool_calls"] = calls
        choice: JsonDict = {"index": index, "message": message, **self.fields}
        if "token_ids" in self.lists:
            choice["token_ids"] = self.lists["token_ids"]
        if tokens := {k.removeprefix("logprobs."): v for k, v in self.lists.items() if k.startswith("logprobs.")}:
            choice["logprobs"] = tokens
        return choice


def _said(reasoning: str) -> JsonDict:
    return {"reasoning": reasoning} if reasoning else {}


class _ToolCalls:
    """Tool calls of one choice, merged by index; see `add` for what servers make of that."""

    __slots__ = ("_calls", "_current")

    def __init__(self) -> None:
        self._calls: list[JsonDict] = []
        self._current: dict[int, int] = {}  # index on the wire → position in _calls

    def add(self, delta: JsonDict, position: int) -> None:
        """Merge a piece.

        A new id at a used index is a new call. Without an index the id decides, else the last call goes on. The name is
        set once: vLLM 0.8 repeats it in every delta. A missing id is made up when the call is handed out.
        """
        function = object_or_empty(delta.get("function"))
        place = self._place(delta, function, position)
        call = self._calls[place]
        for key, value in delta.items():
            if value not in (None, "") and key not in ("index", "function"):
                call.setdefault(key, value)
        name = function.get("name")
        if name and not call["name"]:
            call["name"] = name
        arguments = function.get("arguments")
        if arguments is not None:  # some servers send the object itself
            call["pieces"].append(arguments if isinstance(arguments, str) else _json.dumps(arguments).decode())

    def _place(self, delta: JsonDict, function: JsonDict, position: int) -> int:
        index, call_id = delta.get("index"), delta.get("id")
        if isinstance(index, str) and index.isdecimal():
            index = int(index)
        if not isinstance(index, int):
            known = [i for i, call in enumerate(self._calls) if call_id and call.get("id") == call_id]
            if known:
                return known[0]
            if self._calls and not call_id and not function.get("name"):
                return len(self._calls) - 1
            return self._begin(len(self._calls) + position + 1_000_000)
        place = self._current.get(index)
        if place is None:
            return self._begin(index)
        known_id = self._calls[place].get("id")
        return self._begin(index) if call_id and known_id and call_id != known_id else place

    def _begin(self, index: int) -> int:
        self._calls.append({"name": "", "pieces": []})
        self._current[index] = len(self._calls) - 1
        return len(self._calls) - 1

    def as_list(self) -> list[JsonDict]:
        """The calls as a plain answer has them."""
        return [_finished_call(call, position) for position, call in enumerate(self._calls)]


def _finished_call(call: JsonDict, position: int) -> JsonDict:
    rest = {key: value for key, value in call.items() if key not in ("name", "pieces")}
    function = {"name": call["name"], "arguments": "".join(call["pieces"])}
    return {"id": f"call_{position}", "type": "function", **rest, "function": function}

"""Accumulates the events of a stream into the answer that a plain call would have returned.

Pieces are merged by declared field: texts, reasoning and tool arguments are concatenated, lists (log probabilities, token
ids, annotations) appended, and every other field takes the last value that is not null. Linear: pieces are joined once, at
the end. Events that differ in their text only are added without being parsed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, TypeVar, cast

from nimclient._base.types import Json, JsonDict, is_array, is_object
from nimclient._base.values import ResponseMeta
from nimclient._retry.faults import is_fault_event, stream_fault
from nimclient._streams.events import chunks_of
from nimclient._streams.reasoning import StrayTagRemover, TagSplitter
from nimclient._streams.tool_calls import ToolCallAccumulator
from nimclient.errors import DecodeError
from nimclient.records._decode import object_or_empty, objects, whole_number
from nimclient.records._tags import RAW_CONTENT
from nimclient.records._templates import EventTemplate
from nimclient.records.chat import (
    BLOCKS,
    ChatCompletion,
    as_parts,
    content_parts,
    decode_chat,
    is_text_part,
    reasoning_of,
    reasoning_of_parts,
    text_of_parts,
)

A = TypeVar("A")
SINGLE = 4
"""How many events are read one by one in search of a template: often the third is the first with text."""
MAX_CHOICES = 2**16
"""Maximum choices of one answer: far above any prompt list times `n`, and about 30 MB of state."""

MANY_PIECES = 64
"""Pieces of a text that are joined: a piece takes 60 bytes of its own, and thousands of streams may be open."""

_REASONING = ("reasoning", "reasoning_content")
_PIECES = {"audio": ("data", "transcript"), "function_call": ("arguments",)}
"""Objects of a delta that are sent in pieces, with the fields to join."""

_ENDS = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")
_CALLS = ("tool_calls", "function_call")


class Accumulator(Generic[A]):
    """Add events in order; `completion()` returns what was received so far."""

    __slots__ = (
        "_finished",
        "_joined",
        "_misses",
        "_pieces",
        "_template",
        "_top",
        "_whole",
        "choices",
        "finished",
        "is_one",
        "single",
    )

    def __init__(self) -> None:
        self._top: JsonDict = {}
        self._template: EventTemplate | None = None  # of the last event that added one text only …
        self._pieces: list[str] = []  # … and what it was added to
        self._joined = 0  # how many of them are pieces that were joined before
        self._misses = 0  # how many blocks in a row had another form
        self.single = True
        """Whether the next event by itself is likely to become a template for those after it."""
        self.choices: dict[int, Any] = {}  # by index
        self.is_one = False
        """Whether one choice was asked for: then all belongs to it, whatever its index."""
        self._finished = 0  # how many of them have their finish_reason
        self._whole: JsonDict | None = None  # a plain answer received instead of a stream
        self.finished = False
        """Whether every choice seen so far has its finish_reason."""

    @property
    def knows(self) -> bool:
        """Whether there is a template."""
        return self._template is not None

    def add_alike(self, block: bytes) -> tuple[EventTemplate, list[str]] | None:
        """Add events that differ from the one before in one text only: their template, and their texts.

        None for any other block.
        """
        template = self._template
        if template is None or (texts := template.texts(block)) is None:
            return None
        pieces = self._pieces
        pieces.extend(texts)
        if len(pieces) - self._joined > MANY_PIECES:
            pieces[self._joined :] = ["".join(pieces[self._joined :])]
            self._joined = len(pieces)
        self._misses = 0
        return template, texts

    def learn(self, data: bytes, event: JsonDict) -> None:
        """Have the event that was added last as a template, if with another text it would change nothing else."""
        self._misses += 1
        self.single = self._misses < SINGLE
        choices = objects(event.get("choices"))
        if self._misses & (self._misses - 1) or len(choices) != 1:  # tried ever less often where all events differ
            return
        index = whole_number(choices[0].get("index")) or 0
        place = None if event.get("usage") else self.choices[index].only_text(choices[0])
        if place is not None:
            name, in_delta, self._pieces = place
            self._joined = len(self._pieces)
            is_text = name not in _REASONING and index == 0
            self._template = EventTemplate.of(data, event, name, in_delta=in_delta, is_text=is_text)
            self.single = self.single and self._template is None

    def forget(self) -> None:
        """Have no template: events of another form follow."""
        self._template = None

    def add(self, event: JsonDict) -> tuple[str, bool] | None:
        """Add one event; returns what it adds to the text of choice 0, and whether it carries content.

        None for an event that is not part of the answer. Raises StreamFaultError for an error event, DecodeError above
        MAX_CHOICES.
        """
        if ("choices" not in event or "error" in event) and is_fault_event(event):
            raise stream_fault(event)
        self._template = None
        if "choices" not in event:
            if not is_object(event.get("usage")):
                return None
            event["choices"] = []
        text = ""
        content = False
        for choice in objects(event["choices"]):
            index = whole_number(choice.get("index")) or 0
            if index and self.is_one:
                index = choice["index"] = 0
            state = self.choices.get(index) or self._begin(index)
            piece, has_content = state.add(choice)
            content = content or has_content
            if not index:
                text += piece
            if state.fields.get("finish_reason") and not state.finished:
                state.finished = True
                self._finished += 1
            if event.get("usage") is None and (usage := _usage_in(choice)):
                event["usage"] = usage
        if event.get("usage") is None and (usage := object_or_empty(event.get("x_groq")).get("usage")):
            event["usage"] = usage
        self.finished = 0 < len(self.choices) == self._finished
        for key, value in event.items():
            if key != "choices" and value is not None:
                self._add_top(key, value)
        return text, content

    def _add_top(self, key: str, value: Any) -> None:
        """Objects that arrive in pieces, such as `nvext` and the usage of some gateways, are merged."""
        known = self._top.get(key)
        if is_object(known) and is_object(value):
            known.update((name, item) for name, item in value.items() if item is not None)
        else:
            self._top[key] = _copied(value)

    def _begin(self, index: int) -> ChoiceState:
        if len(self.choices) >= MAX_CHOICES:
            raise DecodeError(f"the answer has more than {MAX_CHOICES} choices", path="choices")
        state = self.choices[index] = self._new_choice()
        return state

    @abstractmethod
    def _new_choice(self) -> ChoiceState:
        """The state of a new choice."""

    @abstractmethod
    def _decode(self, answer: JsonDict, meta: ResponseMeta | None = None) -> A:
        """The record of a plain answer."""

    def adopt(self, answer: JsonDict) -> list[JsonDict]:
        """Accept a plain answer as the whole. Returns the equivalent events; DecodeError if it is not an answer."""
        self._decode(answer)
        self._whole = answer
        self.is_one = False
        return chunks_of(answer)

    def answer(self) -> JsonDict | None:
        """The plain answer so far, None before the first choice."""
        if self._whole is not None:
            return self._whole
        if not self.choices:
            return None
        choices = [state.as_choice(index) for index, state in sorted(self.choices.items())]
        return {**{key: _copied(value) for key, value in self._top.items()}, "choices": choices}

    def completion(self, meta: ResponseMeta | None = None) -> A | None:
        """The answer so far as a record."""
        answer = self.answer()
        return None if answer is None else self._decode(answer, meta)


class ChoiceState:
    """What was received of one choice."""

    __slots__ = ("fields", "finished", "lists", "logprobs", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.fields: JsonDict = {}
        self.lists: dict[str, list[Any]] = {}
        self.logprobs: JsonDict | None = None
        self.finished = False

    @abstractmethod
    def add(self, choice: JsonDict) -> tuple[str, bool]:
        """Merge a choice of an event; returns what it adds to the text, and whether it carries content."""

    @abstractmethod
    def only_text(self, choice: JsonDict) -> tuple[str, bool, list[str]] | None:
        """Of a choice that adds one text and nothing else: its name, whether it is in the delta, the list of such texts."""

    @abstractmethod
    def as_choice(self, index: int) -> JsonDict:
        """The choice in the form of a plain answer."""

    def add_fields(self, choice: JsonDict, but: Iterable[str]) -> None:
        """Merge the fields other than the text. A finish_reason does not replace one that says more."""
        for key, value in choice.items():
            if value is None or key in but or (key == "finish_reason" and self._says_less(value)):
                continue
            if key == "logprobs":
                self._add_logprobs(object_or_empty(value))
            elif key == "token_ids":
                self.lists.setdefault(key, []).extend(as_parts(value))
            else:
                self.fields[key] = value

    def _says_less(self, reason: Any) -> bool:
        return reason == "null" or _says(reason) < _says(self.fields.get("finish_reason"))

    def _add_logprobs(self, logprobs: JsonDict) -> None:
        if self.logprobs is None:
            self.logprobs = {}
        for name, value in logprobs.items():
            if isinstance(value, list):
                found = self.logprobs[name] = as_parts(self.logprobs.get(name))
                found.extend(cast(list[Any], value))
            elif value is not None:
                self.logprobs[name] = value

    def other_fields(self) -> JsonDict:
        """The merged fields other than the text."""
        fields = {**self.fields, **{name: list(items) for name, items in self.lists.items() if items}}
        if self.logprobs is not None:
            fields["logprobs"] = {name: _copied(value) for name, value in self.logprobs.items()}
        return fields


class ChatChoiceState(ChoiceState):
    """What was received of one choice of a chat."""

    __slots__ = ("calls", "message", "parts", "pieces", "reasoning", "reasoning_name", "splitter")

    def __init__(self) -> None:
        super().__init__()
        self.reasoning: list[str] = []
        self.reasoning_name: str | None = None  # None where it came in blocks only
        self.pieces: dict[tuple[str, ...], list[str]] = {}  # by path in the message
        self.parts: list[Any] = []  # of a content list, what is neither text nor reasoning
        self.message: JsonDict = {}
        self.calls = ToolCallAccumulator()
        self.splitter: TagSplitter | StrayTagRemover | None = (
            TagSplitter()
        )  # None when all further text is known to be content

    def add(self, choice: JsonDict) -> tuple[str, bool]:
        """See ChoiceState. A delta of another form is replaced by one of the usual form, for the chunk to show."""
        delta = self._delta(choice)
        content = self._add_delta(delta)
        piece = delta.get("content")
        if not isinstance(piece, str):
            piece = ""
        if piece and self.splitter is not None:
            piece = self._split(choice, piece)
        self.add_fields(choice, ("index", "delta", "message", "text", "usage"))
        if self.splitter is not None and choice.get("finish_reason"):
            piece += self._end_split(choice)
        return piece, content

    def _delta(self, choice: JsonDict) -> JsonDict:
        """The delta; some servers call it `message` or `text`, and some send text and reasoning as a list of parts."""
        delta = choice.get("delta")
        if not delta and is_object(choice.get("message")):
            delta = choice["message"]
            if choice.get("finish_reason") and not self.finished and self.text:
                delta = self._without_repetition(delta)
            choice["delta"] = delta
        elif delta is None and isinstance(choice.get("text"), str):  # the form of completions
            delta = choice["delta"] = {"content": choice["text"]}
        delta = object_or_empty(delta)
        if parts := content_parts(delta.get("content")):
            self.parts += [part for part in parts if not is_text_part(part) and not reasoning_of_parts([part])]
            reasoning = (reasoning_of(delta) or "") + reasoning_of_parts(parts)
            delta = choice["delta"] = {**delta, "content": text_of_parts(parts), **_reasoning(reasoning)}
        return delta

    def _without_repetition(self, message: JsonDict) -> JsonDict:
        """A message at the end of its choice, without what its pieces said if it is the whole message once more."""
        if message.get("content") != "".join(self.text):
            return message
        known = {"content", *self.message, *(path[0] for path in self.pieces)}
        known.update(_REASONING if self.reasoning else (), ["tool_calls"] if self.calls.as_list() else ())
        return {key: value for key, value in message.items() if key not in known}

    def _add_delta(self, delta: JsonDict) -> bool:
        """Merge a delta; returns whether it carries content (a role alone does not)."""
        content = bool(self.parts)
        reasoning = reasoning_of(delta)
        if reasoning is not None:
            self.reasoning.append(reasoning)
            if delta.get("reasoning"):
                self.reasoning_name = "reasoning"
            elif delta.get("reasoning_content"):
                self.reasoning_name = self.reasoning_name or "reasoning_content"
        for key, value in delta.items():
            if value is None or key == "usage" or (key in _REASONING and (reasoning or value == "")):
                continue
            content = content or (key != "role" and bool(value))
            if key == "content" and isinstance(value, str):
                self.text.append(value)
            elif key == "tool_calls":
                delta[key] = self.calls.add_all(objects(content_parts(value)))
            elif key != "role" and isinstance(value, str):
                self.pieces.setdefault((key,), []).append(value)
            elif is_object(value):
                self._add_pieces(key, value)
            elif is_array(value):
                _extend(self.message, key, value)
            else:
                self.message[key] = value
        return content or reasoning is not None

    def only_text(self, choice: JsonDict) -> tuple[str, bool, list[str]] | None:
        """See ChoiceState."""
        delta = choice.get("delta")
        if not is_object(delta) or any(value for key, value in choice.items() if key not in ("index", "delta")):
            return None
        names = [key for key, value in delta.items() if value and key != "role"]
        if len(names) != 1 or not isinstance(delta[names[0]], str):
            return None
        if names[0] == "content" and self.splitter is None:
            return names[0], True, self.text
        return (names[0], True, self.reasoning) if names[0] in _REASONING else None

    def _add_pieces(self, key: str, value: JsonDict) -> None:
        found = self.message.get(key)
        self.message[key] = found = found if is_object(found) else {}
        for name, item in value.items():
            if name in _PIECES.get(key, ()) and isinstance(item, str):
                self.pieces.setdefault((key, name), []).append(item)
            elif is_array(item):
                _extend(found, name, item)
            elif item is not None:
                found[name] = item

    def _split(self, choice: JsonDict, piece: str) -> str:
        """Split the text of a choice's delta; returns the part that is content."""
        if self.reasoning and isinstance(self.splitter, TagSplitter):
            self.splitter = StrayTagRemover()  # the server has a parser: its text is content
        if self.splitter is None:
            return piece
        reasoning, text = self.splitter.feed(piece)
        if self.splitter.done:
            self.splitter = None
        if text != piece:
            choice["delta"] = {**choice["delta"], "content": text, RAW_CONTENT: piece, **_reasoning(reasoning)}
        return text

    def _end_split(self, choice: JsonDict) -> str:
        """Add the held text to the delta of a choice's last event; returns the part that is content."""
        reasoning, text = self.splitter.flush() if self.splitter is not None else ("", "")
        self.splitter = None
        if reasoning or text:
            delta = object_or_empty(choice.get("delta"))
            before = delta.get("content") or ""
            reasoning = (delta.get("reasoning") or "") + reasoning
            choice["delta"] = {RAW_CONTENT: before, **delta, "content": before + text, **_reasoning(reasoning)}
        return text

    def as_choice(self, index: int) -> JsonDict:
        """See ChoiceState."""
        message: JsonDict = {"role": "assistant", **{key: _copied(value) for key, value in self.message.items()}}
        calls = self.calls.as_list()
        text = "".join(self.text)
        beside = calls or self.reasoning or self.pieces
        message["content"] = text if text or not beside else None
        if self.parts:
            message["content"] = [*([{"type": "text", "text": text}] if text else []), *self.parts]
        if self.reasoning_name:
            message[self.reasoning_name] = "".join(self.reasoning)
        for name in BLOCKS:
            if is_array(pieces := message.get(name)):
                from nimclient._streams.blocks import whole_blocks

                message[name] = whole_blocks(pieces)
        for path, pieces in self.pieces.items():
            part = message if len(path) == 1 else message[path[0]]
            same = len(path) == 1 and pieces.count(pieces[0]) == len(pieces) > 1  # not pieces: told again and again
            part[path[-1]] = pieces[0] if same and path != ("refusal",) else "".join(pieces)
        if calls:
            message["tool_calls"] = calls
        return {"index": index, "message": message, **self.other_fields()}


class ChatAccumulator(Accumulator[ChatCompletion]):
    """See Accumulator; for chat completions.

    The delta of a choice with `<think>` tags is replaced: text and reasoning are separated, `raw_content` is the original.
    """

    __slots__ = ()

    def _new_choice(self) -> ChatChoiceState:
        return ChatChoiceState()

    def _decode(self, answer: JsonDict, meta: ResponseMeta | None = None) -> ChatCompletion:
        return decode_chat(answer, meta)

    def answer(self) -> JsonDict | None:
        """See Accumulator."""
        answer = super().answer()
        return answer if answer is None or answer is self._whole else {**answer, "object": "chat.completion"}


def _reasoning(text: str) -> JsonDict:
    return {"reasoning": text} if text else {}


def _says(reason: Any) -> int:
    """How much a finish_reason says: an ordinary end less than tool calls, these less than "length" and any other."""
    return 0 if not reason else 1 if reason in _ENDS else 2 if reason in _CALLS else 3


def _usage_in(choice: JsonDict) -> Json:
    return choice.get("usage") or object_or_empty(choice.get("delta")).get("usage")


def _extend(data: JsonDict, name: str, items: list[Any]) -> None:
    found = data[name] = as_parts(data.get(name))
    found.extend(items)


def _copied(value: Any) -> Any:
    """A copy of a list or an object and the lists in it, which later events do not change."""
    if is_object(value):
        return {name: list(item) if is_array(item) else item for name, item in value.items()}
    return list(value) if is_array(value) else value

"""Streamed text completions: what is different about them. A program that only chats does not load this."""

from __future__ import annotations

from nimclient._base.types import JsonDict
from nimclient._base.values import ResponseMeta
from nimclient._streams.accumulate import Accumulator, ChoiceState
from nimclient._streams.reader import AnswerReader
from nimclient._streams.response import Response
from nimclient._streams.stream import AnswerStream
from nimclient.records._decode import object_or_empty
from nimclient.records.chat import as_parts
from nimclient.records.completions import Completion, CompletionChunk, decode_completion


class CompletionChoiceState(ChoiceState):
    """What was received of one choice of a text completion."""

    __slots__ = ()

    def add(self, choice: JsonDict) -> tuple[str, bool]:
        """See ChoiceState."""
        piece = choice.get("text")
        if not isinstance(piece, str):
            piece = object_or_empty(choice.get("delta")).get("content")  # the form of a chat
            piece = choice["text"] = piece if isinstance(piece, str) else ""
        self.text.append(piece)
        self.add_fields(choice, ("index", "text", "delta", "usage"))
        return piece, bool(piece or as_parts(choice.get("token_ids")))

    def only_text(self, choice: JsonDict) -> tuple[str, bool, list[str]] | None:
        """See ChoiceState."""
        others = any(value for key, value in choice.items() if key not in ("index", "text"))
        return None if others or not isinstance(choice.get("text"), str) else ("text", False, self.text)

    def as_choice(self, index: int) -> JsonDict:
        """See ChoiceState."""
        return {"index": index, "text": "".join(self.text), **self.other_fields()}


class CompletionAccumulator(Accumulator[Completion]):
    """See Accumulator; for text completions."""

    __slots__ = ()

    def _new_choice(self) -> CompletionChoiceState:
        return CompletionChoiceState()

    def _decode(self, answer: JsonDict, meta: ResponseMeta | None = None) -> Completion:
        return decode_completion(answer, meta)


class CompletionStream(AnswerStream[CompletionChunk, Completion]):
    """A streamed text completion; used like a ChatStream. `.partial` of its errors is a Completion."""


async def read_completion(response: Response, choices: int = 1) -> AnswerReader[CompletionChunk, Completion]:
    """See read_chat; for a text completion."""
    reader = AnswerReader(response, CompletionAccumulator(), CompletionChunk, choices)
    await reader.read_first()
    return reader

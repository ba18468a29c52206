"""The results of `chat.parse` and `chat.run_tools`."""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import field, frozen

from nimclient._base.types import JsonDict
from nimclient._base.values import ResponseMeta
from nimclient.records._plain import plain
from nimclient.records._record import Record
from nimclient.records.chat import ChatCompletion, Message

T = TypeVar("T")


@frozen(repr=False)
class Parsed(Record, Generic[T]):
    """A model's answer as a value: `.value` is of the requested type, `.completion` is the answer it was parsed from."""

    value: T
    completion: ChatCompletion

    @property
    def meta(self) -> ResponseMeta | None:
        """The exchange of the answer (with `retries`, the last one)."""
        return self.completion.meta

    @property
    def extra(self) -> JsonDict:
        """Unknown fields of the completion."""
        return self.completion.extra

    def to_dict(self) -> JsonDict:
        """The value and the completion as JSON."""
        return {"value": plain(self.value), "completion": self.completion.to_dict()}


def _as_messages(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple(messages)


@frozen(repr=False)
class ToolRun(Record):
    """A finished run with tools. `.completion` is the last answer, the one without tool calls.

    `.messages` is the whole conversation, from the caller's first message to that answer; it can be sent again
    unchanged. `.rounds` counts the model's answers: 1 if it called no tool.
    """

    completion: ChatCompletion
    messages: tuple[Message, ...] = field(converter=_as_messages, repr=False)
    rounds: int

    @property
    def meta(self) -> ResponseMeta | None:
        """The last exchange."""
        return self.completion.meta

    @property
    def extra(self) -> JsonDict:
        """Unknown fields of the completion."""
        return self.completion.extra

    def to_dict(self) -> JsonDict:
        """The completion, the messages and the number of rounds as JSON."""
        messages = [message.to_dict() for message in self.messages]
        return {"completion": self.completion.to_dict(), "messages": messages, "rounds": self.rounds}

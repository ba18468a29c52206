"""What `chat.parse` and `chat.run_tools` give back: a value of the wanted type, and the run of a model with its tools."""

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
    """A model's answer as a value: `.value` is of the type that was asked for, `.completion` the answer it was made of."""

    value: T
    completion: ChatCompletion

    @property
    def meta(self) -> ResponseMeta | None:
        """The exchange that brought the answer (with `retries`, the last one)."""
        return self.completion.meta

    @property
    def extra(self) -> JsonDict:
        """The fields of the completion that we do not know."""
        return self.completion.extra

    def to_dict(self) -> JsonDict:
        """The value and the completion as JSON."""
        return {"value": plain(self.value), "completion": self.completion.to_dict()}


def _as_messages(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple(messages)


@frozen(repr=False)
class ToolRun(Record):
    """A finished run with tools. `.completion` is the last answer, the one without tool calls.

    `.messages` is the whole conversation, from the caller's first message to that answer; it can be sent again as it
    is. `.rounds` counts the answers of the model: 1 where it called nothing.
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
        """The fields of the completion that we do not know."""
        return self.completion.extra

    def to_dict(self) -> JsonDict:
        """The completion, the messages and the number of rounds as JSON."""
        messages = [message.to_dict() for message in self.messages]
        return {"completion": self.completion.to_dict(), "messages": messages, "rounds": self.rounds}

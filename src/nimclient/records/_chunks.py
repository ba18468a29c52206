"""The base of chat and text completion chunks: an event whose parts are built on access."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from nimclient._base.types import JsonDict
from nimclient._base.values import ResponseMeta
from nimclient.records._decode import object_or_empty, objects, text_or_none
from nimclient.records._record import missing_attribute
from nimclient.records._templates import EventTemplate
from nimclient.records.usage import Usage, decode_usage

C = TypeVar("C", bound="AnswerChunk")


class AnswerChunk:
    """One event of a stream: its JSON object, and what it adds to the text of the choice with index 0."""

    __slots__ = ("_given", "_meta", "_piece", "_text")

    def __init__(self, event: JsonDict, text: str, meta: ResponseMeta | None = None) -> None:
        self._given: JsonDict | EventTemplate = event
        self._text = text
        self._meta = meta
        self._piece = ""

    if not TYPE_CHECKING:  # to a checker it is an unknown attribute like any other

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute(self, name)

    @property
    def text(self) -> str:
        """What the event adds to the first choice's text."""
        return self._text

    @property
    def meta(self) -> ResponseMeta | None:
        """The exchange, as known when the response headers arrived."""
        return self._meta

    @property
    def finish_reason(self) -> str | None:
        """Set on the event that ends the first choice."""
        return text_or_none(self._first_choice().get("finish_reason"))

    @property
    def usage(self) -> Usage | None:
        """Token counts, on events that carry them."""
        return decode_usage(self._event.get("usage"))

    @property
    def extra(self) -> JsonDict:
        """The event's fields other than choices and usage."""
        return {key: value for key, value in self._event.items() if key not in ("choices", "usage")}

    def to_dict(self) -> JsonDict:
        """The event as received."""
        return dict(self._event)

    @property
    def _event(self) -> JsonDict:
        if isinstance(self._given, EventTemplate):
            self._given = self._given.filled(self._piece)
        return self._given

    def _raw_choices(self) -> list[JsonDict]:
        return objects(self._event.get("choices"))

    def _first_choice(self) -> JsonDict:
        """The choice with index 0, empty if the event does not contain it."""
        return object_or_empty(next((choice for choice in self._raw_choices() if not choice.get("index")), None))

    def __eq__(self, other: object) -> bool:
        return self._event == other._event if isinstance(other, type(self)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it holds a dict: equal by value, like a dict not hashable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._event!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._event, self._text, self._meta)


def chunk_alike(kind: type[C], template: EventTemplate, text: str, meta: ResponseMeta, piece: str) -> C:
    """A chunk of the event that this piece makes of the template, built when it is asked for."""
    chunk = kind.__new__(kind)
    chunk._given = template
    chunk._text = text
    chunk._meta = meta
    chunk._piece = piece
    return chunk

"""What calls over many items return besides their results."""

from __future__ import annotations

from attrs import field, frozen

from nimclient._base.types import JsonDict
from nimclient.errors import NimError
from nimclient.records._record import Record


@frozen(repr=False)
class Failure(Record):
    """An item that failed: its position, its own id if it has one, the error, and the item's text if known."""

    index: int
    id: str | None
    error: NimError
    text: str | None = field(default=None, repr=False)

    def to_dict(self) -> JsonDict:
        """The failure as a JSON object: the error as its type and message."""
        named = {"index": self.index, "id": self.id, "type": type(self.error).__name__, "error": str(self.error)}
        return {key: value for key, value in {**named, "text": self.text}.items() if value is not None}

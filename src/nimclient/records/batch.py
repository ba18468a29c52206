"""What calls over many items yield: batches of vectors, and failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from nimclient._base.types import JsonDict
from nimclient.errors import NimError
from nimclient.records._record import Record, TopRecord
from nimclient.records.embeddings import Vectors
from nimclient.records.usage import Usage


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


@frozen(repr=False)
class EmbeddedBatch(TopRecord):
    """The vectors of some texts of a stream: `indexes[i]` is the position of `vectors[i]` in the source.

    `indexes` is a range if the positions are consecutive, else a tuple. `failures` are the texts of the batch without a
    vector. `usage` and `meta` are those of the request; for several requests usage and attempts are added up and the rest
    is that of the first one (None if every text failed).
    """

    indexes: Sequence[int]
    vectors: Vectors
    failures: tuple[Failure, ...] = ()
    usage: Usage | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def pieces(self) -> Mapping[int, int]:
        """With `long="mean"`: the positions in the source of the texts that were cut, and into how many pieces."""
        return {self.indexes[place]: count for place, count in self.vectors.pieces.items()}

    def to_dict(self) -> JsonDict:
        """The batch as a JSON object: the vectors as the `data` of a response, each with its position as `index`."""
        body = self.vectors.to_dict()
        for item, index in zip(body["data"], self.indexes, strict=True):
            item["index"] = index
        return {**body, "failures": [failure.to_dict() for failure in self.failures], **self.extra}

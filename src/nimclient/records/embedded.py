"""The batches that embed_stream yields."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from nimclient._base.types import JsonDict
from nimclient.records._record import TopRecord
from nimclient.records.batch import Failure
from nimclient.records.embeddings import Vectors
from nimclient.records.usage import Usage


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

    def to_dict(self) -> JsonDict:
        """The batch as a JSON object: the vectors as the `data` of a response, each with its position as `index`."""
        body = self.vectors.to_dict()
        for item, index in zip(body["data"], self.indexes, strict=True):
            item["index"] = index
        return {**body, "failures": [failure.to_dict() for failure in self.failures], **self.extra}

"""Points in a collection of Qdrant: the number of a row is the id of its point, the payload has its id and slice."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import Any

from nimclient._resources.bulk import JsonDict
from nimclient._resources.bulk import json as _json
from nimclient.errors import ConfigurationError, JobStoreError
from nimclient.jobs.extras import module_of_extra
from nimclient.jobs.rows import BLOCK_BYTES
from nimclient.jobs.sinks.base import SinkSlice, check_writers, next_slice, slice_key, try_thrice

_POINTS_AT_ONCE = 1000  # read, and fewer where they are large
_FIRST_POINTS = 16
_SERVER: JsonDict = {
    "timeout": 60,  # where its client allows 5 seconds
    "check_compatibility": False,  # asks in a thread, and warns where the job ends before the answer
}
_PASSING = ("ResponseHandlingException", "ResourceExhaustedResponse", 429, 502, 503, 504)
_DISTANCES = ("Cosine", "Dot", "Euclid", "Manhattan")


class QdrantSink:
    """Vectors in a collection of Qdrant: `EmbedJob(source, "qdrant://localhost:6333?collection=museum")`.

    Qdrant has no transactions: the points of a slice are stored, then its record; `open` deletes the points of a slice that
    has none. A point that is stored twice is one point.

    Args:
        collection: Its name; made by the job.
        distance: "Cosine", for which Qdrant stores vectors of length one, "Dot", "Euclid" or "Manhattan".
        **settings: What QdrantClient takes: `path="museum.qdrant"` for its local mode, or `url=`, `api_key=`, `timeout=`, ….
    """

    slice_bytes = 2 << 20  # in a request: sent as JSON, of which a server takes 32 MB

    def __init__(self, collection: str = "vectors", distance: str = "Cosine", **settings: Any) -> None:
        if distance not in _DISTANCES:
            raise ConfigurationError(f"distance is {distance!r:.40}; choose one of {', '.join(_DISTANCES)}")
        self.collection = collection
        self.distance = distance
        self._is_local = "path" in settings or settings.get("location") == ":memory:"
        self._settings = settings if self._is_local else {**_SERVER, **settings}
        self._qdrant = module_of_extra("qdrant_client", "qdrant:// needs Qdrant's client: install nimclient[qdrant]")
        self._writer = ""
        self._records: list[JsonDict] = []
        self._client: Any = None

    def __str__(self) -> str:
        return f"collection {self.collection} of {self._settings.get('path') or self._settings.get('url', 'Qdrant')}"

    @contextmanager
    def open(self, writer: str) -> Generator[None, None, None]:
        """See Sink."""
        models = self._qdrant.models
        self._writer = writer
        self._client = self._qdrant.QdrantClient(**self._settings)
        try:
            commits = f"{self.collection}_commits"
            if not self._client.collection_exists(commits):
                if self._client.collection_exists(self.collection):
                    raise JobStoreError(f"{self} was not created by a job: choose another collection")
                self._client.create_collection(commits, vectors_config={})
            found = list(self._payloads(commits))
            check_writers(self, writer, (payload["writer"] for payload in found))
            self._records = [payload["record"] for payload in found if payload["writer"] == writer]
            if self._client.collection_exists(self.collection):
                self._index()
                value = models.MatchValue(value=slice_key(writer, next_slice(self._records)))
                unfinished = models.Filter(must=[models.FieldCondition(key="slice", match=value)])
                self._client.delete(self.collection, points_selector=models.FilterSelector(filter=unfinished))
            yield
        finally:
            self._client.close()

    def _index(self) -> None:
        """Index what `open` deletes by: a server in strict mode, as Qdrant's cloud is, wants that."""
        if not self._is_local:
            self._client.create_payload_index(self.collection, "slice", field_schema="keyword")

    def payloads(self) -> Iterable[JsonDict]:
        """The payloads of all points, by the ids of the points, each with the id unless it has one of its own."""
        self._client = self._qdrant.QdrantClient(**self._settings)
        try:
            yield from self._payloads(self.collection)
        finally:
            self._client.close()

    def _payloads(self, collection: str) -> Iterable[JsonDict]:
        offset: Any = None
        limit = _FIRST_POINTS
        while True:
            points, offset = self._client.scroll(collection, limit=limit, offset=offset)
            found = [{"id": point.id, **point.payload} for point in points]
            yield from found
            if offset is None:
                return
            size = len(_json.dumps(found))
            limit = max(min(limit * BLOCK_BYTES // size, 4 * limit, _POINTS_AT_ONCE), 1)

    def write(self, slice: SinkSlice) -> None:
        """See Sink."""
        models, vectors = self._qdrant.models, slice.vectors
        if not self._client.collection_exists(self.collection):
            half = models.Datatype.FLOAT16 if vectors.dtype == "float16" else None
            size = models.VectorParams(size=vectors.dimensions, distance=models.Distance(self.distance), datatype=half)
            self._client.create_collection(self.collection, vectors_config=size)
            self._index()
        key = slice_key(self._writer, slice.number)
        numbers = vectors.tolist()
        count = max(self.slice_bytes * len(numbers) // max(len(vectors.buffer), 1), 1)
        for start in range(0, len(numbers), count):
            some = range(len(numbers))[start : start + count]
            payloads = [{"id": slice.ids[at], "slice": key} for at in some]
            ids = [slice.indexes[at] for at in some]
            self._upsert(
                self.collection, models.Batch(ids=ids, vectors=numbers[start : start + count], payloads=payloads)
            )

    def _upsert(self, collection: str, points: Any) -> None:
        """Store points; again where the answer is lost or late, or the server busy: one that is stored twice is one point."""
        try_thrice(partial(self._client.upsert, collection, points=points), _may_pass)

    def commit(self, ids: JsonDict) -> None:
        """See Sink."""
        models, commits = self._qdrant.models, f"{self.collection}_commits"
        shard, _, count = self._writer.partition("-of-")
        number = ids["number"] * int(count or 1) + int(shard or 0)
        payload = {"writer": self._writer, "record": ids}
        self._upsert(commits, [models.PointStruct(id=number, vector={}, payload=payload)])

    def committed(self) -> Iterable[JsonDict]:
        """See Sink."""
        return self._records


def _may_pass(error: Exception) -> bool:
    """Whether another try may succeed: there was no answer, or one of a busy server or of a gateway without it."""
    return type(error).__name__ in _PASSING or getattr(error, "status_code", None) in _PASSING

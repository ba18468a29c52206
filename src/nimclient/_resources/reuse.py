"""Equal texts are sent once: those of a slice, those of slices in flight or sent lately, and those that a cache holds.

`ReusingRun` is an EmbedRun that sends of each slice only what has no vector yet. A slice of new texts only
is sent as it is, which costs one set lookup per text.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import anyio
from anyio import to_thread
from attrs import define, evolve

from nimclient._api.embeddings import dtype_of
from nimclient._base import json as _json
from nimclient._base.types import is_items
from nimclient._bulk.slicing import Slice, failure_of
from nimclient._resources.base import Resource
from nimclient._resources.embed_stream import EmbedRun
from nimclient.errors import ConfigurationError, EmbeddingMismatchError
from nimclient.records._numbers import first_not_finite
from nimclient.records.batch import EmbeddedBatch, Failure
from nimclient.records.embeddings import NUMBER_BYTES, DType, Vectors
from nimclient.records.usage import Usage, total_of

if TYPE_CHECKING:
    from nimclient._bulk.vector_cache import VectorCache

Folder: TypeAlias = "str | os.PathLike[str]"

RECENT_BYTES = 16 * 2**20
"""Vectors and texts that a stream remembers."""
_NO_MATTER = frozenset({"input", "encoding_format", "embed_dtype", "user", "model"})
"""Fields of the body that do not change a vector, or are named otherwise."""


@define(eq=False)
class SentSlice:
    """Different texts in flight, or with their vectors, in the same order, once it has `ended`; without them it failed."""

    texts: list[str]
    ended: bool = False
    vectors: Vectors | None = None
    size: int = 0
    _places: dict[str, int] | None = None
    _awaited: anyio.Event | None = None

    async def wait(self) -> None:
        """Wait until it has ended."""
        if not self.ended:
            self._awaited = self._awaited or anyio.Event()
            await self._awaited.wait()

    def end(self) -> None:
        """Record that it has ended."""
        self.ended = True
        if self._awaited is not None:
            self._awaited.set()

    def take(self, text: str, rows: dict[str, bytes | memoryview], pieces: dict[str, int]) -> None:
        """Put the vector of a text, if there is one, into `rows`, and its number of pieces into `pieces`."""
        if self.vectors is None:
            return
        if self._places is None:
            self._places = {text: place for place, text in enumerate(self.texts)}
        if (place := self._places.get(text)) is not None:
            rows[text] = self.vectors[place].buffer
            if place in self.vectors.pieces:
                pieces[text] = self.vectors.pieces[place]


class RecentTexts:
    """What was sent lately, by text; the oldest slices are forgotten beyond `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.slices: dict[str, SentSlice] = {}
        self._ended: deque[SentSlice] = deque()
        self._bytes = 0

    def begin(self, texts: list[str]) -> SentSlice | None:
        """Remember that these texts are in flight; None if some are equal to each other, or to one that is known."""
        sent = SentSlice(texts)
        fresh = dict.fromkeys(texts, sent)
        if len(fresh) < len(texts) or not self.slices.keys().isdisjoint(fresh):
            return None
        self.slices.update(fresh)
        return sent

    def end(self, sent: SentSlice, indexes: Sequence[int], batch: EmbeddedBatch | None) -> None:
        """Remember the vectors of its texts, which have these indexes; None: it failed."""
        if batch is not None and len(batch) < len(sent.texts):
            have = set(batch.indexes)
            kept = [text for index, text in zip(indexes, sent.texts, strict=True) if index in have]
            self._forget(sent)
            sent.texts = kept
            self.slices.update(dict.fromkeys(kept, sent))
        if batch is None:
            self._forget(sent)
        else:
            sent.vectors = batch.vectors
            sent.size = batch.vectors.buffer.nbytes + sum(map(len, sent.texts))
            self._bytes += sent.size
            self._ended.append(sent)
            while self._bytes > self.max_bytes:
                oldest = self._ended.popleft()
                self._bytes -= oldest.size
                self._forget(oldest)
        sent.end()

    def _forget(self, sent: SentSlice) -> None:
        for text in sent.texts:
            if self.slices.get(text) is sent:
                del self.slices[text]


class ReusingRun(EmbedRun):
    """A call over many texts that sends none of them twice. `cache`: a folder; `recent_bytes`: see RecentTexts."""

    _variant: tuple[str, ...] = ()
    """What changes the vectors besides the options and the server."""

    def __init__(
        self,
        resource: Resource,
        method: str,
        *,
        cache: Folder | None = None,
        recent_bytes: int = RECENT_BYTES,
        **settings: Any,
    ) -> None:
        super().__init__(resource, method, **settings)
        self.recent = RecentTexts(recent_bytes)
        self._cache = None if cache is None else self._opened(cache)
        self._space = b""
        self._is_checked = False
        self._reuses = not is_items(self._options.get("modality"))  # one modality for each text: its place matters

    def _opened(self, folder: Folder) -> VectorCache:
        """The client's cache in this folder."""
        if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
            raise ConfigurationError(f"cache takes the path of a folder, not {folder!r:.40}")
        from nimclient._bulk.vector_cache import VectorCache

        caches, path = self._engine.core.caches, Path(folder).absolute()
        cache = caches.get(path)
        if cache is None or cache.pid != os.getpid():
            cache = caches[path] = VectorCache(path)
        return cache

    async def _vectors_of(self, piece: Slice) -> EmbeddedBatch:
        if not self._reuses:
            return await super()._vectors_of(piece)
        if self._cache is None and (sent := self.recent.begin(piece.texts)) is not None:
            return await self._send_new(piece, sent)
        return await self._vectors_of_some(piece)

    async def _send_new(self, piece: Slice, sent: SentSlice) -> EmbeddedBatch:
        """Send a slice of which every text is new, and remember its vectors."""
        try:
            batch = await super()._vectors_of(piece)
        except BaseException:
            self.recent.end(sent, piece.indexes, None)
            raise
        self.recent.end(sent, piece.indexes, batch)
        return batch

    async def _vectors_of_some(self, piece: Slice) -> EmbeddedBatch:
        """The vectors of a slice of which some texts have one, or are in flight, or repeat each other."""
        places: dict[str, int] = {}
        for index, text in zip(piece.indexes, piece.texts, strict=True):
            places.setdefault(text, index)
        pieces: dict[str, int] = {}
        rows = await self._cached([text for text in places if text not in self.recent.slices], pieces)
        cached = frozenset(rows)
        batches: list[EmbeddedBatch] = []
        failures = piece.failures
        left = [text for text in places if text not in rows]
        while left or failures:
            slices = self.recent.slices
            flying = [earlier for earlier in map(slices.get, left) if earlier is not None]
            new = [text for text in left if text not in slices]
            if new or failures:
                part = Slice([places[text] for text in new], new, failures)
                sent = self.recent.begin(new)
                assert sent is not None
                batch = await self._send_new(part, sent)
                batches.append(batch)
                texts = {places[text]: text for text in new}
                fresh = {texts[i]: vector.buffer for i, vector in zip(batch.indexes, batch.vectors, strict=True)}
                rows.update(fresh)
                pieces.update((texts[index], count) for index, count in batch.pieces.items())
                await self._keep(fresh, pieces)
                left = [text for text in left if places[text] not in texts]
                failures = ()
            for earlier in flying:
                await earlier.wait()
                for text in left:
                    earlier.take(text, rows, pieces)
            left = [text for text in left if text not in rows]  # of slices that failed: sent by this one
        whole = self._assembled(piece, places, rows, cached, batches)
        if pieces:
            texts = dict(zip(piece.indexes, piece.texts, strict=True))
            cut = {at: pieces[texts[index]] for at, index in enumerate(whole.indexes) if texts[index] in pieces}
            whole.vectors.pieces = cut
        return whole

    def _assembled(
        self,
        piece: Slice,
        places: dict[str, int],
        rows: dict[str, bytes | memoryview],
        cached: frozenset[str],
        batches: list[EmbeddedBatch],
    ) -> EmbeddedBatch:
        """The batch of the whole slice, with a vector or a failure for each of its texts."""
        errors = {failure.index: failure.error for batch in batches for failure in batch.failures}
        failures = [failure for batch in batches for failure in batch.failures]
        indexes: list[int] = []
        buffers: list[bytes | memoryview] = []
        more: list[Failure] = []
        for index, text in zip(piece.indexes, piece.texts, strict=True):
            if (row := rows.get(text)) is not None:
                indexes.append(index)
                buffers.append(row)
            elif index != places[text]:
                error = copy(errors[places[text]])
                error.index = index
                more.append(failure_of(error, index, text))
        counted = sum(len(batch) for batch in batches)
        unsent = [text for text in piece.texts if text in cached]
        self._count(len(indexes) + len(more) - counted, len(more), len(unsent), unsent)
        first = batches[0] if batches else None
        usage = total_of(batch.usage for batch in batches if len(batch))
        served = self._engine.core.served.get(self._endpoint)
        model = served if first is None else first.vectors.model or served
        vectors = self._joined_rows(buffers, usage, model, first)
        own = sorted([*failures, *more], key=lambda failure: failure.index)
        whole = first or EmbeddedBatch((), vectors)
        return evolve(whole, indexes=_range_of(indexes), vectors=vectors, failures=tuple(own), usage=usage)

    def _joined_rows(
        self, rows: list[bytes | memoryview], usage: Usage | None, model: str | None, first: EmbeddedBatch | None
    ) -> Vectors:
        dtype = dtype_of(self._options)
        if not rows:
            return Vectors(b"", 0, dtype) if first is None else first.vectors
        width = len(rows[0])
        one = Vectors(rows[0], width // NUMBER_BYTES.get(dtype, 1), dtype)
        self._first = one[:0] if self._first is None else self._first
        if any(len(row) != width for row in rows) or self._first.dimensions != one.dimensions:
            raise EmbeddingMismatchError(
                "vectors of the cache have other dimensions than those of the server: is it another model of that name? "
                "Use another cache for it"
            )
        meta = None if first is None else first.meta
        return Vectors(b"".join(rows), one.dimensions, dtype, usage=usage, model=model, meta=meta)

    # the cache ------------------------------------------------------------------------------------------------------

    async def _cached(self, texts: list[str], pieces: dict[str, int]) -> dict[str, bytes | memoryview]:
        """The vectors of texts that the cache holds; adds to `pieces` the number of pieces of those that were cut."""
        cache = self._cache
        if cache is None or not texts:
            return {}
        keys = self._keys(texts)
        found = await to_thread.run_sync(cache.find, list(keys.values()))
        self._warn_of_cache(cache)
        dtype = dtype_of(self._options)
        return {text: found[key] for text, key in keys.items() if is_vector(found.get(key), dtype)}

    async def _keep(self, rows: Mapping[str, bytes | memoryview], pieces: Mapping[str, int]) -> None:
        """Add new vectors to the cache, except those of zeros: their texts may not have been read."""
        rows = {text: row for text, row in rows.items() if any(row)}
        cache = self._cache
        if cache is None or not rows:
            return
        keys = self._keys(rows)
        if await self._is_of_one_model(cache):
            await to_thread.run_sync(cache.add, [(keys[text], bytes(row)) for text, row in rows.items()])
            self._warn_of_cache(cache)

    async def _is_of_one_model(self, cache: VectorCache) -> bool:
        """Whether the vectors of the cache are of the model that answers; else it is not used any more, and that is reported.

        A strict client raises EmbeddingMismatchError. A server may serve another model under the same name or alias.
        """
        if self._served is None or self._is_checked:
            return True
        first = await to_thread.run_sync(cache.model_of, self._space, self._served)
        self._is_checked = first == self._served
        if self._is_checked:
            return True
        problem = (
            f"the cache {cache.folder} has vectors of model {first!r}, but the server answers with {self._served!r}: they "
            "are not comparable; use another cache"
        )
        if self._engine.config.strict:
            raise EmbeddingMismatchError(problem)
        self._engine.core.warn_once(problem)
        self._cache = None
        return False

    def _keys(self, texts: Iterable[str]) -> dict[str, bytes]:
        from nimclient._bulk.vector_cache import key_of, space_of

        if not self._space:
            options, fields = self._options, self._call(["x"]).fields or {}
            sent = {name: value for name, value in fields.items() if name not in _NO_MATTER}
            same = [fields.get("model"), options.get("prefix") or "", dtype_of(options), options.get("extra_body")]
            self._space = space_of(_json.dumps([*same, *self._variant, sorted(sent.items(), key=itemgetter(0))]))
        return {text: key_of(self._space, text) for text in texts}

    def _warn_of_cache(self, cache: VectorCache) -> None:
        if cache.problem is not None:
            self._engine.core.warn_once(f"the cache {cache.folder} {cache.problem}; texts are sent without it")


def is_vector(row: object, dtype: DType) -> bool:
    """Whether a row of a cache is a vector: another program, or damage, may have put anything there."""
    whole = isinstance(row, bytes) and len(row) > 0 and not len(row) % NUMBER_BYTES.get(dtype, 1)
    return whole and first_not_finite(cast(bytes, row), dtype) is None


def _range_of(indexes: list[int]) -> Sequence[int]:
    """A range if they are consecutive."""
    if indexes and indexes[-1] - indexes[0] == len(indexes) - 1:
        return range(indexes[0], indexes[-1] + 1)
    return tuple(indexes)

"""embeddings.embed_stream for blocking code: the source and `on_progress` run in the reading thread."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator
from typing import Any, Self

from nimclient._base.types import Closing, unpicklable
from nimclient._resources.embed_stream import EmbedStream, keep_held
from nimclient._sync.many import SyncAsCompleted
from nimclient._sync.mirror import is_lazy
from nimclient._sync.portal import PORTAL
from nimclient.records.batch import EmbeddedBatch
from nimclient.records.progress import Progress


class SyncEmbedStream(Iterator[EmbeddedBatch], Closing):
    """EmbeddedBatch records of a source of texts; see EmbedStream. Use it with `with`, or read it to its end."""

    __reduce__ = unpicklable

    def __init__(self, stream: EmbedStream, source: Any) -> None:
        if isinstance(source, AsyncIterable) and not isinstance(source, Iterable):
            raise TypeError("an async iterable of texts is for AsyncClient; Client takes a plain one")
        run = self._run = stream._run
        lazy = is_lazy(source)  # a list can be cut on the loop; anything else is the caller's code
        self._results: SyncAsCompleted[EmbeddedBatch]
        if lazy:
            self._results = SyncAsCompleted(run.results, run.cut(source))
        else:
            self._results = SyncAsCompleted(lambda _: run.results(run.cut(source)), [])

    @property
    def progress(self) -> Progress:
        """The progress so far."""
        return PORTAL.run(self._progress)

    async def _progress(self) -> Progress:
        return self._run.progress()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EmbeddedBatch:
        try:
            _, batch = next(self._results)
        except StopIteration:
            raise
        except Exception as error:
            self.close()  # on_progress, which runs in this thread, may have raised
            keep_held(error, self._results._async)
            raise
        return batch

    def close(self) -> None:
        """Cancel requests in flight and wait for their end. Idempotent."""
        self._results.close()

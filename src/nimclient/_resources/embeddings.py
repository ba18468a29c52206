"""client.embeddings: one request, one query, a list of documents in one contiguous buffer, or a stream without end."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, Unpack

from attrs import evolve

from nimclient._api.embeddings import check_query, embeddings_call
from nimclient._api.options import check_texts
from nimclient._base import observers
from nimclient._base.types import NOT_GIVEN
from nimclient._resources.base import Resource
from nimclient._resources.embed_stream import EmbedRun, EmbedStream, keep, length_of, send_embedding
from nimclient._retry.faults import advise
from nimclient.errors import BadRequestError, UnprocessableEntityError
from nimclient.records._numbers import zeroed_buffer
from nimclient.records.embedded import EmbeddedBatch
from nimclient.records.embeddings import Embeddings, Vector, Vectors
from nimclient.records.params import EmbeddingOptions
from nimclient.records.progress import Progress
from nimclient.records.usage import Usage


class AsyncEmbeddings(Resource):
    """Embeddings (POST /v1/embeddings)."""

    async def create(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        input_type: str | None = NOT_GIVEN,
        truncate: str | None = NOT_GIVEN,
        dimensions: int | None = NOT_GIVEN,
        encoding_format: str | None = NOT_GIVEN,
        **options: Unpack[EmbeddingOptions],
    ) -> Embeddings:
        """Embed a list of texts in one request; nothing is split.

        `input_type`: "query" or "passage" (NIM's asymmetric models need it). `truncate`: "NONE", "START" or "END" (NIM).
        `dimensions`: for Matryoshka models. `encoding_format`: base64 unless the server refuses it.

        Raises TypeError for a str or an unknown option; ConfigurationError naming the index of a text that is empty or no
        str; EmbeddingMismatchError when the vectors do not fit the texts; TransportError or APIStatusError.
        """
        given = self._with_defaults("embedding", options)
        input_type, truncate, dimensions, encoding_format = self._chosen(
            "embedding",
            input_type=input_type,
            truncate=truncate,
            dimensions=dimensions,
            encoding_format=encoding_format,
        )
        call = embeddings_call(
            "embeddings.create",
            texts,
            self._known_model("embedding", model),
            input_type=input_type,
            truncate=truncate,
            dimensions=dimensions,
            encoding_format=encoding_format,
            options=given,
        )
        try:
            return await send_embedding(self, call, given)
        except (BadRequestError, UnprocessableEntityError) as error:
            if input_type is None and "input_type" in error.message:
                advise(error, "use embed_query for queries and embed_documents for passages, or pass input_type=")
            raise

    async def embed_query(
        self,
        text: str,
        *,
        model: str | None = None,
        truncate: str | None = NOT_GIVEN,
        dimensions: int | None = NOT_GIVEN,
        **options: Unpack[EmbeddingOptions],
    ) -> Vector:
        """Embed one text as a query (`input_type="query"`, dropped for servers that refuse it). Errors as in `create`."""
        check_query(text)
        given = self._with_defaults("embedding", options)
        truncate, dimensions, encoding_format = self._chosen(
            "embedding", truncate=truncate, dimensions=dimensions, encoding_format=NOT_GIVEN
        )
        call = embeddings_call(
            "embeddings.embed_query",
            [text],
            self._known_model("embedding", model),
            input_type="query",
            truncate=truncate,
            dimensions=dimensions,
            encoding_format=encoding_format,
            options=given,
            input_type_is_ours=True,
        )
        return (await send_embedding(self, call, given)).vectors[0]

    async def embed_documents(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        truncate: str | None = NOT_GIVEN,
        dimensions: int | None = NOT_GIVEN,
        batch_size: int | None = NOT_GIVEN,
        concurrency: int | None = NOT_GIVEN,
        on_progress: Callable[[Progress], object] | None = None,
        **options: Unpack[EmbeddingOptions],
    ) -> Vectors:
        """Embed texts as passages, in slices side by side; vectors come in the order of the texts, in one buffer.

        `batch_size`: texts a request (None: 64 texts or 256 kB, whichever comes first). `concurrency`: requests at once
        (None: finds out). A server that refuses for capacity (429, 503, 529) makes all slices wait, up to
        `RetryPolicy.patience`; that spends no attempt. A slice that is refused (400, 413, 422) is halved until the text
        at fault is found. `on_progress` is called after every slice; what it raises ends the call.

        Raises as `create` does, with `.index` the failing text and `.completed` the pairs (index of the first text,
        Vectors) that were finished by then. For a call that goes on where single texts fail see `embed_stream`.
        """
        checked = check_texts("texts", texts)
        run = EmbedRun(
            self,
            "embeddings.embed_documents",
            model=model,
            truncate=truncate,
            dimensions=dimensions,
            batch_size=batch_size,
            concurrency=concurrency,
            ordered=False,
            on_progress=on_progress,
            total=len(checked),
            options=options,
        )
        collected = Collected(len(checked))
        async with EmbedStream(run, checked) as batches:
            whole = (
                collected.observed(self._whole("embedding", model)) if observers.installed else collected.on_errors()
            )
            with whole:
                async for batch in batches:
                    collected.add(batch)
        return collected.vectors(batches.progress)

    def embed_stream(
        self,
        source: Iterable[str] | AsyncIterable[str],
        *,
        model: str | None = None,
        input_type: str | None = "passage",
        truncate: str | None = NOT_GIVEN,
        dimensions: int | None = NOT_GIVEN,
        batch_size: int | None = NOT_GIVEN,
        concurrency: int | None = NOT_GIVEN,
        ordered: bool = True,
        on_error: Literal["raise", "collect"] = "raise",
        on_progress: Callable[[Progress], object] | None = None,
        **options: Unpack[EmbeddingOptions],
    ) -> EmbedStream:
        """Embed texts of any source, also an endless one, in bounded memory; batches of vectors come as they are read.

        Each EmbeddedBatch has `.indexes` (`indexes[i]` is the position of `vectors[i]` in the source), `.vectors`,
        `.failures` and `.usage`; `ordered=False` hands them out as they are finished. At most 2 × `concurrency` slices
        (None finds out how many at once, in a window of 32 MB of vectors) are taken from the source beyond those that were
        handed out. AsyncClient advances a plain iterable on the event loop, a slice at a time, so one that blocks should be
        an async iterable; Client advances it in the thread that reads the batches. `batch_size`: texts a request (None: 64
        texts or 256 kB, whichever comes first); a server that refuses a size is sent smaller slices from then on.

        A slice that is refused (400, 413, 422) or whose vectors do not fit is halved until the text at fault is found, for
        at most 2·log2(n) more requests. `on_error="raise"` raises its error, with `.index`, after the batches before
        it; `.completed` has pairs (index of the first text, Vectors) of what was finished beyond them. "collect" puts a
        Failure for it into the `.failures` of its batch and goes on; it also halves slices that end with a 5xx, a time
        limit or a lost connection, which "raise" raises at once. A wrong model, key or option, a
        server that cannot be reached, and a refusal for capacity that outlasts `RetryPolicy.patience` end the stream in
        any case; so do three slices' worth of texts (at least 100) that fail in a row with none taken: BatchError.

        `on_progress` is called with a Progress after each slice; what it raises ends the stream and comes out as it is.

        Raises TypeError for a str or an unknown option, ConfigurationError for other bad input; an error of the source
        comes with its position as `.index`, after what was under way has been finished.
        """
        run = EmbedRun(
            self,
            "embeddings.embed_stream",
            model=model,
            input_type=input_type,
            truncate=truncate,
            dimensions=dimensions,
            batch_size=batch_size,
            concurrency=concurrency,
            ordered=ordered,
            on_error=on_error,
            on_progress=on_progress,
            total=length_of(source),
            options=options,
        )
        run.check_source(source)
        return EmbedStream(run, source)


class Collected:
    """The buffer that embed_documents fills, and what is known of the answers."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._buffer = memoryview(b"")
        self._first: EmbeddedBatch | None = None
        self._finished: list[range] = []
        self._usage = Usage()

    def add(self, batch: EmbeddedBatch) -> None:
        """Put the vectors in their place."""
        vectors = batch.vectors
        row = len(vectors.buffer) // len(vectors)
        if self._first is None:
            self._first = batch
            self._buffer = zeroed_buffer(row * self._total)
        start = batch.indexes[0]
        self._buffer[start * row : (start + len(vectors)) * row] = vectors.buffer
        self._finished.append(range(start, start + len(vectors)))
        self._usage += batch.usage or Usage()

    @contextmanager
    def on_errors(self) -> Generator[None]:
        """Put what was finished on the error that ends the call."""
        try:
            yield
        except Exception as error:
            if self._first is not None:
                whole = self._make(self._first.meta)
                keep(error, [EmbeddedBatch(span, whole[span.start : span.stop]) for span in self._finished])
            raise

    @contextmanager
    def observed(self, whole: AbstractContextManager[list[object]]) -> Generator[None]:
        """`on_errors` for a call that is observed as a whole."""
        with whole as results:
            with self.on_errors():
                yield
            assert self._first is not None
            results.append(self._make(self._first.meta))

    def vectors(self, progress: Progress) -> Vectors:
        """All of them, with the counts of the whole call."""
        assert self._first is not None
        meta = self._first.meta
        if meta is not None:
            timings = evolve(meta.timings, total=progress.seconds)
            meta = evolve(meta, attempts=progress.requests, timings=timings)
        return self._make(meta)

    def _make(self, meta: Any) -> Vectors:
        assert self._first is not None
        first = self._first.vectors
        return Vectors(self._buffer, first.dimensions, first.dtype, usage=self._usage, model=first.model, meta=meta)

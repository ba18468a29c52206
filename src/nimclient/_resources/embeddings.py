"""client.embeddings: one request, one query, a list of documents in one contiguous buffer, or a stream of texts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any, Literal, Unpack

from attrs import evolve

from nimclient._api.embeddings import LONGS, check_query, embeddings_call
from nimclient._api.options import check_texts, check_word
from nimclient._base import observers
from nimclient._base.types import NOT_GIVEN
from nimclient._base.values import ResponseMeta
from nimclient._resources.base import Resource
from nimclient._resources.embed_stream import EmbedRun, EmbedStream, keep, length_of, pairs_of, send_embedding
from nimclient._resources.reuse import ReusingRun
from nimclient._retry.faults import advise
from nimclient.errors import BadRequestError, UnprocessableEntityError
from nimclient.records._numbers import zeroed_buffer
from nimclient.records.batch import EmbeddedBatch
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

        Args:
            texts: The texts, none of them empty.
            model: None: the client's, else the first embedding model that the server lists.
            input_type: "query" or "passage" (required by NIM's asymmetric models).
            truncate: "NONE", "START" or "END" (NIM).
            dimensions: Of the vectors, for Matryoshka models.
            encoding_format: None: base64 unless the server rejects it; "bytes_only" asks vLLM for raw bytes, without usage.
            **options: See EmbeddingOptions.

        Raises TypeError for a str or an unknown option; ConfigurationError naming the index of a text that is empty or not
        a str; EmbeddingMismatchError if the vectors do not match the texts; TransportError or APIStatusError.
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
        """Embed one text as a query (`input_type="query"`, dropped for servers that reject it). Errors as in `create`."""
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
        encoding_format: str | None = NOT_GIVEN,
        batch_size: int | None = NOT_GIVEN,
        concurrency: int | None = NOT_GIVEN,
        long: Literal["mean"] | None = None,
        cache: str | os.PathLike[str] | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        **options: Unpack[EmbeddingOptions],
    ) -> Vectors:
        """Embed texts as passages, in concurrent slices; the vectors are in the order of the texts, in one buffer.

        A server that throttles (429, 503, 529) makes all slices wait, up to `RetryPolicy.patience`, without using
        attempts. A rejected slice (400, 413, 422) is halved until the text at fault is found. Equal texts are sent once.

        Args:
            texts: The texts, none of them empty.
            model: As in `create`.
            truncate: "NONE", "START" or "END" (NIM).
            dimensions: Of the vectors, for Matryoshka models.
            encoding_format: None: raw bytes from vLLM, whose answers then have no usage, and base64 from others.
            batch_size: Texts per request; None: 64 texts or 256 kB, whichever comes first.
            concurrency: Requests in flight; None: adapted to the server.
            long: "mean": a text longer than the model takes is cut by the server's tokens, and gets the mean of the vectors
                of its pieces, weighted by tokens, as in vLLM's chunked mode; `.pieces` says which. None: it is rejected.
            cache: A folder of vectors by text, model and options, created if missing; calls and processes may share it.
            on_progress: Called with a Progress after every slice; its errors end the call.
            **options: See EmbeddingOptions.

        Raises as `create` does, with the index of the failing text as `.index`, and finished pairs (index of the first
        text, Vectors) as `.completed`. For a call that continues after failures see `embed_stream`.
        """
        checked = check_texts("texts", texts)
        different, positions, repeats = checked, None, None
        if len(set(checked)) < len(checked):
            different, positions, repeats = _first_of_each(checked)
        settings: dict[str, Any] = {
            "model": model,
            "truncate": truncate,
            "dimensions": dimensions,
            "encoding_format": encoding_format,
            "batch_size": batch_size,
            "concurrency": concurrency,
            "ordered": False,
            "on_progress": on_progress,
            "total": len(checked),
            "repeats": repeats,
            "options": options,
        }
        name = "embeddings.embed_documents"
        if cache is None and long is None:
            run = EmbedRun(self, name, **settings)
        else:
            run = _reusing(long)(self, name, cache=cache, recent_bytes=0, **settings)
        collected = Collected(len(checked), None if positions is None else checked)
        with collected.observed(self._whole("embedding", model)) if observers.installed else collected.on_errors():
            await run.run(different, collected.add, positions)
        return collected.vectors(run.progress())

    def embed_stream(
        self,
        source: Iterable[str] | AsyncIterable[str],
        *,
        model: str | None = None,
        input_type: str | None = "passage",
        truncate: str | None = NOT_GIVEN,
        dimensions: int | None = NOT_GIVEN,
        encoding_format: str | None = NOT_GIVEN,
        batch_size: int | None = NOT_GIVEN,
        concurrency: int | None = NOT_GIVEN,
        ordered: bool = True,
        on_error: Literal["raise", "collect"] = "raise",
        long: Literal["mean"] | None = None,
        cache: str | os.PathLike[str] | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        **options: Unpack[EmbeddingOptions],
    ) -> EmbedStream:
        """Embed texts from any source, including an infinite one, in bounded memory; yields batches of vectors.

        Each EmbeddedBatch has `.indexes` (`indexes[i]` is the position of `vectors[i]` in the source), `.vectors`,
        `.failures` and `.usage`. At most 2 × `concurrency` slices (None: with at most 32 MB of vectors) are taken from the
        source beyond those that were yielded. AsyncClient advances a plain iterable on the event loop, a slice at a time,
        so one that blocks should be an async iterable; Client advances it in the thread that reads the batches. A text that
        is equal to one in flight or among the last 16 MB of vectors and texts is not sent again.

        Args:
            source: The texts.
            model: As in `create`.
            input_type: "passage" or "query"; None: not sent.
            truncate: "NONE", "START" or "END" (NIM).
            dimensions: Of the vectors, for Matryoshka models.
            encoding_format: None: raw bytes from vLLM, whose answers then have no usage, and base64 from others.
            batch_size: Texts per request; None: 64 texts or 256 kB, whichever comes first. A server that rejects a size is
                sent smaller slices from then on.
            concurrency: Requests in flight; None: adapted to the server.
            ordered: False yields batches as they finish.
            on_error: "raise" raises the first error; "collect" adds a Failure to its batch and continues.
            long: "mean": a text longer than the model takes is cut by the server's tokens, and gets the mean of the vectors
                of its pieces, weighted by tokens, as in vLLM's chunked mode; `.pieces` says which. None: it is rejected.
            cache: A folder of vectors by text, model and options, created if missing; calls and processes may share it.
            on_progress: Called with a Progress after each slice; its errors end the stream and are raised unchanged.
            **options: See EmbeddingOptions.

        A slice that is rejected (400, 413, 422) or whose vectors do not match is halved until the text at fault is
        found, with at most 2·log2(n) more requests. `on_error="raise"` raises its error, with `.index`, after the
        batches before it; `.completed` has pairs (index of the first text, Vectors) finished after them. "collect" adds
        a Failure to the `.failures` of its batch and continues; it also halves slices that end with a 5xx, a time limit
        or a lost connection, which "raise" raises at once. An invalid model, key or option, an unreachable server, and
        throttling that outlasts `RetryPolicy.patience` always end the stream; so do three slices' worth of texts (at
        least 100) that fail consecutively without a success: BatchError.

        Raises TypeError for a str or an unknown option, ConfigurationError for other invalid input; an error of the
        source is raised with its position as `.index`, after requests in flight have finished.
        """
        run = _reusing(long)(
            self,
            "embeddings.embed_stream",
            cache=cache,
            model=model,
            input_type=input_type,
            truncate=truncate,
            dimensions=dimensions,
            encoding_format=encoding_format,
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
    """The buffer that embed_documents fills, and data of the responses. `texts`: all of them, if some are equal."""

    def __init__(self, total: int, texts: list[str] | None = None) -> None:
        self._total = total
        self._texts = texts
        self._buffer = memoryview(b"")
        self._first: EmbeddedBatch | None = None
        self._meta: ResponseMeta | None = None  # of the first response
        self._finished: list[range] = []
        self._usage: Usage | None = Usage()
        self._pieces: dict[int, int] = {}

    def add(self, _: int, batch: EmbeddedBatch) -> None:
        """Copy the vectors to their positions."""
        vectors = batch.vectors
        row = len(vectors.buffer) // len(vectors)
        if self._first is None:
            self._first = batch
            self._buffer = zeroed_buffer(row * self._total)
        if self._meta is None:
            self._meta = batch.meta
        if isinstance(batch.indexes, range):
            start = batch.indexes[0]
            self._buffer[start * row : (start + len(vectors)) * row] = vectors.buffer
            self._finished.append(batch.indexes)
        else:
            for start, some in pairs_of(batch.indexes, vectors):
                self._buffer[start * row : (start + len(some)) * row] = some.buffer
                self._finished.append(range(start, start + len(some)))
        self._usage = None if self._usage is None or batch.usage is None else self._usage + batch.usage
        if vectors.pieces:
            self._pieces.update(batch.pieces)

    def _repeat(self, texts: list[str]) -> None:
        """Copy the vectors that are here to the positions of equal texts."""
        assert self._first is not None
        buffer, row = self._buffer, len(self._buffer) // self._total
        rows: dict[str, memoryview] = {}
        for place in chain.from_iterable(self._finished):
            rows[texts[place]] = buffer[place * row : (place + 1) * row]
        cut = {texts[place]: count for place, count in self._pieces.items()}
        missing = set(range(self._total)).difference(chain.from_iterable(self._finished))
        for place in sorted(missing):
            if (found := rows.get(texts[place])) is not None:
                buffer[place * row : (place + 1) * row] = found
                if texts[place] in cut:
                    self._pieces[place] = cut[texts[place]]
                self._finished.append(range(place, place + 1))

    @contextmanager
    def on_errors(self) -> Generator[None]:
        """Add the finished vectors to the error that ends the call."""
        try:
            yield
        except Exception as error:
            if self._first is not None:
                whole = self._make(self._meta)
                keep(error, [EmbeddedBatch(span, whole[span.start : span.stop]) for span in self._finished])
            raise

    @contextmanager
    def observed(self, whole: AbstractContextManager[list[object]]) -> Generator[None]:
        """`on_errors` for a call that is observed as a whole."""
        with whole as results:
            with self.on_errors():
                yield
            results.append(self._make(self._meta))

    def vectors(self, progress: Progress) -> Vectors:
        """All vectors, with the counts of the whole call."""
        meta = self._meta
        if meta is not None:
            timings = evolve(meta.timings, total=progress.seconds)
            meta = evolve(meta, attempts=progress.requests, timings=timings)
        return self._make(meta)

    def _make(self, meta: Any) -> Vectors:
        assert self._first is not None
        if self._texts is not None:
            self._repeat(self._texts)
            self._texts = None
        like, pieces = self._first.vectors, dict(sorted(self._pieces.items()))
        return Vectors(
            self._buffer, like.dimensions, like.dtype, usage=self._usage, model=like.model, meta=meta, pieces=pieces
        )


def _reusing(long: str | None) -> type[ReusingRun]:
    """The class of calls that send no text twice; with `long` they also cut texts that are too long."""
    if long is None:
        return ReusingRun
    check_word("long", long, LONGS)
    from nimclient._resources.long_texts import LongRun

    return LongRun


def _first_of_each(texts: list[str]) -> tuple[list[str], list[int], dict[str, int]]:
    """The different texts, their first positions, and how often each occurs beyond that."""
    counts = Counter(texts)
    firsts = dict(zip(reversed(texts), range(len(texts) - 1, -1, -1), strict=True))
    positions = sorted(firsts.values())
    return [texts[place] for place in positions], positions, {text: n - 1 for text, n in counts.items()}

"""client.embeddings: one request, one query, or as many documents as there are, in one contiguous buffer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from attrs import evolve

from nimclient._fanout import run_all
from nimclient._protocol.call import Call
from nimclient._protocol.embeddings import check_batch, check_query, embeddings_call, slices
from nimclient._protocol.options import check_texts
from nimclient._protocol.pacing import Gate
from nimclient._resources.base import Resource
from nimclient._user_code import tell
from nimclient._wire import ResponseMeta
from nimclient.errors import EmbeddingMismatchError, NimError
from nimclient.records.chat import Usage
from nimclient.records.embeddings import Embeddings, Progress, Vector, Vectors
from nimclient.records.params import EmbeddingOptions

DEFAULT_CONCURRENCY = 16


class AsyncEmbeddings(Resource):
    """Embeddings (POST /v1/embeddings)."""

    async def create(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        input_type: str | None = None,
        truncate: str | None = None,
        dimensions: int | None = None,
        encoding_format: str | None = None,
        **options: Unpack[EmbeddingOptions],
    ) -> Embeddings:
        """Embed a list of texts in one request; nothing is split.

        `input_type`: "query" or "passage" (NIM's asymmetric models need it). `truncate`: "NONE", "START" or "END" (NIM).
        `dimensions`: for Matryoshka models. `encoding_format`: base64 unless the server refuses it.

        Raises TypeError for a str or an unknown option; ConfigurationError naming the index of a text that is empty or no
        str; EmbeddingMismatchError when the vectors do not fit the texts; TransportError or APIStatusError.
        """

        def build(name: str | None) -> Call[Embeddings]:
            return embeddings_call(
                "embeddings.create",
                texts,
                name,
                input_type=input_type,
                truncate=truncate,
                dimensions=dimensions,
                encoding_format=encoding_format,
                options=options,
            )

        return await self._send("embedding", model, build, options)

    async def embed_query(
        self,
        text: str,
        *,
        model: str | None = None,
        truncate: str | None = None,
        dimensions: int | None = None,
        **options: Unpack[EmbeddingOptions],
    ) -> Vector:
        """Embed one text as a query (`input_type="query"`, dropped for servers that refuse it). Errors as in `create`."""
        check_query(text)

        def build(name: str | None) -> Call[Embeddings]:
            return embeddings_call(
                "embeddings.embed_query",
                [text],
                name,
                input_type="query",
                truncate=truncate,
                dimensions=dimensions,
                encoding_format=None,
                options=options,
                input_type_is_ours=True,
            )

        return (await self._send("embedding", model, build, options)).vectors[0]

    async def embed_documents(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        truncate: str | None = None,
        dimensions: int | None = None,
        batch_size: int | None = None,
        concurrency: int | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        **options: Unpack[EmbeddingOptions],
    ) -> Vectors:
        """Embed texts as passages, in slices side by side; vectors come in the order of the texts, in one buffer.

        `batch_size`: texts a request (None: 64 texts or 256 kB, whichever comes first). `concurrency`: requests at once
        (None: 16). A server that refuses for capacity (429, 503, 529) makes all slices wait, up to
        `RetryPolicy.patience`; that spends no attempt. `on_progress` is called after every slice.

        Raises as `create` does, with `.index` the first text of the failing slice and `.completed` the pairs (index of
        the first text, Vectors) that were finished by then.
        """
        check_batch(batch_size, concurrency)
        checked = check_texts("texts", texts)
        job = _Job(self, checked, list(slices(checked, batch_size)), on_progress)

        def build(span: range, name: str | None) -> Call[Embeddings]:
            return embeddings_call(
                "embeddings.embed_documents",
                checked[span.start : span.stop],
                name,
                input_type="passage",
                truncate=truncate,
                dimensions=dimensions,
                encoding_format=None,
                options=options,
                input_type_is_ours=True,
            )

        gate = Gate(self._engine.config.retry)

        async def embed(span: range) -> Embeddings:
            try:
                return await self._with_model(
                    "embedding",
                    model,
                    lambda name: build(span, name),
                    lambda call: self._engine.send(call, options, gate),
                    options,
                )
            except NimError as error:
                error.index = span.start
                raise

        if self._known_model("embedding", model) is None:  # find the default once, not once per slice
            build(job.spans[0], None)
            await self._ensure_default("embedding", options)
        try:
            await run_all(job.spans, embed, concurrency or DEFAULT_CONCURRENCY, job.done)
        except NimError as error:
            error.completed = job.finished()
            raise
        return job.vectors()


class _Job:
    """What has come back of a call over many slices: the buffer that is filled, and the counts."""

    def __init__(
        self,
        resource: AsyncEmbeddings,
        texts: list[str],
        spans: list[range],
        on_progress: Callable[[Progress], object] | None,
    ) -> None:
        self.spans = spans
        self._total = len(texts)
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._buffer = bytearray()
        self._first: Embeddings | None = None
        self._finished: dict[int, range] = {}
        self._usage = Usage()
        self._requests = 0
        self._texts = 0

    def done(self, position: int, answer: Embeddings) -> None:
        """Put the slice's vectors in their place. Raises EmbeddingMismatchError when they differ from the others'."""
        span = self.spans[position]
        vectors = answer.vectors
        row = len(vectors.buffer) // len(vectors)
        if self._first is None:
            self._first = answer
            self._buffer = bytearray(row * self._total)
        first = self._first.vectors
        if vectors.dimensions != first.dimensions:
            error = EmbeddingMismatchError(
                f"the vectors from text {span.start} on have {vectors.dimensions} dimensions, others {first.dimensions}"
            )
            error.index = span.start
            raise error
        self._buffer[span.start * row : span.stop * row] = vectors.buffer
        self._finished[position] = span
        self._texts += len(span)
        self._requests += answer.meta.attempts if answer.meta else 1
        self._usage += answer.usage or Usage()
        if self._on_progress is not None:
            seconds = time.monotonic() - self._started
            tell(
                self._on_progress,
                Progress(self._texts, self._total, self._requests, self._usage.prompt_tokens, seconds),
            )

    def vectors(self) -> Vectors:
        """All of them."""
        return self._make(self._buffer)

    def finished(self) -> tuple[tuple[int, Vectors], ...]:
        """(index of the first text, vectors) of the slices that were finished."""
        whole = self._make(self._buffer) if self._first is not None else None
        return tuple((s.start, whole[s.start : s.stop]) for _, s in sorted(self._finished.items()) if whole is not None)

    def _make(self, buffer: bytearray) -> Vectors:
        assert self._first is not None
        first = self._first
        return Vectors(
            buffer,
            first.vectors.dimensions,
            first.vectors.dtype,
            usage=self._usage,
            model=first.model,
            meta=self._meta(first.meta),
        )

    def _meta(self, first: ResponseMeta | None) -> Any:
        if first is None:
            return None
        total = time.monotonic() - self._started
        return evolve(first, attempts=self._requests, timings=evolve(first.timings, total=total))

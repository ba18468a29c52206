"""embeddings.embed_stream: texts from any source → slices → concurrent requests → batches of vectors, in bounded memory.

`EmbedRun` is the state of a call over many texts: it builds and sends slices, finds the text at fault in a rejected one,
and counts. `EmbedStream` is its public face; the blocking client has its own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence, Sized
from copy import copy
from functools import partial
from operator import attrgetter
from typing import Any, Self, TypeAlias, cast

from nimclient._api.call import RAW_BYTES, Call
from nimclient._api.embeddings import check_batch, embeddings_call, ignored_options, with_texts
from nimclient._api.options import check_text, check_word
from nimclient._api.server_types import IGNORES_NIM_FIELDS
from nimclient._base.callbacks import run_callback
from nimclient._base.types import AsyncClosing, is_items, unpicklable
from nimclient._bulk.gate import Gate
from nimclient._bulk.progress import Tally
from nimclient._bulk.slicing import (
    BODY_BYTES,
    SLICE_BYTES,
    SLICE_TEXTS,
    Bisection,
    Sizes,
    Slice,
    Slicer,
    failure_of,
    weight_of,
)
from nimclient._bulk.workers import AsCompleted, Source, located, run_all
from nimclient._nvcf.media import GATEWAY_LIMIT
from nimclient._resources.base import Resource
from nimclient._retry.classify import FailureScope, max_texts, scope_of
from nimclient.errors import BatchError, ConfigurationError, EmbeddingMismatchError, NimError
from nimclient.records.batch import EmbeddedBatch, Failure
from nimclient.records.embeddings import Embeddings, Vectors, joined_embeddings
from nimclient.records.progress import Progress

WINDOW_BYTES = 32 * 2**20  # vectors in flight or waiting to be read
WINDOW_SLICES = 64  # slices in flight allowed without a given concurrency, however large their vectors are
FATAL_SLICES = 3  # texts of so many consecutive slices fail without a success: the texts are not the cause
FATAL_TEXTS = 100  # but never fewer than these
_WEIGHT: Callable[[Slice], int] = attrgetter("weight")
_ZEROS = (
    "the server sent vectors of zeros (Vectors.zeros lists them): no search finds them; "
    "it may not have read those texts"
)

Answer: TypeAlias = tuple[range, Embeddings]
"""The positions in a slice, and their vectors."""


async def send_embedding(
    resource: Resource, call: Call[Embeddings], options: Mapping[str, Any], gate: Gate | None = None
) -> Embeddings:
    """Send a call, after finding the default model if needed; warn of ignored options."""
    if call.model is None:
        call = call.with_model(await resource._default_model("embedding", options))
    engine = resource._engine
    dialects = engine.core.dialects
    changes = dialects.changes
    if engine.server_type_for(call.model) in IGNORES_NIM_FIELDS:
        _warn_of_ignored(resource, call, options)
    answer = await resource._send(call, options, gate)
    if dialects.changes != changes and engine.server_type_for(call.model) in IGNORES_NIM_FIELDS:  # now it is known
        _warn_of_ignored(resource, call, options)
    if answer.vectors.zeros:
        engine.core.warn_once(_ZEROS)
    return answer


def _warn_of_ignored(resource: Resource, call: Call[Embeddings], options: Mapping[str, Any]) -> None:
    server = resource._engine.server_type_for(call.model)
    for option, instead in ignored_options(call, options.get("prefix"), server):
        resource._warn_ignored(option, instead)


class EmbedRun:
    """A call over many texts: its validated options and its state."""

    def __init__(
        self,
        resource: Resource,
        method: str,
        *,
        model: str | None = None,
        input_type: str | None = "passage",
        truncate: str | None = None,
        dimensions: int | None = None,
        batch_size: int | None = None,
        concurrency: int | None = None,
        ordered: bool = True,
        on_error: str = "raise",
        encoding_format: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        total: int | None,
        repeats: Mapping[str, int] | None = None,
        options: Mapping[str, Any],
    ) -> None:
        truncate, dimensions, encoding_format, batch_size, concurrency = resource._chosen(
            "embedding",
            truncate=truncate,
            dimensions=dimensions,
            encoding_format=encoding_format,
            batch_size=batch_size,
            concurrency=concurrency,
        )
        check_batch(batch_size, concurrency)
        self._strict = on_error == "raise"
        if not self._strict:
            check_word("on_error", on_error, ("raise", "collect"))
        self._resource = resource
        self._engine = resource._engine
        self._method = method
        self._model = model
        self._input_type = input_type
        self._truncate = truncate
        self._asked = dimensions
        self._encoding_format = encoding_format
        self._options = resource._with_defaults("embedding", options)
        self._ordered = ordered
        self._on_progress = on_progress
        self._batch_size = batch_size
        self._known = resource._known_model("embedding", model)
        self._dialects = self._engine.core.dialects
        self._form = self._call_like(self._known)  # invalid options must raise before anything is sent
        self._fields = frozenset(self._form.fields or ()) - {"input"}
        self._endpoint = (self._engine.url_of(self._form), self._known)
        self._sizes = self._engine.core.sizes.setdefault(self._endpoint, Sizes())
        self._gate = self._engine.gate("embedding", concurrency, work=lambda answer: len(answer.vectors))
        self._first: Vectors | None = None
        self._served: str | None = None  # the model named in the first response
        self._concurrency = concurrency
        self._bytes = 0  # vectors of the largest batch
        self._fatal = 0  # texts that failed since the last success
        self._repeats = repeats  # how often texts that are sent once occur beyond that
        self.tally = Tally(total)

    # the source -----------------------------------------------------------------------------------------------------

    def check_source(self, source: object) -> None:
        """TypeError unless it is an iterable; with "raise" a list is validated at once."""
        if not isinstance(source, AsyncIterable) and not is_items(source):
            kind = type(source).__name__
            raise TypeError(f"{self._method} takes a list of texts, or another iterable of them, not {kind}")
        if self._strict and isinstance(source, (list, tuple)):
            texts = cast(Sequence[object], source)
            if texts and not (set(map(type, texts)) == {str} and all(texts)):
                for index, text in enumerate(texts):
                    try:
                        check_text(f"texts[{index}]", text)
                    except ConfigurationError as error:
                        raise located(error, index) from None

    def cut(self, source: Iterable[Any], positions: Sequence[int] | None = None) -> Iterator[Slice]:
        """The slices of a plain iterable. Items before an error of the source are yielded before it is raised."""
        slicer = self._slicer(positions)
        failure: Exception | None = None
        try:
            if isinstance(source, (list, tuple)):
                yield from slicer.cut_list(cast(Sequence[Any], source))
            else:
                for item in source:
                    if (full := slicer.add(item)) is not None:
                        yield full
        except Exception as error:  # noqa: BLE001  # raised below
            failure = located(error, slicer.taken)
        if (rest := slicer.rest()) is not None:
            yield rest
        if failure is not None:
            raise failure

    def slices(self, source: Source[Any]) -> Source[Slice]:
        """The slices of any source."""
        return _AsyncCut(source, self._slicer()) if isinstance(source, AsyncIterable) else self.cut(source)

    def _slicer(self, positions: Sequence[int] | None = None) -> Slicer:
        return Slicer(
            self._batch_size or SLICE_TEXTS,
            SLICE_BYTES if self._batch_size is None else BODY_BYTES,
            self._sizes,
            largest=GATEWAY_LIMIT if self._engine.is_platform() else None,
            strict=self._strict,
            positions=positions,
        )

    # the work -------------------------------------------------------------------------------------------------------

    def results(self, slices: Source[Slice]) -> AsCompleted[EmbeddedBatch]:
        """The batches of these slices."""
        width, ordered = self._gate.width, self._ordered
        return AsCompleted(slices, self._embed, width, self._prepare, ordered=ordered, room=self._room, weigh=_WEIGHT)

    async def run(
        self, texts: list[str], done: Callable[[int, EmbeddedBatch], None], positions: Sequence[int] | None
    ) -> None:
        """Embed all texts; `done` is called with each batch as it finishes. `positions`: see Slicer."""
        await self._prepare()
        await run_all(self.cut(texts, positions), partial(self._embed, 0), self._gate.width, done, _WEIGHT)

    def _room(self) -> int:
        """Maximum slices in flight or waiting to be read: twice the limit, as far as memory allows.

        A concurrency given by the caller is never reduced.
        """
        width = self._gate.width()
        minimum = min(width, WINDOW_SLICES) if self._concurrency is None else width
        return min(2 * width, max(WINDOW_BYTES // max(self._bytes, 1), minimum))

    def progress(self) -> Progress:
        """The progress so far."""
        pacer = self._gate.pacer
        self.tally.in_flight = pacer.in_flight
        return self.tally.progress(time.monotonic(), pacer.limit, pacer.throttles)

    async def _prepare(self) -> None:
        self.tally.start(time.monotonic())
        if self._known is None and self.tally.total != 0:  # find the default model once, not per slice
            await self._resource._default_model("embedding", self._options)

    async def _embed(self, _: int, piece: Slice) -> EmbeddedBatch:
        batch = await self._vectors_of(piece)
        self._bytes = max(self._bytes, len(batch.vectors.buffer))
        if self._on_progress is not None:
            try:
                run_callback(self._on_progress, self.progress())
            except Exception as error:
                keep(error, [batch])
                raise
        return batch

    async def _vectors_of(self, piece: Slice) -> EmbeddedBatch:
        """The vectors of a slice, in one request, or in several if it is rejected. See Bisection."""
        plan = Bisection.of(len(piece.texts), self._sizes.texts)
        answers: list[Answer] = []
        failures = list(piece.failures)
        rejection: NimError | None = None
        while (part := plan.part) is not None:
            try:
                answer = await self._send(piece.texts[part.start : part.stop])
            except NimError as error:
                scope = scope_of(error, self._fields)
                if scope is FailureScope.CALL or (self._strict and scope is FailureScope.UNCLEAR):
                    _tell(error, piece, part.start, answers)
                    raise
                rejection = rejection or error
                for span in plan.rejected(scope, max_texts(error, len(part))):
                    failures += self._failed(error, piece, span, answers)
            else:
                plan.accepted()
                self._fatal = 0
                if rejection is None:
                    self._sizes.accepted(len(part))
                answers.append((part, answer))
                self._note_model(answer, piece, answers)
        if rejection is not None and len(failures) == len(piece.failures):
            largest = max((span for span, _ in answers), key=len)
            self._sizes.learn(rejection, plan.largest, weight_of(piece.texts[largest.start : largest.stop]))
        self.tally.finished(len(piece.indexes) + len(piece.failures), len(failures))
        if self._repeats is not None:
            self._count(0, 0, 0, piece.texts)
        return self._batch(piece, answers, failures)

    def _count(self, items: int, failed: int, cached: int, texts: list[str]) -> None:
        """Count texts that were not sent: these items, and what repeats one of `texts`."""
        repeated = 0 if self._repeats is None else sum(map(self._repeats.__getitem__, texts))
        tally = self.tally
        tally.finished(items + repeated, failed)
        tally.cached += cached
        tally.repeated += items - cached + repeated

    async def _send(self, texts: Sequence[str | list[int]]) -> Embeddings:
        tally = self.tally
        try:
            answer = await send_embedding(self._resource, self._call(texts), self._options, self._gate)
        except NimError as error:
            tally.sent(getattr(error, "attempts", 0 if isinstance(error, ConfigurationError) else 1))
            raise
        meta, usage = answer.meta, answer.usage
        assert meta is not None
        tally.answered(meta.attempts, None if usage is None else usage.prompt_tokens, meta.timings.total or 0.0)
        return answer

    def _call(self, texts: Sequence[str | list[int]]) -> Call[Embeddings]:
        """The call for a slice: everything but the texts is checked and kept, until more is known of the server."""
        name = self._resource._known_model("embedding", self._model)
        if name != self._form.model or self._changes != self._dialects.changes:
            self._form = self._call_like(name)
        return with_texts(self._form, texts, self._options.get("prefix"))

    def _call_like(self, name: str | None) -> Call[Embeddings]:
        engine = self._engine
        self._changes = self._dialects.changes
        raw = (self._changes > 0 or engine.config.dialect is not None) and engine.dialect_for(name) == "vllm"
        call = embeddings_call(
            self._method,
            ["x"],
            name,
            input_type=self._input_type,
            truncate=self._truncate,
            dimensions=self._asked,
            encoding_format=self._encoding_format,
            options=self._options,
            input_type_is_ours=self._input_type == "passage",
            raw=raw,
            check=self._check,
        )
        if raw and not engine.core.takes_raw(engine.url_of(call), name):
            return call.without(frozenset((RAW_BYTES,)))
        return call

    def _check(self, answer: Embeddings) -> None:
        """EmbeddingMismatchError for vectors with other dimensions than the first ones."""
        if self._first is None:
            self._first = answer.vectors[:0]
        elif answer.vectors.dimensions != self._first.dimensions:
            mine, first = answer.vectors.dimensions, self._first.dimensions
            raise EmbeddingMismatchError(f"vectors of {mine} dimensions, but the first ones have {first}")

    def _note_model(self, answer: Embeddings, piece: Slice, answers: list[Answer]) -> None:
        """Warn once if another model produced these vectors than the first ones: they are not comparable.

        A strict client raises EmbeddingMismatchError instead. It happens if a server changes its model, or if
        replicas serve different ones.
        """
        served = self._engine.core.served
        if not answer.model and self._form.decode_raw is not None:
            answer.vectors.model = served.get(self._endpoint, self._form.model)
        if not answer.model or answer.model == self._served:
            return
        if self._served is None:
            self._served = served[self._endpoint] = answer.model
            return
        problem = (
            f"vectors of model {answer.model!r}, but the first ones are of {self._served!r}: they are not comparable"
        )
        if self._engine.config.strict:
            error = EmbeddingMismatchError(problem)
            _tell(error, piece, answers[-1][0].start, answers[:-1])
            raise error
        self._engine.core.warn_once(problem)

    def _failed(self, error: NimError, piece: Slice, span: range, answers: list[Answer]) -> list[Failure]:
        if self._strict:
            _tell(error, piece, span.start, answers)
            raise error
        failures: list[Failure] = []
        for place in span:
            own = error if len(span) == 1 else copy(error)
            own.index = piece.indexes[place]
            failures.append(failure_of(own, own.index, piece.texts[place]))
        self._fatal += len(span)
        if self._fatal >= max(FATAL_SLICES * (self._batch_size or SLICE_TEXTS), FATAL_TEXTS):
            problem = f"{self._fatal} consecutive texts failed without a success; the last error: {error}"
            stop = BatchError(problem, failures=failures)
            _tell(stop, piece, span.start, answers)
            raise stop from error
        return failures

    def _batch(self, piece: Slice, answers: list[Answer], failures: list[Failure]) -> EmbeddedBatch:
        failures.sort(key=lambda failure: failure.index)
        if len(answers) == 1 and not failures:
            answer = answers[0][1]
            return EmbeddedBatch(
                piece.indexes, answer.vectors, usage=answer.usage, extra=answer.extra, meta=answer.meta
            )
        answers.sort(key=lambda pair: pair[0].start)
        spans = [piece.indexes[span.start : span.stop] for span, _ in answers]
        if not answers:
            empty = Vectors(b"", 0) if self._first is None else Vectors(b"", self._first.dimensions, self._first.dtype)
            return EmbeddedBatch((), empty, tuple(failures))
        whole = joined_embeddings([answer for _, answer in answers])
        return EmbeddedBatch(
            _joined(spans), whole.vectors, tuple(failures), whole.usage, extra=whole.extra, meta=whole.meta
        )


class _AsyncCut(AsyncIterator[Slice]):
    """The slices of an async iterable; see EmbedRun.cut."""

    def __init__(self, source: AsyncIterable[Any], slicer: Slicer) -> None:
        self._items = aiter(source)
        self._slicer = slicer
        self._end: Exception | None = None

    async def __anext__(self) -> Slice:
        while self._end is None:
            try:
                full = self._slicer.add(await anext(self._items))
            except Exception as error:  # noqa: BLE001  # raised below
                ended = isinstance(error, StopAsyncIteration)
                self._end = error if ended else located(error, self._slicer.taken)
                full = self._slicer.rest()
            if full is not None:
                return full
        raise self._end


class EmbedStream(AsyncIterator[EmbeddedBatch], AsyncClosing):
    """The EmbeddedBatch records of `embeddings.embed_stream`.

    Use it as ``async with client.embeddings.embed_stream(...) as batches: async for batch in batches``: leaving the block,
    or `aclose()`, cancels requests in flight and waits for their end. It closes itself at its end, on an error and on
    cancellation; one that is dropped before its end warns (ResourceWarning) and ends its requests.
    """

    __reduce__ = unpicklable

    def __init__(self, run: EmbedRun, source: Source[str]) -> None:
        self._run = run
        self._results = run.results(run.slices(source))

    @property
    def progress(self) -> Progress:
        """The progress so far."""
        return self._run.progress()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EmbeddedBatch:
        try:
            _, batch = await anext(self._results)
        except Exception as error:
            keep_held(error, self._results)
            raise
        return batch

    def take_ready(self) -> list[EmbeddedBatch]:
        """The batches that are ready, without waiting."""
        batches: list[EmbeddedBatch] = []
        while self._results.is_ready:
            batches.append(self._results.take()[1])
        return batches

    async def aclose(self) -> None:
        """Cancel requests in flight and wait for their end. Idempotent, from any task of the loop."""
        await self._results.aclose()


def length_of(source: object) -> int | None:
    """The number of items of a source, if it is known."""
    return len(source) if isinstance(source, Sized) else None


def keep_held(error: Exception, results: AsCompleted[EmbeddedBatch]) -> None:
    """Add batches that finished but were waiting for an earlier one to the error."""
    keep(error, [batch for _, batch in results.held()])


def keep(error: BaseException, batches: Iterable[EmbeddedBatch]) -> None:
    """Add the vectors of batches to the `.completed` of an error, pairs (first index, Vectors) in the order of the texts."""
    pairs = [pair for batch in batches for pair in pairs_of(batch.indexes, batch.vectors)]
    if pairs:
        known = getattr(error, "completed", ())
        error.__dict__["completed"] = tuple(sorted((*known, *pairs), key=lambda pair: pair[0]))


def pairs_of(indexes: Sequence[int], vectors: Vectors) -> Iterator[tuple[int, Vectors]]:
    """(first index, vectors) of each run of consecutive positions."""
    start = 0
    for place in range(1, len(indexes) + 1):
        if place == len(indexes) or indexes[place] != indexes[place - 1] + 1:
            yield indexes[start], vectors[start:place]
            start = place


def _joined(spans: Sequence[Sequence[int]]) -> Sequence[int]:
    """All positions of these spans, which are in order: a range if they are consecutive."""
    first, last = spans[0][0], spans[-1][-1]
    contiguous = last - first + 1 == sum(map(len, spans))
    return range(first, last + 1) if contiguous else tuple(index for span in spans for index in span)


def _tell(error: NimError, piece: Slice, place: int, answers: list[Answer]) -> None:
    """Set the position of the failing text and the finished part of its slice on the error."""
    error.index = piece.indexes[place]
    done = [p for span, a in answers for p in pairs_of(piece.indexes[span.start : span.stop], a.vectors)]
    error.completed = tuple(sorted(done, key=lambda pair: pair[0]))

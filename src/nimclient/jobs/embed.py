"""EmbedJob: embeds a source of texts into a folder of vectors, and resumes an interrupted run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, Unpack, cast

import anyio
from anyio import to_thread
from attrs import asdict, evolve

from nimclient import AsyncClient, Client
from nimclient._resources.bulk import (
    EMBED_DTYPES,
    EMBEDDING_OPTIONS,
    ENCODING_FORMATS,
    INPUT_TYPES,
    LONGS,
    SLICE_TEXTS,
    TRUNCATES,
    BulkClient,
    JsonDict,
    check_batch,
    check_names,
    check_whole,
    check_word,
)
from nimclient.errors import ConfigurationError, JobError, JobMismatchError
from nimclient.jobs.checkpoint import DoneSpan, FailedRow
from nimclient.jobs.feeding import TextFeed
from nimclient.jobs.parquet import arrow
from nimclient.jobs.parts import FORMATS, FloatType, Format
from nimclient.jobs.report import JobReport, status_of
from nimclient.jobs.rows import FieldNames, check_field_name
from nimclient.jobs.running import OnProgress, SerialWorker, patient, run_blocking
from nimclient.jobs.shards import ShardOf, checked_shard
from nimclient.jobs.sink_store import SinkStore
from nimclient.jobs.sinks.base import Sink
from nimclient.jobs.sinks.urls import sink_of
from nimclient.jobs.sources import Content, RowSource, Source, content_of
from nimclient.jobs.store import VERSION, Store
from nimclient.records.batch import EmbeddedBatch
from nimclient.records.params import EmbeddingOptions
from nimclient.records.progress import Progress

RECENT_BYTES = 64 * 2**20
"""How many bytes of vectors and texts are remembered, so as not to send equal texts again; with a cache all of the run."""
_NO_MATTER = frozenset({"timeout", "extra_headers"})  # options that do not change the vectors


class EmbedJob:
    """Embeds every row of a source into a folder, durably: run it again after an interruption to resume it.

    An argument that is None, or an option that is left out, is the client's default (`defaults={"embedding": …}`).
    Between runs `encoding_format`, `batch_size`, `concurrency`, `timeout` and `extra_headers` may change, nothing else. Blank
    lines are skipped.

    Args:
        source: A .jsonl, .csv, .tsv, .parquet or .txt file (one text per line), all but Parquet also .gz or .zst; the URL of
            such a file in an object store, or of a table ("s3://bucket/docs.jsonl.gz", "sqlite:///docs.db?table=docs"); "-"
            for standard input; or an iterable of texts, of pairs (id, text), or of mappings. Text is UTF-8, with or without
            a byte-order mark.
        output: The folder, created if missing; or a Sink, or the URL of one ("s3://bucket/vectors", "sqlite:///vectors.db").
        model: The embedding model; None: the client's, else the first that the server lists.
        text: The field of a record that holds the text.
        id: The field that holds the id; None: a row's id is its number, counted from 0.
        format: The format of the parts in a folder: "parquet" (needs nimclient[arrow]), "npy" or "jsonl".
        input_type: "passage" or "query", for models that distinguish them; None: not sent.
        truncate: "NONE", "START" or "END": what the server does with texts that are too long; None: not sent.
        dimensions: Shorter vectors, for models that support it.
        encoding_format: None: raw bytes from vLLM, whose answers then have no usage (`report.tokens` is None), and base64
            from others.
        long: "mean": a text longer than the model takes is cut, and gets the mean of the vectors of its pieces, as in
            `embeddings.embed_documents`; long.jsonl lists such rows. None: they fail.
        shard: (i, n): only the rows i, i + n, i + 2n, … of the source. n jobs, one for each i, may write into one folder
            at the same time; `merge_shards` merges their manifests.
        cache: A folder of vectors by text, model and options, created if missing; jobs, calls and processes may share it.
            What it holds is not sent.
        batch_size: Texts per request; None: 64, or 256 kB.
        concurrency: Requests in flight; None: adapted to the server.
        **options: As in `embeddings.embed_documents`.

    Raises:
        ConfigurationError: For invalid arguments, before anything is sent.
        TypeError: For an invalid source and unknown options.
    """

    def __init__(
        self,
        source: Source,
        output: str | os.PathLike[str] | Sink,
        *,
        model: str | None = None,
        text: str = "text",
        id: str | None = None,
        format: Format = "parquet",
        input_type: str | None = "passage",
        truncate: str | None = None,
        dimensions: int | None = None,
        encoding_format: str | None = None,
        long: Literal["mean"] | None = None,
        shard: ShardOf = None,
        cache: str | os.PathLike[str] | None = None,
        batch_size: int | None = None,
        concurrency: int | None = None,
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        check_field_name("text", text)
        if id is not None:
            check_field_name("id", id)
        self.output = _checked_output(output)
        if format not in FORMATS:
            raise ConfigurationError(f"format is {format!r}; choose one of {', '.join(FORMATS)}")
        is_folder = isinstance(self.output, Path)
        if not is_folder and format != "parquet":
            raise ConfigurationError("format is for folders only: a store has its own format")
        check_word("input_type", input_type, INPUT_TYPES)
        check_word("truncate", truncate, TRUNCATES)
        check_word("encoding_format", encoding_format, ENCODING_FORMATS)
        check_word("long", long, LONGS)
        check_word("embed_dtype", options.get("embed_dtype"), EMBED_DTYPES)
        check_whole("dimensions", dimensions, 1)
        check_batch(batch_size, concurrency)
        check_names("EmbedJob", options, EMBEDDING_OPTIONS)
        _check_float(options)
        self.shard = checked_shard(shard)
        self._rows = RowSource(source, FieldNames(text, id), self.shard)
        if (is_folder and format == "parquet") or self._rows.is_parquet:
            arrow()
        self.model = model
        self.format: Format = format
        self.input_type = input_type
        self.truncate = truncate
        self.dimensions = dimensions
        self.encoding_format = encoding_format
        self.long = long
        self.cache = cache
        self.batch_size = batch_size
        self.concurrency = concurrency
        self._options = options
        self.text = text
        self.id = id

    async def run(self, client: AsyncClient, on_progress: OnProgress | None = None) -> JobReport:
        """Embed the rows that are not done; returns when every row has a vector or a failure.

        Rows that failed in an earlier run for a transient reason are tried again. `on_progress` is called
        with a Progress after each slice is on disk.

        Finished rows are always kept. Raises what stops the whole job: AuthenticationError, ModelNotFoundError and other
        errors that affect every request; the throttling or outage that outlasted `RetryPolicy.patience` (None:
        900 s); JobMismatchError for another input, model or parameters; JobStoreError for errors of the disk and a
        folder in use; errors of an iterable unchanged, with `.index`. Cancellation is never wrapped.
        """
        return await _EmbedRun(self, patient(client), on_progress).run()

    def run_sync(self, client: Client, on_progress: OnProgress | None = None) -> JobReport:
        """`run` for blocking code: the source is advanced in the calling thread; Ctrl-C keeps finished rows."""
        return run_blocking(self.run, client, on_progress)

    def _identity(self, model: str, content: Content | None, defaults: Mapping[str, Any]) -> JsonDict:
        """What identifies the job. `defaults` are those of the client."""
        named = {
            "input_type": self.input_type,
            "truncate": defaults.get("truncate") if self.truncate is None else self.truncate,
            "dimensions": defaults.get("dimensions") if self.dimensions is None else self.dimensions,
            **({} if self.long is None else {"long": self.long}),
        }
        given = {**{name: value for name, value in defaults.items() if name in EMBEDDING_OPTIONS}, **self._options}
        options = {name: value for name, value in given.items() if value is not None and name not in _NO_MATTER}
        if options.get("embed_dtype") == "float32":
            del options["embed_dtype"]
        return {
            "version": VERSION,
            "input": None if content is None else {"digest": content.digest},
            "model": model,
            "parameters": {"text": self.text, "id": self.id, "format": self.format, **named, **options},
            **({"shard": [self.shard.index, self.shard.count]} if self.shard.count > 1 else {}),
        }


def _checked_output(output: object) -> Path | Sink:
    """The folder or the sink of an output; ConfigurationError for anything else."""
    if (sink := sink_of(output)) is not None:
        return sink
    path = os.fspath(cast("os.PathLike[str]", output)) if isinstance(output, (str, os.PathLike)) else ""
    if not path:
        raise ConfigurationError(
            "output takes the path of a folder, the URL of a store, or a Sink (see nimclient.jobs.Sink)"
        )
    return Path(path)


def _check_float(options: Mapping[str, Any]) -> None:
    if options.get("embedding_type") not in (None, "float"):
        raise ConfigurationError("a job stores float vectors: embedding_type must be float")


class _EmbedRun:
    """One run of a job."""

    def __init__(self, job: EmbedJob, client: AsyncClient, on_progress: OnProgress | None) -> None:
        self._job = job
        self._client = client
        self._bulk = BulkClient(client._engine)
        self._defaults = self._bulk.defaults_of("embedding")
        options: dict[str, Any] = {**self._defaults, **job._options}
        _check_float(options)
        self._on_progress = on_progress
        self._worker = SerialWorker()
        dtype: FloatType = options.get("embed_dtype") or "float32"
        self._store: Store | SinkStore
        if isinstance(job.output, Path):
            self._store = Store(job.output, job.format, shard=job.shard, dtype=dtype)
        else:
            self._store = SinkStore(job.output, shard=job.shard, dtype=dtype)
        self._resumed = 0
        self._earlier: list[str] = []  # models of the vectors of earlier runs
        self._total: int | None = None
        self._sent = Progress(0, None, 0, 0, 0.0)
        self._started = anyio.current_time()

    async def run(self) -> JobReport:
        worker, store = self._worker, self._store
        try:
            facts = await worker.do(store.open)
            model = await self._begin(facts)
            if self._job._rows.path is None or not store.is_complete:
                await self._embed(model)
            await worker.do(store.finish)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await worker.do(store.stop)
            raise
        finally:
            await worker.close(store.close)
        return JobReport(
            status=status_of(store.succeeded, store.failed),
            total=store.succeeded + store.failed,
            succeeded=store.succeeded,
            failed=store.failed,
            resumed=self._resumed,
            requests=self._sent.requests,
            tokens=self._sent.tokens,
            seconds=anyio.current_time() - self._started,
            failures_path=store.failures_path if store.failed else None,
            failures=store.failures if isinstance(store, SinkStore) else (),
            cached=self._sent.cached,
            repeated=self._sent.repeated,
            long=store.long,
            long_rows=tuple(store.long_rows) if isinstance(store, SinkStore) else (),
        )

    async def _begin(self, facts: JsonDict) -> str:
        """Check that it is the same job, and what is done; returns the model."""
        job = self._job
        model = await self._bulk.model_of("embedding", job.model)
        content: Content | None = None
        if (path := job._rows.path) is not None:
            content = await to_thread.run_sync(content_of, path, facts.get("content"), abandon_on_cancel=True)
        await self._worker.do(self._store.begin, job._identity(model, content, self._defaults))
        if content is not None:
            await self._worker.do(self._store.learn, {"content": asdict(content)})
            self._total = None if content.rows is None else job.shard.share(content.rows)
        self._resumed = self._store.succeeded + self._store.failed
        self._earlier = self._store.served_models
        return model

    async def _embed(self, model: str) -> None:
        job = self._job
        is_watched = job._rows.path is None
        feed = TextFeed(aiter(job._rows), self._done_after, self._lose, watched=is_watched, shard=job.shard)
        named: dict[str, Any] = {
            "truncate": job.truncate,
            "dimensions": job.dimensions,
            "encoding_format": job.encoding_format,
            "long": job.long,
            "cache": job.cache,
            "batch_size": job.batch_size,
            "concurrency": job.concurrency,
        }
        stream = self._client.embeddings.embed_stream(
            feed,
            model=model,
            ordered=False,
            on_error="collect",
            input_type=job.input_type,
            **{name: value for name, value in named.items() if value is not None},
            **job._options,
        )
        self._bulk.remember(stream, RECENT_BYTES)
        async with aclosing(feed), stream:
            feed.allow(self._window(stream.progress))
            try:
                async for batch in stream:
                    self._sent = stream.progress
                    feed.allow(self._window(self._sent))
                    await self._keep(feed, [batch, *stream.take_ready()])
                    self._report_progress()
            except JobError:
                raise
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._keep(feed, stream.take_ready())
                    if feed.is_misnamed:
                        await self._worker.do(self._store.disown)
                raise
        self._sent = stream.progress
        await self._lose(feed.without_text())
        self._total = feed.count
        await self._worker.do(self._store.learn, {"total": feed.count})
        self._report_progress()

    async def _keep(self, feed: TextFeed, batches: list[EmbeddedBatch]) -> None:
        """Write results to disk. Results that cannot be written are on the error, as pairs (row, vector)."""
        finished = [feed.finished(batch) for batch in batches]
        spans = [span for spans, _ in finished for span in spans]
        lost = [row for _, rows in finished for row in rows]
        long = [row for batch in batches for row in feed.cut(batch)]
        dimensions = next((batch.vectors.dimensions for batch in batches if len(batch)), None)
        served = self._checked_models(batches)
        try:
            with anyio.CancelScope(shield=True):  # results are written before cancellation takes effect
                await self._worker.do(self._store.keep, spans, lost, dimensions, served, long)
        except JobError as error:
            rows = [row for span in spans for row in span.rows]
            vectors = [vector for batch in batches for vector in batch.vectors]
            error.completed = error.completed or tuple(zip(rows, vectors, strict=True))
            raise
        for batch in batches:
            feed.landed(batch)

    def _checked_models(self, batches: list[EmbeddedBatch]) -> list[str]:
        """The models that produced these vectors, as named by the server.

        A model other than in earlier runs causes one warning, and a JobMismatchError for a strict client. Within a run the
        embed stream checks that.
        """
        served = list(dict.fromkeys(batch.vectors.model for batch in batches if batch.vectors.model))
        other = [name for name in served if name not in self._earlier] if self._earlier else []
        if other:
            problem = (
                f"vectors of the model {other[0]!r}, where those that {self._job.output} holds are of "
                f"{', '.join(map(repr, self._earlier))}: they are not comparable"
            )
            if self._bulk.is_strict:
                raise JobMismatchError(problem)
            self._bulk.warn_once(problem)
        return served

    def _window(self, progress: Progress) -> int:
        """The number of texts that may be in flight."""
        batch_size = self._job.batch_size or self._defaults.get("batch_size") or SLICE_TEXTS
        return (progress.limit or 1) * batch_size

    async def _done_after(self, row: int) -> list[DoneSpan]:
        return await self._worker.do(self._store.done_after, row)

    async def _lose(self, lost: list[FailedRow]) -> None:
        await self._worker.do(self._store.keep, (), lost, None)

    def _report_progress(self) -> None:
        """Call `on_progress` with the progress: only rows on disk count."""
        if self._on_progress is not None:
            store = self._store
            progress = evolve(
                self._sent,
                done=store.succeeded + store.failed,
                failed=store.failed,
                resumed=self._resumed,
                total=self._total,
                seconds=anyio.current_time() - self._started,
            )
            self._on_progress(progress)

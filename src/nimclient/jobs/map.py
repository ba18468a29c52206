"""MapJob: asks a model about every row of a source, appends the answers to a file, and resumes an interrupted run."""

from __future__ import annotations

import os
from typing import Any, Unpack

from anyio import to_thread

from nimclient import AsyncClient, Client
from nimclient._resources.bulk import (
    CHAT_OPTIONS,
    check_names,
    check_no_format,
    check_whole,
    json_schema_of,
    stops_everything,
)
from nimclient.errors import (
    BatchError,
    ConfigurationError,
    DecodeError,
    GoneError,
    JobMismatchError,
    NimError,
    NotFoundError,
)
from nimclient.jobs.answers import FINAL_STATUSES, AnswerFiles, checked_output
from nimclient.jobs.line_run import JobRequests, LineRun
from nimclient.jobs.map_rows import MAP_LINES, RowRequest, RowTemplate, prompt_of, row_failure, row_line
from nimclient.jobs.report import JobReport
from nimclient.jobs.rows import Row, TemplateFields, check_field_name, named
from nimclient.jobs.running import OnProgress, patient, run_blocking
from nimclient.jobs.shards import ShardOf, checked_shard, with_shard
from nimclient.jobs.sources import FileRows, RowSource, Source, content_of
from nimclient.prompts import ChatPrompt
from nimclient.records.chat import ChatCompletion
from nimclient.records.params import ChatOptions

_MAX_LACKING = 100  # consecutive first rows without a named field: the name is wrong
_MAX_REJECTED = 100  # first requests that the server rejects: it is not the rows


class MapJob:
    """Asks about every row of a source and appends each answer to a file: run it again after an interruption to resume it.

    An answer is a line {"index", "id", "text", "finish_reason", "model", "usage", "digest"}, in the order in which they
    finish; `index` is the number of the row. With `schema` there is "value", the decoded JSON, in place of "text". An answer
    that the token limit cut off has the finish_reason "length"; with `schema` it is a failure. Failures go to
    `<output>.errors.jsonl` (answers.errors.jsonl for answers.jsonl); the row of a failure may be corrected, and the job
    run again. Between runs rows may be added at the end, and `concurrency`, `timeout` and `extra_headers` may change.

    Args:
        template: The user's message with the row's fields as {names}, literal braces doubled; or a ChatPrompt. Values other
            than texts and numbers are inserted as JSON. A row that lacks a field, or has null there, is a failure.
        source: As for EmbedJob: a file, "-" for standard input, or an iterable. A row that is a text is the field {text}.
        output: The file of the answers.
        model: The chat model; None: the client's, else the first that the server lists.
        system: The system message, a template too.
        id: The field that holds the id; None: a row's id is its number, counted from 0.
        schema: A JSON Schema, or a type as in `chat.parse`: every answer is JSON of that form.
        retries: How often an answer that does not fit the schema is sent back to the model with the error.
        shard: (i, n): only the rows i, i + n, i + 2n, … of the source, with the answers in a separate file
            (answers-00000-of-00008.jsonl for answers.jsonl).
        concurrency: Requests in flight; None: adapted to the server.
        **options: As in `chat.create`.

    Raises:
        ConfigurationError: For invalid arguments, before anything is sent.
        TypeError: For an invalid source and unknown options.
    """

    def __init__(
        self,
        template: str | ChatPrompt,
        source: Source,
        output: str | os.PathLike[str],
        *,
        model: str | None = None,
        system: str | None = None,
        id: str | None = None,
        schema: Any = None,
        retries: int = 0,
        shard: ShardOf = None,
        concurrency: int | None = None,
        **options: Unpack[ChatOptions],
    ) -> None:
        self.prompt = prompt_of(template, system)
        if id is not None:
            check_field_name("id", id)
        self.shard = checked_shard(shard)
        self._rows = RowSource(source, TemplateFields(self.prompt.variables, id), self.shard)
        self.output = with_shard(checked_output(output, self._rows.path), self.shard)
        check_names("MapJob", options, CHAT_OPTIONS)
        if options.get("n") not in (None, 1):
            raise ConfigurationError("n: a row has one answer")
        self.schema = None
        if schema is not None:
            check_no_format(options)
            self.schema = json_schema_of(schema)
        self.model = model
        self.id = id
        self.retries = check_whole("retries", retries, 0) or 0
        self.concurrency = check_whole("concurrency", concurrency, 1)
        self._options = options

    async def run(self, client: AsyncClient, on_progress: OnProgress | None = None) -> JobReport:
        """Ask about the rows without an answer; returns when every row has an answer or a failure.

        Rows that failed in an earlier run for a transient reason, or whose answer did not fit the schema, are asked
        about again. `on_progress` is called with a Progress after each answer is on disk.

        Finished answers are always kept. Raises what stops the whole job: AuthenticationError, ModelNotFoundError; the
        throttling or outage that outlasted `RetryPolicy.patience` (None: 900 s); BatchError if the server rejects the
        first hundred requests; JobMismatchError if there is an answer to a row, template, model or options that have
        changed; ConfigurationError if no row has a field that the template names; JobStoreError; errors of an
        iterable unchanged, with `.index`.
        """
        return await _MapRun(self, patient(client), on_progress).run()

    def run_sync(self, client: Client, on_progress: OnProgress | None = None) -> JobReport:
        """`run` for blocking code: the source is advanced in the calling thread; Ctrl-C keeps finished answers."""
        return run_blocking(self.run, client, on_progress)


class _MapRun(LineRun[RowRequest]):
    """One run of a job."""

    def __init__(self, job: MapJob, client: AsyncClient, on_progress: OnProgress | None) -> None:
        super().__init__(AnswerFiles(job.output, MAP_LINES), client, job.concurrency, _tokens, on_progress)
        self._job = job
        self._options = self._bulk.chat_options(job._options)
        self._model = ""
        self._succeeded = self._rejected = 0

    async def _begin(self) -> JobRequests[RowRequest]:
        job = self._job
        self._model = await self._bulk.model_of("chat", job.model)
        if (path := job._rows.path) is not None:
            content = await to_thread.run_sync(content_of, path, abandon_on_cancel=True)
            self._tally.total = None if content.rows is None else job.shard.share(content.rows)
        await self._worker.do(self._files.begin, None)
        return _RowRequests(self, RowTemplate(job.prompt, self._model, self._options, job.schema))

    async def _answer(self, request: RowRequest) -> bytes:
        if request.problem is not None:
            raise request.problem
        job, bulk = self._job, self._bulk
        try:
            with self._sending():
                if job.schema is None:
                    completion = await bulk.ask(request.messages, self._model, self._options, self._gate)
                    if not completion.choices:
                        raise DecodeError("the answer has no choice", path="choices", status=200)
                    output = {"text": completion.text}
                else:
                    parsed = await bulk.ask_json(
                        request.messages, job.schema, job.retries, self._model, job._options, self._gate
                    )
                    completion, output = parsed.completion, {"value": parsed.value}
        except NimError as error:
            if getattr(error, "status", None) in FINAL_STATUSES:
                self._note_rejection(error)
            raise
        self._succeeded += 1
        self._files.truncated += completion.finish_reason == "length"
        if completion.meta is not None:
            tokens = None if completion.usage is None else completion.usage.total_tokens
            self._tally.answered(completion.meta.attempts, tokens, completion.meta.timings.total or 0.0)
        return row_line(request, completion, output)

    def _note_rejection(self, error: NimError) -> None:
        """Raise BatchError if the server has rejected the first requests, all of them."""
        self._rejected += 1
        if not self._succeeded and self._rejected >= _MAX_REJECTED:
            problem = f"the server rejected all of the first {self._rejected} requests; the last error: {error}"
            raise BatchError(problem) from error

    def _stops(self, error: NimError) -> bool:
        return stops_everything(error) or isinstance(error, (NotFoundError, GoneError, BatchError))

    def _failure(self, request: RowRequest, error: NimError) -> bytes:
        return row_failure(request, error)

    def is_done(self, request: RowRequest) -> bool:
        """Whether a row has an answer, or a failure that another attempt would repeat."""
        files, tally = self._files, self._tally
        known = files.answered.get(request.key)
        if known is not None and known != request.id:
            raise JobMismatchError(
                f"row {request.index} is not what {files.path} has an answer to: the source, the template, the model or an "
                f"option has changed; run the job as it was, or choose another output"
            )
        if known is None and (failed := files.failed.get(request.key)) is not None:
            if failed == request.id:
                return True
            files.forget(request.key)
            tally.done, tally.resumed, tally.failed = tally.done - 1, tally.resumed - 1, tally.failed - 1
        return known is not None

    def check_end(self, count: int) -> None:
        """The source has ended after so many rows of this shard: there may be no answer to a later one."""
        files = self._files
        self._tally.total = count
        rows = self._job.shard.number(count)
        if late := [key for key in files.answered if int(key) >= rows]:
            raise JobMismatchError(
                f"the source has changed: it ends after {rows} rows, and {files.path} has an answer to row {late[0]}; use "
                f"the same source, or choose another output"
            )
        for key in [key for key in files.failed if int(key) >= rows]:
            files.forget(key)


class _RowRequests(JobRequests[RowRequest]):
    """The requests of the rows that are not done, in the order of the source."""

    def __init__(self, run: _MapRun, template: RowTemplate) -> None:
        self._run = run
        self._template = template
        self._rows = aiter(run._job._rows)
        self._count = 0
        self._lacking: Row | None = None
        self._has_the_fields = False

    async def __anext__(self) -> RowRequest:
        while True:
            try:
                row = self._template.with_fields(await anext(self._rows))
            except StopAsyncIteration:
                self._check_fields(self._count)
                self._run.check_end(self._count)
                raise
            request = self._template.request(self._run._job.shard.number(self._count), row)
            self._count += 1
            self._has_the_fields = self._has_the_fields or request.problem is None
            if row.lacks is not None and not self._has_the_fields:
                self._lacking = self._lacking or row
                self._check_fields(_MAX_LACKING)
            if not self._run.is_done(request):
                return request

    def close(self) -> None:
        """Close the source, if it is a file."""
        if isinstance(self._rows, FileRows):
            self._rows.close()

    def _check_fields(self, rows: int) -> None:
        """Raise ConfigurationError if none of the first rows has the named fields."""
        row = self._lacking
        if row is not None and not self._has_the_fields and self._count >= rows:
            where = "" if row.line is None else f" (line {row.line})"
            what = "id=" if row.lacks == "id" else "the template"
            raise ConfigurationError(f"{row.problem}; the first row{where} has {named(row.has)}: name those in {what}")


def _tokens(completion: ChatCompletion) -> float:
    """The work of an answer: a long one takes longer without the server being at its limit."""
    return float(max(completion.usage.completion_tokens, 1)) if completion.usage else 1.0

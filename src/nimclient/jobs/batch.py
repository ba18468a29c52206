"""BatchJob: a file of requests in OpenAI's batch format, run against a live server, and resumed by custom_id."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from copy import copy
from itertools import islice
from pathlib import Path

import anyio
from anyio import to_thread

from nimclient import AsyncClient, Client
from nimclient._resources.bulk import BulkClient, Tally, check_whole, object_or_empty, run_all, stops_everything
from nimclient.errors import (
    ConfigurationError,
    GoneError,
    JobStoreError,
    NimError,
    NotFoundError,
)
from nimclient.jobs.answers import AnswerFiles, answer_line, failure_line, failures_path_of
from nimclient.jobs.report import JobReport, status_of
from nimclient.jobs.requests import Answered, Request, check_requests, unanswered
from nimclient.jobs.running import OnProgress, SerialWorker, patient, run_blocking

_REQUESTS_AT_ONCE = 16  # read ahead


class BatchJob:
    """Sends every line of a batch file and appends its result to another: run it again to send the missing ones.

    Answers are lines {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}, in the order in which
    they finish; failures go to `<output>.errors.jsonl` (answers.errors.jsonl for answers.jsonl). The request of a
    failure may be corrected or removed, and the job run again.

    Args:
        source: JSON lines {"custom_id", "method": "POST", "url", "body"}, also as .gz or .zst. Urls are /v1/chat/completions,
            /v1/completions, /v1/embeddings, /v1/ranking and /v1/rerank, mixed. Bodies are sent unchanged.
        output: The file of the answers.
        model: The model of bodies that do not name one; None: the client's, else the first of its kind that the server lists.
        concurrency: Requests in flight; None: adapted to the server.

    Raises:
        ConfigurationError: For invalid arguments, before anything is sent.
        TypeError: For anything but a path.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        model: str | None = None,
        concurrency: int | None = None,
    ) -> None:
        for name, value in (("source", source), ("output", output)):
            if not isinstance(value, (str, os.PathLike)):
                raise TypeError(f"{name} takes the path of a file, not {type(value).__name__}")
            if not os.fspath(value):
                raise ConfigurationError(f"{name} takes the path of a file")
        self.source = Path(source)
        self.output = Path(output)
        if not self.source.is_file():
            problem = "is no file" if self.source.exists() else "does not exist"
            raise ConfigurationError(f"source {self.source} {problem}")
        if self.output.exists() and self.output.samefile(self.source):
            raise ConfigurationError(f"output {self.output} is the source")
        failures = failures_path_of(self.output)
        if failures.exists() and failures.samefile(self.source):
            raise ConfigurationError(
                f"source {self.source} is where the failures of output {self.output} go: choose another output"
            )
        self.model = model
        self.concurrency = check_whole("concurrency", concurrency, 1)

    async def run(self, client: AsyncClient, on_progress: OnProgress | None = None) -> JobReport:
        """Send the requests without an answer; returns when every request has an answer or a failure.

        The whole file is validated before anything is sent. Requests that failed in an earlier run for a transient
        reason are sent again. A model or route that the server does not have is requested once, not once
        per request. `on_progress` is called with a Progress after each answer is on disk.

        Raises ConfigurationError for lines without a custom_id and for those that repeat one; AuthenticationError; the
        throttling or outage that outlasted `RetryPolicy.patience` (None: 900 s); JobMismatchError if there is
        an answer to another request with the same custom_id; JobStoreError. Finished answers are always kept.
        """
        return await _BatchRun(self, patient(client), on_progress).run()

    def run_sync(self, client: Client, on_progress: OnProgress | None = None) -> JobReport:
        """`run` for blocking code. Ctrl-C keeps finished answers."""
        return run_blocking(self.run, client, on_progress)


class _BatchRun:
    """One run of a job."""

    def __init__(self, job: BatchJob, client: AsyncClient, on_progress: OnProgress | None) -> None:
        self._job = job
        self._bulk = BulkClient(client._engine)
        self._gate = self._bulk.gate(job.concurrency, _tokens)
        self._on_progress = on_progress
        self._worker = SerialWorker()
        self._answers = AnswerFiles(job.output)
        self._missing: dict[tuple[str, str | None], NimError] = {}
        self._tally = Tally(None)
        self._started = anyio.current_time()

    async def run(self) -> JobReport:
        job, worker, answers, tally = self._job, self._worker, self._answers, self._tally
        try:
            await worker.do(answers.open)
            current = await worker.do(check_requests, job.source, job.model, answers.answered)
            tally.total = len(current)
            await worker.do(answers.begin, current)
            done = ChainMap(answers.answered, answers.failed)
            tally.resumed = tally.done = len(answers.answered) + len(answers.failed)
            tally.failed = len(answers.failed)
            tally.start(self._started)
            requests = _Requests(unanswered(job.source, job.model, done))
            await run_all(requests, self._work, self._gate.width, self._tell)
            await worker.do(answers.finish)
        except BaseException:
            with anyio.CancelScope(shield=True), suppress(JobStoreError):  # raise what ended the run
                await worker.do(answers.finish)
            raise
        finally:
            answers.close()
        succeeded, failed = len(answers.answered), len(answers.failed)
        return JobReport(
            status=status_of(succeeded, failed),
            total=succeeded + failed,
            succeeded=succeeded,
            failed=failed,
            resumed=tally.resumed,
            requests=tally.requests,
            tokens=tally.tokens,
            seconds=anyio.current_time() - self._started,
            failures_path=answers.failures_path if failed else None,
        )

    async def _work(self, request: Request) -> None:
        """Answer one request. Its result is written before cancellation takes effect."""
        try:
            if request.problem is not None:
                raise request.problem
            answer = await self._send(request)
        except NimError as error:
            if stops_everything(error):
                raise
            write, line, failed = self._answers.fail, failure_line(request, error), 1
        else:
            write, line, failed = self._answers.answer, answer_line(request, answer), 0
        with anyio.CancelScope(shield=True):
            await self._worker.do(write, request, line)
        self._tally.finished(1, failed)

    async def _send(self, request: Request) -> Answered:
        assert request.route is not None
        place = (request.route.path, request.model)
        if (known := self._missing.get(place)) is not None:
            raise copy(known)
        tally = self._tally
        tally.in_flight += 1
        try:
            model = await self._bulk.model_of(request.route.kind, request.model or self._job.model)
            defaults = self._bulk.fields_of_defaults(request.route.kind, request.model or model)
            answer = await self._bulk.send(request.call(model, defaults), self._gate)
        except NimError as error:
            tally.sent(getattr(error, "attempts", 1))
            if isinstance(error, (NotFoundError, GoneError)):
                self._missing[place] = error
            raise
        finally:
            tally.in_flight -= 1
        tally.answered(answer.meta.attempts, _usage(answer, "total_tokens"), answer.meta.timings.total or 0.0)
        return answer

    def _tell(self, _: int, __: None) -> None:
        if self._on_progress is not None:
            pacer = self._gate.pacer
            self._on_progress(self._tally.progress(anyio.current_time(), pacer.limit, pacer.throttles))


def _usage(answer: Answered, name: str) -> int:
    """A token count of the server; 0 without one."""
    count = object_or_empty(object_or_empty(answer.body).get("usage")).get(name)
    return count if isinstance(count, int) else 0


def _tokens(answer: Answered) -> float:
    """The work of an answer: a long one takes longer without the server being at its limit."""
    return max(_usage(answer, "completion_tokens"), 1)


class _Requests(AsyncIterator[Request]):
    """The requests, read in blocks in a worker thread."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._all = requests
        self._block: Iterator[Request] = iter(())

    async def __anext__(self) -> Request:
        for request in self._block:
            return request
        block = await to_thread.run_sync(lambda: list(islice(self._all, _REQUESTS_AT_ONCE)))
        if not block:
            raise StopAsyncIteration
        self._block = iter(block)
        return next(self._block)

"""BatchJob: a file of requests in OpenAI's batch format, run against a live server, and resumed by custom_id."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Iterator
from copy import copy

from anyio import to_thread

from nimclient import AsyncClient, Client
from nimclient._resources.bulk import check_whole, object_or_empty
from nimclient.errors import ConfigurationError, GoneError, NimError, NotFoundError
from nimclient.jobs.answers import (
    BATCH_LINES,
    AnswerFiles,
    answer_line,
    checked_output,
    checked_path,
    failure_line,
)
from nimclient.jobs.line_run import JobRequests, LineRun
from nimclient.jobs.report import JobReport
from nimclient.jobs.requests import Answered, Request, check_requests, unanswered
from nimclient.jobs.rows import block_of
from nimclient.jobs.running import OnProgress, patient, run_blocking

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
        self.source = checked_path("source", source)
        if not self.source.is_file():
            problem = "is not a file" if self.source.exists() else "does not exist"
            raise ConfigurationError(f"source {self.source} {problem}")
        self.output = checked_output(output, self.source)
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


class _BatchRun(LineRun[Request]):
    """One run of a job."""

    route = "batch"

    def __init__(self, job: BatchJob, client: AsyncClient, on_progress: OnProgress | None) -> None:
        files = AnswerFiles(job.output, BATCH_LINES)
        super().__init__(files, client, job.concurrency, _tokens, on_progress)
        self._job = job
        self._missing: dict[tuple[str, str | None], NimError] = {}

    async def _begin(self) -> JobRequests[Request]:
        job, files = self._job, self._files
        current = await self._worker.do(check_requests, job.source, job.model, files.answered)
        self._tally.total = len(current)
        await self._worker.do(files.begin, current)
        done = ChainMap(files.answered, files.failed)
        return _Requests(unanswered(job.source, job.model, done))

    async def _answer(self, request: Request) -> bytes:
        if request.problem is not None:
            raise request.problem
        assert request.route is not None
        place = (request.route.path, request.model)
        if (known := self._missing.get(place)) is not None:
            raise copy(known)
        kind = request.route.kind
        try:
            with self._sending():
                model = await self._bulk.model_of(kind, request.model or self._job.model)
                defaults = self._bulk.fields_of_defaults(kind, request.model or model)
                answer = await self._bulk.send(request.call(model, defaults), self._gate)
        except (NotFoundError, GoneError) as error:
            self._missing[place] = error
            raise
        self._tally.answered(answer.meta.attempts, _usage(answer, "total_tokens"), answer.meta.timings.total or 0.0)
        return answer_line(request, answer)

    def _failure(self, request: Request, error: NimError) -> bytes:
        return failure_line(request, error)


def _usage(answer: Answered, name: str) -> int:
    """A token count of the server; 0 without one."""
    count = object_or_empty(object_or_empty(answer.body).get("usage")).get(name)
    return count if isinstance(count, int) else 0


def _tokens(answer: Answered) -> float:
    """The work of an answer: a long one takes longer without the server being at its limit."""
    return max(_usage(answer, "completion_tokens"), 1)


class _Requests(JobRequests[Request]):
    """The requests, read in blocks in a worker thread."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._all = requests
        self._block: Iterator[Request] = iter(())

    async def __anext__(self) -> Request:
        for request in self._block:
            return request
        block = await to_thread.run_sync(block_of, self._all, _REQUESTS_AT_ONCE)
        if not block:
            raise StopAsyncIteration
        self._block = iter(block)
        return next(self._block)

    def close(self) -> None:
        """Close the file."""
        self._all = iter(())

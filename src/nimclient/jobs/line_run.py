"""One run of a job that appends a line for each request: BatchJob and MapJob."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar, Generic, TypeVar

import anyio

from nimclient import AsyncClient
from nimclient._resources.bulk import BulkClient, Tally, run_all, stops_everything
from nimclient.errors import JobStoreError, NimError
from nimclient.jobs.answers import AnswerFiles, Keyed
from nimclient.jobs.report import JobReport, status_of
from nimclient.jobs.running import OnProgress, SerialWorker

Q = TypeVar("Q", bound=Keyed)


class JobRequests(AsyncIterator[Q]):
    """The requests of a job, read as they are needed."""

    @abstractmethod
    def close(self) -> None:
        """Close the source."""


class LineRun(ABC, Generic[Q]):
    """Answers every request that has no line yet. Subclasses say which requests there are, and how one is answered.

    `work`: the amount of work of a result, for the window; `route`: of its requests, for what is learned of the server.
    """

    route: ClassVar[str] = "chat"

    def __init__(
        self,
        files: AnswerFiles,
        client: AsyncClient,
        concurrency: int | None,
        work: Callable[[Any], float],
        on_progress: OnProgress | None,
    ) -> None:
        self._files = files
        self._bulk = BulkClient(client._engine)
        self._gate = self._bulk.gate(self.route, concurrency, work)
        self._on_progress = on_progress
        self._worker = SerialWorker()
        self._writing = anyio.Lock(fast_acquire=True)
        self._unwritten: list[Callable[[], None]] = []
        self._tally = Tally(None)
        self._started = anyio.current_time()

    @abstractmethod
    async def _begin(self) -> JobRequests[Q]:
        """Compare the requests with the lines that there are; returns those to send."""

    @abstractmethod
    async def _answer(self, request: Q) -> bytes:
        """Send one request; returns the line of its answer."""

    @abstractmethod
    def _failure(self, request: Q, error: NimError) -> bytes:
        """The line of a failure."""

    def _stops(self, error: NimError) -> bool:
        """Whether an error ends the job."""
        return stops_everything(error)

    async def run(self) -> JobReport:
        """Run to the end. What is finished is kept in any case."""
        worker, files, tally = self._worker, self._files, self._tally
        try:
            await worker.do(files.open)
            requests = await self._begin()
            tally.resumed = tally.done = len(files.answered) + len(files.failed)
            tally.failed = len(files.failed)
            tally.start(self._started)
            try:
                await run_all(requests, self._work, self._gate.width, self._tell, attrgetter("weight"))
            finally:
                requests.close()
            await worker.do(files.finish)
        except BaseException:
            with anyio.CancelScope(shield=True), suppress(JobStoreError):  # raise what ended the run
                await worker.do(files.finish)
            raise
        finally:
            await worker.close(files.close)
        succeeded, failed = len(files.answered), len(files.failed)
        return JobReport(
            status=status_of(succeeded, failed),
            total=succeeded + failed,
            succeeded=succeeded,
            failed=failed,
            resumed=tally.resumed,
            requests=tally.requests,
            tokens=tally.tokens,
            seconds=anyio.current_time() - self._started,
            failures_path=files.failures_path if failed else None,
            truncated=files.truncated,
        )

    async def _work(self, request: Q) -> None:
        """Answer one request. Its result is written before cancellation takes effect."""
        try:
            line = await self._answer(request)
        except NimError as error:
            if self._stops(error):
                raise
            write, line, failed = self._files.fail, self._failure(request, error), 1
        else:
            write, failed = self._files.answer, 0
        with anyio.CancelScope(shield=True):
            await self._write(partial(write, request, line))
        self._tally.finished(1, failed)

    async def _write(self, write: Callable[[], None]) -> None:
        """Write a line, together with those that arrived while others were being written: a change of threads is expensive.

        An error ends the job; whoever meets it raises it.
        """
        self._unwritten.append(write)
        async with self._writing:
            if write in self._unwritten:
                lines, self._unwritten = self._unwritten, []
                await self._worker.do(_call_all, lines)

    @contextmanager
    def _sending(self) -> Generator[None, None, None]:
        """Count a request in flight, and its attempts if it fails."""
        self._tally.in_flight += 1
        try:
            yield
        except NimError as error:
            self._tally.sent(getattr(error, "attempts", 1))
            raise
        finally:
            self._tally.in_flight -= 1

    def _tell(self, _: int, __: None) -> None:
        if self._on_progress is not None:
            pacer = self._gate.pacer
            self._on_progress(self._tally.progress(anyio.current_time(), pacer.limit, pacer.throttles))


def _call_all(writes: list[Callable[[], None]]) -> None:
    for write in writes:
        write()

"""Shared by `nimclient embed`, `batch` and `map`: runs a job, displays it, and stops it on a signal, to be resumed."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import anyio
from attrs import define, frozen

from nimclient import AsyncClient, NimError
from nimclient.cli.board import Board, Events, board_for
from nimclient.cli.connection import make_client
from nimclient.cli.failures import UsageError, explain, in_options
from nimclient.cli.figures import clock
from nimclient.errors import ConfigurationError
from nimclient.jobs import JobReport
from nimclient.jobs.shards import shard_from
from nimclient.records import Progress

INTERRUPTED = 130
STATUS_CODES = {"complete": 0, "partial": 1, "failed": 1}
"""The exit codes of a finished job."""


class Job(Protocol):
    """An EmbedJob, a BatchJob or a MapJob."""

    async def run(self, client: AsyncClient, on_progress: Callable[[Progress], object] | None = None) -> JobReport:
        """See EmbedJob.run."""
        ...


@frozen
class Wording:
    """The terms of a command for its job: "embedding docs.jsonl", "texts", and the path of the results."""

    label: str
    unit: str
    output: str
    kind: str = ""
    from_stdin: bool = False


@define
class _State:
    """State shared by the tasks of a running job."""

    progress: Progress | None = None
    report: JobReport | None = None
    error: Exception | None = None
    stopped_by: signal.Signals | None = None


def run_job(args: argparse.Namespace, make: Callable[[], Job], wording: Wording) -> int:
    """Run a job to its end, or until SIGINT or SIGTERM. Returns the exit code."""
    try:
        job = make()
    except (ConfigurationError, TypeError) as error:
        raise UsageError(in_options(str(error))) from error
    client = make_client(args, model=args.model)
    subject = partial(subject_of, client, args.model, wording.kind)
    board: Board = Events(sys.stdout) if args.json else board_for(sys.stderr, wording.label, wording.unit, subject)
    try:
        state = anyio.run(_run, job, client, board)
    finally:
        board.close()
    return _conclude(state, board, wording, args.argv)


def shard_of(args: argparse.Namespace) -> tuple[int, int] | None:
    """The shard of --shard."""
    try:
        return None if args.shard is None else shard_from(args.shard, os.environ)
    except ConfigurationError as error:
        raise UsageError(in_options(str(error))) from error


def subject_of(client: AsyncClient, model: str | None, kind: str) -> str:
    """The model, once it is known, and the server."""
    name = model or client._engine.core.default_models.get(kind)
    return f"{name} at {client.base_url}" if name else client.base_url


async def _run(job: Job, client: AsyncClient, board: Board) -> _State:
    state = _State()
    started = anyio.current_time()

    def note(progress: Progress) -> None:
        state.progress = progress

    async def work() -> None:
        try:
            async with client:
                state.report = await job.run(client, note)
        except Exception as error:  # noqa: BLE001  # reported at the end
            state.error = error

    async def tick() -> None:
        try:
            while not ended.is_set():
                board.show(state.progress, anyio.current_time() - started)
                with anyio.move_on_after(board.interval):
                    await ended.wait()
        except OSError as error:  # the reader of the output has exited
            state.error = error
            working.cancel()

    async def listen() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                if state.stopped_by is not None:  # nothing is lost: a job survives SIGKILL
                    os._exit(INTERRUPTED)
                state.stopped_by = number
                working.cancel()

    ended = anyio.Event()
    working = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        group.start_soon(tick)
        with working:
            await work()
        ended.set()
        group.cancel_scope.cancel()
    if state.progress is not None:
        board.show(state.progress, anyio.current_time() - started)
    return state


def _conclude(state: _State, board: Board, wording: Wording, argv: Sequence[str]) -> int:
    """Report the result, and what to do next."""
    done = None if state.progress is None else state.progress.done  # None: no progress in this run yet
    if state.report is not None:
        return _report(state.report, board, wording)
    again = f"run the same command again{' with the same input' if wording.from_stdin else ''}"
    command = shlex.join(["nimclient", *argv])
    if state.stopped_by is not None and state.error is None:
        kept = "what is done is kept" if done is None else f"{done:,} {wording.unit} are done and kept"
        text = f"stopped; {kept}. To resume it, {again}: {command}"
        board.message("stopped", text, {"signal": state.stopped_by.name, "done": done, "resume": command})
        return INTERRUPTED
    error = state.error
    assert error is not None
    if isinstance(error, ConfigurationError):
        raise UsageError(in_options(str(error))) from error
    if not isinstance(error, NimError):
        raise error
    text = f"nimclient: {explain(error)}"
    if done:
        text += f"; {done:,} {wording.unit} are done and kept: to resume, {again}"
    board.message("error", text, {"error": type(error).__name__, "done": done, "resume": command})
    return 1


def _report(report: JobReport, board: Board, wording: Wording) -> int:
    counts = f"{report.succeeded:,} of {report.total:,} {wording.unit} in {wording.output}"
    tokens = [] if report.tokens is None else [f"{report.tokens:,} tokens"]
    details = [f"{report.requests:,} requests", *tokens, clock(report.seconds)]
    counted = ((report.cached, "from the cache"), (report.repeated, "repeated"), (report.long, "cut into pieces"))
    for count, words in counted:
        if count:
            details.insert(0, f"{count:,} {words}")
    if report.resumed:
        details.insert(0, f"{report.resumed:,} of them from before")
    text = f"{report.status}: {counts} ({', '.join(details)})"
    if report.truncated:
        text += f"; {report.truncated:,} cut off by the token limit (finish_reason length)"
    if report.failed:
        first = "".join(f"the first: {failure['id']}: {failure['error']}" for failure in report.failures[:1])
        text += f"; {report.failed:,} failed, {first or f'see {report.failures_path}'}"
    board.message("report", text, report.to_dict())
    return STATUS_CODES[report.status]

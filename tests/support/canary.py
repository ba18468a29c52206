"""A plug-in of the tests: a key that every client of the run sends, looked for wherever a key must not be.

It is in NVIDIA_NIM_API_KEY, so that clients without another key have it, in this process and in those that it starts. It is
looked for, with the prompt that the tests of faults send, in what nimclient and asyncio log at DEBUG, in every error that
a test catches (text, repr, fields, chain; of a NimError also the local variables of our frames), in warnings, in what a test
prints, and in its files. A test in which it is found fails.
"""

import logging
import os
import warnings
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from nimclient.errors import NimError

KEY = "nvapi-canary-of-the-whole-run-0123456789"
PROMPT = "canary-prompt-9876543210"
VARIABLE = "NVIDIA_NIM_API_KEY"
MAX_FILE = 2**22
"""Bytes; of larger files the end is not looked at."""

found: list[str] = []


def look(where: str, text: str) -> None:
    """Note a secret in a text that must not have one."""
    found.extend(f"{secret} in {where}: {_around(text, secret)}" for secret in (KEY, PROMPT) if secret in text)


def _around(text: str, secret: str) -> str:
    at = text.index(secret)
    return text[max(0, at - 200) : at + 200]


class _WatchedLogger(logging.Logger):
    """Reads every record, also of a level that nobody wants; others get those that they would get without it."""

    reads = True

    def isEnabledFor(self, level: int) -> bool:
        return self.reads or super().isEnabledFor(level)

    def callHandlers(self, record: logging.LogRecord) -> None:
        look(f"a log line of {self.name}", logging.Formatter().format(record))
        if record.levelno >= self.getEffectiveLevel() and record.levelno > logging.root.manager.disable:
            super().callHandlers(record)


for _name in ("nimclient", "asyncio"):
    logging.getLogger(_name).__class__ = _WatchedLogger


@pytest.fixture
def unread_log() -> Iterator[None]:
    """Log lines that nobody wants are not made: for tests that count what a call costs."""
    _WatchedLogger.reads = False
    yield
    _WatchedLogger.reads = True


class _WatchedWarning(warnings.WarningMessage):
    def __init__(self, message: Any, *arguments: Any, **options: Any) -> None:
        look("a warning", str(message))
        super().__init__(message, *arguments, **options)


warnings.WarningMessage = _WatchedWarning  # type: ignore[misc]


def look_at(error: BaseException) -> None:
    """Look for the secrets in an error and in those that it is chained to."""
    seen: set[int] = set()
    errors = [error]
    while errors:
        error = errors.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        look(type(error).__name__, f"{error} {error!r} {vars(error)!r}")
        if isinstance(error, NimError):
            _look_at_frames(error.__traceback__)
        errors += [other for other in (error.__cause__, error.__context__) if other is not None]


def _look_at_frames(trace: TracebackType | None) -> None:
    """The local variables of our frames, as error trackers record them. A prompt is one; a key must not be."""
    seen: set[int] = set()
    while trace is not None:
        code = trace.tb_frame.f_code
        if "/nimclient/" in code.co_filename:
            for name, value in trace.tb_frame.f_locals.items():
                with suppress(Exception):  # of an object that is not complete yet
                    if any(KEY in text for text in _texts_of(value, seen)):
                        found.append(f"{KEY} in the variable {name} of {code.co_qualname}")
        trace = trace.tb_next


def _texts_of(variable: Any, seen: set[int]) -> Iterator[str]:
    """The texts in a variable, those in containers too whatever their repr says: some trackers walk through them.

    What has been `seen` in another variable is not looked at again.
    """
    values = [variable]
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, dict):
                values += [*value.keys(), *value.values()]
            elif isinstance(value, (tuple, list, set, frozenset)):
                values += value
            else:
                yield repr(value)


class _WatchedRaises(pytest.RaisesExc[BaseException]):
    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> bool:
        __tracebackhide__ = True
        if error is not None:
            look_at(error)
        return super().__exit__(kind, error, trace)


_raises = pytest.raises


def _watched_raises(*arguments: Any, **options: Any) -> Any:
    return _WatchedRaises(*arguments, **options) if len(arguments) < 2 else _raises(*arguments, **options)


pytest.raises = _watched_raises


@pytest.fixture(autouse=True)
def canary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every client of the test sends the canary, unless it has another key or is marked `no_key`, and nothing shows it."""
    if request.node.get_closest_marker("no_key"):
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, KEY)
    yield
    if (folder := request.node.funcargs.get("tmp_path")) is not None:
        _look_at_files(folder)
    problems, found[:] = list(dict.fromkeys(found)), []
    assert not problems, "\n".join(problems)


def _look_at_files(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:  # a prompt may be in one: it is the caller's own
                    if KEY.encode() in file.read(MAX_FILE):
                        found.append(f"{KEY} in the file {name}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed."""
    report = yield
    if report.when == "teardown":
        for title, text in report.sections:
            if "std" in title and (KEY in text or PROMPT in text) and report.passed:
                report.outcome = "failed"
                report.longrepr = f"a secret in {title}"
    return report

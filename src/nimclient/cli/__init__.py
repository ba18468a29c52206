"""The `nimclient` command: parses the arguments, runs one command, and turns whatever goes wrong into one line on
standard error and an exit code. Data goes to standard output; progress and words go to standard error.

Commands are imported when they run, so that `nimclient --help` loads neither client nor simulator.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import TextIO

from nimclient.cli.arguments import parse

FAILED = 1
USAGE = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (None: that of the process) and return its exit code.

    0 complete, 1 failed or partial, 2 usage, 130 interrupted.
    """
    _open_streams()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = _run(parse(argv))
    except SystemExit as stop:  # argparse has printed the message
        code = stop.code if isinstance(stop.code, int) else USAGE
    except KeyboardInterrupt:
        _say("interrupted")
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of the output (head, less) has exited
        code = FAILED
    except Exception as error:  # noqa: BLE001  # the command line shows a line, never a traceback
        code = _explain(error)
    return _written(code)


def _run(args: argparse.Namespace) -> int:
    if hasattr(args, "profile"):
        from nimclient.cli.profile import apply_profile

        apply_profile(args)
    run: Callable[[argparse.Namespace], int] = import_module(f"nimclient.cli.{args.command}").run
    return run(args)


def _open_streams() -> None:
    """Prepare standard output and standard error for what servers and files contain, and for services, which may have none.

    What is written to an output that is closed fails, at the latest at the end; and no file that is opened later becomes
    descriptor 0, 1 or 2, which libraries write to.
    """
    for name, mode in (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            nothing = os.open(os.devnull, mode)
            if name != "stdin":  # commands ask whether there is one
                setattr(sys, name, os.fdopen(nothing, "w", encoding="utf-8", errors="replace"))
        elif name != "stdin" and isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode must not end a command


def _say(text: str) -> None:
    """A line on standard error, if anybody reads it."""
    from nimclient.cli.show import writer_for

    with suppress(OSError):
        writer_for(sys.stderr).line(f"nimclient: {text}")


def _explain(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    from nimclient.cli.failures import UsageError, explain
    from nimclient.errors import ConfigurationError

    _say(explain(error))
    return USAGE if isinstance(error, (UsageError, ConfigurationError)) else FAILED


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning on one line, like an error."""
    _say(str(message))


def _written(code: int) -> int:
    """The exit code, once the output is written; the interpreter would report a failure itself, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and code == 0:
            _say(f"the output cannot be written: {error.strerror}")
        _discard(sys.stdout)
        code = code or FAILED
    try:
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)
    return code


def _discard(stream: TextIO) -> None:
    """Redirect a stream to /dev/null: the interpreter flushes it once more at exit."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)

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
from importlib import import_module
from io import TextIOWrapper

from nimclient.cli.arguments import parse

FAILED = 1
USAGE = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (None: that of the process) and return its exit code.

    0 complete, 1 failed or partial, 2 usage, 130 interrupted.
    """
    try:
        args = parse(argv)
    except SystemExit as stop:  # argparse has printed the message
        return stop.code if isinstance(stop.code, int) else USAGE
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode must not end a command
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = _run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("nimclient: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output (head, less) has exited
        _discard_output()
        return FAILED
    except Exception as error:  # noqa: BLE001  # the command line shows a line, never a traceback
        from nimclient.cli.failures import UsageError, explain
        from nimclient.cli.show import writer_for

        writer_for(sys.stderr).line(f"nimclient: {explain(error)}")
        return USAGE if isinstance(error, UsageError) else FAILED
    return code


def _run(args: argparse.Namespace) -> int:
    if hasattr(args, "profile"):
        from nimclient.cli.profile import apply_profile

        apply_profile(args)
    run: Callable[[argparse.Namespace], int] = import_module(f"nimclient.cli.{args.command}").run
    return run(args)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning on one line, like an error."""
    from nimclient.cli.show import writer_for

    writer_for(sys.stderr).line(f"nimclient: {message}")


def _discard_output() -> None:
    """Redirect standard output to /dev/null: the interpreter flushes it once more at exit."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)

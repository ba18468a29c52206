"""Text from standard input or files: UTF-8, with or without a byte-order mark; anything else is an error."""

from __future__ import annotations

import sys
from typing import IO

from nimclient.cli.failures import UsageError, in_options
from nimclient.errors import ConfigurationError
from nimclient.jobs.lines import text_lines

MAX_INPUT = 256 * 2**20
"""Bytes: more than any request may have, and /dev/zero has no end."""


def is_terminal() -> bool:
    """Whether a person types on standard input."""
    return sys.stdin is not None and sys.stdin.isatty()


def piped_lines() -> list[str]:
    """The lines of standard input; on a terminal until Ctrl-D. UsageError for text that is not UTF-8."""
    if sys.stdin is None:
        return []
    try:
        data = _read(sys.stdin.buffer) if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    except OSError:  # closed or invalid
        return []
    return _lines(data, "standard input")


def file_lines(path: str, option: str) -> list[str]:
    """The lines of the file named by an option. UsageError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return _lines(_read(file), f"{option} {path}")
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be read: {error.strerror}") from None


def _read(file: IO[bytes]) -> bytes:
    data = file.read(MAX_INPUT + 1)
    if len(data) > MAX_INPUT:
        raise UsageError(f"the input is larger than {MAX_INPUT // 2**20} MiB, which no request may be")
    return data


def _lines(data: bytes, what: str) -> list[str]:
    try:
        return text_lines(data, what)
    except ConfigurationError as error:
        raise UsageError(in_options(str(error))) from None

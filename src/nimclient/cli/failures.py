"""Error messages: one line with what happened and what to do next, in terms of the command line."""

from __future__ import annotations

import re

from nimclient.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    JobError,
    ModelNotFoundError,
    NimError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
)

_IN_PATTERNS = {
    "name one of them with text=": "name one of them with --text",
    "name one of them with id=": "name one of them with --id",
    "pass model=": "name one with --model",
    "(or pass api_key=)": "or pass --api-key-file; or name a server with --base-url (`nimclient simulate` starts one)",
    "base_url ": "--base-url ",
    "base_url[": "--base-url [",
    "choose another output": "choose another with --out",
    "or choose format='npy' or 'jsonl'": "or choose --format npy or jsonl",
    "pass api_key= or headers=": "use --api-key-file",
    "pass api_key= or set NVIDIA_NIM_API_KEY": "set NVIDIA_NIM_API_KEY",
    "neither api_key= nor": "neither --api-key-file nor",
    "that of api_key ": "that of --api-key-file ",
    "Limits(share=…)": "--share",
    "the share ": "--share ",
    "shard takes": "--shard takes",
    "shard auto takes": "--shard auto takes",
    ", or give one model its own URL with endpoints={...}": "",
    "Timeouts(total=…)": "--timeout",
    "template 0 has": "the template has",
    ". Pass media_type= to send them as they are": "",
    "; send it with extra_body= if it is new": "; send it with -o 'extra_body={…}' if it is new",
}

_PATTERNS = (
    (re.compile(r"[\w.]+\(\) got an unexpected option"), "-o: there is no option"),
    (re.compile(r"[\w.]+\(\) got multiple values for (?:keyword )?argument"), "-o: the command itself sets"),
    (re.compile(r"\bapi_key (?=has |begins |\()"), "--api-key-file "),
)
"""What Python says of an option that a method does not have, or that it was given already; and of a key."""

_NEXT: tuple[tuple[type[NimError], str], ...] = (
    (AuthenticationError, "another one can be given with --api-key-file"),
    (ModelNotFoundError, "`nimclient models` lists those that the server has; choose one with --model"),
    (NotFoundError, "the server has no such route: is the path of --base-url its root, with or without /v1?"),
    (RateLimitError, "wait a minute and try again"),
    (RequestTimeoutError, "try again, or allow more time with --timeout"),
)


class CommandError(Exception):
    """A command failed; the text is the line to show."""


class UsageError(CommandError):
    """Invalid arguments or files, found before anything is sent."""


def explain(error: BaseException) -> str:
    """The line to show for an error."""
    if isinstance(error, CommandError):
        return str(error)
    if isinstance(error, ConfigurationError):
        return in_options(str(error))
    if isinstance(error, JobError):
        return in_options(str(error))
    if isinstance(error, NimError):
        step = _next_step(error)
        text = in_options(str(error))
        return f"{text}{' ' if text.endswith('?') else '; '}{step}" if step else text
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    return f"this is a bug, please report it: {type(error).__name__}: {' '.join(str(error).split())}"


def in_options(text: str) -> str:
    """A message of the Python interface in terms of the command line."""
    for said, meant in _IN_PATTERNS.items():
        text = text.replace(said, meant)
    for pattern, meant in _PATTERNS:
        text = pattern.sub(meant, text)
    return text


def _next_step(error: NimError) -> str:
    if isinstance(error, ConnectError):
        if error.kind == "refused":
            return "start one with `nimclient simulate`, or name another with --base-url"
        if error.kind == "tls":
            return "where the server does not use TLS, write http:// in --base-url; `nimclient doctor` says more"
        return "check the address in --base-url, or start a server with `nimclient simulate`"
    return next((step for kind, step in _NEXT if isinstance(error, kind)), "")

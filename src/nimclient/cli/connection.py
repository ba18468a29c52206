"""Creates a client from options: the source of the key, and the server."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen

from nimclient import AsyncClient, AttemptEvent, Limits, RetryPolicy
from nimclient._api.urls import parse_base_urls
from nimclient._base.config import HOSTED_BASE_URL, Credentials, environment_base_url
from nimclient.cli.failures import UsageError, in_options
from nimclient.cli.show import writer_for
from nimclient.errors import ConfigurationError

MAX_KEY_FILE = 2**16  # bytes
_HOST = re.compile(r"(?:localhost|[\w-]+(?:\.[\w-]+)+|[\w-]+(?=:\d))(?::\d+)?(?:/[\w./-]*)?")


def make_client(
    args: argparse.Namespace,
    *,
    simulator: str | None = None,
    model: str | Mapping[str, str] | None = None,
    retry: RetryPolicy | None = None,
    on_attempt: Callable[[AttemptEvent], object] | None = None,
) -> AsyncClient:
    """The client that the options describe.

    Args:
        args: The options of the command.
        simulator: The URL of an embedded simulator, which is reached without a proxy.
        model: The default model, or one for each kind.
        retry: The retry policy; None: the client's own.
        on_attempt: Called after each attempt; None: with `--verbose` it is printed.

    Raises:
        UsageError: For invalid settings.
    """
    key, base_url, settings = client_settings(args)
    if simulator is not None:
        base_url, settings["trust_env"] = simulator, False
    if on_attempt is not None:
        settings["on_attempt"] = on_attempt
    try:
        return AsyncClient(key, base_url, model=model, retry=retry, **settings)
    except ConfigurationError as error:
        raise UsageError(in_options(str(error))) from error


def client_settings(args: argparse.Namespace) -> tuple[str | None, str | Sequence[str] | None, dict[str, Any]]:
    """The key, the base URL and the other settings of a client. UsageError where the options cannot be read."""
    key = None if args.api_key_file is None else read_key(args.api_key_file)
    for url in [args.base_url] if isinstance(args.base_url, str) else args.base_url or []:
        if _HOST.fullmatch(url):
            raise UsageError(f"--base-url {url} has no scheme; did you mean http://{url}?")
    settings: dict[str, Any] = {"timeouts": args.timeout}
    settings["on_attempt"] = _say_attempt if getattr(args, "verbose", False) else None
    if (share := getattr(args, "share", None)) is not None:
        settings["limits"] = Limits(share=share)
    return key, args.base_url, settings


def _say_attempt(event: AttemptEvent) -> None:
    """Print an attempt on standard error, for --verbose."""
    outcome = event.status if event.error is None or event.status else type(event.error).__name__
    line = f"{event.method} {event.url}: {outcome}, {event.seconds * 1000:,.0f} ms"
    writer_for(sys.stderr).line(line if event.attempt == 1 else f"{line}, attempt {event.attempt}")


@frozen
class Key:
    """The key for the server: its source, whether it is sent, and why another one is not."""

    source: str | None
    sent: bool
    held_back: str = ""

    @property
    def remedy(self) -> str:
        """What to do if the server rejects it."""
        if self.source is not None and self.sent:
            return f"check the key of {self.source}; one for the hosted catalog comes from https://build.nvidia.com"
        return "set NVIDIA_NIM_API_KEY (NVIDIA_API_KEY for NVIDIA's own hosts), or pass --api-key-file"


def key_for(args: argparse.Namespace) -> Key:
    """The key that the client of `make_client` sends. UsageError for invalid settings."""
    from_file = None if args.api_key_file is None else read_key(args.api_key_file)
    environment = environment_base_url() if args.base_url is None else None
    try:
        credentials = Credentials.gather(from_file, base_from_environment=environment is not None)
        origin = parse_base_urls(args.base_url or environment or HOSTED_BASE_URL)[0].origin
    except ConfigurationError as error:
        raise UsageError(in_options(str(error))) from error
    found = credentials.for_origin(origin, origin)
    if found is None:
        held_back = "; NVIDIA_API_KEY goes to NVIDIA's own hosts only" if credentials.catalog is not None else ""
        return Key(None, sent=False, held_back=held_back)
    if found is credentials.catalog:
        return Key("NVIDIA_API_KEY", sent=True)
    return Key("NVIDIA_NIM_API_KEY" if from_file is None else "--api-key-file", sent=True)


def named_by(args: argparse.Namespace) -> str:
    """The setting that names the server."""
    if args.base_url is not None:
        return "--base-url"
    return "NVIDIA_BASE_URL" if environment_base_url() is not None else "the default: the hosted catalog"


def read_key(path: str) -> str:
    """The key in a file, stripped. UsageError without a key; it never shows the content."""
    try:
        with open(path, "rb") as file:
            key = file.read(MAX_KEY_FILE).decode("utf-8-sig").strip()
    except OSError as error:
        # the name is not shown: it may be the key itself
        raise UsageError(f"--api-key-file takes the name of a file that holds the key: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--api-key-file {path} is not a text file") from None
    if not key:
        raise UsageError(f"--api-key-file {path} is empty; put the key into it, and nothing else")
    return key


def names_a_server(args: argparse.Namespace) -> bool:
    """Whether options or environment name a server, or have a key for the hosted catalog."""
    settings = (args.api_key_file, os.environ.get("NVIDIA_BASE_URL"), os.environ.get("NVIDIA_API_KEY"))
    return args.base_url is not None or any(setting and setting.strip() for setting in settings)


def is_hosted(base_url: str) -> bool:
    """Whether a base URL is that of NVIDIA's hosted catalog."""
    return (urlsplit(base_url).hostname or "").endswith(".api.nvidia.com")

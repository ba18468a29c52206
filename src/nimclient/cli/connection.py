"""From options to a client: where the key comes from, and which server is meant."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from nimclient import AsyncClient, AttemptEvent
from nimclient.cli.failures import UsageError, in_options
from nimclient.errors import ConfigurationError


def make_client(
    args: argparse.Namespace,
    *,
    simulator: str | None = None,
    model: str | Mapping[str, str] | None = None,
    on_attempt: Callable[[AttemptEvent], object] | None = None,
) -> AsyncClient:
    """The client that the options describe; `simulator` is the URL of an embedded one, reached without any proxy.

    Raises UsageError for settings that cannot work.
    """
    key = None if args.api_key_file is None else read_key(args.api_key_file)
    try:
        return AsyncClient(
            key,
            simulator or args.base_url,
            model=model,
            timeouts=args.timeout,
            trust_env=simulator is None,
            on_attempt=on_attempt,
        )
    except ConfigurationError as error:
        raise UsageError(in_options(str(error))) from error


def read_key(path: str) -> str:
    """The key in a file, stripped. UsageError, which never shows what is in it, when there is none."""
    try:
        key = Path(path).read_text("utf-8").strip()
    except OSError as error:
        # the name is not shown: someone may have put the key in its place
        raise UsageError(f"--api-key-file takes the name of a file that holds the key: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--api-key-file {path} is not a text file") from None
    if not key:
        raise UsageError(f"--api-key-file {path} is empty; put the key into it, and nothing else")
    return key


def names_a_server(args: argparse.Namespace) -> bool:
    """Whether options or environment name a server, or hold a key for the hosted catalog."""
    settings = (args.base_url, args.api_key_file, os.environ.get("NVIDIA_BASE_URL"), os.environ.get("NVIDIA_API_KEY"))
    return any(setting and setting.strip() for setting in settings)


def is_hosted(base_url: str) -> bool:
    """Whether a base URL leads to NVIDIA's hosted catalog."""
    return (urlsplit(base_url).hostname or "").endswith(".api.nvidia.com")

"""The error that a client makes of a server's rejection, and the rows of the failure table for those who stand on it."""

import asyncio
import json
from typing import Any

from nimclient import AsyncClient, RetryPolicy
from nimclient._retry.classify import (
    CONNECTION_REFUSED,
    INTERRUPTED,
    MALFORMED,
    REJECTED,
    THROTTLED,
    UNREACHABLE,
    FailureScope,
    classify,
)
from nimclient.errors import APIStatusError
from nimclient.testing import FakeTransport

__all__ = [
    "CONNECTION_REFUSED",
    "INTERRUPTED",
    "MALFORMED",
    "REJECTED",
    "THROTTLED",
    "UNREACHABLE",
    "FailureScope",
    "classify",
    "rejected",
]


def rejected(status: int, body: Any, path: str = "/v1/x") -> APIStatusError:
    """Of a POST to this path that returned this status and body: a str as it is, other values as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    client = AsyncClient(
        "k", "http://nim", retry=RetryPolicy(attempts=1), transport=FakeTransport([(status, {}, text.encode())])
    )
    try:
        asyncio.run(client.request("POST", path, json={}))
    except APIStatusError as error:
        return error
    raise AssertionError(f"a {status} is no rejection")

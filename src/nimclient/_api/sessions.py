"""Translates `session_id` into the header that each server type reads: routers send the turns of a session to one worker."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from nimclient._api.options import SESSION_HEADERS
from nimclient._api.server_types import ServerType
from nimclient.errors import ConfigurationError

MAX_LENGTH = 256
"""Characters of a session id that Dynamo accepts."""


def session_headers(options: Mapping[str, Any], server: ServerType | None) -> dict[str, str]:
    """The header with the session of a call, if it has one: `X-Session-ID`, for Dynamo `X-Dynamo-Session-ID`.

    vLLM, its routers and gateways read the former; so does Dynamo, where its own is missing. The hosted platform reads
    neither. An id that no header can carry, or longer than Dynamo accepts, is sent as its SHA-256. ConfigurationError for
    an id that is no text, or empty.
    """
    session: object = options.get("session_id")
    if session is None:
        return {}
    if not isinstance(session, str) or not session.strip():
        raise ConfigurationError(f"session_id takes a text that is not empty, not {session!r:.40}")
    if server == "hosted":
        return {}
    if len(session) > MAX_LENGTH or not (session.isascii() and session.isprintable()):
        session = sha256(session.encode("utf-8", "surrogatepass")).hexdigest()
    return {SESSION_HEADERS[server == "dynamo"]: session.strip()}

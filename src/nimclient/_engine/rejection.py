"""The error for a response that is no success: what its status, its body and its address say."""

from __future__ import annotations

from typing import Any

from nimclient._api.call import Call
from nimclient._base.redaction import hide, secrets_of
from nimclient._base.values import path_of, request_id_of
from nimclient._retry.faults import MAX_ERROR_BODY, status_error
from nimclient._streams.response import Response
from nimclient.errors import NimError, RedirectError

ERROR_BODY_SECONDS = 5.0


async def rejection(call: Call[Any], response: Response, key: str) -> NimError:
    """The error for a status other than success. `key`: which key was sent, for the message of a 401."""
    head, body, request = response.head, response.body, response.request
    if head.status < 400:
        host = head.headers.get("location", "").partition("?")[0][:200]
        body.abort()
        problem = f"the server redirects to {host}" if host else "redirect without a Location"
        return RedirectError(f"{problem} (status {head.status}); the redirect was not followed", host=host)
    text = await body.read_some(MAX_ERROR_BODY, ERROR_BODY_SECONDS)
    text = hide(text.decode("utf-8", "replace"), secrets_of(request.headers, request.proxy)).encode()
    return status_error(
        head.status,
        head.headers,
        text,
        where=f"{request.method} {path_of(request.url)}",
        request_id=request_id_of(head.headers),
        unauthenticated=call.unauthenticated or head.unauthenticated,
        key=key,
    )

"""The event that `on_attempt` is called with."""

from __future__ import annotations

from attrs import frozen

from nimclient._base.values import Timings
from nimclient.errors import NimError
from nimclient.records.usage import Usage


@frozen
class AttemptEvent:
    """One attempt of one call: the argument of `on_attempt`.

    `kind` is that of the call (chat, completions, embedding, ranking; "" for other routes), `usage` the token counts (None
    for a stream, which has only begun, and if the server sent none), `request_id` the server's id; they and `timings` are
    None if there was no response.
    """

    method: str
    url: str
    attempt: int
    status: int | None
    error: NimError | None
    seconds: float
    kind: str = ""
    model: str | None = None
    usage: Usage | None = None
    request_id: str | None = None
    timings: Timings | None = None

"""What `on_attempt` is told of one attempt of a call."""

from __future__ import annotations

from attrs import frozen

from nimclient._base.values import Timings
from nimclient.errors import NimError
from nimclient.records.usage import Usage


@frozen
class AttemptEvent:
    """One attempt of one call, as `on_attempt` is told: where, which one, how it ended, after how many seconds.

    `kind` is that of the call (chat, completions, embedding, ranking; "" for other routes), `usage` what the server counted
    (None for a stream, which has only begun, and where it counted nothing), `request_id` the server's id of it; both
    and `timings` are None where no response came.
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

"""The open response of one attempt: its head, its body, and what to add to an error of its reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import define

from nimclient._base.config import Limits, Timeouts
from nimclient._base.redaction import redact, secrets_of
from nimclient._base.types import Clock
from nimclient._base.values import HttpHead, HttpRequest, ResponseMeta, Timings
from nimclient.errors import (
    APIStatusError,
    Attempt,
    DecodeError,
    NimError,
    Phase,
    RequestTimeoutError,
    TransportError,
)

if TYPE_CHECKING:
    from nimclient._http.base import Body


@define
class Response:
    """The response of an attempt, open from its head to the end of its body. Times are monotonic seconds.

    `url` is for display. `number` counts the attempts of the call, `earlier` are those before this one. `started` is when
    the call began, `sent` when this attempt did.
    """

    head: HttpHead
    body: Body
    request: HttpRequest
    base_url: str
    url: str
    number: int
    earlier: Sequence[Attempt]
    timeouts: Timeouts
    limits: Limits
    started: float
    sent: float
    clock: Clock

    def meta(self, ttft: float | None = None, inter_token: Sequence[float] = ()) -> ResponseMeta:
        """The metadata of the exchange, with the timings so far."""
        head = self.head
        timings = Timings(head.queue, head.connect, ttft, self.clock() - self.started, inter_token)
        return ResponseMeta(head.status, head.headers, self.url, self.number, timings)

    def annotate(self, error: NimError) -> None:
        """Complete an error raised by the reader: remove secrets, add the history of attempts."""
        redact(error, secrets_of(self.request.headers, self.request.proxy))
        seconds = self.clock() - self.sent
        with_history(error, (*self.earlier, attempt_of(self.base_url, error, seconds)))


def attempt_of(base_url: str, error: NimError, seconds: float) -> Attempt:
    """The `.history` entry of a failed attempt."""
    outcome = error.status if isinstance(error, APIStatusError) else type(error).__name__
    return Attempt(base_url, outcome, seconds)


def with_history(error: NimError, history: tuple[Attempt, ...]) -> None:
    """Set the history of a call on its final error."""
    error.history = history
    if isinstance(error, (TransportError, APIStatusError, DecodeError)):
        error.attempts = len(history)


def timed_out(phase: Phase, limit: float | None) -> RequestTimeoutError:
    """The error of a time limit that was reached."""
    shown = "" if limit is None else f" of {limit:g} s"
    return RequestTimeoutError(f"timed out: the {phase} limit{shown} was reached", phase=phase, seconds=limit)

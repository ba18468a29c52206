"""The state of one call, shared by the retry loop and the current attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from attrs import define, field

from nimclient._api.call import Call
from nimclient._base.config import Timeouts
from nimclient._base.log import log
from nimclient._base.observers import Observation
from nimclient._base.values import path_of
from nimclient._bulk.gate import Gate
from nimclient._bulk.pacer import Ticket
from nimclient._engine.replicas import Lease, Routing, SingleEndpoint
from nimclient._retry.policy import RetryState
from nimclient.errors import Attempt, NimError

T = TypeVar("T")


@define(eq=False)
class CallState(Generic[T]):
    """A call: what it sends, its limits, and the outcomes of its attempts.

    `started` and `deadline` are monotonic seconds. `call` is what the next attempt sends: without the fields that the server
    has rejected. `lease`, `url` and `sent` belong to the attempt that runs. `observations` belong to
    installed observers.
    """

    call: Call[T]
    headers: Mapping[str, str]
    timeouts: Timeouts
    started: float
    deadline: float | None
    routing: Routing
    retries: RetryState
    gate: Gate | None
    ticket: Ticket = field(factory=Ticket)
    history: list[Attempt] = field(factory=list[Attempt])
    stale_retried: bool = False
    number: int = 0
    lease: Lease | SingleEndpoint = field(init=False)
    url: str = ""
    sent: float = 0.0
    observations: tuple[Observation, ...] = ()

    @property
    def shown_url(self) -> str:
        """The URL of the attempt for display: without the query, which may hold a signature."""
        return self.url.partition("?")[0]

    @property
    def base_url(self) -> str:
        """The base URL of the attempt; the whole URL if the model or route has its own."""
        base = self.lease.base
        return base.api if self.url.startswith(base.root) else self.shown_url

    def in_time(self, moment: float) -> bool:
        """Whether a moment is before the deadline."""
        return self.deadline is None or moment < self.deadline


def log_call(state: CallState[Any], now: float, result: object, error: NimError | None) -> None:
    """One DEBUG line per call: request and outcome, without content and secrets."""
    call, meta, usage = state.call, getattr(result, "meta", None), getattr(result, "usage", None)
    failed = None if error is None or not state.history else state.history[-1].outcome
    log.debug(
        "%s %s model=%s status=%s seconds=%.3f tokens=%s attempts=%d request_id=%s",
        call.method,
        path_of(state.url),
        call.model,
        getattr(meta, "status", failed),
        now - state.started,
        getattr(usage, "total_tokens", None),
        state.number,
        getattr(meta, "request_id", getattr(error, "request_id", None)),
    )

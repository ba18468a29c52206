"""The state of one call, shared by the retry loop and the current attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import define, field

from nimclient._api.call import Call
from nimclient._base.config import Timeouts
from nimclient._base.log import log
from nimclient._base.observers import Observation
from nimclient._base.values import HttpRequest, path_of
from nimclient._bulk.ticket import Cost, Ticket
from nimclient._engine.replicas import Lease, Routing, SingleEndpoint
from nimclient._engine.requests import Target
from nimclient._retry.policy import RetryState
from nimclient._streams.response import Response
from nimclient.errors import Attempt, NimError

if TYPE_CHECKING:
    from nimclient._bulk.gate import Gate
    from nimclient._bulk.rate import RateLimit
    from nimclient.records.attempt import AttemptEvent

T = TypeVar("T")

_WITH_ANSWERS = ("chat", "completions")


@define(eq=False)
class CallState(Generic[T]):
    """A call: what it sends, its limits, and the outcomes of its attempts.

    `started` and `deadline` are monotonic seconds. `call` is what the next attempt sends: without the fields that the server
    has rejected. `ticket` is its place at the gate, `retries` counts from the first failure on. `lease`, `target` and `sent`
    belong to the attempt that runs. `observations` belong to installed observers.
    """

    call: Call[T]
    headers: Mapping[str, str]
    timeouts: Timeouts
    started: float
    deadline: float | None
    routing: Routing
    gate: Gate | None
    ticket: Ticket
    history: list[Attempt]
    number: int = 0
    sent: float = 0.0
    retries: RetryState | None = None
    stale_retried: bool = False
    observations: tuple[Observation, ...] = ()
    lease: Lease | SingleEndpoint = field(init=False)
    target: Target = field(init=False)

    def in_time(self, moment: float) -> bool:
        """Whether a moment is before the deadline."""
        return self.deadline is None or moment < self.deadline


def ticket_of(call: Call[Any]) -> Ticket:
    """The ticket of a call under a rate limit. A call to no model takes no tokens."""
    if not call.kind:
        return Ticket()
    most = call.max_answer if call.kind in _WITH_ANSWERS else 0
    return Ticket(cost=Cost(call.kind, len(call.body or b""), most))


def settle(rate: RateLimit, ticket: Ticket, result: object) -> None:
    """Record what a call took, by the usage in its answer. One without, or a stream, took what was expected."""
    usage: Any = getattr(result, "usage", None)
    if ticket.cost is not None and usage is not None:
        completion: int = usage.completion_tokens
        rate.settle(ticket.cost, max(usage.total_tokens - completion, usage.prompt_tokens), completion)


def attempt_event(
    state: CallState[Any], request: HttpRequest, seconds: float, response: Response | None, result: object
) -> AttemptEvent:
    """What `on_attempt` is called with. `result`: what the attempt returned or raised."""
    from nimclient.records.attempt import AttemptEvent  # few programs listen

    call, meta = state.call, None if response is None else response.meta()
    return AttemptEvent(
        method=call.method,
        url=request.shown_url,
        attempt=state.number,
        status=None if meta is None else meta.status,
        error=result if isinstance(result, NimError) else None,
        seconds=seconds,
        kind=call.kind,
        model=call.model,
        usage=getattr(result, "usage", None),
        request_id=None if meta is None else meta.request_id,
        timings=None if meta is None else meta.timings,
    )


def call_on_attempt(callback: Callable[[AttemptEvent], object], event: AttemptEvent) -> None:
    """Call `on_attempt`; an error in it must not fail the call."""
    try:
        callback(event)
    except Exception:
        log.exception("on_attempt raised")


def log_call(state: CallState[Any], now: float, result: object, error: NimError | None) -> None:
    """One DEBUG line per call: request and outcome, without content and secrets."""
    call, meta, usage = state.call, getattr(result, "meta", None), getattr(result, "usage", None)
    failed = None if error is None or not state.history else state.history[-1].outcome
    target: Target | None = getattr(state, "target", None)  # a call may end before it has one
    log.debug(
        "%s %s model=%s status=%s seconds=%.3f tokens=%s attempts=%d request_id=%s",
        call.method,
        call.path if target is None else path_of(target.url),
        call.model,
        getattr(meta, "status", failed),
        now - state.started,
        getattr(usage, "total_tokens", None),
        state.number,
        getattr(meta, "request_id", getattr(error, "request_id", None)),
    )

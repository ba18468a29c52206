"""The rate limit that a client is given: what a call takes of it, and what it took."""

from __future__ import annotations

from typing import Any

from nimclient._api.call import Call
from nimclient._base.config import Limits
from nimclient._bulk.pacer import Ticket
from nimclient._bulk.rate import Cost, RateLimit

_MAXIMA = ("max_completion_tokens", "max_tokens")
_WITH_ANSWERS = ("chat", "completions")


def rate_limit(limits: Limits) -> RateLimit | None:
    """The limit shared by all calls of a client, None without one."""
    if limits.requests_per_minute is None and limits.tokens_per_minute is None:
        return None
    return RateLimit(limits.requests_per_minute, limits.tokens_per_minute)


def ticket_of(call: Call[Any]) -> Ticket:
    """The ticket of a call under a rate limit. A call to no model takes no tokens."""
    if not call.kind:
        return Ticket()
    fields = call.fields or {}
    named = (fields.get(name) for name in _MAXIMA)
    most = next((value for value in named if isinstance(value, int)), None) if call.kind in _WITH_ANSWERS else 0
    return Ticket(cost=Cost(call.kind, len(call.body or b""), most))


def settle(rate: RateLimit, ticket: Ticket, result: object) -> None:
    """Record what a call took, by the usage in its answer. One without, or a stream, took what was expected."""
    usage: Any = getattr(result, "usage", None)
    if ticket.cost is not None and usage is not None:
        completion: int = usage.completion_tokens
        rate.settle(ticket.cost, max(usage.total_tokens - completion, usage.prompt_tokens), completion)

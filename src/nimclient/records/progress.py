"""How far a call or a job over many items has come."""

from __future__ import annotations

from typing import Any

from attrs import asdict, field, frozen

from nimclient._base.types import JsonDict
from nimclient.records._record import Record


@frozen(repr=False)
class Progress(Record):
    """A moment of a call over many items: what `on_progress` is called with.

    `done` items are finished, of which `failed` failed and `resumed` were there from an earlier run; `total` is None
    where the source does not tell its length. `requests` sent, of which `refusals` for capacity and `retries`; prompt
    `tokens`; `seconds` since the beginning. `in_flight` requests now, of at most `limit`. `latency_p50` and `latency_p95`
    are seconds from a request's turn to its answer, over the last few hundred (None before the first).
    """

    done: int
    total: int | None
    requests: int
    tokens: int
    seconds: float
    failed: int = field(default=0, kw_only=True)
    resumed: int = field(default=0, kw_only=True)
    in_flight: int = field(default=0, kw_only=True)
    limit: int | None = field(default=None, kw_only=True)
    refusals: int = field(default=0, kw_only=True)
    retries: int = field(default=0, kw_only=True)
    latency_p50: float | None = field(default=None, kw_only=True)
    latency_p95: float | None = field(default=None, kw_only=True)

    @property
    def texts_per_second(self) -> float:
        """Items that this run finished, over its time; 0 at its very beginning."""
        return (self.done - self.resumed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Prompt tokens over time."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds to the end at this pace; None where the total or the pace is unknown."""
        rate = self.texts_per_second
        return None if self.total is None or not rate else max(self.total - self.done, 0) / rate

    def to_dict(self) -> JsonDict:
        """The fields and what is derived of them, as a JSON object."""
        derived: dict[str, Any] = {
            name: getattr(self, name) for name in ("texts_per_second", "tokens_per_second", "eta")
        }
        return asdict(self) | derived

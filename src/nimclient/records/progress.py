"""Progress of a call or a job over many items."""

from __future__ import annotations

from typing import Any

from attrs import asdict, field, frozen

from nimclient._base.types import JsonDict
from nimclient.records._record import Record


@frozen(repr=False)
class Progress(Record):
    """A snapshot of a call over many items: the argument of `on_progress`.

    `done` items are finished, of which `failed` failed and `resumed` come from an earlier run; `total` is None if the length
    of the source is unknown. `requests` were sent, of which `refusals` were throttled and `retries` were retries; `tokens`
    are prompt tokens, None if an answer did not say them; `seconds` since the start. `in_flight` requests now, at most
    `limit`. Of `done`, `cached` came from the cache, and `repeated` are equal to another text of the call, so that they were
    not sent. `latency_p50` and `latency_p95` are seconds from acquiring a slot to the response, over the last few hundred
    requests (None before the first).
    """

    done: int
    total: int | None
    requests: int
    tokens: int | None
    seconds: float
    failed: int = field(default=0, kw_only=True)
    resumed: int = field(default=0, kw_only=True)
    cached: int = field(default=0, kw_only=True)
    repeated: int = field(default=0, kw_only=True)
    in_flight: int = field(default=0, kw_only=True)
    limit: int | None = field(default=None, kw_only=True)
    refusals: int = field(default=0, kw_only=True)
    retries: int = field(default=0, kw_only=True)
    latency_p50: float | None = field(default=None, kw_only=True)
    latency_p95: float | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        """One line: how far, how fast, what failed, how long it will take."""
        share = "" if not self.total else f" of {self.total} ({self.done / self.total:.0%})"
        parts = [f"{self.done}{share}", f"{self.texts_per_second:.4g}/s", f"{self.in_flight} in flight"]
        counts = (
            ("failed", self.failed),
            ("resumed", self.resumed),
            ("throttled", self.refusals),
            ("cached", self.cached),
        )
        parts += [f"{count} {name}" for name, count in counts if count]
        if self.eta:
            parts.append(f"{self.eta:.0f} s left")
        return ", ".join(parts)

    @property
    def texts_per_second(self) -> float:
        """Items finished by this run per second; 0 at the start."""
        return (self.done - self.resumed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_per_second(self) -> float | None:
        """Prompt tokens per second; None if they are unknown."""
        if self.tokens is None:
            return None
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Estimated seconds to the end; None if the total or the rate is unknown."""
        rate = self.texts_per_second
        return None if self.total is None or not rate else max(self.total - self.done, 0) / rate

    def to_dict(self) -> JsonDict:
        """The fields and the derived values as a JSON object."""
        derived: dict[str, Any] = {
            name: getattr(self, name) for name in ("texts_per_second", "tokens_per_second", "eta")
        }
        return asdict(self) | derived

"""What is counted while many requests run: arithmetic over times that are passed in, fed once a slice."""

from __future__ import annotations

from collections import deque

from nimclient.records.progress import Progress

REMEMBERED = 256  # latencies


class Tally:
    """The counts behind a Progress. `started` is monotonic seconds, as is every `now`."""

    __slots__ = (
        "_latencies",
        "done",
        "failed",
        "in_flight",
        "requests",
        "resumed",
        "retried",
        "started",
        "tokens",
        "total",
    )

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.started: float | None = None
        self.done = self.failed = self.resumed = 0
        self.requests = self.retried = self.tokens = self.in_flight = 0
        self._latencies: deque[float] = deque(maxlen=REMEMBERED)

    def start(self, now: float) -> None:
        """The clock runs from the first call on."""
        if self.started is None:
            self.started = now

    def answered(self, attempts: int, tokens: int, seconds: float) -> None:
        """A request was answered, after so many attempts and seconds."""
        self.sent(attempts)
        self.tokens += tokens
        self._latencies.append(seconds)

    def sent(self, attempts: int) -> None:
        """A request was sent so many times."""
        self.requests += attempts
        self.retried += max(attempts - 1, 0)

    def finished(self, items: int, failed: int) -> None:
        """So many items are finished; `failed` is how many of them have failed."""
        self.done += items
        self.failed += failed

    def progress(self, now: float, limit: int | None, refusals: int) -> Progress:
        """All of it at this moment. `refusals` for capacity are attempts beyond the first, but no retries."""
        ordered = sorted(self._latencies)
        return Progress(
            self.done,
            self.total,
            self.requests,
            self.tokens,
            0.0 if self.started is None else now - self.started,
            failed=self.failed,
            resumed=self.resumed,
            in_flight=self.in_flight,
            limit=limit,
            refusals=refusals,
            retries=max(self.retried - refusals, 0),
            latency_p50=_quantile(ordered, 0.5),
            latency_p95=_quantile(ordered, 0.95),
        )


def _quantile(ordered: list[float], share: float) -> float | None:
    """The value below which this share lies (nearest rank)."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None

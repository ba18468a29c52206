"""Counts of a call over many items, updated once per slice. Pure: times are passed in."""

from __future__ import annotations

from collections import deque

from nimclient.records.progress import Progress

REMEMBERED = 256  # latencies


class Tally:
    """The counts behind a Progress. `started` is monotonic seconds, as is every `now`."""

    __slots__ = (
        "_latencies",
        "cached",
        "done",
        "failed",
        "in_flight",
        "repeated",
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
        self.done = self.failed = self.resumed = self.cached = self.repeated = 0
        self.requests = self.retried = self.in_flight = 0
        self.tokens: int | None = 0
        self._latencies: deque[float] = deque(maxlen=REMEMBERED)

    def start(self, now: float) -> None:
        """Start the clock at the first call."""
        if self.started is None:
            self.started = now

    def answered(self, attempts: int, tokens: int | None, seconds: float) -> None:
        """Record a successful request with its attempts, tokens and seconds; without its tokens their sum is unknown."""
        self.sent(attempts)
        self.tokens = None if tokens is None or self.tokens is None else self.tokens + tokens
        self._latencies.append(seconds)

    def sent(self, attempts: int) -> None:
        """Record the attempts of a failed request."""
        self.requests += attempts
        self.retried += max(attempts - 1, 0)

    def finished(self, items: int, failed: int) -> None:
        """Record finished items; `failed` of them have failed."""
        self.done += items
        self.failed += failed

    def progress(self, now: float, limit: int | None, throttles: int) -> Progress:
        """A snapshot. `throttles`, the throttled attempts, are not counted as retries."""
        ordered = sorted(self._latencies)
        return Progress(
            self.done,
            self.total,
            self.requests,
            self.tokens,
            0.0 if self.started is None else now - self.started,
            failed=self.failed,
            resumed=self.resumed,
            cached=self.cached,
            repeated=self.repeated,
            in_flight=self.in_flight,
            limit=limit,
            refusals=throttles,
            retries=max(self.retried - throttles, 0),
            latency_p50=_quantile(ordered, 0.5),
            latency_p95=_quantile(ordered, 0.95),
        )


def _quantile(ordered: list[float], share: float) -> float | None:
    """The value below which this share lies (nearest rank)."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None

"""Formats figures of long-running work: recent rates, amounts, times."""

from __future__ import annotations

from collections import deque

from attrs import frozen

from nimclient.records import Progress

PACE_SECONDS = 15.0


@frozen
class Rates:
    """Current rates per second, `tokens` None if unknown; `eta` in seconds, None without progress or an unknown total."""

    texts: float
    tokens: float | None
    eta: float | None


class RecentRates:
    """The rates of the last seconds; a Progress has those of the whole run."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int | None]] = deque()

    def rates(self, progress: Progress, seconds: float) -> Rates:
        """The current rates, `seconds` after the start. Each call adds a sample."""
        seen = self._seen
        if not seen:
            seen.append((seconds - progress.seconds, progress.resumed, 0))  # when the run began
        seen.append((seconds, progress.done, progress.tokens))
        while len(seen) > 2 and seen[1][0] <= seconds - PACE_SECONDS:
            seen.popleft()
        since, done, tokens = seen[0]
        passed = max(seconds - since, 1e-3)
        texts = (progress.done - done) / passed
        left = None if progress.total is None else max(progress.total - progress.done, 0)
        eta = None if left is None or (left and not texts) else left / texts if left else 0.0
        rate = None if progress.tokens is None or tokens is None else (progress.tokens - tokens) / passed
        return Rates(texts, rate, eta)


def sentence(progress: Progress, rates: Rates, unit: str) -> str:
    """The progress in one line."""
    parts = [
        amount(progress, unit),
        f"{rates.texts:,.0f} {unit}/s",
        *([] if rates.tokens is None else [f"{rates.tokens:,.0f} tokens/s"]),
        f"{in_flight(progress)} in flight",
        f"p50 {latency(progress.latency_p50)}, p95 {latency(progress.latency_p95)}",
    ]
    for number, name in ((progress.failed, "failed"), (progress.refusals, "throttled"), (progress.retries, "retried")):
        if number:
            parts.append(f"{number:,} {name}")
    if rates.eta is not None:
        parts.append(f"{clock(rates.eta)} left")
    return ", ".join(parts)


def amount(progress: Progress, unit: str) -> str:
    """The number done, and the total if known."""
    if progress.total is None:
        return f"{progress.done:,} {unit}"
    return f"{progress.done:,} of {progress.total:,} {unit} ({percent(progress)})"


def percent(progress: Progress) -> str:
    """The share done; 100 % only at the end."""
    if not progress.total or progress.done >= progress.total:
        return "100 %"
    return f"{min(progress.done / progress.total, 0.999) * 100:.1f} %"


def in_flight(progress: Progress) -> str:
    """Requests in flight, and the limit if there is one."""
    return f"{progress.in_flight}" + (f" of {progress.limit}" if progress.limit is not None else "")


def latency(seconds: float | None) -> str:
    """A latency in milliseconds, a long one in seconds."""
    if seconds is None:
        return "–"
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"

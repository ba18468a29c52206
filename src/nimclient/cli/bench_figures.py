"""The figures of a benchmark, under the names and by the definitions of NVIDIA's AIPerf. Pure.

Of each request that succeeded:

- time_to_first_token: from the request to the first event with content.
- request_latency: from the request to the last event with content; without a stream to the end of the response.
- inter_token_latency: (request_latency - time_to_first_token) / (output_sequence_length - 1).
- output_token_throughput_per_user: 1 / inter_token_latency.
- input_sequence_length, output_sequence_length: tokens, as the server counts them.

Of a whole level: the duration is that from the first request to the last response; throughputs are by that duration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from nimclient.cli.report import percentile

STATISTICS = ("avg", "min", "max", "p50", "p90", "p99")


@frozen
class Sample:
    """One request that succeeded: seconds in total and to the first token (None: not a stream), tokens, model."""

    latency: float
    ttft: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    model: str | None = None

    @property
    def itl(self) -> float | None:
        """Seconds between tokens; None for fewer than two of them."""
        if self.ttft is None or self.tokens_out < 2:
            return None
        return (self.latency - self.ttft) / (self.tokens_out - 1)

    @property
    def tokens_per_second(self) -> float | None:
        """The rate of tokens after the first one."""
        return 1 / self.itl if self.itl else None


@frozen
class Metric:
    """A figure of each request: its name, unit and title, and its value for a sample (None: not applicable)."""

    name: str
    unit: str
    title: str
    of: Callable[[Sample], float | None]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


METRICS = (
    Metric("time_to_first_token", "ms", "time to first token", lambda one: _milliseconds(one.ttft)),
    Metric("inter_token_latency", "ms", "inter token latency", lambda one: _milliseconds(one.itl)),
    Metric("request_latency", "ms", "request latency", lambda one: _milliseconds(one.latency)),
    Metric(
        "output_token_throughput_per_user",
        "tokens/sec/user",
        "tokens/s of one user",
        lambda one: one.tokens_per_second,
    ),
    Metric("output_sequence_length", "tokens", "output tokens", lambda one: one.tokens_out or None),
    Metric("input_sequence_length", "tokens", "input tokens", lambda one: one.tokens_in or None),
)


def statistics(values: Sequence[float]) -> dict[str, float]:
    """avg, min, max and percentiles, which are interpolated between neighbours."""
    shares = {name: percentile(values, int(name[1:]) / 100) or 0.0 for name in STATISTICS if name.startswith("p")}
    return {"avg": sum(values) / len(values), "min": min(values), "max": max(values), **shares}


def figures(concurrency: int, samples: Sequence[Sample], failed: int, seconds: float) -> dict[str, Any]:
    """One level of concurrency as a JSON object: {"time_to_first_token": {"unit": "ms", "avg": …, "p99": …}, …}."""
    result: dict[str, Any] = {"concurrency": concurrency}
    for metric in METRICS:
        if values := [value for sample in samples if (value := metric.of(sample)) is not None]:
            result[metric.name] = {"unit": metric.unit, **statistics(values)}
    tokens_in = sum(sample.tokens_in for sample in samples)
    tokens_out = sum(sample.tokens_out for sample in samples)
    whole: dict[str, tuple[str, float]] = {
        "request_throughput": ("requests/sec", len(samples) / seconds),
        "output_token_throughput": ("tokens/sec", tokens_out / seconds),
        "input_token_throughput": ("tokens/sec", tokens_in / seconds),
        "total_token_throughput": ("tokens/sec", (tokens_in + tokens_out) / seconds),
        "benchmark_duration": ("sec", seconds),
        "request_count": ("requests", len(samples)),
        "error_request_count": ("requests", failed),
    }
    result |= {name: {"unit": unit, "avg": value} for name, (unit, value) in whole.items()}
    return result


def table(run: Mapping[str, Any]) -> list[list[str]]:
    """A level as rows of a table, below the heading ("", *STATISTICS)."""
    shown = [metric for metric in METRICS if metric.name in run]
    rows: list[list[str]] = []
    for metric in shown:
        unit = " (ms)" if metric.unit == "ms" else ""
        rows.append([metric.title + unit, *(number(run[metric.name][name]) for name in STATISTICS)])
    return rows


def sentence(run: Mapping[str, Any]) -> str:
    """A level in a line: how many requests, how long, how fast."""
    failed = run["error_request_count"]["avg"]
    parts = [f"{run['request_count']['avg']:,} requests"]
    if failed:
        parts.append(f"{failed:,} failed")
    parts += [f"{run['benchmark_duration']['avg']:,.1f} s", f"{number(run['request_throughput']['avg'])} requests/s"]
    tokens = run["output_token_throughput"]["avg"] or run["input_token_throughput"]["avg"]
    if tokens:
        parts.append(f"{tokens:,.0f} tokens/s")
    return f"concurrency {run['concurrency']}: {', '.join(parts)}"


SUMMARY = ("concurrency", "requests/s", "tokens/s", "first token p50", "p99", "latency p50", "p99 (ms)")


def summary(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """All levels, one a row, below the heading SUMMARY; a dash where there is nothing."""
    rows: list[list[str]] = []
    for run in runs:
        row = [str(run["concurrency"]), number(run["request_throughput"]["avg"])]
        row.append(number(run["output_token_throughput"]["avg"] or run["input_token_throughput"]["avg"]))
        for name in ("time_to_first_token", "request_latency"):
            row += [number(run[name][part]) if name in run else "–" for part in ("p50", "p99")]
        rows.append(row)
    return rows


def number(value: float) -> str:
    """A number to about three digits."""
    return (
        f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"
    )

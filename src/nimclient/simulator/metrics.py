"""The Prometheus metrics of a server, under vLLM's names (a NIM 2.x passes them on) or Dynamo's."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from .wire import TokenCounts

CONTENT_TYPE: Final = "text/plain; version=0.0.4"
VLLM_METRICS: Final[Mapping[str, str]] = {
    "label": "model_name",
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "prompt": "vllm:prompt_tokens",
    "generated": "vllm:generation_tokens",
    "queries": "vllm:prefix_cache_queries",
    "hits": "vllm:prefix_cache_hits",
    "success": "vllm:request_success",
    "ttft": "vllm:time_to_first_token_seconds",
    "itl": "vllm:inter_token_latency_seconds",
    "e2e": "vllm:e2e_request_latency_seconds",
}
DYNAMO_METRICS: Final[Mapping[str, str]] = {
    "label": "model",
    "inflight": "dynamo_frontend_inflight_requests",
    "waiting": "dynamo_frontend_queued_requests",
    "generated": "dynamo_frontend_output_tokens",
    "success": "dynamo_frontend_requests",
    "ttft": "dynamo_frontend_time_to_first_token_seconds",
    "itl": "dynamo_frontend_inter_token_latency_seconds",
    "e2e": "dynamo_frontend_request_duration_seconds",
}
_COUNTERS: Final = {
    "prompt": "Number of prefill tokens processed.",
    "generated": "Number of generation tokens processed.",
    "queries": "Prefix cache queries, in terms of number of queried tokens.",
    "hits": "Prefix cache hits, in terms of number of cached tokens.",
}
_HISTOGRAMS: Final = {
    "ttft": "Histogram of time to first token in seconds.",
    "itl": "Histogram of inter-token latency in seconds.",
    "e2e": "Histogram of e2e request latency in seconds.",
}
_BUCKETS: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class _Histogram:
    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        self.counts[bisect_left(_BUCKETS, seconds)] += times
        self.sum += seconds * times


class Metrics:
    """The counters and histograms of a simulator, by model; `names` are those of its server type."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._counters: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._finished: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._histograms: defaultdict[tuple[str, str], _Histogram] = defaultdict(_Histogram)

    def observe(self, model: str, usage: TokenCounts, first: float, whole: float) -> None:
        """Count one answered request; `first` and `whole` are the seconds to its first and its last token."""
        self._count(model, usage, usage.completion_tokens)
        for reason in usage.finish_reasons or ("stop",):
            self._finished[model, "length" if reason == "length" else "stop"] += 1
        self._histograms["e2e", model].observe(whole)
        if usage.completion_tokens:
            self._histograms["ttft", model].observe(first)
        if usage.completion_tokens > 1:
            gaps = usage.completion_tokens - 1
            self._histograms["itl", model].observe((whole - first) / gaps, gaps)

    def aborted(self, model: str, usage: TokenCounts, tokens: int) -> None:
        """Count a request whose client left after so many tokens."""
        self._count(model, usage, tokens)
        self._finished[model, "abort"] += 1

    def _count(self, model: str, usage: TokenCounts, generated: int) -> None:
        for name, count in (
            ("prompt", usage.prompt_tokens),
            ("generated", generated),
            ("queries", usage.prompt_tokens),
            ("hits", usage.cached_tokens),
        ):
            self._counters[name, model] += count

    def text(self, model: str, running: int, waiting: int) -> str:
        """The metrics as Prometheus text. `model` is the label of requests in flight."""
        return "\n".join([*self._lines(model, running, waiting), ""])

    def _lines(self, model: str, running: int, waiting: int) -> Iterator[str]:
        for name, count, about in (
            ("running", running, "Number of requests in model execution batches."),
            ("inflight", running + waiting, "Number of inflight requests."),
            ("waiting", waiting, "Number of requests waiting to be processed."),
        ):
            if name in self._names:
                yield from self._head(name, "gauge", about)
                yield f"{self._names[name]}{{{self._label(model)}}} {count}"
        for name, about in _COUNTERS.items():
            if name in self._names:
                yield from self._head(name, "counter", about)
                for (kind, of), count in self._counters.items():
                    if kind == name:
                        yield f"{self._names[name]}_total{{{self._label(of)}}} {count}"
        yield from self._head("success", "counter", "Count of successfully processed requests.")
        for (of, reason), count in self._finished.items():
            yield f'{self._names["success"]}_total{{finished_reason="{reason}",{self._label(of)}}} {count}'
        for name, about in _HISTOGRAMS.items():
            yield from self._head(name, "histogram", about)
            for (kind, of), histogram in self._histograms.items():
                if kind == name:
                    yield from self._buckets(self._names[name], self._label(of), histogram)

    def _head(self, name: str, kind: str, about: str) -> Iterator[str]:
        suffix = "_total" if kind == "counter" else ""
        yield f"# HELP {self._names[name]}{suffix} {about}"
        yield f"# TYPE {self._names[name]}{suffix} {kind}"

    def _buckets(self, name: str, label: str, histogram: _Histogram) -> Iterator[str]:
        below = 0
        for edge, count in zip((*map(str, _BUCKETS), "+Inf"), histogram.counts, strict=True):
            below += count
            yield f'{name}_bucket{{{label},le="{edge}"}} {below}'
        yield f"{name}_count{{{label}}} {below}"
        yield f"{name}_sum{{{label}}} {histogram.sum}"

    def _label(self, model: str) -> str:
        escaped = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self._names["label"]}="{escaped}"'

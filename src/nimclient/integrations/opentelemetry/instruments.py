"""The metrics of the conventions for generative AI, in either generation of their names. The buckets are the conventions'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry.metrics import Counter, Histogram, Meter

from nimclient.integrations.opentelemetry.attributes import EMBEDDINGS, EXECUTE_TOOL, INFERENCES, Tokens

SECONDS = tuple(0.01 * 2**n for n in range(14))
TOKENS = tuple(4.0**n for n in range(14))


class Instruments:
    """The metrics of each request. `latest`: under the names after version 1.41."""

    def __init__(self, meter: Meter, *, latest: bool) -> None:
        self._meter = meter
        self._operation = self._seconds("operation.duration", "GenAI operation duration")
        stem = "inference" if latest else "operation"
        self._first_chunk = self._seconds(f"{stem}.time_to_first_chunk", "Time to the first chunk of a stream")
        self._next_chunk = self._seconds(f"{stem}.time_per_output_chunk", "Time of each chunk after the first")
        self._durations: dict[str, Histogram] = {}
        self._inputs: dict[str, Histogram] = {}
        self._outputs: Histogram | None = None
        self._counters: dict[str, Counter] = {}
        self._usage: Histogram | None = None
        self._tool_runs: Histogram | None = None
        if latest:
            self._of_latest()
        else:
            self._usage = self._tokens("token.usage", "Number of input and output tokens used")

    def _of_latest(self) -> None:
        self._tool_runs = self._meter.create_histogram(
            "gen_ai.execute_tool.duration", "s", "Duration of a tool run", explicit_bucket_boundaries_advisory=SECONDS
        )
        inference = self._seconds("inference.duration", "Duration of an inference")
        embeddings = self._seconds("embeddings.duration", "Duration of an embedding request")
        inputs = self._tokens("inference.operation.input_tokens", "Input tokens of an inference")
        self._durations = {**dict.fromkeys(INFERENCES, inference), EMBEDDINGS: embeddings}
        self._inputs = {
            **dict.fromkeys(INFERENCES, inputs),
            EMBEDDINGS: self._tokens("embeddings.operation.input_tokens", "Input tokens of an embedding request"),
        }
        self._outputs = self._tokens("inference.operation.output_tokens", "Output tokens of an inference")
        for kind in ("input_tokens", "output_tokens", "cache_read.input_tokens", "reasoning.output_tokens"):
            name = f"gen_ai.client.inference.usage.{kind}"
            self._counters[kind] = self._meter.create_counter(name, "{token}", "Tokens used by inferences")

    def _seconds(self, name: str, description: str) -> Histogram:
        return self._meter.create_histogram(
            f"gen_ai.client.{name}", "s", description, explicit_bucket_boundaries_advisory=SECONDS
        )

    def _tokens(self, name: str, description: str) -> Histogram:
        return self._meter.create_histogram(
            f"gen_ai.client.{name}", "{token}", description, explicit_bucket_boundaries_advisory=TOKENS
        )

    def duration(self, operation: str, seconds: float, attributes: Mapping[str, str | int]) -> None:
        """Record the duration of an operation; the attributes of a failed one have `error.type`."""
        self._durations.get(operation, self._operation).record(seconds, attributes)

    def tool_run(self, name: str, seconds: float, attributes: Mapping[str, str | int]) -> None:
        """How long a tool ran. The latest names have a metric for it, which tells the tool; before, it was an operation."""
        if self._tool_runs is None:
            self.duration(EXECUTE_TOOL, seconds, attributes)
            return
        failed = {key: value for key, value in attributes.items() if key == "error.type"}
        self._tool_runs.record(seconds, {"gen_ai.tool.name": name, "gen_ai.tool.type": "function", **failed})

    def chunks(self, first: float | None, gaps: Sequence[float], attributes: Mapping[str, str | int]) -> None:
        """Record the times of chunks: seconds to the first, and between consecutive ones."""
        if first is not None:
            self._first_chunk.record(first, attributes)
        for seconds in gaps:
            self._next_chunk.record(seconds, attributes)

    def tokens(self, operation: str, tokens: Tokens | None, attributes: Mapping[str, str | int]) -> None:
        """Record the tokens of a successful operation; None if unknown."""
        if self._usage is not None:
            if tokens is not None:
                self._usage.record(tokens.input, {**attributes, "gen_ai.token.type": "input"})
                if operation in INFERENCES:
                    self._usage.record(tokens.output, {**attributes, "gen_ai.token.type": "output"})
            return
        if tokens is not None and operation in self._inputs:
            self._inputs[operation].record(tokens.input, attributes)
        if operation not in INFERENCES:
            return
        if tokens is not None and self._outputs is not None:
            self._outputs.record(tokens.output, attributes)
        self._count(tokens, attributes)

    def _count(self, tokens: Tokens | None, attributes: Mapping[str, str | int]) -> None:
        """The counters of the latest names: without usage they record 0 of an unknown modality."""
        known = Tokens(0, 0, modality="unknown") if tokens is None else tokens
        output = "unknown" if tokens is None else "text"
        counts = {
            "input_tokens": (known.input, known.modality),
            "output_tokens": (known.output, output),
            "cache_read.input_tokens": (known.cached, known.modality),
            "reasoning.output_tokens": (known.reasoning, output),
        }
        for kind, (count, modality) in counts.items():
            if count is not None:
                self._counters[kind].add(count, {**attributes, "gen_ai.token.modality": modality})

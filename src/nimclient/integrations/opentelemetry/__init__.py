"""OpenTelemetry for nimclient: spans and metrics by the conventions for generative AI. `pip install nimclient[otel]`.

``instrument()`` once, before or after clients are created: it applies to every client of the process, until `uninstrument()`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

try:
    from opentelemetry import metrics, trace
    from opentelemetry._logs import LoggerProvider, get_logger
except ImportError as missing:
    raise ImportError(
        "nimclient.integrations.opentelemetry wants opentelemetry-api: pip install 'nimclient[otel]'"
    ) from missing

from nimclient import __version__
from nimclient._base import observers
from nimclient._base.warnings import warn_caller
from nimclient.integrations.opentelemetry.instruments import Instruments
from nimclient.integrations.opentelemetry.observer import Settings, Tracing

__all__ = ["instrument", "uninstrument"]

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
EMIT_EVENT = "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT"
LATEST = "gen_ai_latest_experimental"
MODES = ("NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT")

_tracing: Tracing | None = None


def instrument(
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    provider_name: str = "nvidia",
    item_spans: bool = False,
    chunk_times: bool = True,
    propagate: bool = True,
) -> None:
    """Trace and measure every call of every client in this process from now on. Another call replaces the settings.

    A span for each call of chat, completions, embeddings and rerank (a stream's lasts until its end),
    one for the whole of `batch`, `embed_documents` and a rerank of several slices, one for each function that
    `run_tools` runs. Each attempt is an event of its call's span. Requests carry the context by the global propagator
    (W3C: `traceparent`). Metrics are recorded for every request, also for those of batches and jobs.

    `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` chooses the newest names of the conventions, else those up to
    1.41. Messages, tool arguments and the texts of errors are recorded only as
    `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` says: NO_CONTENT (the default), SPAN_ONLY, EVENT_ONLY,
    SPAN_AND_EVENT. `OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT=true` emits the event of each call without content, too. All three
    are read here, once.

    Args:
        tracer_provider: Where spans go; None: the global one.
        meter_provider: Where metrics go; None: the global one.
        logger_provider: Where events with content go; None: the global one.
        provider_name: `gen_ai.provider.name`; the conventions have no value for NVIDIA or vLLM.
        item_spans: A span also for each request of `batch`, `as_completed`, `embed_documents`, `embed_stream` and jobs.
        chunk_times: The histogram of the time per output chunk. Each point takes the SDK 10 to 30 µs, at the end of the
            stream; the time to the first chunk and the duration are recorded without it.
        propagate: Whether requests carry the context (and baggage, where the global propagator sends it) to the server.
    """
    global _tracing  # one per process, like the global providers
    mode = _content_mode(os.environ)
    latest = LATEST in {word.strip() for word in os.environ.get(OPT_IN, "").split(",")}
    name = "nimclient"
    settings = Settings(
        tracer=trace.get_tracer(name, __version__, tracer_provider),
        instruments=Instruments(metrics.get_meter(name, __version__, meter_provider), latest=latest),
        logger=get_logger(name, __version__, logger_provider),
        provider_name=provider_name,
        item_spans=item_spans,
        chunk_times=chunk_times,
        propagate=propagate,
        latest=latest,
        span_content=mode.startswith("SPAN"),
        event_content=mode.endswith("EVENT") or mode == "EVENT_ONLY",
        emit_event=os.environ.get(EMIT_EVENT, "").strip().lower() == "true",
    )
    uninstrument()
    _tracing = Tracing(settings)
    observers.install(_tracing)


def uninstrument() -> None:
    """Stop tracing new calls. Spans of calls in progress still end."""
    global _tracing
    tracing, _tracing = _tracing, None
    if tracing is not None:
        observers.remove(tracing)


def _content_mode(environment: Mapping[str, str]) -> str:
    """Where content is recorded."""
    given = environment.get(CAPTURE, "").strip().upper()
    if given and given not in MODES:
        warn_caller(f"{CAPTURE}={given!r} is none of {', '.join(MODES)}; no content is captured", UserWarning)
    return given if given in MODES else "NO_CONTENT"

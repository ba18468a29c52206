"""The observer that creates spans, metrics and events of calls. A call's span is never current: a stream may begin in one
task and end in another. Only batches and tools, which run other code, are current while they run, in their own task.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import Token
from typing import Any

from attrs import frozen
from opentelemetry import context, propagate, trace
from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from nimclient._base import json
from nimclient._base.observers import CallFacts, Observation, ToolFacts
from nimclient.errors import Attempt
from nimclient.integrations.opentelemetry.attributes import (
    EMBEDDINGS,
    EXECUTE_TOOL,
    INFERENCES,
    OPERATIONS,
    Attributes,
    attempt_attributes,
    error_type,
    input_modality,
    meta_of,
    model_of,
    request_attributes,
    response_attributes,
    server_of,
    tokens_of,
)
from nimclient.integrations.opentelemetry.content import content_of
from nimclient.integrations.opentelemetry.instruments import Instruments

EXCEPTION = "gen_ai.client.operation.exception"
DETAILS = "gen_ai.client.inference.operation.details"
ATTEMPT = "nimclient.attempt"


@frozen
class Settings:
    """The arguments of `instrument`. `latest`: the newest names of the conventions."""

    tracer: Tracer
    instruments: Instruments
    logger: Logger
    provider_name: str
    item_spans: bool
    chunk_times: bool
    propagate: bool
    latest: bool
    span_content: bool
    event_content: bool
    emit_event: bool


class Tracing:
    """The Observer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def call(self, facts: CallFacts) -> Observation | None:
        """See Observer. Routes without a model of a known kind get no span; their requests still carry the context."""
        if context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY):
            return None
        operation = OPERATIONS.get(facts.kind)
        if operation is None:
            return _Carrier(self._settings) if self._settings.propagate else None
        return _ObservedCall(self._settings, operation, facts)

    def tool(self, facts: ToolFacts) -> Observation | None:
        """See Observer."""
        if context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY):
            return None
        return _Tool(self._settings, facts)


class _Carrier:
    """Propagates the context, and records nothing."""

    def __init__(self, settings: Settings, within: Context | None = None) -> None:
        self.headers: Mapping[str, str] = {}
        if settings.propagate:
            carrier: dict[str, str] = {}
            propagate.inject(carrier, within)
            self.headers = carrier

    def enter(self) -> None:
        """See Observation."""

    def attempted(self, attempt: Attempt) -> None:
        """See Observation."""

    def ended(self, result: object, error: BaseException | None) -> None:
        """See Observation."""


class _Spanned(_Carrier):
    """Base class of observations with an optional span."""

    def __init__(self, settings: Settings, span: Span | None) -> None:
        self._settings = settings
        self._span = span
        self._context = None if span is None else trace.set_span_in_context(span)
        self._token: Token[Context] | None = None
        self._started = time.perf_counter()
        super().__init__(settings, self._context)

    def enter(self) -> None:
        """See Observation."""
        if self._context is not None:
            self._token = context.attach(self._context)

    def _leave(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            context.detach(token)

    def _end_span(self, error: BaseException | None) -> None:
        """End the span, with its status. An error's text may quote the input, so it counts as content."""
        if self._span is None:
            return
        if error is not None:
            self._span.set_attribute("error.type", error_type(error))
            if request_id := getattr(error, "request_id", None):
                self._span.set_attribute("nimclient.request_id", request_id)
            text = str(error) if self._settings.span_content else type(error).__name__
            self._span.set_status(Status(StatusCode.ERROR, text))
        self._span.end()


class _ObservedCall(_Spanned):
    """A call, one request of a call over many items, or the whole of it."""

    def __init__(self, settings: Settings, operation: str, facts: CallFacts) -> None:
        self._operation = operation
        self._facts = facts
        self._fields = facts.fields or {}
        self._attempts = 0
        self._server = server_of(facts.url)
        self._named: dict[str, str | int] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": settings.provider_name,
        }
        if facts.model is not None:
            self._named["gen_ai.request.model"] = str(facts.model)
        has_span = facts.scope != "item" or settings.item_spans
        super().__init__(settings, self._start(settings) if has_span else None)

    def _start(self, settings: Settings) -> Span:
        facts = self._facts
        attributes: Attributes = {**self._named, **self._server}
        if facts.stream and self._operation in INFERENCES:
            attributes["gen_ai.request.stream"] = True
        name = self._operation if facts.model is None else f"{self._operation} {facts.model}"
        span = settings.tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        if span.is_recording():
            span.set_attributes(request_attributes(self._fields, latest=settings.latest))
        return span

    def attempted(self, attempt: Attempt) -> None:
        """See Observation."""
        self._attempts += 1
        server = server_of(attempt.base_url)
        if self._span is not None and self._span.is_recording():
            self._span.add_event(ATTEMPT, attempt_attributes(attempt, self._attempts))
            if server != self._server:
                self._span.set_attributes(server)
        self._server = server

    def ended(self, result: object, error: BaseException | None) -> None:
        """See Observation."""
        seconds = time.perf_counter() - self._started
        self._leave()
        try:
            if self._facts.scope != "many":
                self._measure(seconds, result, error)
            if self._span is not None and self._span.is_recording():
                self._describe(self._span, result)
            if self._operation in INFERENCES and self._facts.scope != "many":
                self._emit_details(result, error)
            if isinstance(error, Exception) and self._settings.latest:
                self._emit_exception(error)
        finally:
            self._end_span(error)

    def _measure(self, seconds: float, result: object, error: BaseException | None) -> None:
        instruments = self._settings.instruments
        attributes = {**self._named, **self._server}
        if (model := model_of(result)) is not None:
            attributes["gen_ai.response.model"] = model
        failed = {} if error is None else {"error.type": error_type(error)}
        instruments.duration(self._operation, seconds, {**attributes, **failed})
        meta = meta_of(result)
        if self._facts.stream and meta is not None:
            gaps = meta.timings.inter_token if self._settings.chunk_times else ()
            instruments.chunks(meta.timings.ttft, gaps, attributes)
        if error is None:
            tokens = tokens_of(result, input_modality(self._fields))
            instruments.tokens(self._operation, tokens, attributes)

    def _describe(self, span: Span, result: object) -> None:
        """Add the response to the span."""
        span.set_attributes(self._response(result))
        if self._settings.span_content and self._operation in INFERENCES:
            for name, messages in content_of(self._fields, result).items():
                span.set_attribute(name, json.dumps(messages).decode("utf-8", "replace"))

    def _response(self, result: object) -> Attributes:
        found = response_attributes(result)
        meta = meta_of(result)
        if self._facts.stream and meta is not None and meta.timings.ttft is not None:
            found["gen_ai.response.time_to_first_chunk"] = meta.timings.ttft
        dimensions = self._fields.get("dimensions")
        if self._operation == EMBEDDINGS and isinstance(dimensions, int):
            found.setdefault("gen_ai.embeddings.dimension.count", dimensions)
        return found

    def _emit_exception(self, error: Exception) -> None:
        """The event of a call that failed, which the latest conventions have. Its text counts as content."""
        attributes = {"exception.type": f"{type(error).__module__}.{type(error).__qualname__}"}
        if self._settings.event_content:
            attributes["exception.message"] = str(error)
        self._settings.logger.emit(
            LogRecord(
                event_name=EXCEPTION, attributes=attributes, context=self._context, severity_number=SeverityNumber.WARN
            )
        )

    def _emit_details(self, result: object, error: BaseException | None) -> None:
        """Emit the event of the call, for content outside of spans."""
        settings = self._settings
        if not (settings.event_content or settings.emit_event):
            return
        attributes: dict[str, Any] = {
            **self._named,
            **self._server,
            **request_attributes(self._fields, latest=settings.latest),
            **self._response(result),
        }
        if error is not None:
            attributes["error.type"] = error_type(error)
        if settings.event_content:
            attributes |= content_of(self._fields, result)
        settings.logger.emit(LogRecord(event_name=DETAILS, attributes=attributes, context=self._context))


class _Tool(_Spanned):
    """A run of a tool."""

    def __init__(self, settings: Settings, facts: ToolFacts) -> None:
        self._named: dict[str, str | int] = {
            "gen_ai.operation.name": EXECUTE_TOOL,
            "gen_ai.provider.name": settings.provider_name,
        }
        self._name = facts.name
        attributes: Attributes = {
            **self._named,
            "gen_ai.tool.name": facts.name,
            "gen_ai.tool.call.id": facts.id,
            "gen_ai.tool.type": "function",
        }
        if facts.description:
            attributes["gen_ai.tool.description"] = facts.description
        if settings.span_content:
            attributes["gen_ai.tool.call.arguments"] = facts.arguments
        name = f"{EXECUTE_TOOL} {facts.name}"
        super().__init__(settings, settings.tracer.start_span(name, kind=SpanKind.INTERNAL, attributes=attributes))

    def ended(self, result: object, error: BaseException | None) -> None:
        """See Observation."""
        seconds = time.perf_counter() - self._started
        self._leave()
        failed = {} if error is None else {"error.type": error_type(error)}
        try:
            self._settings.instruments.tool_run(self._name, seconds, {**self._named, **failed})
            if self._span is not None and self._settings.span_content and isinstance(result, str):
                self._span.set_attribute("gen_ai.tool.call.result", result)
        finally:
            self._end_span(error)

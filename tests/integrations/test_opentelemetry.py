"""Spans, metrics and events by the conventions for generative AI, in the SDK's own exporters and over OTLP."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from attrs import field, frozen
from opentelemetry import baggage, context, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from nimclient import AsyncClient, ChatStream, Client, RetryPolicy
from nimclient._base import observers
from nimclient.errors import BadRequestError, ConnectionLostError, NimError, StreamInterruptedError
from nimclient.integrations.opentelemetry import instrument, uninstrument
from nimclient.jobs import EmbedJob
from nimclient.simulator import Simulator
from nimclient.testing import FakeTransport
from support.leaks import assert_idle
from support.wire import MODEL, chat_body, embedded

FAST = RetryPolicy(first_delay=0.001, max_delay=0.002)
URL = "http://nim.test:8000"
CHAT = "meta/llama-3.1-8b-instruct"
EMBEDDING = "nvidia/nv-embedqa-e5-v5"
RANKING = "nvidia/llama-3.2-nv-rerankqa-1b-v2"
LATEST = "gen_ai_latest_experimental"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
SECRET = "the launch code is 0000"

Make = Callable[..., AsyncClient]


@frozen
class Telemetry:
    """What the SDK's exporters have got."""

    exporter: InMemorySpanExporter = field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(factory=InMemoryMetricReader)
    logs: InMemoryLogRecordExporter = field(factory=InMemoryLogRecordExporter)
    traces: TracerProvider = field(factory=TracerProvider)

    def instrument(self, **settings: Any) -> None:
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        events = LoggerProvider()
        events.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        meters = MeterProvider([self.reader])
        instrument(tracer_provider=self.traces, meter_provider=meters, logger_provider=events, **settings)

    @property
    def spans(self) -> list[ReadableSpan]:
        """Ended spans, oldest end first."""
        return list(self.exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        """The only one."""
        (span,) = self.spans
        return span

    def points(self) -> dict[str, list[Any]]:
        """Data points by the name of their metric."""
        data = self.reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found.setdefault(metric.name, []).extend(metric.data.data_points)
        return found


@pytest.fixture
def unused(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Telemetry]:
    """Exporters, not installed yet. At the end nothing has complained: neither OpenTelemetry nor the seam."""
    for name in (CAPTURE, OPT_IN, "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT"):
        monkeypatch.delenv(name, raising=False)
    with caplog.at_level(logging.WARNING):
        yield Telemetry()
    uninstrument()
    assert [r.getMessage() for r in caplog.records if r.name.startswith(("opentelemetry", "nimclient"))] == []


@pytest.fixture
def telemetry(unused: Telemetry) -> Telemetry:
    """The same, installed."""
    unused.instrument()
    return unused


def client_of(transport: FakeTransport, **settings: Any) -> AsyncClient:
    return AsyncClient(**{"base_url": URL, "model": MODEL, "transport": transport, "retry": FAST, **settings})


def blocking_client_of(transport: FakeTransport) -> Client:
    return Client(base_url=URL, model=MODEL, transport=transport, retry=FAST)


def chunk(text: str = "", **choice: Any) -> dict[str, Any]:
    return {"id": "chat-1", "model": MODEL, "choices": [{"index": 0, "delta": {"content": text}, **choice}]}


USAGE = {"id": "chat-1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}}
EVENTS = [chunk("Hel"), chunk("lo"), chunk("!", finish_reason="stop"), USAGE]


# calls -----------------------------------------------------------------------------------------------------------------


async def test_a_chat_is_a_client_span_by_the_conventions(telemetry: Telemetry) -> None:
    """Name, kind and attributes of a chat's span are those that the conventions require or recommend."""
    async with client_of(FakeTransport([chat_body(usage={"prompt_tokens": 7, "completion_tokens": 2})])) as client:
        await client.chat.create(
            "hi",
            temperature=0,
            top_p=0.5,
            max_tokens=9,
            seed=3,
            stop="END",
            n=2,
            response_format={"type": "json_object"},
        )
    span = telemetry.span
    assert (span.name, span.kind, span.status.status_code) == (f"chat {MODEL}", SpanKind.CLIENT, StatusCode.UNSET)
    attributes = dict(span.attributes or {})
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "nvidia",
        "gen_ai.request.model": MODEL,
        "server.address": "nim.test",
        "server.port": 8000,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "json",
        "gen_ai.response.id": "chat-1",
        "gen_ai.response.model": MODEL,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
    }


async def test_each_operation_has_its_span(telemetry: Telemetry, nim_simulator: Simulator) -> None:
    """Completions, embeddings, reranking and both forms of chat against a whole server, each once."""
    async with AsyncClient(base_url=nim_simulator.base_url) as client:
        await client.chat.create("hi", model=CHAT)
        await client.chat.stream("hi", model=CHAT).final()
        await client.completions.create("once", model=CHAT)
        await client.embeddings.embed_query("a", model=EMBEDDING)
        await client.embeddings.embed_documents(["a", "b", "c"], model=EMBEDDING, batch_size=1)
        await client.rerank("q", ["a", "b"], model=RANKING)
        await client.models.list()
    assert [span.name for span in telemetry.spans] == [
        f"chat {CHAT}",
        f"chat {CHAT}",
        f"text_completion {CHAT}",
        f"embeddings {EMBEDDING}",
        f"embeddings {EMBEDDING}",
        f"rerank {RANKING}",
    ]
    documents = dict(telemetry.spans[4].attributes or {})
    assert documents["gen_ai.embeddings.dimension.count"] == 1024
    assert documents["gen_ai.usage.input_tokens"] == 3 * int(
        dict(telemetry.spans[3].attributes or {})["gen_ai.usage.input_tokens"]
    )
    assert "gen_ai.usage.output_tokens" not in documents


def test_the_blocking_client_hands_its_callers_context_on(telemetry: Telemetry) -> None:
    """Spans of a Client's calls, of both forms, are children of the span that is current in the calling thread."""
    transport = FakeTransport([chat_body(), EVENTS, *[chat_body()] * 4])
    tracer = telemetry.traces.get_tracer("test")
    with tracer.start_as_current_span("request") as parent, blocking_client_of(transport) as client:
        client.chat.create("hi")
        with client.chat.stream("hi") as stream:
            assert "".join(stream.text_stream) == "Hello!"
        client.chat.batch(["a", "b"])
        client.chat.batch(iter(["a", "b"]))
    *calls, root = telemetry.spans
    assert [span.name for span in calls] == [f"chat {MODEL}"] * 4
    assert {span.parent.span_id for span in calls if span.parent} == {parent.get_span_context().span_id}
    assert root.parent is None
    traces = {request.headers["traceparent"].split("-")[1] for request in transport.requests}
    assert traces == {f"{parent.get_span_context().trace_id:032x}"}


async def test_requests_carry_the_context_of_their_span(telemetry: Telemetry) -> None:
    """`traceparent` names the span of the call; the caller's own, in whatever case, is left alone; baggage goes along."""
    transport = FakeTransport([chat_body(), chat_body(), {"data": []}])
    token = context.attach(baggage.set_baggage("tenant", "t1"))
    try:
        async with client_of(transport) as client:
            await client.chat.create("hi")
            await client.chat.create("hi", extra_headers={"TraceParent": "00-mine"})
            with telemetry.traces.get_tracer("test").start_as_current_span("list"):
                await client.models.list()
    finally:
        context.detach(token)
    first, second, third = transport.requests
    call = telemetry.spans[0].get_span_context()
    assert call is not None
    assert first.headers["traceparent"].startswith(f"00-{call.trace_id:032x}-{call.span_id:016x}-")
    assert first.headers["baggage"] == "tenant=t1"
    assert [value for name, value in second.headers.items() if name.lower() == "traceparent"] == ["00-mine"]
    assert "traceparent" in third.headers


async def test_propagation_can_be_switched_off(unused: Telemetry) -> None:
    """propagate=False sends no header of ours; the span is there."""
    unused.instrument(propagate=False)
    transport = FakeTransport([chat_body()])
    async with client_of(transport) as client:
        await client.chat.create("hi")
    assert "traceparent" not in transport.requests[0].headers
    assert unused.span.name == f"chat {MODEL}"


async def test_attempts_are_events_and_the_span_is_one(telemetry: Telemetry) -> None:
    """A retried call is one span with an event for each attempt: status or error class, and where it went."""
    failed = ConnectionLostError("gone", phase="headers")
    async with client_of(FakeTransport([503, failed, chat_body()])) as client:
        await client.chat.create("hi")
    span = telemetry.span
    events = [dict(event.attributes or {}) for event in span.events if event.name == "nimclient.attempt"]
    assert [event["nimclient.attempt.number"] for event in events] == [1, 2, 3]
    assert [event.get("http.response.status_code") for event in events] == [503, None, 200]
    assert [event.get("error.type") for event in events] == ["503", "ConnectionLostError", None]
    assert {event["server.address"] for event in events} == {"nim.test"}
    assert span.status.status_code is StatusCode.UNSET


async def test_the_span_names_the_replica_that_answered(telemetry: Telemetry) -> None:
    """server.address and the metrics are those of the last attempt, each event has its own."""
    down = ConnectionLostError("gone", phase="headers")

    def answer(request: Any) -> Any:
        return chat_body() if len(transport.requests) > 1 else down

    transport = FakeTransport(answer)
    bases = ["http://one.test:1", "http://two.test:2"]
    async with client_of(transport, base_url=bases) as client:
        await client.chat.create("hi")
    first, last = [dict(event.attributes or {}) for event in telemetry.span.events]
    assert {first["server.address"], last["server.address"]} == {"one.test", "two.test"}
    assert dict(telemetry.span.attributes or {})["server.address"] == last["server.address"]
    (point,) = telemetry.points()["gen_ai.client.operation.duration"]
    assert point.attributes["server.address"] == last["server.address"]


async def test_a_failed_call_has_an_error_type_and_no_text_of_the_servers(telemetry: Telemetry) -> None:
    """error.type is the status; the status description does not quote the server, which may quote the question."""
    body = (422, {"x-request-id": "r-1"}, {"detail": f"bad input: {SECRET}"})
    async with client_of(FakeTransport([body])) as client:
        with pytest.raises(NimError, match=SECRET):
            await client.chat.create(SECRET)
    span = telemetry.span
    attributes = dict(span.attributes or {})
    assert (attributes["error.type"], attributes["nimclient.request_id"]) == ("422", "r-1")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "UnprocessableEntityError")
    assert SECRET not in span.to_json()
    (point,) = telemetry.points()["gen_ai.client.operation.duration"]
    assert point.attributes["error.type"] == "422"
    assert "gen_ai.client.token.usage" not in telemetry.points()


async def test_a_cancelled_call_ends_its_span(telemetry: Telemetry) -> None:
    """Cancellation goes through as it is, and the span has ended as an error by then."""
    arrived = asyncio.Event()

    async def never(request: Any) -> Any:
        arrived.set()
        await asyncio.Event().wait()

    async with client_of(FakeTransport(never)) as client:
        task = asyncio.create_task(client.chat.create("hi"))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert dict(telemetry.span.attributes or {})["error.type"] == "CancelledError"
    assert telemetry.span.status.status_code is StatusCode.ERROR


# streams ---------------------------------------------------------------------------------------------------------------


async def test_a_stream_is_measured_chunk_by_chunk(telemetry: Telemetry) -> None:
    """A stream's span lasts to its end; it has the time to the first chunk, the metrics one point for each chunk after it."""
    async with client_of(FakeTransport([EVENTS])) as client, client.chat.stream("hi") as stream:
        assert telemetry.spans == []
        assert [chunk.text async for chunk in stream] == ["Hel", "lo", "!", ""]
    attributes = dict(telemetry.span.attributes or {})
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["gen_ai.usage.output_tokens"] == 3
    first = attributes["gen_ai.response.time_to_first_chunk"]
    points = telemetry.points()
    (ttft,) = points["gen_ai.client.operation.time_to_first_chunk"]
    (gaps,) = points["gen_ai.client.operation.time_per_output_chunk"]
    assert (ttft.count, ttft.sum) == (1, first)
    assert gaps.count == 2  # three chunks with content
    assert ttft.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    assert ttft.explicit_bounds[-1] == pytest.approx(81.92)


async def test_the_time_of_each_chunk_can_be_left_out(unused: Telemetry) -> None:
    """chunk_times=False keeps the time to the first chunk and records no point for each other one."""
    unused.instrument(chunk_times=False)
    async with client_of(FakeTransport([EVENTS])) as client:
        await client.chat.stream("hi").final()
    assert "gen_ai.client.operation.time_per_output_chunk" not in unused.points()
    assert "gen_ai.client.operation.time_to_first_chunk" in unused.points()


async def test_what_a_server_leaves_out_is_left_out(telemetry: Telemetry) -> None:
    """No attribute is None, which OpenTelemetry would complain of: not of an answer without id, model, usage and reason."""
    bare = {"choices": [{"message": {"content": "x"}, "finish_reason": None}], "usage": None, "id": None, "model": None}
    async with client_of(FakeTransport([bare, {"data": [{"embedding": [1.0]}]}])) as client:
        await client.chat.create("hi", temperature=None)
        await client.embeddings.create(["1"])
    chat, embedding = (dict(span.attributes or {}) for span in telemetry.spans)
    assert {name for name in chat if name.startswith(("gen_ai.response", "gen_ai.usage"))} == set()
    assert embedding["gen_ai.embeddings.dimension.count"] == 1
    assert None not in (*chat.values(), *embedding.values())


async def test_a_whole_answer_in_one_read_ends_its_span_too(telemetry: Telemetry) -> None:
    """A server that ignores `stream` sends one JSON body: the stream is at its end as soon as it is open."""
    async with client_of(FakeTransport([chat_body()])) as client:
        answer = await client.chat.stream("hi").final()
    assert answer.text == "Hello"
    assert dict(telemetry.span.attributes or {})["gen_ai.response.finish_reasons"] == ("stop",)


@pytest.mark.parametrize("how", ["break in a block", "aclose", "another task", "dropped"])
async def test_a_stream_that_is_left_early_ends_its_span(telemetry: Telemetry, how: str) -> None:
    """Left by break, by aclose, from another task or by forgetting it, a stream has one span, no error, and what had come."""
    client = client_of(FakeTransport([EVENTS]))
    stream = client.chat.stream("hi")
    if how == "break in a block":
        async with stream:
            async for _ in stream:
                break
    elif how == "dropped":
        await anext(stream)
        with pytest.warns(ResourceWarning, match="was not closed"):
            del stream
        await asyncio.sleep(0)
    else:
        await asyncio.create_task(stream.__aenter__())
        close = stream.aclose()
        await (asyncio.create_task(close) if how == "another task" else close)
    await client.aclose()
    attributes = dict(telemetry.span.attributes or {})
    assert telemetry.span.status.status_code is StatusCode.UNSET
    assert "gen_ai.response.finish_reasons" not in attributes
    assert "error.type" not in attributes
    assert attributes["gen_ai.response.model"] == MODEL
    assert telemetry.points()["gen_ai.client.operation.time_to_first_chunk"][0].count == 1


def test_a_blocking_stream_that_is_left_early_ends_its_span(telemetry: Telemetry) -> None:
    """The same for Client."""
    with blocking_client_of(FakeTransport([EVENTS])) as client, client.chat.stream("hi") as stream:
        next(stream)
    assert telemetry.span.status.status_code is StatusCode.UNSET


def test_a_stream_that_outlives_its_loop_ends_its_span(telemetry: Telemetry) -> None:
    """Dropped when its loop is closed, where nothing can be called later, it still has its span."""
    kept: list[ChatStream] = []

    async def main() -> None:
        kept.append(await client_of(FakeTransport([EVENTS])).chat.stream("hi"))

    asyncio.run(main())
    assert telemetry.spans == []
    with pytest.warns(ResourceWarning, match="was not closed"):
        kept.clear()
    assert telemetry.span.name == f"chat {MODEL}"


async def test_a_stream_that_is_never_opened_has_no_span(telemetry: Telemetry) -> None:
    """Nothing was asked, so nothing is reported, and no span is left open."""
    async with client_of(FakeTransport([])) as client:
        await client.chat.stream("hi").aclose()
    assert telemetry.spans == []


async def test_a_stream_that_breaks_is_an_error_with_what_had_come(telemetry: Telemetry) -> None:
    """The span of an interrupted stream has the error's class and the chunks' metrics."""
    broken = [chunk("Hel"), chunk("lo"), ConnectionLostError("gone", phase="body")]
    async with client_of(FakeTransport([broken])) as client:
        with pytest.raises(StreamInterruptedError):
            await client.chat.stream("hi").final()
    assert dict(telemetry.span.attributes or {})["error.type"] == "StreamInterruptedError"
    assert telemetry.points()["gen_ai.client.operation.time_per_output_chunk"][0].count == 1


async def test_a_consumers_own_error_and_cancellation_end_the_span(telemetry: Telemetry) -> None:
    """What the caller raises between two chunks closes the stream; cancelled while it waits, the span says so."""
    waiting = asyncio.Event()

    async def body(request: Any) -> Any:
        return EVENTS

    async with client_of(FakeTransport(body)) as client:
        with pytest.raises(KeyError):
            async with client.chat.stream("hi") as stream:
                async for _ in stream:
                    raise KeyError("mine")
    assert "error.type" not in dict(telemetry.span.attributes or {})

    async with Simulator(ttft=0.0, itl=60.0) as sim, AsyncClient(base_url=sim.base_url, model=CHAT) as client:

        async def read() -> None:
            async for _ in client.chat.stream("tell me more"):
                waiting.set()

        task = asyncio.create_task(read())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_idle(client)
    assert dict(telemetry.spans[-1].attributes or {})["error.type"] == "CancelledError"


async def test_what_is_returned_is_what_it_was(telemetry: Telemetry) -> None:
    """Nothing is wrapped: a traced stream is a ChatStream, `client.request` gives the events it always gave."""
    async with client_of(FakeTransport([EVENTS, EVENTS])) as client:
        stream = client.chat.stream("hi")
        assert type(stream) is ChatStream
        await stream.final()
        events = await client.request("POST", "/v1/chat/completions", json={"stream": True}, stream=True)
        assert [event async for event in events] == EVENTS
    assert len(telemetry.spans) == 1


# many --------------------------------------------------------------------------------------------------------------------


async def test_many_items_are_one_span_and_metrics_of_each_request(telemetry: Telemetry) -> None:
    """batch, embed_documents and a sliced rerank are a span each, the parent of their requests; metrics count requests."""

    def answer(request: Any) -> Any:
        if request.url.endswith("/chat/completions"):
            return chat_body()
        if request.url.endswith("/embeddings"):
            return embedded(request.json["input"])
        return {"rankings": [{"index": i, "logit": 0.5} for i in range(len(request.json["passages"]))]}

    transport = FakeTransport(answer)
    async with client_of(transport, dialect="nim") as client:
        await client.chat.batch(["a", "b", "c"])
        await client.embeddings.embed_documents(["1", "2"], batch_size=1)
        await client.rerank("q", ["a", "b", "c", "d"], batch_size=2)
    chats, vectors, ranking = telemetry.spans
    assert [span.name.split()[0] for span in (chats, vectors, ranking)] == ["chat", "embeddings", "rerank"]
    attributes = dict(chats.attributes or {})
    assert (attributes["nimclient.items"], attributes["gen_ai.usage.output_tokens"]) == (3, 6)
    parents = [request.headers["traceparent"].split("-")[2] for request in transport.requests]
    ids = [f"{span.get_span_context().span_id:016x}" for span in telemetry.spans]
    assert parents == [ids[0]] * 3 + [ids[1]] * 2 + [ids[2]] * 2
    durations = telemetry.points()["gen_ai.client.operation.duration"]
    assert sorted(point.count for point in durations) == [2, 2, 3]


async def test_the_callers_span_is_current_again_after_many(telemetry: Telemetry) -> None:
    """What runs after a batch, or after one that failed, belongs to the caller's span, not to the batch's."""
    tracer = telemetry.traces.get_tracer("test")
    with tracer.start_as_current_span("request") as parent:
        async with client_of(FakeTransport([chat_body(), embedded(["1"]), 400])) as client:
            await client.chat.batch(["a"])
            await client.embeddings.embed_documents(["1"])
            with pytest.raises(NimError):
                await client.chat.batch(["a"])
        assert trace.get_current_span() is parent


def test_the_callers_span_is_current_again_after_a_blocking_batch(telemetry: Telemetry) -> None:
    """The same in the caller's thread, for a list and for an iterator."""
    with telemetry.traces.get_tracer("test").start_as_current_span("request") as parent:
        with blocking_client_of(FakeTransport([chat_body()] * 2)) as client:
            client.chat.batch(["a"])
            client.chat.batch(iter(["a"]))
        assert trace.get_current_span() is parent


async def test_items_and_jobs_have_spans_only_where_they_are_asked_for(unused: Telemetry, tmp_path: Any) -> None:
    """embed_stream, as_completed and jobs make no span; with item_spans each request has one."""
    for item_spans, expected in ((False, 0), (True, 5)):
        unused.exporter.clear()
        instrument(tracer_provider=unused.traces, item_spans=item_spans)
        if not item_spans:
            unused.traces.add_span_processor(SimpleSpanProcessor(unused.exporter))
        async with client_of(
            FakeTransport(lambda r: embedded(r.json["input"]) if "input" in r.json else chat_body())
        ) as client:
            async for _ in client.embeddings.embed_stream(["1", "2"], batch_size=1):
                pass
            async for _ in client.chat.as_completed(["a"]):
                pass
            out = tmp_path / str(item_spans)
            report = await EmbedJob(["1", "2"], out, model=MODEL, format="jsonl", batch_size=1).run(client)
        assert report.status == "complete"
        assert len(unused.spans) == expected


async def test_a_batch_with_a_failure_names_it(telemetry: Telemetry) -> None:
    """on_error="return" counts failures; "raise" makes the whole an error."""
    async with client_of(FakeTransport([chat_body(), 400, 400])) as client:
        replies = await client.chat.batch(["a", "b"], on_error="return", concurrency=1)
        with pytest.raises(NimError):
            await client.chat.batch(["a"])
    assert len(replies) == 2
    returned, raised = telemetry.spans
    assert dict(returned.attributes or {})["nimclient.failures"] == 1
    assert dict(raised.attributes or {})["error.type"] == "400"


# tools -------------------------------------------------------------------------------------------------------------------


def weather(city: str) -> str:
    """The weather of a city."""
    trace.get_tracer("user", tracer_provider=TOOL_TRACES[-1]).start_span("inside").end()
    return f"sunny in {city}"


async def failing(city: str) -> str:
    """Fails."""
    raise ValueError(SECRET)


TOOL_TRACES: list[TracerProvider] = []


def tool_answer(*names: str) -> dict[str, Any]:
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": '{"city": "Oslo"}'}}
        for i, name in enumerate(names)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    return chat_body(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])


@pytest.mark.parametrize("blocking", [False, True])
def test_tools_have_spans_in_which_their_own_work_stands(telemetry: Telemetry, blocking: bool) -> None:
    """execute_tool spans are beside their chats under the caller's span; what a function traces is below its tool."""
    TOOL_TRACES.append(telemetry.traces)
    transport = FakeTransport([tool_answer("weather", "failing", "unheard_of"), chat_body()])
    tools: Any = [weather, failing]
    with telemetry.traces.get_tracer("test").start_as_current_span("request") as parent:
        if blocking:
            with blocking_client_of(transport) as client:
                client.chat.run_tools("hi", tools)
        else:

            async def main() -> None:
                async with client_of(transport) as client:
                    await client.chat.run_tools("hi", tools)

            asyncio.run(main())
    spans = {span.name: span for span in telemetry.spans}
    tool = spans["execute_tool weather"]
    assert tool.kind is SpanKind.INTERNAL
    assert tool.parent is not None
    assert tool.parent.span_id == parent.get_span_context().span_id
    assert dict(tool.attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.provider.name": "nvidia",
        "gen_ai.tool.name": "weather",
        "gen_ai.tool.call.id": "c0",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.description": "The weather of a city.",
    }
    inside = spans["inside"].parent
    assert inside is not None
    assert inside.span_id == tool.get_span_context().span_id
    for name in ("execute_tool failing", "execute_tool unheard_of"):
        assert dict(spans[name].attributes or {})["error.type"] == "ToolError"
        assert SECRET not in spans[name].to_json()


# conventions ---------------------------------------------------------------------------------------------------------------


async def three_calls() -> None:
    """A chat that says what it used, a stream that does not, an embedding."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 6},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    answers = [chat_body(usage=usage), EVENTS[:-1], embedded(["1"])]
    async with client_of(FakeTransport(answers)) as client:
        await client.chat.create("hi")
        await client.chat.stream("hi").final()
        await client.embeddings.create(["1"])


async def test_the_names_up_to_1_41_are_the_default(telemetry: Telemetry) -> None:
    """Durations, chunks and tokens under the names that most dashboards read."""
    await three_calls()
    points = telemetry.points()
    assert set(points) == {
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
        "gen_ai.client.token.usage",
    }
    tokens = {
        (p.attributes["gen_ai.operation.name"], p.attributes["gen_ai.token.type"]): p.sum
        for p in points["gen_ai.client.token.usage"]
    }
    assert tokens == {("chat", "input"): 10, ("chat", "output"): 4, ("embeddings", "input"): 1}
    assert points["gen_ai.client.token.usage"][0].explicit_bounds[:3] == (1, 4, 16)


async def test_the_latest_names_are_opted_into(unused: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SEMCONV_STABILITY_OPT_IN, a comma list, chooses the newest names, counters with modality among them."""
    monkeypatch.setenv(OPT_IN, f"http, {LATEST}")
    unused.instrument()
    await three_calls()
    points = unused.points()
    stem = "gen_ai.client.inference"
    assert set(points) == {
        f"{stem}.duration",
        f"{stem}.time_to_first_chunk",
        f"{stem}.time_per_output_chunk",
        f"{stem}.operation.input_tokens",
        f"{stem}.operation.output_tokens",
        f"{stem}.usage.input_tokens",
        f"{stem}.usage.output_tokens",
        f"{stem}.usage.cache_read.input_tokens",
        f"{stem}.usage.reasoning.output_tokens",
        "gen_ai.client.embeddings.duration",
        "gen_ai.client.embeddings.operation.input_tokens",
    }
    counted = {p.attributes["gen_ai.token.modality"]: p.value for p in points[f"{stem}.usage.input_tokens"]}
    assert counted == {"text": 10, "unknown": 0}


@pytest.mark.parametrize("mode", [None, "EVENT_ONLY"])
async def test_the_latest_names_have_tool_runs_and_exceptions(
    unused: Telemetry, monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    """Each run of a tool is measured by its name; a call that fails is an event, with its text where content is asked for."""
    monkeypatch.setenv(OPT_IN, LATEST)
    if mode is not None:
        monkeypatch.setenv(CAPTURE, mode)
    TOOL_TRACES.append(unused.traces)
    unused.instrument()
    transport = FakeTransport([tool_answer("weather", "failing"), chat_body(), (400, {}, {"message": SECRET})])
    async with client_of(transport) as client:
        await client.chat.run_tools("hi", [weather, failing])
        with pytest.raises(BadRequestError):
            await client.chat.create("hi")
    runs = [dict(point.attributes) for point in unused.points()["gen_ai.execute_tool.duration"]]
    assert {(run["gen_ai.tool.name"], run["gen_ai.tool.type"], run.get("error.type")) for run in runs} == {
        ("weather", "function", None),
        ("failing", "function", "ToolError"),
    }
    assert "gen_ai.client.operation.duration" not in unused.points()
    events = [log.log_record for log in unused.logs.get_finished_logs()]
    (failed,) = [event for event in events if event.event_name == "gen_ai.client.operation.exception"]
    assert failed.severity_number is SeverityNumber.WARN
    assert failed.attributes["exception.type"] == "nimclient.errors.BadRequestError"
    assert (SECRET in str(dict(failed.attributes))) is (mode is not None)
    assert failed.span_id == unused.spans[-1].get_span_context().span_id


@pytest.mark.parametrize(
    ("mode", "on_spans", "in_events"),
    [
        (None, False, 0),
        ("no_content", False, 0),
        ("Span_Only", True, 0),
        ("EVENT_ONLY", False, 1),
        ("SPAN_AND_EVENT", True, 1),
    ],
)
async def test_content_goes_where_the_switch_says(
    unused: Telemetry, monkeypatch: pytest.MonkeyPatch, mode: str | None, on_spans: bool, in_events: int
) -> None:
    """Questions, answers, tools and arguments are recorded nowhere unless the conventions' switch names the place."""
    if mode is not None:
        monkeypatch.setenv(CAPTURE, mode)
    unused.instrument()
    async with client_of(FakeTransport([chat_body("42 it is")])) as client:
        await client.chat.create(SECRET, tools=[weather])
    attributes = dict(unused.span.attributes or {})
    assert (SECRET in unused.span.to_json()) is on_spans
    if on_spans:
        assert json.loads(str(attributes["gen_ai.input.messages"])) == [
            {"role": "user", "parts": [{"type": "text", "content": SECRET}]}
        ]
        assert json.loads(str(attributes["gen_ai.output.messages"])) == [
            {"role": "assistant", "parts": [{"type": "text", "content": "42 it is"}], "finish_reason": "stop"}
        ]
        assert "weather" in str(attributes["gen_ai.tool.definitions"])
    records = [log.log_record for log in unused.logs.get_finished_logs()]
    assert len(records) == in_events
    for record in records:
        assert record.event_name == "gen_ai.client.inference.operation.details"
        assert record.span_id == unused.span.get_span_context().span_id
        assert record.attributes["gen_ai.input.messages"][0]["parts"][0]["content"] == SECRET


async def test_every_form_of_message_has_parts(unused: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tool calls and results, reasoning and media are parts; the bytes of a picture are not copied to a span."""
    monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    unused.instrument()
    picture = "data:image/png;base64,iVBORw0KGgo="
    messages: Any = [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": picture}},
                {"type": "image_url", "image_url": {"url": "https://x.test/cat.png"}},
            ],
        },
        tool_answer("weather")["choices"][0]["message"],
        {"role": "tool", "tool_call_id": "c0", "content": "sunny"},
    ]
    reply = {"role": "assistant", "content": "yes", "reasoning": "hm"}
    answer = chat_body(choices=[{"index": 0, "message": reply, "finish_reason": "stop"}])
    async with client_of(FakeTransport([answer])) as client:
        await client.chat.create(messages)
    attributes = dict(unused.span.attributes or {})
    sent = json.loads(str(attributes["gen_ai.input.messages"]))
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool"]
    assert sent[1]["parts"][1:] == [
        {"type": "image_url"},
        {"type": "uri", "modality": "image", "uri": "https://x.test/cat.png"},
    ]
    assert sent[2]["parts"] == [{"type": "tool_call", "id": "c0", "name": "weather", "arguments": {"city": "Oslo"}}]
    assert sent[3]["parts"] == [{"type": "tool_call_response", "id": "c0", "response": "sunny"}]
    (got,) = json.loads(str(attributes["gen_ai.output.messages"]))
    assert [part["type"] for part in got["parts"]] == ["reasoning", "text"]


def test_a_misspelt_switch_warns_and_means_no_content(unused: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the conventions' own tools do."""
    monkeypatch.setenv(CAPTURE, "everything")
    with pytest.warns(UserWarning, match="no content is captured"):
        unused.instrument()


# installing ----------------------------------------------------------------------------------------------------------------


async def test_uninstrument_stops_it_and_an_open_span_still_ends(telemetry: Telemetry) -> None:
    """An open stream still reports its end; calls after that are not seen; instrumenting twice does not count twice."""
    instrument(tracer_provider=telemetry.traces)
    async with client_of(FakeTransport([EVENTS, chat_body()])) as client:
        async with client.chat.stream("hi") as stream:
            uninstrument()
            await stream.final()
        await client.chat.create("hi")
    assert len(telemetry.spans) == 1
    assert observers.installed == ()
    uninstrument()


async def test_what_an_observer_raises_is_no_fault_of_the_call(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the answer comes."""

    class Broken:
        def call(self, facts: observers.CallFacts) -> None:
            raise RuntimeError("mine")

        def tool(self, facts: observers.ToolFacts) -> None:
            raise RuntimeError("mine")

    broken = Broken()
    observers.install(broken)
    try:
        async with client_of(FakeTransport([tool_answer("failing"), chat_body()])) as client:
            run = await client.chat.run_tools("hi", [failing])
    finally:
        observers.remove(broken)
    assert run.completion.text == "Hello"
    assert [record.getMessage() for record in caplog.records] == ["an observer raised"] * 3


async def test_a_host_that_a_server_names_gets_no_context(telemetry: Telemetry) -> None:
    """A result that lies elsewhere is fetched without `traceparent`: only the origin of the call gets it."""
    transport = FakeTransport([(302, {"location": "https://bucket.test/result?signature=s"}, None), b"{}"])
    with telemetry.traces.get_tracer("test").start_as_current_span("infer"):
        async with client_of(transport) as client:
            await client.infer("/v1/infer", {"a": 1})
    assert ["traceparent" in request.headers for request in transport.requests] == [True, False]


def test_importing_the_client_imports_no_opentelemetry() -> None:
    """The seam costs one look at an empty tuple; the library comes with its integration only."""
    code = "import sys, nimclient; nimclient.AsyncClient; print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_a_suppressed_context_is_left_alone(telemetry: Telemetry) -> None:
    """What exporters and other instrumentations set so as not to be traced holds for us."""
    transport = FakeTransport([chat_body()])
    token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        async with client_of(transport) as client:
            await client.chat.create("hi")
    finally:
        context.detach(token)
    assert telemetry.spans == []
    assert "traceparent" not in transport.requests[0].headers


# OTLP ----------------------------------------------------------------------------------------------------------------------


class Collector(HTTPServer):
    """A collector's HTTP endpoint: it decodes what exporters post."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            self.server.traces.append(ExportTraceServiceRequest.FromString(body))
        else:
            self.server.metrics.append(ExportMetricsServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


async def test_a_collector_gets_it_over_otlp(unused: Telemetry, nim_simulator: Simulator) -> None:
    """Spans with their events, and histograms with their buckets, arrive as protobuf at a collector."""
    with Collector() as collector:
        exporter = OTLPSpanExporter(f"{collector.url}/v1/traces")
        unused.traces.add_span_processor(SimpleSpanProcessor(exporter))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{collector.url}/v1/metrics"), 3_600_000)
        meters = MeterProvider([reader])
        instrument(tracer_provider=unused.traces, meter_provider=meters)
        async with AsyncClient(base_url=nim_simulator.base_url, model=CHAT) as client:
            await client.chat.stream("hi").final()
        await asyncio.to_thread(unused.traces.force_flush)
        await asyncio.to_thread(meters.shutdown)
    (request,) = collector.traces
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert span.name == f"chat {CHAT}"
    attributes = {pair.key: pair.value for pair in span.attributes}
    assert attributes["gen_ai.response.finish_reasons"].array_value.values[0].string_value == "stop"
    assert attributes["gen_ai.usage.output_tokens"].int_value > 0
    assert [event.name for event in span.events] == ["nimclient.attempt"]
    metrics = {m.name: m for m in collector.metrics[0].resource_metrics[0].scope_metrics[0].metrics}
    chunks = metrics["gen_ai.client.operation.time_per_output_chunk"].histogram.data_points[0]
    assert chunks.count > 0
    assert list(chunks.explicit_bounds)[:2] == [0.01, 0.02]
    assert nim_simulator.requests[-1].headers["traceparent"].split("-")[2] == span.span_id.hex()

"""The simulator's HTTP server: aiohttp, the load model, and `Endpoints`.

A simulator, not a model: it implements the protocol and its timing, and computes answers from the request alone.
"""

import asyncio
import socket
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, cast

import orjson
from aiohttp import web

from .dialects import dialect_named
from .documents import document, is_document
from .endpoints import Endpoints
from .faults import DEPRECATED_UNTIL, Faults
from .functions import function_list, invoked
from .gateway import MAX_BODY, Gateway, PlatformResponse
from .load import GenerationSlots, MinuteBucket, TokenSchedule
from .metrics import CONTENT_TYPE, Metrics
from .records import RequestRecord, StoredAsset
from .rejections import GenerationRejection, Rejection, invalid_field
from .wire import BytesResponse, Frame, PlainResponse, Response, StreamedResponse, TokenCounts, encoded

NO_HEADERS: Final[Mapping[str, str]] = {}
_MAX_BODY: Final = 64 * 2**20
_MAX_WRITE: Final = 64 * 2**10
_SHUTDOWN_SECONDS: Final = 0.05
_BEFORE_RESET: Final = 0.02
_FOREIGN_TOKENS: Final = 64
_SHORTEST: Final = 0.001
_ENGINE_DIED: Final = Rejection(500, "EngineCore encountered an issue.", type="InternalServerError")


class Simulator:
    """A NIM-like server on this machine, for tests, demonstrations and capacity questions.

    It serves the models in `models`, else every model of the catalog. Answers are deterministic: embeddings are hashed
    n-grams, chat answers are quoted from the messages.

    Args:
        host: The address to listen on.
        port: 0: a free one.
        dialect: The server type that it simulates: "nim", "vllm", "dynamo" or "hosted".
        models: The ids of its models; none: those of the catalog.
        ttft: Seconds before the first token; also the time of an embedding or ranking.
        itl: Seconds between tokens; a plain answer takes `ttft` + tokens × `itl`.
        prefill_rate: Prompt tokens processed per second before the first token, without cached ones. None: no limit.
        prefix_cache: How many tokens the prefix cache holds.
        slots: Maximum requests that generate at once; the others wait in order. None: no limit.
        foreign: Requests of other clients that are always in progress or waiting, each of an answer of 64 tokens.
        rpm: Requests per minute, beyond which the response is 429 (a bucket that refills evenly by `clock`).
        seed: Of all random choices.
        embedding_dimensions: Of the vectors.
        max_model_len: The context length of the models, in tokens.
        keep_requests: How many of the last requests are kept, including their bodies.
        keepalive_timeout: Seconds after which an idle connection is closed.
        faults: What goes wrong, by name: "reset@5", a stream that is reset after five tokens ("end", "error", "stall");
            of the hosted platform "accepted", "offline", …; "busy=2" is for the first two requests.
        clock: Returns monotonic seconds.

    ValueError for an unknown dialect, an unknown fault and invalid numbers.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        dialect: str = "nim",
        models: Iterable[str] = (),
        ttft: float = 0.0,
        itl: float = 0.0,
        prefill_rate: float | None = None,
        prefix_cache: int = 1_600_000,
        slots: int | None = None,
        foreign: int = 0,
        rpm: float | None = None,
        seed: int = 0,
        embedding_dimensions: int = 1024,
        max_model_len: int = 131_072,
        keep_requests: int = 10_000,
        keepalive_timeout: float = 75.0,
        faults: str | Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if ttft < 0 or itl < 0:
            raise ValueError("ttft and itl are seconds and not negative")
        for name, count in (
            ("slots", slots),
            ("rpm", rpm),
            ("prefill_rate", prefill_rate),
            ("embedding_dimensions", embedding_dimensions),
        ):
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1")
        if foreign < 0:
            raise ValueError("foreign is a number of requests and not negative")
        if prefix_cache < 0:
            raise ValueError("prefix_cache is a number of tokens and not negative")
        if isinstance(models, str):
            raise TypeError("models is a list of ids, not one string")
        self._host = host
        self._port = port
        self._dialect = dialect_named(dialect)
        self._endpoints = Endpoints(
            models,
            seed=seed,
            dimensions=embedding_dimensions,
            max_model_len=max_model_len,
            dialect=self._dialect,
            prefix_cache=prefix_cache,
        )
        self._faults = Faults(faults)
        if self._faults.of_platform and self._dialect.name != "hosted":
            raise ValueError('faults are those of the hosted platform, but for streams: they need dialect="hosted"')
        hosted = self._dialect.name == "hosted"
        self._gateway = Gateway(self._faults, function_list(self._endpoints.models.values())) if hosted else None
        self._metrics = Metrics(self._dialect.metric_names)
        self._ttft = ttft
        self._itl = itl
        self._prefill_rate = prefill_rate
        self._slot_count = slots
        self._slots = GenerationSlots(slots)
        self._foreign = foreign
        self._others: list[asyncio.Task[None]] = []
        self._bucket = None if rpm is None else MinuteBucket(rpm, clock)
        self._seed = seed
        self._requests: deque[RequestRecord] = deque(maxlen=keep_requests)
        self._arrived = 0
        self._keepalive_timeout = keepalive_timeout
        self._runner: web.AppRunner | None = None
        self._address = ("", 0)

    async def start(self) -> None:
        """Start listening on the running loop. OSError if the port is taken, RuntimeError if already started."""
        if self._runner is not None:
            raise RuntimeError("the simulator is running already")
        application = web.Application(client_max_size=_MAX_BODY)
        application.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,  # a disconnect ends the handler, also while it waits for a slot
            keepalive_timeout=self._keepalive_timeout,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._slots = GenerationSlots(self._slot_count)
        self._address = runner.addresses[0][:2]
        self._runner = runner
        self._others = [asyncio.create_task(self._other_client()) for _ in range(self._foreign)]

    async def aclose(self) -> None:
        """Stop listening and drop all connections; open streams are interrupted. It may be started again."""
        runner, self._runner = self._runner, None
        others, self._others = self._others, []
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._gateway is not None:
            self._gateway.close()
        if runner is not None:
            await asyncio.sleep(0)  # asyncio leaves a connection open that was accepted just before its server stops
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def base_url(self) -> str:
        """Its address, with /v1: "http://127.0.0.1:PORT/v1". RuntimeError before it is started."""
        if self._runner is None:
            raise RuntimeError("the simulator is not running")
        host, port = self._address
        return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The requests received, oldest first: records with .method .path .headers .json .status .disconnected."""
        return tuple(self._requests)

    @property
    def running(self) -> int:
        """How many requests generate now; each holds one of the `slots`."""
        return self._slots.running

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return self._slots.waiting

    @property
    def assets(self) -> Mapping[str, StoredAsset]:
        """The current assets, by id (dialect "hosted"): .id .content_type .description .data."""
        return {} if self._gateway is None else dict(self._gateway.assets)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        record = RequestRecord(
            request.method, request.path, {name.lower(): value for name, value in request.headers.items()}
        )
        self._requests.append(record)
        self._arrived += 1
        given = record.headers.get("x-request-id", "")
        request_id = given if given and given.isascii() else self._request_id(self._arrived)
        try:
            return await self._dispatch(request, record, request_id)
        except (asyncio.CancelledError, ConnectionError):
            record.disconnected = request.transport is None and self._runner is not None  # else the simulator closed it
            raise

    def _request_id(self, number: int) -> str:
        return f"{zlib.crc32(f'{self._seed} {number}'.encode()):08x}{number:024x}"

    async def _dispatch(self, request: web.Request, record: RequestRecord, request_id: str) -> web.StreamResponse:
        if self._gateway is not None and self._gateway.serves(record.path):
            return await self._platform(self._gateway, request, record, request_id)
        route = self._dialect.route(record.path)
        if route is None:
            return self._document(record, request_id)
        if record.method != "POST":
            return self._send_body(record, request_id, 405, self._dialect.wrong_method())
        generates = route in self._dialect.generates
        extra = {"Deprecation": DEPRECATED_UNTIL} if generates and self._faults.take("deprecated") else {}
        try:
            body = await _read_json(request, record, None if self._gateway is None else MAX_BODY)
            if generates and self._bucket is not None and not self._bucket.take():
                return self._send_body(record, request_id, *self._dialect.too_many_requests())
            self._dialect.check(route, body, record.headers)
            if generates and (fault := self._faults.response()) is not None:
                return self._send_body(record, request_id, fault.status, fault.body, fault.headers)
            if self._gateway is not None:
                self._gateway.check_assets(await request.read(), record.headers)
            if route == "function":
                route, body = invoked(record.path, body, self._endpoints.models)
            answer = self._respond(route, body, request_id)
            if isinstance(answer, StreamedResponse):
                return await self._stream(request, record, request_id, answer, extra)
            if isinstance(answer, BytesResponse):
                await self._wait(answer, record, _model_of(body))
                return await self._send_raw(request, record, request_id, answer)
            if not generates:
                return self._send_body(record, request_id, 200, answer.body)
            if self._gateway is None:
                await self._wait(answer, record, _model_of(body))
                return self._send_body(record, request_id, 200, answer.body, self._load_header(route, record))
            raw = PlatformResponse(200, encoded(answer.body), headers=extra)
            work = partial(self._wait, answer, record, _model_of(body))
            return self._send(
                record, request_id, await self._gateway.deliver(request_id, work, raw, record.headers, self._root)
            )
        except Rejection as rejection:
            return self._send_body(record, request_id, rejection.status, self._dialect.error_body(rejection, route))

    async def _platform(
        self, gateway: Gateway, request: web.Request, record: RequestRecord, request_id: str
    ) -> web.Response:
        """The response of one of the platform's own paths."""
        data = await request.read()
        raw = await gateway.answer(record.method, record.path, request.query, record.headers, data, self._root)
        return self._send(record, request_id, raw)

    @property
    def _root(self) -> str:
        return self.base_url.removesuffix("/v1")

    def _respond(self, route: str, body: dict[str, Any], request_id: str) -> Response:
        """The response, which may be a stream with only an error."""
        try:
            return self._endpoints.respond(route, body, request_id)
        except GenerationRejection as rejection:
            if body.get("stream") is not True:
                raise
            return StreamedResponse(iter([Frame(0, self._dialect.stream_error(rejection))]))

    async def _wait(self, answer: PlainResponse | BytesResponse, record: RequestRecord, model: str) -> None:
        arrived = time.perf_counter()
        async with self._slots.one():
            pace = self._schedule(answer.usage)
            try:
                await pace.until(0)
                first = time.perf_counter() - arrived
                await pace.until(answer.tokens)
            except asyncio.CancelledError:
                record.tokens = pace.due(answer.tokens)
                self._metrics.aborted(model, answer.usage, record.tokens)
                raise
        record.tokens = answer.tokens
        self._metrics.observe(model, answer.usage, first, time.perf_counter() - arrived)

    def _load_header(self, route: str, record: RequestRecord) -> Mapping[str, str]:
        """The load as vLLM reports it where it is asked to."""
        if not self._dialect.reports_load or route not in ("chat", "completions"):
            return NO_HEADERS
        report = self._slots.report(record.headers.get("endpoint-load-metrics-format", ""))
        return NO_HEADERS if report is None else {"endpoint-load-metrics": report}

    async def _other_client(self) -> None:
        """One request after the other that no client here has sent."""
        while True:
            async with self._slots.one():
                await TokenSchedule(max(self._ttft, _SHORTEST), self._itl).until(_FOREIGN_TOKENS)

    def _schedule(self, usage: TokenCounts) -> TokenSchedule:
        """When tokens are due from now on: the first one after the prefill of what is not cached."""
        new = usage.prompt_tokens - usage.cached_tokens
        prefill = 0.0 if self._prefill_rate is None else new / self._prefill_rate
        return TokenSchedule(self._ttft + prefill, self._itl)

    async def _stream(
        self,
        request: web.Request,
        record: RequestRecord,
        request_id: str,
        streamed: StreamedResponse,
        extra: Mapping[str, str],
    ) -> web.StreamResponse:
        headers = self._headers(200, request_id, extra)
        response = web.StreamResponse(headers={**headers, "Cache-Control": "no-cache"})
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        record.status = 200
        arrived, first = time.perf_counter(), None
        broken = self._faults.take_break()
        frames = streamed.frames if broken is None else _up_to(broken.tokens, streamed.frames)
        await response.prepare(request)  # vLLM sends the head before the request is scheduled
        model = _model_of(record.json)
        async with self._slots.one():
            pace = self._schedule(streamed.usage)
            due = bytearray()
            try:
                for frame in frames:
                    if due and (len(due) > _MAX_WRITE or not pace.is_due(frame.step)):
                        await response.write(bytes(due))
                        due.clear()
                    await pace.until(frame.step)
                    first = time.perf_counter() - arrived if first is None else first
                    due += frame.data
                    record.tokens += frame.tokens
                await response.write(bytes(due))
                if broken is not None and broken.kind != "end":
                    await self._break_off(broken.kind, request, response)
            except (asyncio.CancelledError, ConnectionError):
                self._metrics.aborted(model, streamed.usage, record.tokens)
                raise
        await response.write_eof()
        whole = time.perf_counter() - arrived
        self._metrics.observe(model, streamed.usage, whole if first is None else first, whole)
        return response

    async def _break_off(self, kind: str, request: web.Request, response: web.StreamResponse) -> None:
        """End a stream in the middle."""
        if kind == "error":
            await response.write(self._dialect.stream_error(_ENGINE_DIED))
            return
        if kind == "reset" and (transport := request.transport) is not None:
            await asyncio.sleep(_BEFORE_RESET)  # a reset discards what the client has not read
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        await asyncio.Event().wait()  # until the client has left

    def _document(self, record: RequestRecord, request_id: str) -> web.Response:
        """The response of a GET route."""
        if not is_document(record.path, self._dialect):
            return self._send_body(record, request_id, 404, self._dialect.no_such_route(record.method, record.path))
        if record.method != "GET":
            return self._send_body(record, request_id, 405, self._dialect.wrong_method())
        try:
            if self._dialect.gets.get(record.path) == "metrics":
                return self._send(
                    record, request_id, PlatformResponse(200, self._metrics_text().encode(), CONTENT_TYPE)
                )
            if self._dialect.gets.get(record.path) == "load":
                return self._send_body(
                    record, request_id, 200, {"server_load": self._slots.running + self._slots.waiting}
                )
            return self._send_body(record, request_id, 200, document(record.path, self._dialect, self._endpoints))
        except Rejection as rejection:
            return self._send_body(record, request_id, rejection.status, self._dialect.error_body(rejection, "models"))

    def _metrics_text(self) -> str:
        model = next(iter(self._endpoints.models))
        return self._metrics.text(model, self._slots.running, self._slots.waiting)

    def _send_body(
        self, record: RequestRecord, request_id: str, status: int, body: Any, extra: Mapping[str, str] = NO_HEADERS
    ) -> web.Response:
        """Send a response: JSON, a str as plain text, None as an empty body."""
        if body is None:
            return self._send(record, request_id, PlatformResponse(status, b"", "", dict(extra)))
        if isinstance(body, str):
            return self._send(record, request_id, PlatformResponse(status, body.encode(), "text/plain", dict(extra)))
        return self._send(record, request_id, PlatformResponse(status, encoded(body), headers=dict(extra)))

    def _send(self, record: RequestRecord, request_id: str, raw: PlatformResponse) -> web.Response:
        record.status = raw.status
        headers = self._headers(raw.status, request_id, raw.headers)
        if not raw.body and not raw.content_type.startswith("text/"):
            return web.Response(status=raw.status, headers=headers)
        charset = "utf-8" if raw.content_type.startswith("text/") else None
        return web.Response(
            body=raw.body, status=raw.status, content_type=raw.content_type, charset=charset, headers=headers
        )

    async def _send_raw(
        self, request: web.Request, record: RequestRecord, request_id: str, answer: BytesResponse
    ) -> web.StreamResponse:
        """Send bytes as vLLM does: a chunk for each vector, without their length."""
        record.status = 200
        response = web.StreamResponse(headers=self._headers(200, request_id, answer.headers))
        response.content_type = "application/octet-stream"
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in answer.chunks:
            await response.write(chunk)
        await response.write_eof()
        return response

    def _headers(self, status: int, request_id: str, extra: Mapping[str, str]) -> dict[str, str]:
        """The headers of each response; the platform uses its own id. An empty value omits a header."""
        headers = {"X-Request-Id": request_id}
        if self._gateway is not None:
            headers |= {"NVCF-REQID": request_id, "NVCF-STATUS": "fulfilled" if status < 400 else "errored"}
        return {name: value for name, value in {**headers, **extra}.items() if value}


def _up_to(tokens: int, frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames of a stream up to this token."""
    sent = 0
    for frame in frames:
        if sent >= tokens and (sent or frame.tokens):
            return
        sent += frame.tokens
        yield frame


def _model_of(body: dict[str, Any]) -> str:
    """The model of a request; the bodies of routes with one model do not name it."""
    return str(body.get("model", "simulator"))


async def _read_json(request: web.Request, record: RequestRecord, max_bytes: int | None = None) -> dict[str, Any]:
    """The body of a request, which is added to its record; Rejection if it is not a JSON object, or above `max_bytes`."""
    if max_bytes is not None and (request.content_length or 0) > max_bytes:
        raise Rejection(400, f"Please make sure your payload is below {max_bytes} bytes", type="invalid_request_error")
    try:
        data = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Rejection(413, f"The body is larger than {_MAX_BODY} bytes.", type="RequestEntityTooLarge") from None
    try:
        record.json = body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise invalid_field(str(error.pos), "json_invalid", "JSON decode error") from None
    if request.content_type != "application/json":
        raise Rejection(400, "Unsupported Media Type: Only 'application/json' is allowed", type="Bad Request")
    if not isinstance(body, dict):
        raise Rejection(400, "The body must be a JSON object.", type="Bad Request")
    return cast("dict[str, Any]", body)

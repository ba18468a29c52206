"""The engine joins protocol and transport: it builds the request of a call, sends it under a deadline, and holds THE
retry loop. It owns the clock and the randomness; it knows no route and no field of any body.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from attrs import define, evolve, field

from nimclient._api.call import Call
from nimclient._api.catalog import Catalog
from nimclient._base.callbacks import run_callback
from nimclient._base.config import (
    ClientConfig,
    Dialect,
    Timeouts,
    check_headers,
    resolve_timeouts,
)
from nimclient._base.redaction import hide, redact, secrets_of
from nimclient._base.types import Clock
from nimclient._base.values import (
    AttemptEvent,
    HttpHead,
    HttpRequest,
    ResponseMeta,
    Timings,
    path_of,
    request_id_of,
)
from nimclient._bulk.gate import Gate, one, too_long
from nimclient._bulk.pacer import DEFAULT_PATIENCE, Pacer, Ticket
from nimclient._engine.replicas import Lease, Routing, SingleEndpoint
from nimclient._engine.requests import USER_AGENT, Requests
from nimclient._engine.shared_state import SharedState
from nimclient._nvcf.media import check_body_size
from nimclient._nvcf.platform import accepted_id
from nimclient._nvcf.polling import Delivery
from nimclient._retry.classify import classify
from nimclient._retry.faults import MAX_ERROR_BODY, refuse_plain_fault, status_error
from nimclient._retry.policy import Replay, RetryState
from nimclient._streams.accumulate import joined
from nimclient._streams.events import is_streamed
from nimclient.errors import (
    APIStatusError,
    ClientClosedError,
    ConnectionLostError,
    DecodeError,
    NimError,
    RedirectError,
    TransportError,
)

if TYPE_CHECKING:
    from nimclient._http.base import Body

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("nimclient")
ERROR_BODY_SECONDS = 5.0


@define
class Exchange:
    """An attempt whose response has begun: what a receiver makes its result of. Times are monotonic seconds."""

    head: HttpHead
    body: Body
    url: str
    number: int
    timeouts: Timeouts
    started: float
    sent: float
    clock: Clock
    secrets: tuple[str, ...]

    def redact(self, error: NimError) -> None:
        """Take the key out of an error."""
        redact(error, self.secrets)

    def meta(self, ttft: float | None = None, inter_token: Sequence[float] = ()) -> ResponseMeta:
        """What is known of the exchange, with the timings up to now."""
        head = self.head
        timings = Timings(head.queue, head.connect, ttft, self.clock() - self.started, inter_token)
        return ResponseMeta(head.status, head.headers, self.url, self.number, timings)


Receive: TypeAlias = Callable[[Exchange], Awaitable[R]]
"""Reads the response of one attempt. It may be called again for the next one."""


@define
class CallState:
    """One call on its way through the retry loop. `deadline` is in monotonic seconds, `total` the limit that set it."""

    way: Routing
    attempts: RetryState
    gate: Gate | None
    deadline: float | None
    total: float | None
    turn: Ticket = field(factory=Ticket)
    number: int = 0
    fresh_tried: bool = False

    def in_time(self, moment: float) -> bool:
        """Whether that is before the deadline."""
        return self.deadline is None or moment < self.deadline


class Engine:
    """Sends calls for one set of options."""

    def __init__(self, config: ClientConfig, core: SharedState) -> None:
        self.config = config
        self.core = core
        self.catalog = Catalog(config.catalog)
        self._requests = Requests(config, self.catalog, core.proxies)
        self._bases = self._requests.bases
        self._alone = SingleEndpoint(self._bases[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.config.portable(),)  # `client.chat` and its methods travel like the client

    @property
    def is_hosted(self) -> bool:
        """Whether the base URL is one of NVIDIA's own hosts."""
        return self._requests.is_hosted

    def url_of(self, call: Call[Any]) -> str:
        """Where a call goes; of several replicas, where it would go to the first."""
        return self._requests.url_of(call)

    def dialect_for(self, model: str | None = None) -> Dialect | None:
        """What the server behind a model is: as the client was told, by its host, else as its answers have shown."""
        if self.config.dialect is not None:
            return self.config.dialect
        endpoint = None if model is None else self.endpoint_of(model)
        if endpoint is not None:
            return "hosted" if self._requests.is_nvidias(endpoint) else self.core.dialects.get(endpoint)
        if self.is_hosted:
            return "hosted"
        return self.core.dialects.of(self._bases)

    def assets_url(self, url: str | None = None) -> str:
        """Where the assets for a call to this URL are kept, or those of the base URL."""
        return self._requests.assets_url(url)

    def is_platform(self, url: str) -> bool:
        """Whether the gateway of the hosted catalog, or a server that plays it, takes the calls to this URL."""
        return (self.config.dialect or self.core.dialects.get(url)) == "hosted" or self._requests.is_nvidias(url)

    def per_replica(self) -> list[Engine]:
        """An engine for each replica alone: for what is asked of every one of them."""
        if len(self._bases) == 1:
            return [self]
        return [Engine(evolve(self.config, base_urls=(url,)), self.core) for url in self.config.base_urls]

    async def warm(self, connections: int) -> int:
        """Open so many connections, spread over the replicas; how many are open then."""
        warm = getattr(await self.core.transport(), "warm", None)
        if self.core.closed:
            raise ClientClosedError("the client is closed")
        bases = (self._bases[number % len(self._bases)] for number in range(connections))
        return 0 if warm is None else await warm(list(map(self._requests.opening, bases)), self.config.timeouts)

    def endpoint_of(self, model: str) -> str | None:
        """The URL of the model's own: the caller's, or in the hosted catalog the table's."""
        return self._requests.endpoint_of(model)

    def gate(
        self, concurrency: int | None, *, patience: float = DEFAULT_PATIENCE, work: Callable[[Any], float] = one
    ) -> Gate:
        """The gate that all slices of one call share. `patience`: for a policy that names none. `work`: see Gate."""
        pacer = Pacer(self.config.retry, concurrency, patience=patience, rate=self.core.rate)
        return Gate(pacer, time.monotonic, random.random, work, self._sleep)

    async def send(self, call: Call[T], options: Mapping[str, Any], gate: Gate | None = None) -> T:
        """Send a call and decode its JSON answer. Raises TransportError, APIStatusError, DecodeError."""

        async def receive(exchange: Exchange) -> T:
            data = await exchange.body.read_all(self.config.limits.max_body)
            if call.accumulator is not None and is_streamed(data):
                return call.decode(joined(data, call.accumulator()), exchange.meta())
            value = call.parse(data)
            refuse_plain_fault(value, exchange.meta(), f"{call.method} {path_of(exchange.url)}")
            self.core.dialects.read(exchange.url, call.path, value)
            return call.decode(value, exchange.meta())

        return await self.run(call, options, receive, gate)

    async def once(self, call: Call[Any], options: Mapping[str, Any], receive: Receive[R]) -> R:
        """Like `run`, with a single attempt."""
        config = evolve(self.config, retry=evolve(self.config.retry, attempts=1))
        return await Engine(config, self.core).run(call, options, receive)

    async def run(
        self, call: Call[Any], options: Mapping[str, Any], receive: Receive[R], gate: Gate | None = None
    ) -> R:
        """THE retry loop: attempts until `receive` succeeds or a failure is the call's own.

        A retry goes to another replica where there is one, and then at once. Beside the attempts of the policy there are
        two free ones: without a field of ours that the server objects to, and on a fresh connection when a pooled one
        turns out to be dead.
        """
        core = self.core
        timeouts = resolve_timeouts(self.config.timeouts, options.get("timeout"))
        started = time.monotonic()
        deadline = None if timeouts.total is None else started + timeouts.total
        way = self._way(call)
        await core.transport()  # the time of importing aiohttp is no replica's latency
        headers = check_headers(options.get("extra_headers"), "extra_headers")
        attempts = RetryState(self.config.retry, call.replay, core.budget, random.random)
        course = CallState(way, attempts, gate, deadline, timeouts.total)
        while True:
            await self._acquire_slot(course)
            course.number += 1
            lease = way.take()
            url = self._requests.url_of(call, lease.base)
            call = core.without_refused(url, call)
            try:
                with lease:
                    if call.is_large and self.is_platform(url):
                        check_body_size(call.body)
                    result = await self._attempt(
                        call, url, headers, timeouts, started, deadline, course.number, receive, lease
                    )
            except NimError as error:
                call = await self._next_attempt(course, call, url, error)
            except BaseException:
                if gate is not None:
                    gate.left()
                raise
            else:
                attempts.succeeded()
                if gate is not None:
                    gate.succeeded(course.turn, result)
                return result

    async def _next_attempt(self, course: CallState, call: Call[T], url: str, error: NimError) -> Call[T]:
        """The call for the next attempt, after the wait that its failure asks for; raises one that is the call's own."""
        core, gate, attempts = self.core, course.gate, course.attempts
        now = time.monotonic()
        kind = classify(error)
        other = course.way.has_another() and course.in_time(now)  # is there, to go to at once
        moves = other and kind.is_throttled and attempts.may_fail_over(kind)
        at_the_gate = gate is not None and kind.outage and not moves
        delay = None
        if gate is not None and at_the_gate:
            delay = gate.refused(course.turn, error)
        elif gate is not None:
            gate.left()
        if core.closed and not isinstance(error, ClientClosedError):
            raise ClientClosedError("the client was closed during the call") from error
        if refused := core.learn(url, call, error):
            log.info("%s refuses %s; sending without from now on", url, ", ".join(sorted(refused)))
            return call.without(refused)
        if not course.fresh_tried and isinstance(error, ConnectionLostError) and error.reused:
            course.fresh_tried = True
            return call
        if moves or (other and not kind.is_throttled and attempts.may_fail_over(kind)):
            log.info("attempt %d failed (%s); the next one at another replica", course.number, error)
            return call
        if not at_the_gate:
            delay = attempts.delay_after(error, kind)
        if delay is None or not course.in_time(now + delay):
            _count(error, course.number)
            raise error
        log.info("attempt %d failed (%s); the next one in %.2f s", course.number, error, delay)
        if not at_the_gate:  # there the wait is for a place as well
            await self._sleep(delay)
        course.way.waited()
        return call

    async def _acquire_slot(self, course: CallState) -> None:
        """Wait until the next attempt may be sent: for the call's turn at the gate, or under the rate."""
        core, gate = self.core, course.gate
        if gate is not None:
            if pause := await gate.enter(course.turn, course.deadline):
                raise too_long(pause, course.total, course.number)
        elif core.rate is not None and (pause := core.rate.reserve(time.monotonic())):
            if not course.in_time(time.monotonic() + pause):
                raise too_long(pause, course.total, course.number)
            await self._sleep(pause)
        if core.closed:
            if gate is not None:
                gate.left()
            raise ClientClosedError("the client is closed")

    async def _attempt(
        self,
        call: Call[Any],
        url: str,
        extra: Mapping[str, str],
        timeouts: Timeouts,
        started: float,
        deadline: float | None,
        number: int,
        receive: Receive[R],
        lease: Lease | SingleEndpoint,
    ) -> R:
        """One attempt: send, look at the status, receive. The connection is given back or closed in every case."""
        request = await self._requests.make(call, url, extra)
        if call.stream:
            request.on_end = lease.end
        secrets = secrets_of(request.headers, request.proxy)
        sent = time.monotonic()
        status: int | None = None
        failure: NimError | None = None
        try:
            head, body = await self._opened(call, request, extra, timeouts, deadline)
            status = head.status
            self.core.dialects.inspect_headers(url, head.headers)
            try:
                self.core.note_deprecation(call, head)
                if not 200 <= status < 300:
                    raise await self._refusal(call, request, extra, head, body, secrets)
                where = request.shown_url
                return await receive(
                    Exchange(head, body, where, number, timeouts, started, sent, time.monotonic, secrets)
                )
            except BaseException:
                body.abort()
                raise
        except NimError as error:
            redact(error, secrets)
            if isinstance(error, APIStatusError):
                self.core.dialects.inspect_error(url, error)
            failure = error
            raise
        finally:
            if call.model is not None:
                self.core.note_call(call.model, status, failure)
            if self.config.on_attempt is not None:
                event = AttemptEvent(call.method, request.shown_url, number, status, failure, time.monotonic() - sent)
                run_callback(_listen, self.config.on_attempt, event)

    async def _opened(
        self,
        call: Call[Any],
        request: HttpRequest,
        extra: Mapping[str, str],
        timeouts: Timeouts,
        deadline: float | None,
    ) -> tuple[HttpHead, Body]:
        """The response with the answer in it, which need not be the first one."""
        transport = await self.core.transport()
        began = time.monotonic()
        head, body = await transport.open(request, timeouts, deadline)
        if head.status in (200, 201) or (head.status == 202 and call.allow_plain_202 and not accepted_id(head.headers)):
            return head, body

        async def poll(request_id: str, seconds: int) -> HttpRequest:
            return await self._requests.poll(call, request.url, extra, request_id, seconds)

        def fetch(address: str) -> HttpRequest:
            return self._requests.bare("GET", address, {"Accept": "*/*", "User-Agent": USER_AGENT}, None)

        delivery = Delivery(transport, request, timeouts, began, deadline, poll, fetch, time.monotonic, self._sleep)
        return await delivery.result(head, body, follow=call.follow or self.is_platform(request.url))

    async def _refusal(
        self,
        call: Call[Any],
        request: HttpRequest,
        extra: Mapping[str, str],
        head: HttpHead,
        body: Body,
        secrets: tuple[str, ...],
    ) -> NimError:
        if head.status < 400:
            host = head.headers.get("location", "").partition("?")[0][:200]
            body.abort()
            where = host or "nowhere"
            return RedirectError(
                f"the server redirects to {where} (status {head.status}); nothing was sent there", host=host
            )
        text = await body.read_some(MAX_ERROR_BODY, ERROR_BODY_SECONDS)
        text = hide(text.decode("utf-8", "replace"), secrets).encode()
        return status_error(
            head.status,
            head.headers,
            text,
            where=f"{request.method} {path_of(request.url)}",
            request_id=request_id_of(head.headers),
            keyless=call.bare or head.keyless,
            key=self._requests.key_note(request, extra),
        )

    def _way(self, call: Call[Any]) -> Routing:
        """The way of a call through the replicas. Only what a model computes is measured: the rest says nothing of that."""
        if len(self._bases) == 1 or self._requests.own_url(call) is not None:
            return self._alone
        route = call.path.split("/", 2)[1]  # not what follows: it may be an id
        kind = f"{route} {call.stream}" if call.method == "POST" else ""
        may_probe = self.config.retry.attempts > 1 and call.replay is not Replay.NEVER
        return self.core.replicas.way(kind, stream=call.stream, may_probe=may_probe)

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            await self.core.sleep(seconds)


def _listen(listener: Callable[[AttemptEvent], object], event: AttemptEvent) -> None:
    try:
        listener(event)
    except Exception:  # a listener's fault must not become the call's
        log.exception("on_attempt raised")


def _restored(config: ClientConfig) -> Engine:
    config = config.completed()
    return Engine(config, SharedState(config))


def _count(error: NimError, number: int) -> None:
    if isinstance(error, (TransportError, APIStatusError, DecodeError)):
        error.attempts = number

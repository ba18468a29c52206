"""The engine connects the pure core to the transport: it builds the request of a call, sends it under a deadline, and
contains the only retry loop. It owns the clock and the randomness; it knows no route and no field of a body.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from attrs import evolve

from nimclient._api.call import Call
from nimclient._api.catalog import Catalog
from nimclient._api.server_types import ServerType
from nimclient._base import observers
from nimclient._base.callbacks import call_user, run_callback
from nimclient._base.config import ClientConfig, Dialect, check_headers, resolve_timeouts
from nimclient._base.log import log
from nimclient._base.observers import CallFacts
from nimclient._base.redaction import redact, secrets_of
from nimclient._base.values import HttpRequest
from nimclient._bulk.ticket import Ticket
from nimclient._engine.answers import read_answer
from nimclient._engine.call_state import CallState, attempt_event, call_on_attempt, log_call, settle, ticket_of
from nimclient._engine.replicas import LOAD_HEADER, Lease, Routing, SingleEndpoint
from nimclient._engine.requests import Requests
from nimclient._engine.shared_state import SharedState
from nimclient._nvcf.media import check_body_size
from nimclient._nvcf.platform import accepted_id
from nimclient._retry.classify import classify
from nimclient._retry.policy import BUDGET, Replay, RetryState
from nimclient._streams.response import Response, attempt_of, with_history
from nimclient.errors import (
    APIStatusError,
    Attempt,
    ClientClosedError,
    ConnectionLostError,
    GoneError,
    ModelNotFoundError,
    NimError,
)

if TYPE_CHECKING:
    from nimclient._bulk.gate import Gate
    from nimclient._http.base import Transport

T = TypeVar("T")
R = TypeVar("R")

MAX_KNOWN = 512
_NO_HEADERS: Mapping[str, str] = {}
_NO_TICKET = Ticket()

Read: TypeAlias = Callable[[Response], Awaitable[R]]
"""Reads an open response: returns the reader of a stream or the bytes of a body. Called once per attempt."""


class Engine:
    """Sends calls for one set of options."""

    def __init__(self, config: ClientConfig, core: SharedState) -> None:
        self.config = config
        self.core = core
        self.catalog = Catalog(config.catalog)
        self._requests = Requests(config, self.catalog, core.proxies, core.dialects.server, core.users)
        self._bases = self._requests.bases
        self._single = SingleEndpoint(self._bases[0])
        self._known: dict[tuple[str, str | None], Any] = {}
        self._known_since = -1

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.config.portable(),)  # `client.chat` and its methods are pickled like the client

    @property
    def is_hosted(self) -> bool:
        """Whether the base URL is one of NVIDIA's own hosts: there the default models and URLs of the table hold.

        It follows from the settings and never changes. Whether calls go to the hosted platform is `is_platform`.
        """
        return self._requests.is_hosted

    @property
    def stated_dialect(self) -> Dialect | None:
        """The server type that the settings state: by `dialect=`, or by a base URL on one of NVIDIA's own hosts."""
        return self.config.dialect or ("hosted" if self.is_hosted else None)

    def is_platform(self, url: str | None = None) -> bool:
        """Whether the hosted platform takes the calls to this URL (None: the base URL). The only place that decides it.

        It does on NVIDIA's own hosts, and where `dialect="hosted"` says so or responses have shown it (a gateway to the
        platform, or a simulation of it). The platform takes bodies of 25 MiB, answers with 202 and 302, resolves old names
        of models, wants large media as assets, and its list does not tell what an account may call.
        """
        if url is None:
            if self._requests.is_hosted:
                return True
            return (self.config.dialect or self.core.dialects.of(self._bases)) == "hosted"
        return (self.config.dialect or self.core.dialects.get(url)) == "hosted" or self._requests.is_nvidias(url)

    @property
    def has_key(self) -> bool:
        """Whether an API key is sent to the base URL."""
        return self._requests.has_key

    def url_of(self, call: Call[Any]) -> str:
        """The URL of a call; with several replicas, the URL at the first one."""
        return self._requests.url_of(call)

    def dialect_for(self, model: str | None = None) -> Dialect | None:
        """The server type behind a model: from the settings, by its host, else as detected from its responses."""
        if self.config.dialect is not None:
            return self.config.dialect
        known = self.known()
        if ("server type", model) not in known:
            url, dialects = None if model is None else self.endpoint_of(model), self.core.dialects
            found = dialects.of(self._bases) if url is None else dialects.get(url)
            known["server type", model] = "hosted" if self.is_platform(url) else found
        return cast("Dialect | None", known["server type", model])

    def known(self) -> dict[tuple[str, str | None], Any]:
        """Values that resources have derived from the settings and the detected server types; cleared by a new detection.

        The keys are the name of the value, and the model.
        """
        changes = self.core.dialects.changes
        if changes != self._known_since or len(self._known) > MAX_KNOWN:
            self._known = {}
            self._known_since = changes
        return self._known

    def assets_url(self, url: str | None = None) -> str:
        """The assets URL for a call to this URL, or for the base URL."""
        return self._requests.assets_url(url)

    def server_type_for(self, model: str | None = None) -> ServerType | None:
        """The same for all server types, including those without a value of `dialect=`."""
        known = self.known()
        if ("any server type", model) not in known:
            url = None if model is None else self.endpoint_of(model)
            found = self.dialect_for(model) or self.core.dialects.type_of(url or self._bases[0].api)
            known["any server type", model] = found
        return cast("ServerType | None", known["any server type", model])

    def per_replica(self) -> list[Engine]:
        """One engine per replica, for requests to each of them."""
        if len(self._bases) == 1:
            return [self]
        return [Engine(evolve(self.config, base_urls=(url,)), self.core) for url in self.config.base_urls]

    def with_attempts(self, attempts: int) -> Engine:
        """A copy with another number of attempts."""
        return Engine(evolve(self.config, retry=evolve(self.config.retry, attempts=attempts)), self.core)

    async def warm(self, connections: int) -> int:
        """Open connections, spread over the replicas; returns how many are open."""
        warm = getattr(await self.core.transport(), "warm", None)
        if self.core.closed:
            raise ClientClosedError("the client is closed")
        bases = (self._bases[number % len(self._bases)] for number in range(connections))
        return 0 if warm is None else await warm(list(map(self._requests.opening, bases)), self.config.timeouts)

    def endpoint_of(self, model: str) -> str | None:
        """The model's own URL: from `endpoints=`, or in the hosted catalog from the model table."""
        return self._requests.endpoint_of(model)

    def gate(self, route: str, concurrency: int | None, *, work: Callable[[Any], float]) -> Gate:
        """The gate of all slices of a call; it begins with what earlier ones of its route have learned. `work`: see Gate."""
        from nimclient._bulk.gate import Gate
        from nimclient._bulk.pacer import Pacer

        core, retry = self.core, self.config.retry
        if core.share is not None:
            return Gate(core.shared_pacer(retry, concurrency, route), time.monotonic, random.random, work, self.sleep)
        pacer = Pacer(
            retry,
            concurrency,
            rate=core.rate,
            users=core.users,
            backlog=core.replicas.backlog if len(self._bases) > 1 else None,
            memory=core.memories[self.config.base_urls, route],
            now=time.monotonic(),
        )
        return Gate(pacer, time.monotonic, random.random, work, self.sleep)

    async def sleep(self, seconds: float) -> None:
        """Wait. ClientClosedError as soon as the client is closed."""
        if seconds > 0:
            await self.core.sleep(seconds)

    # the retry loop ------------------------------------------------------------------------------------------------

    def send(self, call: Call[T], options: Mapping[str, Any], gate: Gate | None = None) -> Coroutine[Any, Any, T]:
        """Send a call and decode its JSON answer. Raises TransportError, APIStatusError, DecodeError."""
        run = self._observed if observers.installed else self._run
        return run(self._begin(call, options, gate), None)

    def open(self, call: Call[Any], options: Mapping[str, Any], read: Read[R]) -> Coroutine[Any, Any, R]:
        """Send a call and return what `read` makes of its open response. Also raises what `read` raises."""
        run = self._observed if observers.installed else self._run
        return run(self._begin(call, options, None), read)

    def open_resumable(
        self, call: Call[Any], options: Mapping[str, Any], read: Callable[[CallState[Any], Response], Awaitable[R]]
    ) -> Coroutine[Any, Any, R]:
        """The same; `read` also gets the state of the call, for `again`."""
        state = self._begin(call, options, None)
        run = self._observed if observers.installed else self._run
        return run(state, partial(read, state))

    async def again(self, state: CallState[Any], call: Call[Any], read: Read[None]) -> None:
        """Send another request of a call whose stream was interrupted: to a replica that was not tried, if there is one."""
        state.call, state.retries = call, None
        await self._run(state, read)
        if state.observations:
            observers.attempted(state.observations, Attempt(state.target.base_url, 200, time.monotonic() - state.sent))

    def _begin(self, call: Call[T], options: Mapping[str, Any], gate: Gate | None) -> CallState[T]:
        for text in call.warnings:
            self.core.warn_once(text)
        timeouts, headers = self.config.timeouts, _NO_HEADERS
        if options:
            if options.get("timeout") is not None:
                timeouts = resolve_timeouts(timeouts, options["timeout"])
            if options.get("extra_headers") is not None:
                headers = check_headers(options["extra_headers"], "extra_headers")
        started = time.monotonic()
        deadline = None if timeouts.total is None else started + timeouts.total
        routing = self._single if len(self._bases) == 1 else self._routing(call)
        ticket = _NO_TICKET if gate is None else Ticket()
        if self.core.rate is not None:
            ticket = ticket_of(call)
        return CallState(call, headers, timeouts, started, deadline, routing, gate, ticket, [])

    async def _observed(self, state: CallState[Any], read: Read[Any] | None) -> Any:
        """`_run` with observers. A stream has only begun then: its reader reports the end."""
        call = state.call
        scope: Literal["call", "item"] = "call" if state.gate is None else "item"
        facts = CallFacts(call.kind, scope, call.model, self.url_of(call), call.stream, call.fields)
        seen = state.observations = observers.begin(facts)
        own = (self.config.headers, call.headers, state.headers)
        state.headers = {**observers.headers_of(seen, *own), **state.headers}
        try:
            result = await self._run(state, read)
        except BaseException as error:
            observers.ended(seen, None, error)
            raise
        from nimclient._streams.reader import Reader  # few programs observe

        reader = cast("Reader[Any]", result) if issubclass(type(result), Reader) else None
        meta: object = getattr(result, "meta", None) if reader is None else reader.meta()
        status: int = getattr(meta, "status", 200)
        observers.attempted(seen, Attempt(state.target.base_url, status, time.monotonic() - state.sent))
        if reader is None:
            observers.ended(seen, result, None)
        else:
            reader.observe(seen)
        return result

    async def _run(self, state: CallState[Any], read: Read[Any] | None) -> Any:
        """The retry loop: attempts until one succeeds or a failure is final.

        A retry goes to another replica if there is one, without delay. In addition to the attempts of the policy there are
        two free ones: without a droppable field that the server rejects, and on a new connection after a stale one.
        """
        core, gate = self.core, state.gate
        transport = core.ready or await core.transport()  # importing aiohttp must not count as a replica's latency
        while True:
            if gate is not None or core.rate is not None or core.closed:
                await self._acquire_slot(state)
            state.number += 1
            state.sent = time.monotonic()
            try:
                with state.routing.acquire() as state.lease:
                    result = await self._attempt(state, transport, read)
            except NimError as error:
                state.history.append(attempt_of(state.target.base_url, error, time.monotonic() - state.sent))
                if state.observations:
                    observers.attempted(state.observations, state.history[-1])
                await self._prepare_next(state, error)
            except BaseException:
                if gate is not None:
                    gate.left()
                raise
            else:
                if state.retries is not None:
                    state.retries.succeeded()
                elif core.budget.tokens < BUDGET:
                    core.budget.earn(1)
                if gate is not None:
                    gate.succeeded(state.ticket, result)
                if core.rate is not None:
                    settle(core.rate, state.ticket, result)
                if log.isEnabledFor(logging.DEBUG):
                    log_call(state, time.monotonic(), result, None)
                return result

    async def _prepare_next(self, state: CallState[Any], error: NimError) -> None:
        """Prepare the state for the next attempt, after the delay; raise a final failure."""
        core, gate, policy = self.core, state.gate, self.config.retry
        retries = state.retries = state.retries or RetryState(policy, state.call.replay, core.budget, random.random)
        now = time.monotonic()
        kind = classify(error)
        is_free = self._retries_free(state, error)
        reachable = not is_free and state.routing.has_another() and state.in_time(now)  # failover without delay
        failover = reachable and retries.may_fail_over(kind)
        at_gate = gate is not None and kind.outage and not (is_free or failover)
        at_gate = at_gate and (policy.wait_for_server or not kind.is_away)
        delay = None
        if gate is not None and at_gate:
            delay = gate.throttled(state.ticket, error)
        elif gate is not None:
            gate.left()
        if core.closed and not isinstance(error, ClientClosedError):
            closed = ClientClosedError("the client was closed during the call")
            raise self._final(state, closed) from error
        if is_free:
            return
        if failover:
            log.info("attempt %d failed (%s); the next one at another replica", state.number, error)
            return
        if not at_gate:
            delay = retries.delay_after(error, kind)
        if delay is None or not state.in_time(now + delay):
            raise self._final(state, error)
        log.info("attempt %d failed (%s); the next one in %.2f s", state.number, error, delay)
        if not at_gate:  # at the gate the delay is part of waiting for a slot
            await self.sleep(delay)
        state.routing.waited()

    def _retries_free(self, state: CallState[Any], error: NimError) -> bool:
        """Whether the next attempt is free: without a rejected field, or after a stale connection."""
        if rejected := self.core.learn_rejected(state.target.url, state.call, error):
            log.info("%s rejects %s; sending without from now on", state.target.shown_url, ", ".join(sorted(rejected)))
            state.call = state.call.without(rejected)
            return True
        if not state.stale_retried and isinstance(error, ConnectionLostError) and error.reused:
            state.stale_retried = True
            return True
        return False

    def _final(self, state: CallState[Any], error: NimError) -> NimError:
        """The error that ends the call, with the history of its attempts."""
        with_history(error, tuple(state.history))
        if log.isEnabledFor(logging.DEBUG):
            log_call(state, time.monotonic(), None, error)
        return error

    async def _acquire_slot(self, state: CallState[Any]) -> None:
        """Wait until the next attempt may be sent: for a slot of the gate, or for the rate limit."""
        core, gate = self.core, state.gate
        wait = 0.0
        if gate is not None:
            wait = await gate.acquire(state.ticket, state.deadline)
        elif core.rate is not None:
            wait = core.rate.reserve(time.monotonic(), state.ticket.cost)
        if wait and gate is None and state.in_time(time.monotonic() + wait):
            await self.sleep(wait)
        elif wait:
            from nimclient._bulk.gate import too_long

            raise self._final(state, too_long(wait, state.timeouts.total))
        if core.closed:
            if gate is not None:
                gate.left()
            raise self._final(state, ClientClosedError("the client is closed"))

    # one attempt ---------------------------------------------------------------------------------------------------

    async def _attempt(self, state: CallState[Any], transport: Transport, read: Read[Any] | None) -> Any:
        """Send the request, check the status, read the response. The connection is always released or closed."""
        core, call = self.core, state.call
        target = state.target = self._requests.target(call, state.lease.base)
        if core.rejected:
            call = state.call = core.without_rejected(target.url, call)
        if not call.unauthenticated and len(call.body or b"") > 2**24 and self.is_platform(target.url):
            check_body_size(call.body)
        bearer = None if target.secret is None else await call_user(target.secret.bearer)
        if isinstance(state.lease, Lease):
            self._read_loads(transport)
        plain = state.sent if state.gate is None else None
        request = self._requests.make(call, target, state.headers, bearer, state.lease, plain)
        sent = time.monotonic()
        response: Response | None = None
        try:
            head, body = await transport.open(request, state.timeouts, state.deadline)
            begun = Response(
                head,
                body,
                request,
                target.base_url,
                target.shown_url,
                state.number,
                state.history,
                state.timeouts,
                self.config.limits,
                state.started,
                sent,
                time.monotonic,
            )
            if head.status != 200 and head.status != 201:
                await self._deliver(state, transport, begun)
            response, head = begun, begun.head
            if target.server.uninspected:
                core.dialects.inspect_headers(target.server, head.headers)
            if isinstance(state.lease, Lease) and (load := head.headers.find(LOAD_HEADER)) is not None:
                from nimclient._engine.load import load_of_header

                core.replicas.report(state.lease.replica, load_of_header(load))
            try:
                if (deprecation := head.headers.find(b"deprecation")) is not None:
                    core.note_deprecation(call, deprecation)
                if not 200 <= head.status < 300:
                    from nimclient._engine.rejection import rejection

                    raise await rejection(call, response, self._requests.key_note(request, state.headers))
                result = await (read_answer(core, state, response) if read is None else read(response))
            except BaseException:
                response.body.abort()
                raise
        except NimError as error:
            redact(error, secrets_of(request.headers, request.proxy))
            if isinstance(error, APIStatusError):
                core.dialects.inspect_error(target.server, error)
            self._tell(state, request, sent, response, error)
            raise
        except BaseException:
            self._tell(state, request, sent, response, None)
            raise
        self._tell(state, request, sent, response, result)
        return result

    def _read_loads(self, transport: Transport) -> None:
        """Read the load of the replicas in the background if it is time to, but not through a custom transport."""
        core = self.core
        if self.config.transport is None and (due := core.replicas.due()):
            from nimclient._engine.load_reader import LoadReader

            reader = LoadReader(core.replicas, self._requests, transport, self.config.timeouts, time.monotonic)
            core.run_in_background(reader.read(due))

    def _tell(
        self, state: CallState[Any], request: HttpRequest, sent: float, response: Response | None, result: object
    ) -> None:
        """Record whether the model can be called (`Model.callable`), which lists do not show, and call `on_attempt`."""
        call, callback = state.call, self.config.on_attempt
        status = None if response is None else response.head.status
        if call.model is not None:
            if status is not None and status < 300:
                self.core.called[call.model] = True
            elif isinstance(result, (ModelNotFoundError, GoneError)):
                self.core.called[call.model] = False
        if callback is not None:
            run_callback(
                call_on_attempt, callback, attempt_event(state, request, time.monotonic() - sent, response, result)
            )

    async def _deliver(self, state: CallState[Any], transport: Transport, response: Response) -> None:
        """Put the response with the result, after polling and redirects, in the place of this one."""
        call, head, request = state.call, response.head, response.request
        if head.status == 202 and call.allow_plain_202 and not accepted_id(head.headers):
            return
        from nimclient._nvcf.polling import Delivery

        delivery = Delivery(
            transport=transport,
            request=request,
            timeouts=state.timeouts,
            began=response.sent,
            deadline=state.deadline,
            poll=partial(self._requests.poll, call, request.url, state.headers),
            fetch=self._requests.fetch,
            clock=time.monotonic,
            sleep=self.sleep,
        )
        follow = call.follow or self.is_platform(request.url)
        response.head, response.body = await delivery.result(head, response.body, follow=follow)

    def _routing(self, call: Call[Any]) -> Routing:
        """The routing of a call's attempts. Only model calls are measured: the latency of others is unrelated."""
        if self._requests.own_url(call) is not None:
            return self._single
        route = call.path.split("/", 2)[1]  # the first segment only: others may be ids
        kind = f"{route} {call.stream}" if call.method == "POST" else ""
        may_probe = self.config.retry.attempts > 1 and call.replay is not Replay.NEVER
        return self.core.replicas.routing(
            kind, stream=call.stream, may_probe=may_probe, fields=call.fields, headers=call.headers
        )


def _restored(config: ClientConfig) -> Engine:
    config = config.completed()
    return Engine(config, SharedState(config))

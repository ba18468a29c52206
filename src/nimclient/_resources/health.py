"""client.health: liveness, readiness, and waiting for readiness."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from functools import partial

import anyio

from nimclient._api.call import Call
from nimclient._api.models import health_calls, health_route, is_health_answer
from nimclient._api.options import check_seconds
from nimclient._base.json import excerpt
from nimclient._base.values import Headers
from nimclient._http.tasks import running_loop
from nimclient._resources.base import Resource
from nimclient._retry.classify import is_no_route
from nimclient._streams.response import Response
from nimclient.errors import (
    APIStatusError,
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    DecodeError,
    NimError,
    RedirectError,
    RequestTimeoutError,
)

PROBE_SECONDS = 10.0
FIRST_DELAY = 0.1
MAX_DELAY = 2.0
MAX_BODY = 64 * 1024
BODY_SECONDS = 2.0


class AsyncHealth(Resource):
    """Health of a NIM container (GET /v1/health/…); other servers are checked at their own route, else by their model list.

    One healthy replica of several is enough: calls avoid the others.
    """

    async def ready(self, *, timeout: float | None = 5.0) -> bool:
        """Whether the model is loaded and accepts requests. A server that is unreachable or too slow is not ready."""
        return await self._any("ready", timeout) is None

    async def live(self, *, timeout: float | None = 5.0) -> bool:
        """Whether the server process responds."""
        return await self._any("live", timeout) is None

    async def wait_ready(self, *, timeout: float | None = 600.0) -> None:
        """Wait until the server is ready: a container may load its model for minutes. `timeout` in seconds; None: no limit.

        A server that refuses connections, does not respond or responds with anything but 2xx is polled every 0.1 to 2 s.
        Raises RequestTimeoutError (.phase "total") at the deadline, with the last state in its text and as its cause;
        permanent errors are raised at once: AuthenticationError, a ConnectError of kind "tls", ProtocolError, RedirectError.
        """
        check_seconds("timeout", timeout)
        running_loop()  # says what to do without one
        started = anyio.current_time()
        delay, tries = FIRST_DELAY, 0
        while True:
            left = None if timeout is None else max(started + timeout - anyio.current_time(), 0.0)
            failure = await self._any("ready", PROBE_SECONDS if left is None else min(PROBE_SECONDS, left))
            tries += 1
            if failure is None:
                return
            if isinstance(failure, AuthenticationError) or (
                isinstance(failure, ConnectError) and failure.kind == "tls"
            ):
                raise failure
            left = None if timeout is None else started + timeout - anyio.current_time()
            if left is not None and left <= delay:
                await self._engine.sleep(max(left, 0.0))
                problem = f"the server was not ready within {timeout:g} s; last: {failure.message}"
                raise RequestTimeoutError(problem, phase="total", seconds=timeout, attempts=tries) from failure
            await self._engine.sleep(delay)  # it ends when the client is closed
            delay = min(2 * delay, MAX_DELAY)

    async def _any(self, what: str, timeout: float | None) -> NimError | None:
        """None if any replica is healthy, else the first failure. They are checked concurrently; a success ends the check."""
        running_loop()
        engines = self._engine.per_replica()
        if len(engines) == 1:
            return await self._ask(what, timeout)
        failures: dict[int, NimError | None] = {}
        async with anyio.create_task_group() as group:
            for position, engine in enumerate(engines):
                ask = partial(AsyncHealth(engine)._ask, what, timeout)
                group.start_soon(_ask_one, ask, position, failures, group.cancel_scope)
        return None if None in failures.values() else failures[0]

    async def _ask(self, what: str, timeout: float | None) -> NimError | None:
        """None if the server is healthy, else the failure: a single check, at the server's health route.

        The route is found by trying; `timeout` applies to all tries together.
        """
        deadline = None if timeout is None else anyio.current_time() + timeout
        failure: NimError | None = None
        tried: set[str] = set()
        while (call := self._next_call(what, tried)) is not None:
            tried.add(health_route(call))
            left = None if deadline is None else max(deadline - anyio.current_time(), 0.0)
            failure = await self._failure(call, what, left)
            if what == "live" and call.path == "/models" and isinstance(failure, AuthenticationError):
                return None  # any response is enough
            if not _may_be_elsewhere(failure):
                break
        if isinstance(failure, RedirectError):
            raise failure
        return failure

    def _next_call(self, what: str, tried: Container[str]) -> Call[None] | None:
        """The most likely route that was not tried; earlier responses may have shown the server type."""
        engine = self._engine
        (first, *_) = health_calls(what, None)
        server = engine.core.dialects.server(engine.url_of(first))
        calls = health_calls(what, engine.dialect_for() or server.type_for_health, server.health_paths.get(what))
        return next((call for call in calls if health_route(call) not in tried), None)

    async def _failure(self, call: Call[None], what: str, timeout: float | None) -> NimError | None:
        """None if this route responds, else the failure."""
        engine = self._engine.with_attempts(1)
        try:
            url, headers, body = await engine.open(call, {"timeout": timeout}, _read_health)
        except (APIStatusError, ConnectError, ConnectionLostError, RedirectError, RequestTimeoutError) as error:
            return error
        if not is_health_answer(call, headers):
            kind = headers.get("content-type", "nothing").partition(";")[0]
            problem = f"GET {health_route(call)} returned {kind}, which no inference server does"
            return DecodeError(problem, excerpt=excerpt(body))
        server = engine.core.dialects.server(url)
        engine.core.dialects.inspect_health(server, call.path, headers, body)
        server.health_paths[what] = health_route(call)
        return None


def _may_be_elsewhere(failure: NimError | None) -> bool:
    """Whether the server has no such route: gateways may reject (400) or redirect a path that they do not know."""
    if isinstance(failure, APIStatusError):
        return is_no_route(failure) or failure.status == 400
    return isinstance(failure, (DecodeError, RedirectError))


async def _ask_one(
    ask: Callable[[], Awaitable[NimError | None]],
    position: int,
    failures: dict[int, NimError | None],
    siblings: anyio.CancelScope,
) -> None:
    """Check one of several replicas; if it is healthy, cancel the others."""
    try:
        failures[position] = await ask()
    except NimError as error:
        failures[position] = error
    if failures[position] is None:
        siblings.cancel()


async def _read_health(response: Response) -> tuple[str, Headers, bytes]:
    body = await response.body.read_some(MAX_BODY, BODY_SECONDS)
    return response.url, response.head.headers, body

"""client.health: is the server alive, is it ready, and waiting until it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from nimclient._api.call import Call
from nimclient._api.models import health_calls
from nimclient._api.options import check_seconds
from nimclient._base.values import Headers
from nimclient._resources.base import Resource
from nimclient._streams.response import Response
from nimclient.errors import (
    APIStatusError,
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    NimError,
    RequestTimeoutError,
)

PROBE_SECONDS = 10.0
FIRST_DELAY = 0.1
MAX_DELAY = 2.0


class AsyncHealth(Resource):
    """Health of a NIM container (GET /v1/health/…); of vLLM and Dynamo, which have none there, `/health` below the root.

    Of several replicas one is enough: calls go around the others.
    """

    async def ready(self, *, timeout: float | None = 5.0) -> bool:
        """Whether the model is loaded and takes requests. A server that cannot be reached, or not in time, is not ready."""
        return await self._any("ready", timeout) is None

    async def live(self, *, timeout: float | None = 5.0) -> bool:
        """Whether the server process answers."""
        return await self._any("live", timeout) is None

    async def wait_ready(self, *, timeout: float | None = 600.0) -> None:
        """Wait until the server is ready: a container may load its model for minutes. `timeout` in seconds; None: for ever.

        A server that refuses connections, does not answer or answers anything but 2xx is asked again, after 0.1 to 2 s.
        Raises RequestTimeoutError (.phase "total") at the deadline, with the last state in its text and as its cause; at
        once what will not pass: AuthenticationError, a ConnectError of kind "tls", ProtocolError, RedirectError.
        """
        check_seconds("timeout", timeout)
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
        """None when a replica is as asked, else why the first is not. All are asked at once; nobody waits for the slowest."""
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
        """None from a server that is as asked, else why it is not: of one try, at the route that the server has."""
        failure: NimError | None = None
        for call in health_calls(what, self._engine.dialect_for()):
            failure = await self._failure(call, timeout)
            if not isinstance(failure, APIStatusError) or failure.status != 404:
                break
        return failure

    async def _failure(self, call: Call[None], timeout: float | None) -> NimError | None:
        """The body says nothing that the status does not: NIMs differ in it, vLLM's is empty."""

        engine = self._engine.with_attempts(1)
        try:
            url, headers = await engine.open(call, {"timeout": timeout}, _read_head)
        except (APIStatusError, ConnectError, ConnectionLostError, RequestTimeoutError) as error:
            return error
        engine.core.dialects.inspect_health(url, call.path, headers)
        return None


async def _ask_one(
    ask: Callable[[], Awaitable[NimError | None]],
    position: int,
    failures: dict[int, NimError | None],
    siblings: anyio.CancelScope,
) -> None:
    """Ask one of several replicas; where it is as asked, the others need not be."""
    try:
        failures[position] = await ask()
    except NimError as error:
        failures[position] = error
    if failures[position] is None:
        siblings.cancel()


async def _read_head(response: Response) -> tuple[str, Headers]:
    response.body.abort()
    return response.url, response.head.headers

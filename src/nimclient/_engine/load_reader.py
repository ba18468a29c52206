"""Reads the load that replicas report, in the background, about once a second and only while calls are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyio import create_task_group
from attrs import frozen

from nimclient._api.call import Call
from nimclient._base.callbacks import call_user
from nimclient._base.config import Timeouts
from nimclient._base.log import log
from nimclient._base.types import Clock
from nimclient._engine.load import LOAD_PATHS, load_of_body
from nimclient._engine.replicas import Replica, Replicas, SingleEndpoint
from nimclient._engine.requests import Requests
from nimclient._http.base import Transport
from nimclient.errors import NimError

LIMIT = 2.0  # seconds for one response: a later one would be outdated
MAX_BODY = 2**22
SHARE = 0.02  # of the time, at most, is spent on reading from one replica
MAX_PAUSE = 60.0  # seconds


@frozen
class LoadReader:
    """Reads the load of replicas whose server type reports one, each with one GET that counts as no attempt of any call."""

    replicas: Replicas
    requests: Requests
    transport: Transport
    timeouts: Timeouts
    clock: Clock

    async def read(self, due: Sequence[Replica]) -> None:
        """Read the load of these replicas. Raises nothing."""
        async with create_task_group() as group:
            for replica in due:
                group.start_soon(self._read, replica)

    async def _read(self, replica: Replica) -> None:
        """Read the load of one. A route that reports none is not read again."""
        if replica.load_paths is None:
            kind = self.requests.server_type(replica.base)
            replica.load_paths = None if kind is None else list(LOAD_PATHS.get(kind, ()))
        began = self.clock()
        while replica.load_paths:
            try:
                status, body = await self._get(replica, replica.load_paths[0])
            except NimError as error:
                log.debug("the load of %s was not read: %s", replica.base.api, error)
                status, body = 0, b""
            replica.read_after = self.clock() + min((self.clock() - began) / SHARE, MAX_PAUSE)
            if not status or status == 429 or status >= 500:
                return
            load = load_of_body(replica.load_paths[0], body) if status == 200 else None
            if load is not None:
                self.replicas.report(replica, load)
                return
            log.info("%s%s reports no load (status %d)", replica.base.root, replica.load_paths.pop(0), status)

    async def _get(self, replica: Replica, path: str) -> tuple[int, bytes]:
        call: Call[Any] = Call("GET", path, _undecoded, at_root=True, accept="text/plain, application/json")
        target = self.requests.target(call, replica.base)
        bearer = None if target.secret is None else await call_user(target.secret.bearer)
        request = self.requests.make(call, target, {}, bearer, SingleEndpoint(replica.base), None)
        head, body = await self.transport.open(request, self.timeouts, self.clock() + LIMIT)
        return head.status, await body.read_all(MAX_BODY)


def _undecoded(value: object, meta: object) -> None:
    """The body is read without the call."""

"""A raw-socket HTTP server that does exactly what a test's script says, and tells what it saw.

A script is a list of steps for one request: bytes to send, `Pause`, `Drip`, `Flood`, `Stall`, `Reset`, `Close`,
`HalfClose`, a coroutine function, or a function of the request that returns such a list. The n-th request gets the
n-th script; the last one is repeated. After a script the connection waits for its next request, unless a step closed
it.
"""

import asyncio
import json
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self, TypeAlias

from support.until import tell

HOST = os.environ.get("NIMCLIENT_TEST_HOST", "127.0.0.1")


@dataclass
class Request:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    connection: int
    raw_head: bytes
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Pause:
    """Do nothing for a while."""

    seconds: float


@dataclass
class Drip:
    """Send bytes one piece at a time until the client leaves, at most `times` times."""

    data: bytes
    every: float
    times: int = 10_000


@dataclass
class Flood:
    """Send bytes as fast as the client takes them; `sent` tells how often that was."""

    data: bytes
    times: int
    sent: int = 0

    async def send(self, writer: asyncio.StreamWriter) -> None:
        for _ in range(self.times):
            writer.write(self.data)
            await writer.drain()
            self.sent += 1


class Stall:
    """Send nothing more; wait until the client leaves."""


class Reset:
    """Close with RST."""


class Close:
    """Close with FIN."""


class HalfClose:
    """Send FIN, continue reading until the client leaves."""


Step: TypeAlias = bytes | Pause | Drip | Flood | Stall | Reset | Close | HalfClose | Callable[[], Awaitable[None]]
Script: TypeAlias = Sequence[Step] | bytes | Callable[[Request], "Sequence[Step] | bytes"]


@dataclass
class Early:
    """A script that is run when the head of the request is there, before its body is read."""

    steps: Sequence[Step]


class _Gone(Exception):
    """The connection is over."""


@dataclass
class FaultServer:
    """See the module. `connections` and `requests` count what came; `open` how many connections are open now."""

    ssl: SSLContext | None = None
    host: str = HOST
    on_accept: Sequence[Step] = ()
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    _scripts: deque[Script | Early] = field(default_factory=deque)
    _routes: dict[str, deque[Script | Early]] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def script(self, *scripts: Script | Early, path: str | None = None) -> Self:
        """What to do with the next requests (of this path); the last script is repeated."""
        if path is None:
            self._scripts = deque(scripts)
        else:
            self._routes[path] = deque(scripts)
        return self

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.ssl else 'http'}://{host}:{self.port}/v1"

    @property
    def open(self) -> int:
        return len(self._tasks)

    def count(self, path: str) -> int:
        """How many requests came for this path."""
        return sum(request.path == path for request in self.requests)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, self.host, 0, ssl=self.ssl, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def listen(self, port: int, host: str = HOST) -> asyncio.Server:
        """Take connections at another address as well, until the server that is returned is closed."""
        return await asyncio.start_server(self._connected, host, port)

    async def stop_listening(self) -> None:
        """Refuse connections; those that are open continue."""
        assert self._server is not None
        await asyncio.sleep(0)  # asyncio leaves a connection open that was accepted just before its server stops
        self._server.close()

    async def stop(self) -> None:
        await self.stop_listening()
        await asyncio.sleep(0)  # for connections that were being accepted
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.001)  # for the last words of its connections

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for something that the client's doings bring about soon."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.002)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        protocol: Any = writer.transport.get_protocol()
        protocol._get_close_waiter(writer).add_done_callback(_look_at)  # an answer sent to nobody fails no test
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer, self.connections))
        task.set_name("fault server")
        self._tasks.add(task)
        task.add_done_callback(lambda _: writer.close())  # also where it was cancelled before it began
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: tell())

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        try:
            await self._run(self.on_accept, reader, writer)
            while True:
                await self._exchange(reader, writer, number)
        except (_Gone, OSError, EOFError):
            pass
        except RuntimeError:
            if not writer.transport.is_closing():  # uvloop's word for a connection that is gone
                raise
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        request = _request(await reader.readuntil(b"\r\n\r\n"), number)
        scripts = self._routes.get(request.path, self._scripts)
        script = scripts.popleft() if len(scripts) > 1 else scripts[0]
        if isinstance(script, Early):
            self._got(request)
            await self._run(script.steps, reader, writer)
            return
        request.body = await reader.readexactly(int(request.headers.get("content-length", "0")))
        self._got(request)
        steps = script(request) if callable(script) else script
        await self._run([steps] if isinstance(steps, bytes) else steps, reader, writer)

    def _got(self, request: Request) -> None:
        self.requests.append(request)
        tell()

    async def _run(self, steps: Sequence[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for step in steps:
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Drip(data, every, times):
                    await _drip(writer, reader, data, every, times)
                case Flood():
                    await step.send(writer)
                case Stall():
                    await _until_gone(reader)
                case Reset():
                    made = writer.get_extra_info("socket")
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                    raise _Gone
                case Close():
                    raise _Gone
                case HalfClose():
                    writer.write_eof()
                    await _until_gone(reader)
                case _:
                    await step()


def _look_at(closed: asyncio.Future[None]) -> None:
    """Retrieve the error of a connection, so that asyncio does not complain of it."""
    if not closed.cancelled():
        closed.exception()


async def _until_gone(reader: asyncio.StreamReader) -> None:
    while await reader.read(2**16):
        pass
    raise _Gone


async def _drip(
    writer: asyncio.StreamWriter, reader: asyncio.StreamReader, data: bytes, every: float, times: int
) -> None:
    for _ in range(times):
        if reader.at_eof() or writer.transport.is_closing():
            raise _Gone
        writer.write(data)
        await asyncio.sleep(every)


def _request(raw: bytes, number: int) -> Request:
    first, *lines = raw.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    fields = (line.partition(": ") for line in lines if line)
    return Request(method, path, {name.lower(): value for name, _, value in fields}, number, raw)


class ServerThread:
    """A fault server on a loop of its own in a thread, for tests that have no loop or many: `with ServerThread() as server`.

    Scripts are set before the first request; what it saw may be read from any thread.
    """

    def __init__(self, ssl: SSLContext | None = None, host: str = HOST) -> None:
        self.server = FaultServer(ssl=ssl, host=host)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault server")

    def __enter__(self) -> FaultServer:
        self._thread.start()
        self._call(self.server.start())
        return self.server

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self.server.stop())
        self._call(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

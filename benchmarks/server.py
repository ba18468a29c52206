"""The canned server: the least HTTP/1.1 that clients need, so that it waits for the client, never the reverse.

It prints its port and runs until its standard input is closed, hence no longer than the process that started it.
"""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import orjson

from benchmarks import canned

ROOT = Path(__file__).resolve().parent.parent
SECONDS_BETWEEN_TOKENS = {canned.PACED_MODEL: 0.002, canned.CALM_MODEL: 0.25, canned.BRISK_MODEL: 0.05}
DEFAULT_TOKENS = 16
BACKLOG = 4096
"""Connections that may wait to be accepted: thousands of streams open theirs at once."""
AUTHORITY = "authority.pem"


class Server(NamedTuple):
    """Where a server is, and the file with the certificate that signed its own, if it has one."""

    url: str
    authority: str | None = None


class Servers(NamedTuple):
    """The same answers in the clear and under TLS."""

    clear: Server
    tls: Server


class Request(NamedTuple):
    """The path and the body of one request; nothing else is looked at."""

    path: str
    body: bytes


def content_length(head: bytes) -> int:
    """The length of the body that follows this head."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def take_request(buffer: bytearray) -> Request | None:
    """Cut the first whole request off the buffer; None while one is incomplete."""
    end_of_head = buffer.find(b"\r\n\r\n")
    if end_of_head < 0:
        return None
    head = bytes(buffer[:end_of_head])
    start = end_of_head + 4
    end = start + content_length(head)
    if len(buffer) < end:
        return None
    request = Request(head.split(b" ", 2)[1].decode(), bytes(buffer[start:end]))
    del buffer[:end]
    return request


def embeddings(body: dict[str, Any]) -> bytes:
    """The answer to POST /v1/embeddings."""
    texts = body["input"]
    count = 1 if isinstance(texts, str) else len(texts)
    encoding, dtype = body.get("encoding_format", "float"), body.get("embed_dtype", "float32")
    return canned.embeddings_response(body["model"], count, encoding, dtype)


def writes(request: Request) -> tuple[bytes, ...]:
    """The writes that answer a request: one, or for the paced model one for each token."""
    if request.path == "/v1/models":
        return (canned.models_response(),)
    if request.path == "/v1/embeddings":
        return (embeddings(orjson.loads(request.body)),)
    if request.path != "/v1/chat/completions":
        return (canned.not_found_response(),)
    body = orjson.loads(request.body)
    model, tokens = body["model"], body.get("max_tokens", DEFAULT_TOKENS)
    if not body.get("stream"):
        return (canned.chat_response(model, tokens),)
    if model in SECONDS_BETWEEN_TOKENS:
        return canned.paced_writes(model, tokens)
    return (canned.stream_response(model, tokens),)


class CannedProtocol(asyncio.Protocol):
    """One connection, kept alive; clients send the next request after the answer to the last."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to write to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        while (request := take_request(self._buffer)) is not None:
            self._answer(request)

    def _answer(self, request: Request) -> None:
        """At once, or for the slow model a little later; one connection carries one request at a time."""
        if canned.SLOW_MODEL.encode() in request.body:
            asyncio.get_running_loop().call_later(canned.SLOW_SECONDS, self._send, iter(writes(request)), 0.0)
        else:
            paces = (pace for model, pace in SECONDS_BETWEEN_TOKENS.items() if b'"%b"' % model.encode() in request.body)
            self._send(iter(writes(request)), next(paces, SECONDS_BETWEEN_TOKENS[canned.PACED_MODEL]))

    def _send(self, remaining: Iterator[bytes], pace: float) -> None:
        data = next(remaining, None)
        if data is None or self._transport.is_closing():
            return
        self._transport.write(data)
        asyncio.get_running_loop().call_later(pace, self._send, remaining, pace)


def server_context(folder: str) -> ssl.SSLContext:
    """A certificate for 127.0.0.1; the authority that signed it is left in the folder."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(Path(folder) / AUTHORITY))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


async def serve(folder: str | None) -> None:
    """Listen on a free local port, print it, and end with standard input; with a folder over TLS."""
    context = None if folder is None else server_context(folder)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    server = await loop.create_server(CannedProtocol, "127.0.0.1", 0, ssl=context, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    server.close()


@contextmanager
def running_program(command: Sequence[str | Path]) -> Iterator[int]:
    """Run a program that prints its port, until its standard input is closed; gives the port."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


@contextmanager
def running_server(folder: str | None = None) -> Iterator[str]:
    """Run the server in a process of its own, with a folder over TLS; gives its URL without `/v1`."""
    command = [sys.executable, "-m", "benchmarks.server", *([] if folder is None else [folder])]
    with running_program(command) as port:
        yield f"http{'s' if folder else ''}://127.0.0.1:{port}"


@contextmanager
def running_servers() -> Iterator[Servers]:
    """One server in the clear and one under TLS. A server that nobody asks costs nothing."""
    with TemporaryDirectory() as folder, running_server() as clear, running_server(folder) as tls:
        yield Servers(Server(clear), Server(tls, str(Path(folder) / AUTHORITY)))


if __name__ == "__main__":
    asyncio.run(serve(*(sys.argv[1:] or [None])))

"""The server of the soak test: the least HTTP/1.1, with faults by chance, and books of what it has answered.

It prints its port, runs until its standard input is closed, and then prints its books as one line of JSON.
"""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from benchmarks.server import BACKLOG, ROOT, CannedProtocol, Request

FAULTS = ("500", "429", "closed", "no_json", "cut", "event", "silent")
"""A rejection, throttling, no response, HTML with status 200, half a body, an error event in a stream, no end."""
JSON, EVENTS = "application/json", "text/event-stream"


def usage_of(call: int) -> dict[str, int]:
    """The tokens of a call, known to both sides."""
    prompt, completion = call % 97 + 1, call % 13 + 1
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def response(status: int, body: bytes, kind: str = JSON, *headers: str) -> bytes:
    """A whole response."""
    lines = (f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer(path: str, body: dict[str, Any]) -> tuple[bytes, str]:
    """The body of an answer and its type."""
    call = int(body["user"])
    head: dict[str, Any] = {"id": f"c{call}", "model": body["model"]}
    if path.endswith("/embeddings"):
        rows = [{"index": index, "embedding": [float(index), 1.0]} for index in range(len(body["input"]))]
        return orjson.dumps({**head, "data": rows, "usage": usage_of(call)}), JSON
    if not body.get("stream"):
        choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": f"re {call}"}}
        return orjson.dumps({**head, "choices": [{**choice, "finish_reason": "stop"}], "usage": usage_of(call)}), JSON
    texts = ["re ", *str(call), None]
    choices = [
        {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": None if text else "stop"}
        for text in texts
    ]
    events = [{**head, "choices": [choice]} for choice in choices] + [{**head, "choices": [], "usage": usage_of(call)}]
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n", EVENTS


class SoakProtocol(CannedProtocol):
    """One connection. A fault ends it where HTTP has no other way."""

    def __init__(self, chance: random.Random, share: float, books: Counter[str], answered: set[int]) -> None:
        super().__init__()
        self._chance = chance
        self._share = share
        self._books = books
        self._answered = answered

    def _answer(self, request: Request) -> None:
        fields = orjson.loads(request.body)
        self._books["requests"] += 1
        body, kind = answer(request.path, fields)
        if self._chance.random() >= self._share:
            self._books["answers"] += 1
            self._answered.add(int(fields["user"]))
            self._transport.write(response(200, body, kind))
            return
        fault = self._chance.choice(FAULTS)
        self._books[fault] += 1
        half = response(200, body, kind)[: -len(body) // 2]
        match fault:
            case "500" | "429":
                rejection = orjson.dumps({"error": {"message": fault, "code": int(fault)}})
                self._transport.write(response(int(fault), rejection, JSON, "Retry-After: 0"))
            case "no_json":
                self._transport.write(response(200, b"<html>", "text/html"))
            case "event":
                self._transport.write(response(200, b'data: {"error": {"message": "event", "code": 500}}\n\n', EVENTS))
            case "silent":
                self._transport.write(half)
            case "cut":
                self._transport.write(half)
                self._transport.close()
            case _:
                self._transport.close()


async def serve(share: float, seed: int) -> None:
    """Listen on a free local port, print it, and end with standard input."""
    books: Counter[str] = Counter()
    answered: set[int] = set()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    chance = random.Random(seed)
    server = await loop.create_server(
        lambda: SoakProtocol(chance, share, books, answered), "127.0.0.1", 0, backlog=BACKLOG
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    server.close()
    tokens = sum(usage_of(call)["total_tokens"] for call in answered)
    print(orjson.dumps({**books, "answered": len(answered), "tokens": tokens}).decode(), flush=True)


class Server:
    """A running server: its URL, and after the block its books."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.books: dict[str, int] = {}


@contextmanager
def running_server(share: float, seed: int = 0) -> Iterator[Server]:
    """Run the server in a process of its own, with faults for this share of the requests."""
    command = [sys.executable, "-m", "benchmarks.soak_server", str(share), str(seed)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        server = Server(f"http://127.0.0.1:{int(process.stdout.readline())}")
        try:
            yield server
        finally:
            process.stdin.close()
            server.books = orjson.loads(process.stdout.readline())


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]), int(sys.argv[2])))

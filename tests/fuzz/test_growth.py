"""Four times the bytes take about four times the work, and memory in proportion, in every decoder and for its worst input."""

import base64
import contextlib
import gc
import json
import struct
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from fuzz.targets import answers, client_of, requests, rows, stream
from nimclient.errors import NimError
from support.memory import allocations
from support.slow import mostly_slow

TIMES = 10  # for four times the input; what is quadratic takes sixteen times as long
CUT = b"\x10\x03\x00\x40"


async def embed(body: bytes) -> None:
    await client_of(body).embeddings.create([str(number) for number in range(body.count(b"embedding"))])


async def infer(body: bytes) -> None:
    with contextlib.suppress(NimError):
        await client_of(body).infer("/x", {})


async def rejected(body: bytes) -> None:
    with contextlib.suppress(NimError):
        await client_of((400, {}, body)).chat.create("hi")


def rows_of(form: Any, count: int) -> bytes:
    data = [{"index": index, "embedding": form} for index in range(count)]
    return json.dumps({"data": data}).encode()


NUMBER = b"1234567890123456789012,"
LINE = b'{"id":"batch_req_%d","custom_id":"%d","response":null,"error":null}\n'
CALLS = b'{"index":0,"delta":{"tool_calls":[{"index":0,"id":"%d","function":{"name":"f","arguments":"{}"}}]}}'
CASES: dict[str, tuple[Any, Callable[[int], bytes]]] = {
    "base64": (embed, lambda n: rows_of(base64.b64encode(struct.pack("<64f", *[0.5] * 64)).decode(), n)),
    "floats": (embed, lambda n: rows_of([0.5] * 64, n)),
    "halves of characters": (infer, lambda n: b'["' + b'\\ud83d","' * 8 * n + b'x"]'),
    "brackets in a text": (infer, lambda n: b'["' + b"[{" * 32 * n + b'"]'),
    "brackets that never end": (infer, lambda n: b"[" * 64 * n),
    "tags that never end": (rejected, lambda n: b"<script " * 32 * n),
    "validation errors": (rejected, lambda n: b'{"detail":[%s{}]}' % (b'{"loc":["body","x"],"msg":"m"},' * n)),
    "quotes that never end": (rows, lambda n: b'\0id,text\n1,"' + b'a"x\n"' * n),
    "lines of CSV": (rows, lambda n: b"\0id,text\n" + b'1,"a ""b"""\n' * n),
    "lines of JSON": (rows, lambda n: b"\1" + b'{"id":"1","text":"\\ud800"}\n' * n),
    "long numbers of a batch": (
        requests,
        lambda n: b'{"custom_id":"a","url":"/v1/embeddings","body":{"x":[%s0]}}' % (NUMBER * 4 * n),
    ),
    "earlier answers": (answers, lambda n: b"\0" + b"".join(LINE % (number, number) for number in range(n))),
    "events": (stream, lambda n: CUT + b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n' * (n // 4)),
    "lines of one event": (stream, lambda n: CUT + b"data: x\n" * n),
    "tool calls": (
        stream,
        lambda n: CUT + b"".join(b'data: {"choices":[' + CALLS % number + b"]}\n\n" for number in range(n // 8)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_work_grows_with_the_input(name: str) -> None:
    """Measured in the time of the processor, the least of three, of inputs that take some milliseconds."""
    decode, make = CASES[name]
    small, large = make(400), make(1600)
    assert 3.5 < len(large) / len(small) < 4.5

    def seconds(data: bytes) -> float:
        began = time.process_time()
        anyio.run(decode, data)
        return time.process_time() - began

    seconds(small)
    least = min(seconds(small) for _ in range(3))
    assert min(seconds(large) for _ in range(3)) < TIMES * max(least, 0.002)


@pytest.mark.parametrize("name", mostly_slow(CASES, "base64", "events"))
def test_nothing_is_kept_of_the_input(name: str) -> None:
    """When a decoder has ended, what it has read is forgotten."""
    decode, make = CASES[name]
    data = make(400)
    anyio.run(decode, data)
    with allocations() as kept:
        anyio.run(decode, data)
        gc.collect()
        first = kept()
        for _ in range(5):
            anyio.run(decode, data)
        gc.collect()
        assert kept() - first < 5 * 20_000

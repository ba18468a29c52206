"""What a token costs, counted in Python calls of ours, which are stable where times are not; what an open stream keeps."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import pytest

from nimclient import AsyncClient, Timeouts
from nimclient.testing import FakeTransport, Headers, HttpHead, HttpRequest
from support.memory import allocations
from support.wire import token

ROOMS = ("/nimclient/_streams/", "/nimclient/_base/", "/nimclient/records/")


async def calls_of(answer: Any) -> int:
    """The calls within the package, the transport left out, from opening a stream to the last of its chunks."""
    count = 0

    def watch(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call" and any(room in frame.f_code.co_filename for room in ROOMS)

    client = AsyncClient(base_url="http://fake", model="m", transport=FakeTransport([answer]))
    async with client.chat.stream("hi") as stream:
        sys.setprofile(watch)
        try:
            async for _ in stream:
                pass
        finally:
            sys.setprofile(None)
    return count


def event(text: str) -> str:
    choice = f'{{"index": 0, "delta": {{"content": "{text}"}}, "logprobs": null, "finish_reason": null}}'
    return f'{{"id": "c", "model": "m", "choices": [{choice}]}}'


def in_one_read(events: list[str]) -> Any:
    return (200, {"Content-Type": "text/event-stream"}, "".join(f"data: {data}\n\n" for data in events).encode())


def one_a_read(events: list[str]) -> Any:
    return events


@pytest.mark.parametrize(("form", "most"), [(in_one_read, 1.5), (one_a_read, 13.5)])
async def test_one_more_plain_text_token(form: Callable[[list[str]], Any], most: int) -> None:
    """A token that came with others costs one call: it is handed out. Alone, it is read as well."""
    end = ['{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}', "[DONE]"]
    few, many = [await calls_of(form([event("x")] * size + end)) for size in (100, 600)]
    assert (many - few) / 500 <= most


class Open:
    """A transport, and the body of all its responses: a word, and then nothing more."""

    async def open(self, request: HttpRequest, timeouts: Timeouts, total: float | None) -> tuple[HttpHead, Any]:
        headers = Headers([(b"content-type", b"text/event-stream")])
        return HttpHead(200, headers, queue=0.0, connect=None, reused=True), Open()

    async def read(self, phase: str, deadline: float | None) -> bytes:
        return token("a")

    def abort(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_open_streams_do_not_keep_their_prompts() -> None:
    """20 streams that were opened with a prompt of a megabyte each take less than one of them."""
    async with AsyncClient("k", "http://fake", model="m", transport=cast(Any, Open())) as client:
        with allocations() as in_use:
            streams = [await client.chat.stream(f"{number}{'x' * 2**20}") for number in range(20)]
            assert in_use() < 2**20
        for stream in streams:
            assert (await anext(stream)).text == "a"
            await stream.aclose()

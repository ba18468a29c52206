"""What a token costs, counted in Python calls of ours: counts are stable where times are not."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from nimclient import AsyncClient
from nimclient.testing import FakeTransport

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

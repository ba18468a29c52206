"""How many calls of Python functions of ours a call takes, from the public method to its result: a count is stable where a
time is not. The bounds are what is reached; they may only fall.
"""

import sys
from array import array
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import nimclient
from nimclient import AsyncClient
from nimclient.testing import FakeRequest, FakeTransport
from support.server import ServerThread
from support.wire import answer as http_answer

PACKAGE = str(Path(nimclient.__file__).parent)
CHAT = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


pytestmark = pytest.mark.usefixtures("unread_log")


def answer(request: FakeRequest) -> Any:
    """A chat answer, plain or as 3 tokens, or vectors in base64."""
    if not request.url.endswith("/embeddings"):
        return tokens(3) if request.json.get("stream") else CHAT
    row = b64encode(array("f", [0.5] * 8).tobytes()).decode()
    data = [{"object": "embedding", "index": i, "embedding": row} for i, _ in enumerate(request.json["input"])]
    return {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}


def tokens(count: int) -> list[Any]:
    events: list[Any] = [{"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}] * count
    return [*events, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]


class Walk:
    """The calls of functions of the package while it is counted, those of the fake transport left out.

    `all` counts those of other packages, too; `sent` is `count` when the request was written, `files` those until then.
    """

    def __init__(self) -> None:
        self.count = self.all = self.sent = 0
        self.files: set[str] = set()

    def note(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        self.all += 1
        if file.startswith(PACKAGE) and not file.endswith("testing.py"):
            self.count += 1
            if not self.sent:
                self.files.add(file)
        elif not self.sent and (name == "write" or file.endswith("testing.py")):
            self.sent = self.count


@contextmanager
def counted() -> Iterator[Walk]:
    walk = Walk()
    sys.setprofile(walk.note)
    try:
        yield walk
    finally:
        sys.setprofile(None)


def make_client(answers: Any = answer) -> AsyncClient:
    return AsyncClient("k", "http://fake", model="m", transport=FakeTransport(answers))


async def test_a_chat() -> None:
    """chat.create, whole, the second time."""
    async with make_client() as client:
        await client.chat.create("hi")
        with counted() as walk:
            await client.chat.create("hi")
    assert walk.count <= 59


async def test_a_chat_through_a_socket() -> None:
    """chat.create, whole, on a connection that was used before: our calls, and those of aiohttp, asyncio and others."""
    with ServerThread() as server:
        server.script(http_answer(CHAT))
        async with AsyncClient("k", server.url, model="m") as client:
            for _ in range(20):  # the headers of the first few are looked at
                await client.chat.create("hi")
            walks = [await walk_of_a_chat(client) for _ in range(5)]
    walk = min(walks, key=lambda walk: walk.all)  # a busy machine adds turns of the loop
    assert walk.count <= 70
    assert walk.sent <= 33
    assert walk.all <= 160


async def walk_of_a_chat(client: AsyncClient) -> Walk:
    """The calls of one chat."""
    with counted() as walk:
        await client.chat.create("hi")
    return walk


async def test_a_stream_up_to_its_request() -> None:
    """chat.stream from the messages to the request."""
    async with make_client() as client:
        await client.chat.stream("hi").final()
        with counted() as walk:
            await client.chat.stream("hi").final()
    assert walk.sent <= 30
    assert len(walk.files) <= 14


async def test_one_more_token_of_a_stream() -> None:
    """What each further token costs, all in reads of one event."""
    counts: list[int] = []
    for number in (20, 120):
        events = tokens(number)
        async with make_client(lambda _, events=events: events) as client:
            await client.chat.stream("hi").final()
            walks = [await count_of_a_stream(client) for _ in range(3)]
        counts.append(min(walks))  # a busy machine makes a stream give way to other tasks more often
    assert (counts[1] - counts[0]) / 100 <= 30.1


async def count_of_a_stream(client: AsyncClient) -> int:
    """The calls of one stream, read to its end."""
    with counted() as walk:
        await client.chat.stream("hi").final()
    return walk.count


async def test_one_more_text_of_embed_documents() -> None:
    """What each further text of a slice costs, from the text to its vector."""
    counts: list[int] = []
    async with make_client() as client:
        await client.embeddings.embed_documents(["text"])
        for number in (10, 60):
            with counted() as walk:
                await client.embeddings.embed_documents([str(n) for n in range(number)])
            counts.append(walk.count)
    assert (counts[1] - counts[0]) / 50 <= 0


async def test_embedding_64_texts() -> None:
    """embed_documents of one slice: up to the request, and from the response to the vectors, none of it per text."""
    texts = [f"text {number}" for number in range(64)]
    async with make_client() as client:
        await client.embeddings.embed_documents(texts)
        with counted() as walk:
            await client.embeddings.embed_documents(texts)
    assert walk.sent <= 90
    assert walk.count - walk.sent <= 100

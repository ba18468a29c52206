"""Shapes of requests and answers through aioresponses: JSON in, JSON out, no socket."""

import json
from typing import Any

import pytest

from nimclient import AsyncClient
from nimclient.errors import DecodeError, ModelNotFoundError, RerankMismatchError
from support.wire import MODEL, chat_body, embedded

BASE = "http://nim.test:8000/v1"


@pytest.fixture
async def nim() -> Any:
    async with AsyncClient(base_url=BASE, model=MODEL) as client:
        yield client


def body_of(canned: Any, path: str) -> Any:
    """The one JSON body that was sent to this path."""
    (data,) = canned.sent(BASE + path)
    return json.loads(data)


async def test_a_chat_call_sends_what_the_caller_set_and_nothing_else(canned: Any, nim: AsyncClient) -> None:
    """The body of a plain chat call holds model, messages and the options that were given."""
    canned.post(BASE + "/chat/completions", payload=chat_body("Hi"))
    reply = await nim.chat.create("hello", temperature=0.5, top_p=None)
    assert reply.text == "Hi"
    assert body_of(canned, "/chat/completions") == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.5,
    }

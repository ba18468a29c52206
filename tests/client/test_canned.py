"""Shapes of requests and answers through aioresponses: JSON in, JSON out, no socket."""

import json
from typing import Any

import pytest

from nimclient import AsyncClient, RetryPolicy
from nimclient.errors import DecodeError, ModelNotFoundError, RerankMismatchError
from support.wire import DONE, MODEL, chat_body, embedded, token

BASE = "http://nim.test:8000/v1"


@pytest.fixture
async def nim(canned: Any) -> Any:
    async with AsyncClient(base_url=BASE, model=MODEL, transport=canned.transport) as client:
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


async def test_an_embedding_call(canned: Any, nim: AsyncClient) -> None:
    """embed_documents asks for base64 and passages, and gives one buffer."""
    canned.post(BASE + "/embeddings", payload=embedded(["1", "2"]))
    vectors = await nim.embeddings.embed_documents(["1", "2"])
    assert vectors.tolist() == [[1.0, 1.0], [2.0, 1.0]]
    sent = body_of(canned, "/embeddings")
    assert (sent["encoding_format"], sent["input_type"]) == ("base64", "passage")


async def test_a_stream_of_one_piece(canned: Any, nim: AsyncClient) -> None:
    """A stream whose whole body is there at once reads like any other."""
    canned.post(BASE + "/chat/completions", body=token("Hel") + token("lo", "stop") + DONE)
    async with nim.chat.stream("hi") as stream:
        assert [piece async for piece in stream.text_stream] == ["Hel", "lo"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "The model `x` does not exist.", "code": 404, "param": "model"}}, ModelNotFoundError),
        ({"object": "error", "message": "The model `x` does not exist.", "code": 404}, ModelNotFoundError),
        (
            {"status": 404, "title": "Not Found", "detail": "Function 'x': Not found for account 'y'"},
            ModelNotFoundError,
        ),
    ],
)
async def test_refusals_in_every_dialect(canned: Any, nim: AsyncClient, body: Any, kind: type) -> None:
    """Error objects of all dialects are understood."""
    canned.post(BASE + "/chat/completions", payload=body, status=404)
    with pytest.raises(kind):
        await nim.chat.create("hi")


async def test_what_a_record_carries(canned: Any, nim: AsyncClient) -> None:
    """A record carries its meta, unknown fields in extra, and comes back from to_dict() as it was."""
    body = chat_body("Hi", new_field={"a": 1})
    canned.post(BASE + "/chat/completions", payload=body, headers={"X-Request-Id": "rid"})
    reply = await nim.chat.create("hi")
    assert reply.extra == {"new_field": {"a": 1}}
    assert reply.to_dict() == body
    assert reply.meta is not None
    assert (reply.meta.status, reply.meta.request_id, reply.meta.attempts) == (200, "rid", 1)
    assert reply.meta.url == BASE + "/chat/completions"


async def test_a_wrong_answer_is_tried_once_more(canned: Any, nim: AsyncClient) -> None:
    """An answer that is no ranking at first and a good one then is a success."""
    canned.post(BASE + "/ranking", payload={"rankings": []})
    canned.post(BASE + "/ranking", payload={"rankings": [{"index": 0, "logit": 1}]})
    fast = nim.with_options(retry=RetryPolicy(first_delay=0))
    assert len((await fast.rerank("q", ["a"])).results) == 1
    canned.post(BASE + "/ranking", payload={"rankings": []}, repeat=True)
    with pytest.raises(RerankMismatchError):
        await fast.rerank("q", ["a"])


async def test_a_body_that_is_no_json(canned: Any, nim: AsyncClient) -> None:
    """An answer that is not JSON is DecodeError."""
    canned.post(BASE + "/chat/completions", body="<html>", repeat=True)
    with pytest.raises(DecodeError):
        await nim.with_options(retry=RetryPolicy(attempts=1)).chat.create("hi")

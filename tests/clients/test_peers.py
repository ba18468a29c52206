"""What the table of the README says of openai-python beside nimclient, shown with both."""

import asyncio
from typing import Any

import httpx
import openai
import pytest

from nimclient import AsyncClient, Client, Vectors, errors
from nimclient.testing import FakeTransport, Simulator

from .said import CHAT, EMBEDDING

CHUNK = b'{"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"The sky"}}]}'
CUT_OFF = b"data: %b\n\n" % CHUNK
MESSAGES: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]


def test_a_stream_that_was_cut_off() -> None:
    """A stream that ends before its end is an error of ours that has what arrived; openai-python ends as if it were whole."""
    http = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=CUT_OFF)))
    with openai.OpenAI(base_url="http://peer/v1", api_key="k", http_client=http) as peer:
        chunks = list(peer.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["The sky"]
    response = (200, {"content-type": "text/event-stream"}, CUT_OFF)
    with (
        Client(base_url="http://ours", model="m", transport=FakeTransport([response])) as client,
        pytest.raises(errors.StreamInterruptedError) as caught,
        client.chat.stream("Why?") as stream,
    ):
        list(stream)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "The sky"


async def test_vectors_are_one_buffer(url: str) -> None:
    """Our vectors are one buffer of float32 filled by several requests at once; openai-python's are a list of floats each."""
    async with AsyncClient(base_url=url, model=EMBEDDING) as client:
        vectors = await client.embeddings.embed_documents(["one", "two", "three"], batch_size=1)
    assert isinstance(vectors, Vectors)
    assert vectors.buffer.nbytes == 3 * vectors.dimensions * 4
    async with openai.AsyncOpenAI(base_url=url, api_key="k") as peer:
        answer = await peer.embeddings.create(model=EMBEDDING, input=["one"], extra_body={"input_type": "query"})
    assert type(answer.data[0].embedding) is list


def test_one_client_in_several_event_loops(nim_simulator: Simulator) -> None:
    """Our client serves one event loop after another; openai-python's, whose connections belong to the first, does not."""
    url = nim_simulator.base_url
    ours = AsyncClient(base_url=url, model=CHAT)
    assert all(asyncio.run(ours.chat.create("hello")).text for _ in range(2))
    asyncio.run(ours.aclose())
    peer = openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0)
    asyncio.run(peer.chat.completions.create(model=CHAT, messages=MESSAGES))
    with pytest.raises((RuntimeError, openai.APIConnectionError)):
        asyncio.run(peer.chat.completions.create(model=CHAT, messages=MESSAGES))


def test_what_openai_python_has_not() -> None:
    """openai-python has no reranking, and one base URL."""
    peer = openai.OpenAI(base_url="http://peer/v1", api_key="k")
    assert not hasattr(peer, "rerank")
    with pytest.raises((TypeError, AttributeError)):
        openai.OpenAI(base_url=["http://one/v1", "http://two/v1"], api_key="k")  # type: ignore[arg-type]

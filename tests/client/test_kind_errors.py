"""Mistakes that people make who come from other clients: each error says what to do here."""

import copy
import pickle
import warnings
from typing import Any

import pytest

from nimclient import AsyncClient, ChatPrompt
from nimclient.errors import BadRequestError, ConfigurationError, ModelNotFoundError
from nimclient.testing import FakeRequest, FakeTransport

CHAT = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
OLD, NAME = "ai-mixtral-8x7b-instruct", "mistralai/mixtral-8x7b-instruct-v0.1"


class Server:
    """A vLLM server that lists these models and rejects all others."""

    def __init__(self, *listed: str, lists: bool = True) -> None:
        self.listed = listed
        self.lists = lists

    def answer(self, request: FakeRequest) -> Any:
        missing = {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}
        if request.method == "GET":
            entries = [{"id": name, "object": "model", "owned_by": "vllm"} for name in self.listed]
            if request.url.endswith("/v1/models") and self.lists:
                return {"object": "list", "data": entries}
            return 404, {}, {"detail": "Not Found"}
        if request.json["model"] not in self.listed:
            return 404, {}, missing
        return (
            [{"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}]
            if request.json.get("stream")
            else CHAT
        )


def make(server: Server) -> tuple[AsyncClient, FakeTransport]:
    transport = FakeTransport(server.answer)
    return AsyncClient("k", "http://fake", model="m", transport=transport), transport


@pytest.mark.parametrize("old", [OLD, "playground_mixtral_8x7b"])
async def test_an_old_name_on_a_server_of_ones_own(old: str) -> None:
    """Where the server rejects it and lists what it stands for, that is asked: once found out, with one warning."""
    client, transport = make(Server("other", NAME))
    with pytest.warns(UserWarning, match=f"'{old}' is an old name; it is sent as '{NAME}', which the server lists"):
        assert (await client.chat.create("hi", model=old)).text == "Hi"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (await client.chat.stream("hi", model=old).final()).text == "Hi"
    assert [request.json["model"] for request in transport.requests if request.method == "POST"] == [old, NAME, NAME]
    assert (await client.models.get(old)).id == NAME


@pytest.mark.parametrize("server", [Server("other"), Server(NAME, lists=False)], ids=["not listed", "no list"])
async def test_an_old_name_that_stands_for_nothing_there(server: Server) -> None:
    """A call and models.get agree that there is no such model; the error is the server's own."""
    client, _ = make(server)
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        await client.chat.create("hi", model=OLD)
    if server.lists:
        with pytest.raises(ModelNotFoundError):
            await client.models.get(OLD)


async def test_a_name_that_no_table_knows_costs_no_other_request() -> None:
    """It is rejected at once."""
    client, transport = make(Server("other"))
    with pytest.raises(ModelNotFoundError):
        await client.chat.create("hi", model="unheard-of")
    assert len(transport.requests) == 1


@pytest.mark.parametrize("method", ["chat", "completions"])
async def test_stream_is_a_method(method: str) -> None:
    """`stream=True` in `create` names the method that streams."""
    client, transport = make(Server("m"))
    with pytest.raises(TypeError, match=rf"use {method}\.stream\(…\)"):
        await getattr(client, method).create("hi", stream=True)
    assert not transport.requests


async def test_a_prompt_that_was_not_formatted() -> None:
    """It says `.format(...)`, with the names that are wanted; as one of several messages, too."""
    client, _ = make(Server("m"))
    prompt = ChatPrompt([("system", "Answer in {language}."), ("user", "{input}")])
    advice = r"not ChatPrompt; pass what its \.format\(language=…, input=…\) gives"
    with pytest.raises(TypeError, match=advice):
        await client.chat.create(prompt)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ConfigurationError, match=advice):
        await client.chat.create([prompt])  # type: ignore[list-item]  # the mistake


async def test_an_asymmetric_model_without_an_input_type() -> None:
    """The server's rejection names the methods that send it; an error that came with one is left as it is."""
    answer = (400, {}, {"object": "error", "message": "'input_type' parameter is required", "type": "invalid"})
    client = AsyncClient("k", "http://fake", model="m", transport=FakeTransport([answer, answer]))
    with pytest.raises(BadRequestError, match="use embed_query for queries and embed_documents for passages") as caught:
        await client.embeddings.create(["a"])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(BadRequestError) as other:
        await client.embeddings.create(["a"], input_type="query")
    assert "embed_query" not in str(other.value)


@pytest.mark.parametrize(("name", "like"), [("content", "text"), ("usage_metadata", "usage")])
async def test_an_attribute_of_other_clients(name: str, like: str) -> None:
    """An answer and a chunk say what it is called here; anything else is an ordinary AttributeError."""
    client, _ = make(Server("m"))
    reply: Any = await client.chat.create("hi")
    chunks: list[Any] = [chunk async for chunk in client.chat.stream("hi")]
    for answer in (reply, chunks[0]):
        with pytest.raises(AttributeError, match=rf"object has no attribute '{name}'; it is \.{like}$"):
            getattr(answer, name)
        with pytest.raises(AttributeError, match=r"object has no attribute 'other'$"):
            _ = answer.other
        assert not hasattr(answer, "__fspath__")
        assert copy.copy(answer) == pickle.loads(pickle.dumps(answer)) == answer

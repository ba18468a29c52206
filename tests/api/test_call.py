"""A call as a value: encoded once, and encoded again without the fields that a server rejects."""

import json

import pytest

from nimclient import AsyncClient, RetryPolicy
from nimclient._api.call import Call
from nimclient.errors import ConfigurationError, ConnectionLostError
from nimclient.records.models import decode_models
from nimclient.testing import FakeTransport


def client_over(answers):
    transport = FakeTransport(answers)
    retry = RetryPolicy(attempts=5, first_delay=0.0, max_delay=0.0)
    return AsyncClient(base_url="http://nim", model="m", retry=retry, transport=transport), transport


def test_a_call_without_fields_has_no_body():
    """A GET is sent without a body."""
    assert Call("GET", "/models", decode_models).body is None


def test_making_a_call_encodes_its_body():
    """The bytes are those of the fields; what JSON cannot carry is rejected with its path."""
    assert json.loads(Call("POST", "/x", decode_models, {"a": [1]}).body) == {"a": [1]}
    with pytest.raises(ConfigurationError) as caught:
        Call("POST", "/x", decode_models, {"a": {1}})
    assert caught.value.path == "body.a"


def test_dropping_fields_of_a_call_without_a_body_changes_nothing():
    """There is nothing to drop from a GET."""
    assert json.loads(Call("GET", "/models", decode_models).without(frozenset({"stream"})).body) == {}


def test_secrets_do_not_show_in_the_repr_of_a_call():
    """Headers are not shown."""
    assert "S3CRET" not in repr(Call("POST", "/x", decode_models, {}, headers={"X": "S3CRET"}))


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("m", "/models/m"),
        ("meta/llama-3.1-8b-instruct", "/models/meta/llama-3.1-8b-instruct"),
        ("nv-rerank-qa-mistral-4b:1", "/models/nv-rerank-qa-mistral-4b:1"),
        ("a b?c#d%", "/models/a%20b%3Fc%23d%25"),
        ("modèle", "/models/mod%C3%A8le"),
    ],
)
async def test_one_model_is_asked_for_by_its_id(model, path):
    """Slashes stay, what would end the path is quoted."""
    client, transport = client_over(lambda request: {"id": "m", "object": "model"})
    assert (await client.models.get(model)).id == "m"
    (request,) = transport.requests
    assert (request.method, request.url, request.body) == ("GET", "http://nim/v1" + path, None)


@pytest.mark.parametrize("model", ["", None, 5])
async def test_an_impossible_id_is_refused(model):
    """A model id is a str that is not empty."""
    client, _ = client_over([])
    with pytest.raises(ConfigurationError, match="id must be a model id"):
        await client.models.get(model)


async def test_the_list_of_models_is_a_get():
    """GET /models."""
    client, transport = client_over([{"object": "list", "data": [{"id": "m", "object": "model"}]}])
    assert [model.id for model in await client.models.list()] == ["m"]
    (request,) = transport.requests
    assert (request.method, request.url, request.body) == ("GET", "http://nim/v1/models", None)


@pytest.mark.parametrize(
    ("call", "requests"),
    [
        (lambda client: client.models.list(), 5),
        (lambda client: client.models.get("m"), 5),
        (lambda client: client.embeddings.create(["a"]), 5),
        (lambda client: client.chat.create("hi"), 2),
        (lambda client: client.completions.create("hi"), 2),
    ],
    ids=["models", "model", "embeddings", "chat", "completions"],
)
async def test_how_often_a_call_may_be_replayed(call, requests):
    """When its answer was lost a GET or an embedding is sent as often as the policy allows, a generation once more."""
    client, transport = client_over(lambda request: ConnectionLostError("gone", phase="headers"))
    with pytest.raises(ConnectionLostError):
        await call(client)
    assert len(transport.requests) == requests

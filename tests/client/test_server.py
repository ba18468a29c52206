"""client.metadata, tokenize and detokenize, against the simulator's dialects and against scripted servers."""

from typing import Any

import pytest

from nimclient import AsyncClient, Client
from nimclient.errors import (
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    ModelNotFoundError,
    NotFoundError,
)
from nimclient.records import Metadata, ModelInfo
from nimclient.simulator import Simulator
from support.server import FaultServer
from support.wire import answer, error

MODEL = "meta/llama-3.1-8b-instruct"
HELLO: Any = [("system", "be brief"), ("user", "hello there")]


# metadata --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "server", "version", "paths"),
    [
        ("nim", "nim", "2.1.4", ["/v1/metadata"]),
        ("vllm", "vllm", "0.32.0", ["/v1/metadata", "/v1/version", "/version"]),
    ],
)
async def test_what_a_server_is(dialect: str, server: str, version: str, paths: list[str]) -> None:
    """metadata() finds the route that the server has; the record says whose it was, and the client knows from then on."""
    async with Simulator(dialect=dialect) as sim, AsyncClient(base_url=sim.base_url) as client:
        metadata = await client.metadata()
        assert (metadata.server, metadata.version, client.dialect) == (server, version, server)
        assert [request.path for request in sim.requests] == paths
        assert metadata.meta is not None
        assert metadata.meta.url.endswith(paths[-1])


@pytest.mark.parametrize("dialect", ["dynamo", "hosted"])
async def test_servers_that_do_not_say(dialect: str) -> None:
    """Dynamo and the hosted gateway have no such route: a NotFoundError that says so."""
    async with Simulator(dialect=dialect) as sim, AsyncClient("nvapi-a-key", sim.base_url) as client:
        with pytest.raises(NotFoundError, match="no route for its version"):
            await client.metadata()


async def test_all_of_a_nims_metadata(server: FaultServer, client: AsyncClient) -> None:
    """What a NIM sends has its place in the record; the rest is in extra."""
    models = [{"shortName": "nv-clip:1", "modelUrl": "ngc://nim/nv-clip"}, {"shortName": 5}, "odd"]
    assets: list[Any] = ["plain", {"assetName": "n", "url": "u"}, {"assetName": "only"}, {"sha": 1}, 7]
    body = {
        "version": "1.0.0",
        "modelInfo": models,
        "assetInfo": assets,
        "licenseInfo": {"name": "NVIDIA"},
        "selectedModelProfileId": "abc",
        "repository_override": "",
    }
    server.script(answer(body, 200, "X-Request-Id: r-1"))
    metadata = await client.metadata(timeout=3)
    assert metadata == Metadata(
        "nim",
        version="1.0.0",
        models=(ModelInfo("nv-clip:1", "ngc://nim/nv-clip"), ModelInfo()),
        assets=("plain", "u", "only"),
        license={"name": "NVIDIA"},
        profile="abc",
        extra={"repository_override": ""},
    )
    assert metadata.meta is not None
    assert metadata.meta.request_id == "r-1"
    assert metadata.to_dict()["models"][0] == {"short_name": "nv-clip:1", "url": "ngc://nim/nv-clip"}


async def test_a_nim_without_metadata(server: FaultServer, client: AsyncClient) -> None:
    """An older NIM tells its release and the version of its API by /v1/version."""
    server.script(answer({"detail": "Not Found"}, 404))
    server.script(answer({"release": "1.8.3", "api": "1.0.0"}), path="/v1/version")
    metadata = await client.metadata()
    assert (metadata.server, metadata.version, metadata.api_version) == ("nim", "1.8.3", "1.0.0")
    assert client.dialect == "nim"


async def test_a_refusal_is_no_missing_route(server: FaultServer, client: AsyncClient) -> None:
    """A key that is rejected is not taken for a server without the route."""
    server.script(error(401))
    with pytest.raises(AuthenticationError):
        await client.metadata()
    assert len(server.requests) == 1


async def test_metadata_that_is_none(server: FaultServer, client: AsyncClient) -> None:
    """A 200 that holds something else is DecodeError."""
    server.script(answer([]))
    with pytest.raises(DecodeError):
        await client.metadata()


# tokenize and detokenize -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["nim", "vllm"])
@pytest.mark.parametrize("model", [None, MODEL])
async def test_there_and_back(dialect: str, model: str | None) -> None:
    """A text's tokens make the text again, with their own texts if asked for; no model need be named."""
    async with Simulator(dialect=dialect) as sim, AsyncClient(base_url=sim.base_url) as client:
        tokens = await client.tokenize("hello there", model=model, return_token_strs=True)
        assert len(tokens) == tokens.count == len(tokens.tokens) == len(tokens.token_strs)
        assert "".join(tokens.token_strs) == "hello there"
        assert tokens.max_model_len
        text = await client.detokenize(tokens.tokens, model=model)
        assert (text.text, text.to_dict()) == ("hello there", {"text": "hello there"})
        assert [request.path for request in sim.requests] == ["/tokenize", "/detokenize"]
        assert [request.json.get("model") for request in sim.requests] == [model, model]


async def test_messages(nim_simulator: Simulator) -> None:
    """A list is a chat: it goes through the model's template."""
    async with AsyncClient(base_url=nim_simulator.base_url, model=MODEL) as client:
        tokens = await client.tokenize(HELLO, add_generation_prompt=True)
        assert tokens.count > (await client.tokenize("hello there")).count
        assert (await client.tokenize(iter(HELLO))).tokens == tokens.tokens  # type: ignore[arg-type]  # works as well
    assert nim_simulator.requests[0].json == {
        "model": MODEL,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello there"}],
        "add_generation_prompt": True,
    }


async def test_tools_of_messages(server: FaultServer, client: AsyncClient) -> None:
    """Functions become the specs of a chat, since the template writes them out."""

    def weather(city: str) -> str:
        """The weather of a city."""
        return city

    server.script(answer({"tokens": [1]}))
    await client.tokenize("hi", tools=[weather], extra_body={"x": 1})
    body = server.requests[0].json
    assert body["tools"][0]["function"]["name"] == "weather"
    assert (body["prompt"], body["x"]) == ("hi", 1)


@pytest.mark.parametrize(
    ("dialect", "route"), [("dynamo", "tokenize"), ("hosted", "tokenize"), ("dynamo", "detokenize")]
)
async def test_servers_without_a_tokenizer(dialect: str, route: str) -> None:
    """A NotFoundError that says what the server has not."""
    async with Simulator(dialect=dialect) as sim, AsyncClient("nvapi-a-key", sim.base_url) as client:
        with pytest.raises(NotFoundError, match=f"the server has no /{route}") as caught:
            await (client.tokenize("hi") if route == "tokenize" else client.detokenize([1]))
    assert caught.value.status == 404


async def test_a_model_that_is_not_there(server: FaultServer, client: AsyncClient) -> None:
    """It is the model that is missing, not the route."""
    server.script(error(404, "The model `x` does not exist.", param="model"))
    with pytest.raises(ModelNotFoundError, match="does not exist") as caught:
        await client.tokenize("hi", model="x")
    assert "no /tokenize" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "path"),
    [([], "body"), ({}, "tokens"), ({"tokens": None}, "tokens"), ({"tokens": [1, "2"]}, "tokens[1]")],
    ids=str,
)
async def test_answers_that_are_no_tokens(server: FaultServer, client: AsyncClient, body: Any, path: str) -> None:
    """The tokens are what the answer must have."""
    server.script(answer(body))
    with pytest.raises(DecodeError) as caught:
        await client.tokenize("hi")
    assert caught.value.path == path


async def test_what_else_is_missing_is_made_up_for(server: FaultServer, client: AsyncClient) -> None:
    """Without a count the tokens are counted; unknown fields are kept."""
    server.script(answer({"tokens": [4, 5], "token_strs": None, "new": 1}))
    tokens = await client.tokenize("hi")
    assert (tokens.count, tokens.max_model_len, tokens.token_strs, tokens.extra) == (2, None, (), {"new": 1})
    assert tokens.to_dict() == {"count": 2, "tokens": [4, 5], "new": 1}
    server.script(answer({"prompt": 5}))
    with pytest.raises(DecodeError, match="prompt"):
        await client.detokenize([1])


@pytest.mark.parametrize(
    ("call", "error_", "words"),
    [
        (lambda c: c.tokenize(5), TypeError, "messages takes a str or a list"),
        (lambda c: c.tokenize([]), ConfigurationError, "messages is empty"),
        (lambda c: c.tokenize("a", add_special=True), TypeError, "did you mean 'add_special_tokens'"),
        (lambda c: c.detokenize("1"), TypeError, "detokenize takes a list of token ids, not str"),
        (lambda c: c.detokenize(5), TypeError, "not int"),
        (lambda c: c.detokenize([1, True]), ConfigurationError, r"tokens\[1\] must be a token id, not True"),
        (lambda c: c.detokenize([-1]), ConfigurationError, r"tokens\[0\]"),
        (lambda c: c.detokenize([1], top_k=1), TypeError, "unexpected option 'top_k'"),
    ],
)
async def test_bad_input(client: AsyncClient, server: FaultServer, call: Any, error_: Any, words: str) -> None:
    """What cannot be sent is rejected before anything is."""
    with pytest.raises(error_, match=words):
        await call(client)
    assert server.requests == []


def test_the_blocking_client_has_them_too(nim_simulator_url: str) -> None:
    """Client has the same methods, and knows which server type it talks to."""
    with Client(base_url=nim_simulator_url) as client:
        assert client.dialect is None
        assert client.metadata().version == "2.1.4"
        assert client.dialect == "nim"
        tokens = client.tokenize("hello")
        assert client.detokenize(tokens.tokens).text == "hello"

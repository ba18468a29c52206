"""Where requests go: twenty and more ways to write a base URL, and the exact URL of every route below each of them."""

from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Client
from nimclient._api.call import Call
from nimclient._api.chat import chat_call
from nimclient._api.completions import completion_call
from nimclient._api.embeddings import embeddings_call
from nimclient._api.models import get_call, health_calls, list_call, metadata_calls
from nimclient._api.ranking import NIM, RERANK, RERANK_AT_ROOT, Passage, ranking_call
from nimclient._api.tokens import detokenize_call, tokenize_call
from nimclient.simulator import Simulator
from support.server import FaultServer
from support.wire import answer, chat

MakeClient = Callable[..., AsyncClient]
TEXT = [Passage("a", None, "a")]

BASES = {
    # what is written: the root that routes hang below
    "http://nim": "http://nim",
    "http://nim/": "http://nim",
    "http://nim/v1": "http://nim",
    "http://nim/v1/": "http://nim",
    "http://nim/v1//": "http://nim",
    " http://nim/v1\n": "http://nim",
    "http://NIM:8000": "http://nim:8000",
    "HTTP://Nim.Example:8000/v1/": "http://nim.example:8000",
    "http://nim:80/v1": "http://nim",
    "https://nim:443": "https://nim",
    "https://nim:8443/": "https://nim:8443",
    "http://nim:/v1": "http://nim",
    "http://127.0.0.1:8000": "http://127.0.0.1:8000",
    "http://[::1]:8000/v1": "http://[::1]:8000",
    "http://[2001:DB8::7]": "http://[2001:db8::7]",
    "https://gate/team/nim": "https://gate/team/nim",
    "https://gate/team/nim/": "https://gate/team/nim",
    "https://gate/team/nim/v1": "https://gate/team/nim",
    "https://gate/v1/nim": "https://gate/v1/nim",
    "https://gate/v1/v1": "https://gate/v1",
    "https://gate/v2": "https://gate/v2",
    "https://gate/V1": "https://gate/V1",
    "https://gate/my%20nim/v1/": "https://gate/my%20nim",
    "http://embeddings:9/v1": "http://embeddings:9",
    "http://nim_server.local": "http://nim_server.local",
    "https://integrate.api.nvidia.com": "https://integrate.api.nvidia.com",
    "https://Integrate.API.nvidia.com/v1/": "https://integrate.api.nvidia.com",
}


def embeddings(model: str) -> Call[Any]:
    settings: Any = dict.fromkeys(("input_type", "truncate", "dimensions", "encoding_format"))
    return embeddings_call("embeddings.create", ["a"], model, options={}, **settings)


def ranking(form: Any, model: str = "m") -> Call[Any]:
    return ranking_call(form, "q", TEXT, model, top_n=None, truncate=None, options={})


READY, HEALTH, _ = health_calls("ready", None)
LIVE, _, _ = health_calls("live", None)
(LIVE_OF_DYNAMO, _) = health_calls("live", "dynamo")
METADATA, VERSION, VERSION_OF_VLLM = metadata_calls()
ROUTES: dict[str, Call[Any]] = {
    "/v1/chat/completions": chat_call("chat.create", "hi", "m", {}, stream=False),
    "/v1/completions": completion_call("completions.create", "hi", "m", {}, stream=False),
    "/v1/embeddings": embeddings("m"),
    "/v1/ranking": ranking(NIM),
    "/v1/rerank": ranking(RERANK),
    "/rerank": ranking(RERANK_AT_ROOT),
    "/v1/models": list_call(),
    "/v1/models/meta/llama": get_call("meta/llama"),
    "/v1/health/ready": READY,
    "/v1/health/live": LIVE,
    "/health": HEALTH,
    "/live": LIVE_OF_DYNAMO,
    "/v1/metadata": METADATA,
    "/v1/version": VERSION,
    "/version": VERSION_OF_VLLM,
    "/tokenize": tokenize_call("hi", "m", {}),
    "/detokenize": detokenize_call([1], "m", {}),
}


@pytest.mark.parametrize("source", ["argument", "environment", "list"])
@pytest.mark.parametrize(("written", "root"), BASES.items(), ids=BASES)
def test_every_route_below_every_base(written: str, root: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the base is written, and wherever it comes from (D3): inference below /v1, management below the root."""
    if source == "environment":
        monkeypatch.setenv("NVIDIA_BASE_URL", written)
    base = {"argument": written, "environment": None, "list": [written]}[source]
    for client in (AsyncClient("k", base), Client("k", base)._async):
        for path, call in ROUTES.items():
            url = client._engine.url_of(call)
            assert url == root + path
            assert "//" not in url.partition("://")[2]
            assert "/v1/v1" not in url.removeprefix(root)
        assert client.base_url == root + "/v1"


@pytest.mark.parametrize("form", ["http://LOCALHOST:{}", "http://127.0.0.1:{}/v1/", "http://localhost:{}/a/b//"])
async def test_what_goes_over_the_wire(server: FaultServer, make_client: MakeClient, form: str) -> None:
    """The paths as a server sees them."""
    client = make_client(form.format(server.port))
    prefix = "/a/b" if "/a/b" in form else ""
    server.script(answer({}, 404))
    server.script(chat(), path=prefix + "/v1/chat/completions")
    server.script(answer({"tokens": [1]}), path=prefix + "/tokenize")
    server.script(answer({"data": []}), path=prefix + "/v1/models")
    await client.chat.create("hi")
    await client.tokenize("hi")
    await client.models.list()
    assert await client.health.ready()
    expected = ["/v1/chat/completions", "/tokenize", "/v1/models", "/v1/health/ready", "/health", "/v1/models"]
    assert [request.path for request in server.requests] == [prefix + path for path in expected]
    assert {request.headers["host"] for request in server.requests} == {
        form.format(server.port).partition("://")[2].partition("/")[0].lower()
    }


async def test_an_address_of_version_6() -> None:
    """IPv6 goes in brackets, in the URL and in the Host header."""
    try:
        simulator = await Simulator(host="::1").__aenter__()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with AsyncClient(base_url=simulator.base_url.removesuffix("/v1")) as client:
        await client.health.wait_ready(timeout=5)
    assert simulator.requests[0].headers["host"].startswith("[::1]:")
    await simulator.aclose()


GRAPHIC = "meta/llama-3.2-11b-vision-instruct"
OWN: dict[str, tuple[str, Call[Any]]] = {
    "a vision model": (
        f"https://ai.api.nvidia.com/v1/gr/{GRAPHIC}/chat/completions",
        chat_call("chat.create", "hi", GRAPHIC, {}, stream=True),
    ),
    "an older one": (
        "https://ai.api.nvidia.com/v1/vlm/google/paligemma",
        chat_call("chat.create", "hi", "google/paligemma", {}, stream=False),
    ),
    "an embedding model": ("https://ai.api.nvidia.com/v1/retrieval/nvidia/embeddings", embeddings("NV-Embed-QA")),
    "a reranker": (
        "https://ai.api.nvidia.com/v1/retrieval/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking",
        ranking(NIM, "nvidia/llama-3.2-nv-rerankqa-1b-v2"),
    ),
}


@pytest.mark.parametrize(("url", "call"), OWN.values(), ids=OWN)
def test_hosted_models_with_a_url_of_their_own(url: str, call: Call[Any]) -> None:
    """The catalog's URL holds for its own hosts, not for a server of one's own; the caller's goes before it anywhere."""
    model = call.model or ""
    for base in (None, "https://integrate.api.nvidia.com", "https://ai.api.nvidia.com/v1"):
        assert AsyncClient("k", base)._engine.url_of(call) == url
    assert AsyncClient("k", "http://nim")._engine.url_of(call) == f"http://nim/v1{call.path}"
    for base in (None, "http://nim"):
        client = AsyncClient("k", base, endpoints={model: "https://far:443/a/path/"})
        assert client._engine.url_of(call) == "https://far/a/path"


def test_management_stays_at_the_base() -> None:
    """A model's own URL is for inference: its list, its tokens and its health are asked at the base URL."""
    client = AsyncClient("k", "http://nim", endpoints={"m": "http://far/x"})
    for path, call in ROUTES.items():
        own = call.method == "POST" and path.startswith("/v1")
        assert client._engine.url_of(call) == ("http://far/x" if own else "http://nim" + path)

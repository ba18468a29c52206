"""Where requests go: twenty and more ways to write a base URL, and the exact URL of every route below each of them."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

import pytest

from nimclient import AsyncClient, Client
from nimclient.errors import APIStatusError
from nimclient.simulator import Simulator
from nimclient.testing import FakeTransport
from support.server import FaultServer
from support.wire import answer, chat

MakeClient = Callable[..., AsyncClient]

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


INFERENCE: dict[str, tuple[Any, ...]] = {
    "/v1/chat/completions": ("chat.create", "hi"),
    "/v1/completions": ("completions.create", "hi"),
    "/v1/embeddings": ("embeddings.create", ["a"]),
    "/v1/ranking /v1/rerank /rerank": ("rerank", "q", ["a"]),
}
"""The paths that a server is asked at which knows none of them: the call"""

MANAGEMENT: dict[str, tuple[Any, ...]] = {
    "/v1/models": ("models.list",),
    "/v1/models/meta/llama /v1/models": ("models.get", "meta/llama"),
    "/v1/health/ready /health /v1/models": ("health.ready",),
    "/v1/health/live /health /v1/models": ("health.live",),
    "/v1/metadata /v1/version /version": ("metadata",),
    "/tokenize": ("tokenize", "hi"),
    "/detokenize": ("detokenize", [1]),
}
ROUTES = INFERENCE | MANAGEMENT


def url_requests(base: Any, calls: Iterable[tuple[Any, ...]], **options: Any) -> tuple[list[str], list[str]]:
    """Where the two clients ask a server for these calls which answers 404 to everything."""
    there, here = FakeTransport(lambda request: 404), FakeTransport(lambda request: 404)
    with Client("k", base, transport=there, **{"model": "m", **options}) as client:
        for name, *args in calls:
            with contextlib.suppress(APIStatusError):
                attrgetter(name)(client)(*args)
    asyncio.run(_ask(AsyncClient("k", base, transport=here, **{"model": "m", **options}), calls))
    return [request.url for request in there.requests], [request.url for request in here.requests]


async def _ask(client: AsyncClient, calls: Iterable[tuple[Any, ...]]) -> None:
    for name, *args in calls:
        with contextlib.suppress(APIStatusError):
            await attrgetter(name)(client)(*args)


@pytest.mark.parametrize("source", ["argument", "environment", "list"])
@pytest.mark.parametrize(("written", "root"), BASES.items(), ids=BASES)
def test_every_route_below_every_base(written: str, root: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the base is written, and wherever it comes from (D3): inference below /v1, management below the root."""
    if source == "environment":
        monkeypatch.setenv("NVIDIA_BASE_URL", written)
    base = {"argument": written, "environment": None, "list": [written]}[source]
    paths = " ".join(ROUTES).split()
    if root == "https://integrate.api.nvidia.com":  # the hosted catalog is known to have NIM's form of reranking
        paths = [path for path in paths if not path.endswith("/rerank")]
    for urls in url_requests(base, ROUTES.values()):
        assert sorted(urls) == sorted(root + path for path in paths)
        assert not [url for url in urls if "//" in url.partition("://")[2] or "/v1/v1" in url.removeprefix(root)]
    of_dynamo = [root + "/live", root + "/v1/models"]
    assert url_requests(base, [("health.live",)], dialect="dynamo") == (of_dynamo, of_dynamo)
    assert AsyncClient("k", base).base_url == Client("k", base).base_url == root + "/v1"


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
CHAT, PALI = ("chat.create", "hi"), "google/paligemma"
EMBED, RERANK = ("embeddings.create", ["a"]), "nvidia/llama-3.2-nv-rerankqa-1b-v2"
OWN: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "a vision model": (f"https://ai.api.nvidia.com/v1/gr/{GRAPHIC}/chat/completions", GRAPHIC, CHAT),
    "an older one": ("https://ai.api.nvidia.com/v1/vlm/google/paligemma", PALI, CHAT),
    "an embedding model": ("https://ai.api.nvidia.com/v1/retrieval/nvidia/embeddings", "NV-Embed-QA", EMBED),
    "a reranker": (
        "https://ai.api.nvidia.com/v1/retrieval/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking",
        RERANK,
        ("rerank", "q", ["a"]),
    ),
}


@pytest.mark.filterwarnings("ignore::nimclient.errors.ModelDeprecationWarning")
@pytest.mark.parametrize(("url", "model", "call"), OWN.values(), ids=OWN)
def test_hosted_models_with_a_url_of_their_own(url: str, model: str, call: tuple[Any, ...]) -> None:
    """The catalog's URL holds for its own hosts, not for a server of one's own; the caller's goes before it anywhere."""
    paths = next(path for path, (name, *_) in INFERENCE.items() if name == call[0]).split()
    for base in (None, "https://integrate.api.nvidia.com", "https://ai.api.nvidia.com/v1"):
        for urls in url_requests(base, [call], model=model):
            assert urls == [url]
    for urls in url_requests("http://nim", [call], model=model):
        assert urls == ["http://nim" + path for path in paths]
    for base in (None, "http://nim"):
        for urls in url_requests(base, [call], model=model, endpoints={model: "https://far:443/a/path/"}):
            assert urls == ["https://far/a/path"]


def test_management_stays_at_the_base() -> None:
    """A model's own URL is for inference: its list, its tokens and its health are asked at the base URL."""
    for urls in url_requests("http://nim", INFERENCE.values(), endpoints={"m": "http://far/x"}):
        assert urls == ["http://far/x"] * len(INFERENCE)
    for urls in url_requests("http://nim", MANAGEMENT.values(), endpoints={"m": "http://far/x"}):
        assert urls == ["http://nim" + path for path in " ".join(MANAGEMENT).split()]

"""What a server is known to ignore silently is said once, and rejected by a strict client."""

import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError, EmbeddingMismatchError
from nimclient.simulator import Simulator
from nimclient.testing import FakeTransport
from support.server import FaultServer
from support.wire import answer, embedded

MakeClient = Callable[..., AsyncClient]
MODEL = "nvidia/nv-embedqa-e5-v5"
SYMMETRIC = "baai/bge-m3"
CALLS: dict[str, Any] = {
    "create": lambda c, **o: c.embeddings.create(["1"], input_type="query", **o),
    "query": lambda c, **o: c.embeddings.embed_query("1", **o),
    "documents": lambda c, **o: c.embeddings.embed_documents(["1", "2"], batch_size=1, concurrency=1, **o),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture
async def vllm() -> AsyncIterator[Simulator]:
    async with Simulator(dialect="vllm") as simulator:
        yield simulator


@every_call
async def test_input_type_is_warned_of_once(vllm: Simulator, make_client: MakeClient, call: Any) -> None:
    """Once per client, however many calls and slices there are; the vectors come all the same."""
    client = make_client(vllm.base_url, model=MODEL, dialect="vllm")
    with pytest.warns(UserWarning, match=r"ignores input_type.* prefix=") as caught:
        await call(client)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await call(client)
        await call(client.with_options(timeouts=9))


async def test_the_first_answer_tells(vllm: Simulator, make_client: MakeClient) -> None:
    """Nothing need be said or asked beforehand: the answer's own id gives vLLM away."""
    client = make_client(vllm.base_url, model=MODEL)
    with pytest.warns(UserWarning, match="ignores input_type"):
        await client.embeddings.embed_query("a")
    assert client.dialect == "vllm"
    assert len(vllm.requests) == 1


async def test_the_list_of_models_tells(vllm: Simulator, make_client: MakeClient) -> None:
    """Where the model had to be found a strict client sends no text at all."""
    client = make_client(vllm.base_url, model=None, strict=True)
    with pytest.raises(ConfigurationError, match="ignores input_type"):
        await client.embeddings.embed_documents(["a"])
    assert [request.path for request in vllm.requests] == ["/v1/models"]


@every_call
async def test_a_strict_client(vllm: Simulator, make_client: MakeClient, call: Any) -> None:
    """Known beforehand, it is rejected before anything is sent; else with the first answer."""
    with pytest.raises(ConfigurationError, match="ignores input_type"):
        await call(make_client(vllm.base_url, model=MODEL, dialect="vllm", strict=True))
    assert vllm.requests == ()
    with pytest.raises(ConfigurationError, match="ignores input_type"):
        await call(make_client(vllm.base_url, model=MODEL, strict=True))
    assert len(vllm.requests) == 1


@pytest.mark.parametrize("strict", [False, True])
async def test_truncate(vllm: Simulator, make_client: MakeClient, strict: bool) -> None:
    """truncate is NIM's, too."""
    client = make_client(vllm.base_url, model=MODEL, dialect="vllm", strict=strict)
    if strict:
        with pytest.raises(ConfigurationError, match=r"ignores truncate.*truncate_prompt_tokens"):
            await client.embeddings.create(["a"], truncate="END")
    else:
        with pytest.warns(UserWarning, match="ignores truncate"):
            await client.embeddings.create(["a"], truncate="END")


@pytest.mark.parametrize(
    ("model", "options"),
    [(MODEL, {"prefix": "query: "}), (MODEL, {"prefix": ""}), (SYMMETRIC, {}), ("BAAI/bge-m3", {})],
    ids=["prefix", "no prefix wanted", "symmetric", "symmetric weights"],
)
async def test_who_has_seen_to_it_is_left_alone(
    vllm: Simulator, make_client: MakeClient, model: str, options: dict[str, Any]
) -> None:
    """A prefix, or a model without the difference, makes our own input_type no matter, for a strict client as well."""
    async with Simulator(dialect="vllm", models=["BAAI/bge-m3", MODEL, SYMMETRIC]) as simulator:
        client = make_client(simulator.base_url, model=model, dialect="vllm", strict=True)
        await client.embeddings.embed_query("a", **options)
        await client.embeddings.embed_documents(["a"], **options)
        with pytest.raises(ConfigurationError):  # what the caller himself asks for is another thing
            await client.embeddings.create(["a"], input_type="query", **options)


@pytest.mark.parametrize("dialect", ["nim", "hosted", "dynamo"])
@every_call
async def test_other_servers(dialect: Any, make_client: MakeClient, call: Any) -> None:
    """A NIM listens; of others it is not known that they do not."""
    async with Simulator(dialect=dialect) as simulator:
        client = make_client(simulator.base_url, model=MODEL, api_key="nvapi-a-key", strict=True, dialect=dialect)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await call(client)


async def test_a_field_that_was_dropped(server: FaultServer, make_client: MakeClient) -> None:
    """A vLLM that is asked without them is asked for nothing it ignores."""
    server.script(answer({"id": "embd-1", **embedded(["1"])}))
    client = make_client(strict=True)
    await client.embeddings.create(["1"])
    await client.embeddings.create(["1"])
    assert client.dialect == "vllm"


@pytest.mark.parametrize("strict", [False, True])
async def test_embedding_type(strict: bool) -> None:
    """embedding_type is NIM's as well: on vLLM it warns, or raises in a strict client before anything is sent."""
    transport = FakeTransport([{"data": [{"index": 0, "embedding": [1, 2]}]}] * 2)
    client = AsyncClient("k", "http://host:1", model=MODEL, dialect="vllm", strict=strict, transport=transport)
    if strict:
        with pytest.raises(ConfigurationError, match=r"ignores embedding_type.*embed_dtype"):
            await client.embeddings.create(["a"], embedding_type="int8")
        assert transport.requests == []
        return
    with pytest.warns(UserWarning, match="ignores embedding_type"):
        await client.embeddings.create(["a"], embedding_type="int8")
    await client.embeddings.create(["a"], embedding_type="float")  # in silence


LLAMA = {"Server": "llama.cpp"}
TEI = {"x-compute-type": "cpu", "x-inference-time": "1"}
OWNERS = {"llama.cpp": "llamacpp", "infinity": "infinity", "sglang": "sglang"}
IGNORED = [
    ("llama.cpp", "END", "llama.cpp: it rejects a text"),
    ("llama.cpp", "NONE", None),  # it does nothing else
    ("infinity", "NONE", "it cuts every text"),
    ("infinity", "START", "it cuts every text"),
    ("infinity", "END", None),
    ("sglang", "END", "--allow-auto-truncate"),
]


def of_owner(owner: str) -> FakeTransport:
    models = {"data": [{"id": "m", "object": "model", "owned_by": owner, "capabilities": ["embed"]}]}
    vectors = {"data": [{"index": 0, "embedding": [0.5, 1]}], "model": "m"}
    return FakeTransport(lambda request: models if request.url.endswith("/models") else vectors)


@pytest.mark.parametrize(("server", "truncate", "instead"), IGNORED)
async def test_truncate_on_other_servers(server: str, truncate: Any, instead: str | None) -> None:
    """Servers of other makers have no `truncate` either: said before any text is sent, unless they do so anyway."""
    transport = of_owner(OWNERS[server])
    client = AsyncClient("k", "http://host:1", strict=True, transport=transport)
    calls = [
        lambda: client.embeddings.create(["a"], truncate=truncate),
        lambda: client.embeddings.embed_documents(["a"], truncate=truncate, prefix=""),
        lambda: client.embeddings.embed_query("a", truncate=truncate, prefix=""),
    ]
    for call in calls:
        if instead is None:
            await call()
            continue
        with pytest.raises(ConfigurationError, match=f"ignores truncate.*{instead.rpartition(': ')[2]}"):
            await call()
        assert [request.url for request in transport.requests] == ["http://host:1/v1/models"]


@pytest.mark.parametrize("headers", [LLAMA, TEI], ids=["llama.cpp", "tei"])
async def test_the_headers_of_the_first_answer_tell(headers: dict[str, str]) -> None:
    """Where no list was needed the first answer shows the server: a warning for each option, once."""
    vectors = {"data": [{"index": 0, "embedding": [0.5, 1]}], "model": "m"}
    client = AsyncClient("k", "http://host:1", model="m", transport=FakeTransport(lambda _: (200, headers, vectors)))
    with pytest.warns(UserWarning, match="the server ignores") as caught:
        await client.embeddings.create(["a"], input_type="query", truncate="END", embedding_type="float")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await client.embeddings.create(["a"], input_type="query", truncate="END")
    assert [str(warning.message).split()[3] for warning in caught] == ["input_type,", "truncate,"]


@pytest.mark.parametrize("owner", OWNERS.values())
async def test_integers_of_other_servers(owner: str) -> None:
    """int8 from a server that only has float32 is warned of before it is sent, and is no vector afterwards."""
    client = AsyncClient("k", "http://host:1", transport=of_owner(owner))
    with (
        pytest.warns(UserWarning, match=r"ignores embedding_type.*always float32"),
        pytest.raises(EmbeddingMismatchError),
    ):
        await client.embeddings.create(["a"], embedding_type="int8")


async def test_rerank_on_other_servers() -> None:
    """The advice is that of the server."""
    models = {"data": [{"id": "m", "owned_by": "infinity", "capabilities": ["rerank"]}]}
    ranks = {"results": [{"index": 0, "relevance_score": 0.5}]}
    transport = FakeTransport(lambda request: models if request.url.endswith("/models") else ranks)
    client = AsyncClient("k", "http://host:1", transport=transport)
    with pytest.warns(UserWarning, match=r"ignores truncate.*it cuts every text"):
        await client.rerank("q", ["a"], truncate="NONE")

"""Ten calls each to real servers that are neither NIM nor vLLM: what works, and which error says what does not."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nimclient import AsyncClient, RetryPolicy
from nimclient.cli import main
from nimclient.errors import (
    APIStatusError,
    BadRequestError,
    ConfigurationError,
    ContextLengthError,
    EmbeddingMismatchError,
    ModelNotFoundError,
    NotFoundError,
    ServerError,
    StreamInterruptedError,
    UnprocessableEntityError,
)
from nimclient.simulator import Simulator, SimulatorThread
from servers import features
from servers.environment import Unavailable
from servers.foreign import KEY, guardrails, infinity, litellm, llama_cpp, transformers_serve

MODEL = "m"
EMBEDDER = "nvidia/nv-embedqa-e5-v5"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """LiteLLM in front of the simulator."""
    with SimulatorThread(Simulator(models=[MODEL])) as upstream:
        try:
            process, url = litellm(tmp_path_factory.mktemp("litellm"), upstream, MODEL)
        except Unavailable as reason:
            pytest.skip(f"LiteLLM is not to be had here: {reason}")
        yield url
        process.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """`transformers serve`, and the id of its model."""
    try:
        process, url, model = transformers_serve(tmp_path_factory.mktemp("transformers"))
    except Unavailable as reason:
        pytest.skip(f"transformers serve is not to be had here: {reason}")
    yield url, model
    process.stop()


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """infinity with an embedding model and a reranker."""
    try:
        process, url = infinity(tmp_path_factory.mktemp("infinity"))
    except Unavailable as reason:
        pytest.skip(f"infinity is not to be had here: {reason}")
    yield url
    process.stop()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """llama-cpp-python's server."""
    try:
        process, url = llama_cpp(tmp_path_factory.mktemp("llama"), MODEL)
    except Unavailable as reason:
        pytest.skip(f"llama-cpp-python is not to be had here: {reason}")
    yield url
    process.stop()


@pytest.fixture(scope="module")
def rails(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """NeMo Guardrails in front of the simulator, as if that were vLLM with a second model that embeds."""
    with SimulatorThread(Simulator(models=[MODEL, EMBEDDER], dialect="vllm")) as upstream:
        try:
            process, url = guardrails(tmp_path_factory.mktemp("guardrails"), upstream, MODEL)
        except Unavailable as reason:
            pytest.skip(f"NeMo Guardrails is not to be had here: {reason}")
        yield url
        process.stop()


@pytest.fixture
async def behind(proxy: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(KEY, proxy, model=MODEL) as client:
        yield client


@pytest.fixture
async def local(served: tuple[str, str]) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(None, served[0], model=served[1]) as client:
        yield client


async def test_litellm(behind: AsyncClient) -> None:
    """Health without a call of its models, chat whole and streamed, completions, embeddings, and errors by class."""
    await behind.health.wait_ready(timeout=120)  # its first answer to a route that it lacks takes seconds
    assert await behind.health.ready()
    assert await behind.health.live()
    assert MODEL in (await behind.models.list()).ids
    reply = await behind.chat.create("Say hello", max_tokens=8)
    assert reply.text
    assert reply.meta is not None
    assert reply.meta.request_id
    async with behind.chat.stream("Say hello", max_tokens=8) as stream:
        streamed = await stream.final()
    assert streamed.text == reply.text
    assert streamed.usage is not None
    assert (await behind.completions.create("Say", max_tokens=5)).text
    assert len(await behind.embeddings.embed_documents(["a", "b"])) == 2
    with pytest.raises(ModelNotFoundError, match="Invalid model name"):
        await behind.chat.create("hi", model="zz")
    with pytest.raises(ContextLengthError):
        await behind.chat.create("word " * 200_000)
    with pytest.raises(APIStatusError) as caught:
        await behind.chat.create("hi", temperature=-5)
    assert caught.value.status == 400
    assert KEY not in str(caught.value)


async def test_transformers_serve(local: AsyncClient) -> None:
    """Chat whole and streamed, without [DONE]; a field it does not know is named; what it does not do is said."""
    assert await local.health.ready()
    assert await local.health.live()
    assert (await local.models.list()).ids
    reply = await local.chat.create("Say hello", max_tokens=8)
    assert reply.finish_reason == "length"
    async with local.chat.stream("Say hello", max_tokens=8) as stream:
        streamed = await stream.final()
    assert streamed.finish_reason == "length"
    assert streamed.usage is not None
    with pytest.raises(UnprocessableEntityError, match="Unexpected fields") as caught:
        await local.chat.create("hi", extra_body={"foo_bar": 1})
    assert caught.value.param == "foo_bar"
    with pytest.raises(ModelNotFoundError, match="pinned"):
        await local.chat.create("hi", model="zz")
    for call in (local.embeddings.create(["a"]), local.rerank("q", ["a"]), local.tokenize("a")):
        with pytest.raises(NotFoundError):
            await call


async def test_infinity(encoders: str) -> None:
    """Health, kinds of models as it states them, vectors, rankings, and errors by class."""
    async with AsyncClient(base_url=encoders) as client:
        assert await client.health.ready()
        assert await client.health.live()
        assert {model.id: model.kind for model in await client.models.list()} == {
            "embedder": "embedding",
            "ranker": "ranking",
        }
        with pytest.warns(match="ignores input_type"):
            vectors = await client.embeddings.embed_documents(["a", "b"])
        assert (len(vectors), vectors.dimensions, vectors.model) == (2, 64, "embedder")
        assert len((await client.embeddings.create(["a"], encoding_format="base64")).vectors) == 1
        ranking = await client.rerank("q", ["a", "b", "c"], top_n=2)
        assert (len(ranking.results), ranking.model, ranking.measure) == (2, "ranker", "relevance_score")
        with pytest.raises(ModelNotFoundError, match="Available model names"):
            await client.embeddings.create(["a"], model="zz")
        with pytest.raises(ModelNotFoundError, match="Available model names"):
            await client.rerank("q", ["a"], model="zz")
        with pytest.raises(ConfigurationError, match="no model of kind chat"):
            await client.chat.create("hi")
        for call in (client.chat.create("hi", model="embedder"), client.tokenize("a", model="embedder")):
            with pytest.raises(NotFoundError):
                await call


async def test_llama_cpp_python(llama: str) -> None:
    """Without a health route; chat whole and streamed, text, errors by class; what its 500 is about; no vectors."""
    async with AsyncClient(base_url=llama, model=MODEL, timeouts=120, retry=RetryPolicy(attempts=1)) as client:
        assert await client.health.ready()
        assert await client.health.live()
        assert (await client.models.list()).ids == (MODEL,)
        reply = await client.chat.create("Say hello", max_tokens=8)
        assert (reply.finish_reason, reply.usage is not None) == ("length", True)
        assert reply.meta is not None
        assert reply.meta.request_id
        async with client.chat.stream("Say hello", max_tokens=8) as stream:
            streamed = await stream.final()
        assert (bool(streamed.text), streamed.finish_reason) == (True, "length")
        assert (await client.completions.create("Say", max_tokens=5)).usage is not None
        with pytest.raises(ContextLengthError, match="512 tokens"):
            await client.chat.create("word " * 20_000)
        with pytest.raises(StreamInterruptedError):  # it sends nothing at all
            await client.chat.stream("word " * 20_000).final()
        with pytest.raises(ServerError, match="'text' or 'json_object'"):
            await client.chat.parse("hi", features.SCHEMA, max_tokens=8)
        with pytest.raises(EmbeddingMismatchError, match="one for each token"):
            await client.embeddings.create(["a"])
        with pytest.raises(NotFoundError):
            await client.rerank("q", ["a"])


async def test_nemo_guardrails(rails: str) -> None:
    """Chat whole and streamed, the latter without finish_reason and usage; the rest is said not to be there."""
    async with AsyncClient(base_url=rails, model=MODEL, timeouts=120) as client:
        assert await client.health.ready()
        assert await client.health.live()
        assert MODEL in (await client.models.list()).ids
        assert client.dialect is None  # not that of the server behind it
        reply = await client.chat.create("Say hello", max_tokens=8)
        assert (bool(reply.text), reply.finish_reason, reply.extra["guardrails"]) == (
            True,
            "stop",
            {"config_id": "rails"},
        )
        async with client.chat.stream("Say hello", max_tokens=8) as stream:
            streamed = await stream.final()
        assert (streamed.text, streamed.finish_reason, streamed.usage) == (reply.text, None, None)
        with pytest.raises(ModelNotFoundError, match="zz"):
            await client.chat.create("hi", model="zz")
        with pytest.raises(BadRequestError, match="temperature"):
            await client.chat.create("hi", temperature=-5)
        with pytest.raises(UnprocessableEntityError, match="passthrough"):
            await client.chat.create("hi", tools=[features.TOOL])
        for call in (
            client.embeddings.create(["a"], model=EMBEDDER),
            client.completions.create("a"),
            client.rerank("q", ["a"]),
        ):
            with pytest.raises(NotFoundError):
                await call


@pytest.mark.parametrize(
    ("name", "said", "last"),
    [
        ("proxy", "LiteLLM", "chat and embeddings work"),
        ("served", "an OpenAI-compatible server of unknown kind, ready", "chat works"),
        ("encoders", "infinity, ready", "embeddings and reranking work"),
        ("llama", "an OpenAI-compatible server of unknown kind, ready", "chat works"),
        ("rails", "NeMo Guardrails, ready", "chat works"),
    ],
)
def test_the_doctor_says_of_each_what_it_can_do(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], name: str, said: str, last: str, tmp_path: Path
) -> None:
    """The server by its name, what works, and nothing FAILED: each is healthy."""
    (tmp_path / "key").write_text(KEY)
    url = request.getfixturevalue(name)
    url, model = url if isinstance(url, tuple) else (url, None)
    chosen = ["--model", model] if model else []
    code = main(["doctor", "--base-url", url, "--timeout", "120", "--api-key-file", str(tmp_path / "key"), *chosen])
    out = capsys.readouterr().out
    print(out)
    assert (code, "FAILED" in out) == (0, False), out
    assert said in out
    assert out.splitlines()[-1].startswith(last)


async def test_what_litellm_can_do(behind: AsyncClient) -> None:
    """Each feature of the table gives what docs/servers.md says of LiteLLM's proxy."""
    features.compare("LiteLLM, over the simulator", await features.ask(behind))


async def test_what_transformers_serve_can_do(local: AsyncClient) -> None:
    """Each feature of the table gives what docs/servers.md says of `transformers serve`."""
    features.compare("`transformers serve`", await features.ask(local))

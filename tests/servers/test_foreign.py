"""Ten calls each to real servers that are neither NIM nor vLLM: what works, and which error says what does not."""

from collections.abc import AsyncIterator, Iterator

import pytest

from nimclient import AsyncClient
from nimclient.errors import (
    APIStatusError,
    ContextLengthError,
    ModelNotFoundError,
    NotFoundError,
    UnprocessableEntityError,
)
from nimclient.simulator import Simulator, SimulatorThread
from servers import features
from servers.environment import Unavailable
from servers.foreign import KEY, litellm, transformers_serve

MODEL = "m"


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


async def test_what_litellm_can_do(behind: AsyncClient) -> None:
    """Each feature of the table gives what docs/servers.md says of LiteLLM's proxy."""
    features.compare("LiteLLM, over the simulator", await features.ask(behind))


async def test_what_transformers_serve_can_do(local: AsyncClient) -> None:
    """Each feature of the table gives what docs/servers.md says of `transformers serve`."""
    features.compare("`transformers serve`", await features.ask(local))

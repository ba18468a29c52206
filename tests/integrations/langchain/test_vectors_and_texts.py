"""NVIDIAEmbeddings, NVIDIARerank and NVIDIA: requests, answers, errors."""

import asyncio
import pickle
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.exceptions import ModelConnectionError
from langchain_core.vectorstores import InMemoryVectorStore

from nimclient.errors import ConnectError, NimError, ServerError
from nimclient.integrations.langchain import NVIDIA, ChatNVIDIA, NVIDIAEmbeddings, NVIDIARerank
from nimclient.testing import FakeTransport

URL = "http://nim.test"


def vectors(count: int) -> dict[str, Any]:
    return {"data": [{"index": n, "embedding": [0.5, 0.25]} for n in range(count)], "model": "m", "usage": {}}


async def test_embeddings_are_lists_of_floats() -> None:
    """Documents are passages, queries are queries, with and without await; nothing is sent for no documents."""
    transport = FakeTransport([vectors(2), vectors(1), vectors(2), vectors(1)])
    model = NVIDIAEmbeddings(base_url=URL, model="m", transport=transport, dimensions=2, truncate="END")
    expected = [[0.5, 0.25]] * 2
    assert await model.aembed_documents(["a", "b"]) == await asyncio.to_thread(_embed_all, model) == expected
    assert model.embed_documents([]) == await model.aembed_documents([]) == []
    bodies = [request.json for request in transport.requests]
    assert sorted(body["input_type"] for body in bodies) == ["passage", "passage", "query"]
    assert all(body["truncate"] == "END" and body["dimensions"] == 2 for body in bodies)


def _embed_all(model: NVIDIAEmbeddings) -> list[list[float]]:
    assert model.embed_query("q") == [0.5, 0.25]
    return model.embed_documents(["a", "b"])


@pytest.mark.parametrize("texts", ["text", 1, ("a", "b"), [1], ["a", None]])
async def test_other_things_than_texts_are_value_errors(texts: Any) -> None:
    """Only lists of str are documents."""
    model = NVIDIAEmbeddings(base_url=URL, model="m")
    with pytest.raises(ValueError, match="list of str"):
        model.embed_documents(texts)
    with pytest.raises(ValueError, match="list of str"):
        await model.aembed_documents(texts)


@pytest.mark.parametrize("wrong", [{"truncate": "BOGUS"}, {"max_batch_size": 0}, {"max_batch_size": -50}])
def test_settings_of_embeddings_are_checked(wrong: dict[str, Any]) -> None:
    """At construction and at assignment."""
    with pytest.raises(ValueError):
        NVIDIAEmbeddings(base_url=URL, model="m", **wrong)
    model = NVIDIAEmbeddings(base_url=URL, model="m", trucate="START")
    assert model.truncate == "START"
    with pytest.raises(ValueError):
        setattr(model, *next(iter(wrong.items())))


@pytest.mark.parametrize("failure", [429, ConnectError("refused", kind="refused")])
async def test_no_retries_means_no_waiting(failure: Any) -> None:
    """With max_retries=0 a throttled or absent server is asked once, for documents and rankings too."""
    transport = FakeTransport([failure, failure])
    settings: dict[str, Any] = {"base_url": URL, "model": "m", "transport": transport, "max_retries": 0}
    with pytest.raises(NimError):
        await NVIDIAEmbeddings(**settings).aembed_documents(["a", "b"])
    with pytest.raises(NimError):
        await NVIDIARerank(**settings).acompress_documents([Document(page_content="a")], "q")
    assert len(transport.requests) == 2


REFUSED = ConnectError("refused", kind="refused")
CALLS: dict[str, Callable[[Any], Any]] = {
    "documents": lambda settings: NVIDIAEmbeddings(**settings, max_batch_size=1).embed_documents(["a"]),
    "query": lambda settings: NVIDIAEmbeddings(**settings).embed_query("a"),
    "ranking": lambda settings: NVIDIARerank(**settings).compress_documents([Document("a")], "q"),
    "batches": lambda settings: NVIDIARerank(**settings, max_batch_size=32).compress_documents(
        [Document("a")] * 32, "q"
    ),
    "texts": lambda settings: NVIDIA(**settings).invoke("a"),
    "chat": lambda settings: ChatNVIDIA(**settings).invoke("a"),
    "stream": lambda settings: list(ChatNVIDIA(**settings).stream("a")),
    "models": lambda settings: ChatNVIDIA(**settings).available_models,
}
AWAITED: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "documents": lambda settings: NVIDIAEmbeddings(**settings).aembed_documents(["a"]),
    "query": lambda settings: NVIDIAEmbeddings(**settings).aembed_query("a"),
    "ranking": lambda settings: NVIDIARerank(**settings).acompress_documents([Document("a")], "q"),
    "texts": lambda settings: NVIDIA(**settings).ainvoke("a"),
    "chat": lambda settings: ChatNVIDIA(**settings).ainvoke("a"),
}


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> FakeTransport:
    """A server whose address rejects every connection; nobody waits between two attempts."""
    monkeypatch.setattr(random, "random", lambda: 0.0)
    return FakeTransport([REFUSED] * 9)


@pytest.mark.parametrize("retries", [None, 0, 1, 4])
@pytest.mark.parametrize("call", CALLS)
def test_an_absent_server_costs_the_retries_and_no_more(absent: FakeTransport, call: str, retries: int | None) -> None:
    """Every class fails after max_retries where the connection is refused, documents and rankings too."""
    settings = {"base_url": URL, "model": "m", "transport": absent, "max_retries": retries}
    with pytest.raises(ConnectError, match="refused") as caught:
        CALLS[call](settings)
    assert isinstance(caught.value, ModelConnectionError)
    assert len(absent.requests) == caught.value.attempts == (2 if retries is None else retries) + 1


@pytest.mark.parametrize("call", AWAITED)
async def test_an_absent_server_is_not_waited_for(absent: FakeTransport, call: str) -> None:
    """Awaited calls fail after max_retries as well."""
    settings = {"base_url": URL, "model": "m", "transport": absent, "max_retries": 3}
    with pytest.raises(ConnectError, match="refused"):
        await AWAITED[call](settings)
    assert len(absent.requests) == 4


@pytest.mark.usefixtures("virtual_time")
async def test_a_busy_server_is_waited_for() -> None:
    """Documents outlast more throttled answers than max_retries; a gateway without its server costs the retries."""
    settings: dict[str, Any] = {"base_url": URL, "model": "m", "max_retries": 1}
    busy = FakeTransport([429, 429, 503, 429, vectors(1)])
    assert await NVIDIAEmbeddings(**settings, transport=busy).aembed_documents(["a"]) == [[0.5, 0.25]]
    empty = FakeTransport([502, 504])
    with pytest.raises(ServerError):
        await NVIDIAEmbeddings(**settings, transport=empty).aembed_documents(["a"])


def test_embeddings_pickle() -> None:
    """A copy in another process has the settings, without the key."""
    model = NVIDIAEmbeddings(base_url=URL, model="m", max_batch_size=7, api_key="secret-key")
    stored = pickle.dumps(model)
    assert b"secret-key" not in stored
    copied = pickle.loads(stored)
    assert (copied.model, copied.max_batch_size, copied.base_url) == ("m", 7, "http://nim.test/v1")


def test_a_vector_store_finds_its_texts(simulator: str) -> None:
    """InMemoryVectorStore over the simulator finds the text that shares its words."""
    model = NVIDIAEmbeddings(base_url=simulator, model="nvidia/llama-nemotron-embed-1b-v2")
    store = InMemoryVectorStore.from_texts(["Whales sing in the sea.", "Cars need roads."], model)
    assert store.similarity_search("singing whales", k=1)[0].page_content == "Whales sing in the sea."


# rerank ----------------------------------------------------------------------------------------------------------


async def test_reranking_keeps_the_best(simulator: str) -> None:
    """top_n documents, best first, in one batch or many, with and without await; none for none."""
    documents = [Document(f"text about {word}", metadata={"word": word}) for word in ("cats", "dogs", "birds", "fish")]
    model = NVIDIARerank(base_url=simulator, model="nvidia/llama-nemotron-rerank-1b-v2", top_n=2, max_batch_size=3)
    best = await model.acompress_documents(documents, "birds")
    assert best[0].metadata["word"] == "birds"
    assert [document.page_content for document in best] == [
        document.page_content for document in await asyncio.to_thread(model.compress_documents, documents, "birds")
    ]
    assert len(best) == 2
    assert best[0].metadata["relevance_score"] > best[1].metadata["relevance_score"]
    assert model.compress_documents([], "birds") == await model.acompress_documents([], "birds") == []
    model.top_n = 0
    assert model.compress_documents(documents, "birds") == await model.acompress_documents(documents, "birds") == []


def test_images_of_documents() -> None:
    """An image goes beside the text, or alone without one; a local path is a ValueError."""
    transport = FakeTransport([{"rankings": [{"index": n, "logit": -n} for n in range(3)]}])
    model = NVIDIARerank(base_url=URL, model="own/vlm", truncate="END", transport=transport)
    image = "data:image/png;base64,iVBORw0KGgo="
    documents = [Document("a"), Document("b", metadata={"image": image}), Document("", metadata={"image": image})]
    assert len(model.compress_documents(documents, "q")) == 3
    body = transport.requests[0].json
    assert body["passages"] == [{"text": "a"}, {"text": "b", "image": image}, {"image": image}]
    assert body["truncate"] == "END"
    with pytest.raises(ValueError, match="image"):
        model.compress_documents([Document("a", metadata={"image": "/etc/passwd"})], "q")


def test_images_for_a_model_without_eyes_warn() -> None:
    """A reranker that is known to read texts only warns; what the client knows of it decides."""
    model = NVIDIARerank(base_url=URL, model="nvidia/llama-nemotron-rerank-1b-v2", transport=FakeTransport([]))
    with pytest.warns(UserWarning, match="not known to support image inputs"), pytest.raises(ValueError, match="image"):
        model.compress_documents([Document("a", metadata={"image": "https://h/c.png"})], "q")


# completions -----------------------------------------------------------------------------------------------------


def text(content: str = "Hello", **choice: Any) -> dict[str, Any]:
    counts = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return {
        "choices": [{"index": 0, "text": content, "finish_reason": "stop", **choice}],
        "model": "m",
        "usage": counts,
    }


def llm(*answers: Any, **fields: Any) -> tuple[NVIDIA, FakeTransport]:
    transport = FakeTransport(answers)
    return NVIDIA(base_url=URL, model="m", transport=transport, **fields), transport


def test_options_of_completions() -> None:
    """The constructor, bind and the call give options, the nearest wins."""
    model, transport = llm(text(), text(), text(), max_tokens=1, temperature=0.5)
    model.invoke("hi")
    model.bind(max_tokens=2).invoke("hi")
    model.bind(max_tokens=2).invoke("hi", max_tokens=3, stop=["END"])
    assert [request.json["max_tokens"] for request in transport.requests] == [1, 2, 3]
    assert transport.requests[2].json == {
        "model": "m",
        "prompt": "hi",
        "max_tokens": 3,
        "temperature": 0.5,
        "stop": ["END"],
    }


def test_unknown_options_of_completions_warn_once() -> None:
    """They are not sent."""
    with pytest.warns(UserWarning, match="Unrecognized, ignored arguments") as warned:
        model, transport = llm(text(), bogus=1)
    assert len(warned) == 1
    with pytest.warns(UserWarning, match="Unrecognized, ignored arguments"):
        model.invoke("hi", strange=2)
    assert transport.requests[0].json.keys() == {"model", "prompt"}


async def test_completions_keep_usage_and_finish_reasons() -> None:
    """generate and agenerate of several prompts: one request each, in order, usage added up."""
    model, transport = llm(text("a"), text("b"), text("c"), text("d"))
    for result in (await asyncio.to_thread(model.generate, ["1", "2"]), await model.agenerate(["1", "2"])):
        assert [generations[0].generation_info["finish_reason"] for generations in result.generations] == ["stop"] * 2
        assert len(result.generations) == 2
    assert [request.json["prompt"] for request in transport.requests] == ["1", "2", "1", "2"]
    one = model._result([])
    assert one.llm_output is not None


async def test_completions_stream() -> None:
    """Pieces come as they are written; the last chunk tells usage and finish reason."""
    events: Any = [
        {"choices": [{"index": 0, "text": "Hel"}], "model": "m"},
        {"choices": [{"index": 0, "text": "lo", "finish_reason": "stop"}], "model": "m"},
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
    ]
    model, transport = llm(events, events)
    assert list(model.stream("hi")) == ["Hel", "lo", ""]
    assert [piece async for piece in model.astream("hi")] == ["Hel", "lo", ""]
    assert transport.requests[0].json["stream"] is True


def test_the_stream_keyword_of_completions_is_ignored() -> None:
    """stream=True on invoke and stream=False on stream warn."""
    model, _ = llm(text(), [{"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}])
    with pytest.warns(UserWarning, match="stream set to true"):
        model.invoke("hi", stream=True)
    with pytest.warns(UserWarning, match="stream set to false"):
        list(model.stream("hi", stream=False))


async def test_an_error_among_several_completions_comes_alone() -> None:
    """agenerate raises the error itself, in no group."""
    model, _ = llm((404, {}, {"error": {"message": "no such model"}}), (404, {}, {}))
    with pytest.raises(Exception, match="404") as error:
        await model.agenerate(["1", "2"])
    assert not isinstance(error.value, ExceptionGroup)

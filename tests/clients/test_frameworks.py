"""llama-index and haystack with their NVIDIA packages."""

from typing import Any

import pytest

from .said import ADA, ANSWER, CHAT, EMBEDDING, PASSAGES, PERSON_TEXT, QUESTION, RANKING, Person, add, get_weather


@pytest.fixture
def llama(url: str) -> Any:
    """llama-index's NVIDIA model."""
    module = pytest.importorskip("llama_index.llms.nvidia", reason="llama-index-llms-nvidia is not installed")
    return module.NVIDIA(model=CHAT, base_url=url, api_key="k", is_function_calling_model=True)


def test_llama_index_words(llama: Any) -> None:
    """A completion, a chat and a stream."""
    from llama_index.core.llms import ChatMessage

    messages = [ChatMessage(role="user", content=QUESTION)]
    assert llama.complete(QUESTION).text == ANSWER
    assert llama.chat(messages).message.content == ANSWER
    assert list(llama.stream_chat(messages))[-1].message.content == ANSWER


def test_llama_index_tools_and_objects(llama: Any) -> None:
    """A tool is called with the numbers of the question, and a class is filled from the text."""
    from llama_index.core.tools import FunctionTool

    assert llama.predict_and_call([FunctionTool.from_defaults(add)], "Add 17 and 25.").response == "42"
    assert llama.as_structured_llm(Person).complete(PERSON_TEXT).raw == ADA


def test_llama_index_retrieval(url: str) -> None:
    """Embeddings of texts and queries; the ranker puts the right node first."""
    embeddings = pytest.importorskip("llama_index.embeddings.nvidia", reason="llama-index-embeddings-nvidia is missing")
    rerank = pytest.importorskip("llama_index.postprocessor.nvidia_rerank", reason="its nvidia-rerank is missing")
    from llama_index.core.schema import NodeWithScore, TextNode

    embedding = embeddings.NVIDIAEmbedding(model=EMBEDDING, base_url=url, api_key="k")
    assert [len(vector) for vector in embedding.get_text_embedding_batch(["a", "b", "c"])] == [1024] * 3
    assert len(embedding.get_query_embedding("a")) == 1024
    ranker = rerank.NVIDIARerank(model=RANKING, base_url=url, api_key="k", top_n=1)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in PASSAGES]
    assert ranker.postprocess_nodes(nodes, query_str="csv")[0].node.text == PASSAGES[1]


def test_haystack_words_and_tools(url: str) -> None:
    """The chat generator answers, streams, calls a tool and fills a class."""
    nvidia = pytest.importorskip(
        "haystack_integrations.components.generators.nvidia", reason="nvidia-haystack is not installed"
    )
    from haystack.dataclasses import ChatMessage
    from haystack.tools import create_tool_from_function
    from haystack.utils import Secret

    options: dict[str, Any] = {"model": CHAT, "api_base_url": url, "api_key": Secret.from_token("k")}
    asked = [ChatMessage.from_user(QUESTION)]
    assert nvidia.NvidiaChatGenerator(**options).run(asked)["replies"][0].text == ANSWER
    pieces: list[str] = []
    streaming = nvidia.NvidiaChatGenerator(**options, streaming_callback=lambda chunk: pieces.append(chunk.content))
    assert streaming.run(asked)["replies"][0].text == "".join(pieces) == ANSWER
    tools = [create_tool_from_function(get_weather)]
    reply = nvidia.NvidiaChatGenerator(**options).run([ChatMessage.from_user("Weather in Paris?")], tools=tools)[
        "replies"
    ][0]
    assert [(call.tool_name, call.arguments) for call in reply.tool_calls] == [("get_weather", {"city": "Paris"})]
    shaped = nvidia.NvidiaChatGenerator(**options, generation_kwargs={"response_format": Person})
    text = shaped.run([ChatMessage.from_user(PERSON_TEXT)])["replies"][0].text
    assert Person.model_validate_json(text) == ADA


def test_haystack_retrieval(url: str) -> None:
    """Its embedders and its ranker."""
    embedders = pytest.importorskip(
        "haystack_integrations.components.embedders.nvidia", reason="nvidia-haystack is not installed"
    )
    rankers = pytest.importorskip("haystack_integrations.components.rankers.nvidia")
    from haystack.dataclasses import Document
    from haystack.utils import Secret

    options: dict[str, Any] = {"api_url": url, "api_key": Secret.from_token("k")}
    documents = [Document(content=text) for text in PASSAGES]
    for component, given in (
        (embedders.NvidiaTextEmbedder(model=EMBEDDING, **options), "a"),
        (embedders.NvidiaDocumentEmbedder(model=EMBEDDING, **options), documents),
    ):
        component.warm_up()
        result = component.run(given)
        vectors = [result["embedding"]] if "embedding" in result else [one.embedding for one in result["documents"]]
        assert {len(vector) for vector in vectors} == {1024}
    ranker = rankers.NvidiaRanker(model=RANKING, **options)
    ranker.warm_up()
    assert ranker.run("csv", documents)["documents"][0].content == PASSAGES[1]

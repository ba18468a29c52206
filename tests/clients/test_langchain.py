"""langchain-nvidia-ai-endpoints and langchain-openai."""

from typing import Any

import pytest

from .said import ADA, ANSWER, CHAT, EMBEDDING, PASSAGES, PERSON_TEXT, QUESTION, RANKING, REASONING, Person, get_weather

nvidia = pytest.importorskip("langchain_nvidia_ai_endpoints", reason="langchain-nvidia-ai-endpoints is not installed")
openai = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")


@pytest.fixture(params=["nvidia", "openai", "responses"])
def llm(request: pytest.FixtureRequest, url: str) -> Any:
    """The same model in each of the three."""
    if request.param == "nvidia":
        return nvidia.ChatNVIDIA(model=CHAT, base_url=url)
    responses = request.param == "responses"
    return openai.ChatOpenAI(model=CHAT, base_url=url, api_key="k", use_responses_api=responses)


def test_words(llm: Any) -> None:
    """An answer, its usage, and the same in a stream."""
    message = llm.invoke(QUESTION)
    assert message.text == ANSWER
    usage = message.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert "".join(chunk.text for chunk in llm.stream(QUESTION)) == ANSWER


async def test_words_async(llm: Any) -> None:
    """The same from a coroutine, several at once."""
    assert [message.text for message in await llm.abatch([QUESTION] * 3)] == [ANSWER] * 3


def test_tools(llm: Any) -> None:
    """Two calls at once, with their arguments."""
    message = llm.bind_tools([get_weather]).invoke("What is the weather in Paris and Rome?")
    assert [(call["name"], call["args"]["city"]) for call in message.tool_calls] == [
        ("get_weather", "Paris"),
        ("get_weather", "Rome"),
    ]


def test_structured_output(llm: Any) -> None:
    """A pydantic class is filled from the text."""
    assert llm.with_structured_output(Person).invoke(PERSON_TEXT) == ADA


def test_format_instructions(url: str) -> None:
    """A parser's instructions in the prompt are followed without any mode of the server."""
    from langchain_core.output_parsers import PydanticOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    parser = PydanticOutputParser(pydantic_object=Person)
    prompt = ChatPromptTemplate.from_messages([("system", "{instructions}"), ("user", "{text}")])
    chain = prompt | openai.ChatOpenAI(model=CHAT, base_url=url, api_key="k") | parser
    assert chain.invoke({"instructions": parser.get_format_instructions(), "text": PERSON_TEXT}) == ADA


def test_retrieval(url: str) -> None:
    """Embeddings of documents and queries, and reranking."""
    from langchain_core.documents import Document

    embeddings = nvidia.NVIDIAEmbeddings(model=EMBEDDING, base_url=url, truncate="END")
    assert [len(vector) for vector in embeddings.embed_documents(["a", "b"])] == [1024, 1024]
    assert all(embeddings.embed_query("hello")[:8])
    ranker = nvidia.NVIDIARerank(model=RANKING, base_url=url)
    documents = [Document(page_content=text) for text in PASSAGES]
    assert ranker.compress_documents(query="csv", documents=documents)[0].page_content == PASSAGES[1]
    symmetric = openai.OpenAIEmbeddings(
        model="baai/bge-m3", base_url=url, api_key="k", check_embedding_ctx_length=False
    )
    assert len(symmetric.embed_query("a")) == 1024


def test_the_rest(url: str) -> None:
    """Completions, the list of models, reasoning, and an error in its own words."""
    assert nvidia.NVIDIA(model=CHAT, base_url=url).invoke("one two three")
    assert CHAT in {model.id for model in nvidia.ChatNVIDIA.get_available_models(base_url=url)}
    message = nvidia.ChatNVIDIA(model=REASONING, base_url=url).invoke(QUESTION)
    assert "reasoning" in str(message.additional_kwargs)
    with pytest.raises(Exception, match="does not exist"):
        nvidia.ChatNVIDIA(model="no/such", base_url=url).invoke("hi")

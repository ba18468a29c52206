"""NVIDIARAGRetriever: what it sends to a RAG Blueprint server, what it reads, and its errors."""

import asyncio
from typing import Any

import pytest

from nimclient.errors import ConnectError, NimError, RequestTimeoutError
from nimclient.integrations.langchain import (
    NVIDIARAGConnectionError,
    NVIDIARAGError,
    NVIDIARAGRetriever,
    NVIDIARAGServerError,
    NVIDIARAGValidationError,
)
from nimclient.testing import FakeTransport

URL = "http://rag.test:8081"
FOUND = {"document_id": "1", "content": "Oslo", "document_name": "a.pdf", "score": 0.9, "metadata": {"page": 3}}


def retriever(*answers: Any, **fields: Any) -> tuple[NVIDIARAGRetriever, FakeTransport]:
    transport = FakeTransport(list(answers))
    return NVIDIARAGRetriever(base_url=URL, transport=transport, **fields), transport


async def test_results_are_documents() -> None:
    """Content and metadata of each result, with and without await; what was not given is not sent."""
    found, transport = retriever({"results": [FOUND]}, {"results": [FOUND]}, k=2, vdb_endpoint="http://milvus")
    documents = [*await found.ainvoke("Norway?"), *await asyncio.to_thread(found.invoke, "Norway?")]
    assert [document.page_content for document in documents] == ["Oslo", "Oslo"]
    known = {"document_id": "1", "document_name": "a.pdf", "document_type": "text", "score": 0.9, "page": 3}
    assert documents[0].metadata == known
    for request in transport.requests:
        assert (request.method, request.url) == ("POST", f"{URL}/v1/search")
        assert request.json == {
            "query": "Norway?",
            "reranker_top_k": 2,
            "vdb_top_k": 100,
            "collection_names": ["multimodal_data"],
            "messages": [],
            "enable_query_rewriting": False,
            "enable_reranker": True,
            "enable_filter_generator": False,
            "enable_citations": True,
            "confidence_threshold": 0.0,
            "vdb_endpoint": "http://milvus",
        }


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((422, {}, {"detail": "no query"}), NVIDIARAGValidationError, "422"),
        ((404, {}, b"nothing here"), NVIDIARAGServerError, "HTTP 404"),
        ([], NVIDIARAGServerError, "RAG server returned"),
        ((200, {}, b"<html>"), NVIDIARAGServerError, "invalid JSON"),
        ((200, {"Content-Type": "application/json"}, b"{no"), NVIDIARAGServerError, "invalid JSON"),
        ((200, {"Content-Type": "application/json"}, b"[]"), NVIDIARAGServerError, "backend logs"),
        ((200, {"Content-Type": "application/json"}, b"5"), NVIDIARAGServerError, "no object"),
        ({"results": "none"}, NVIDIARAGServerError, "must be a list"),
        (RequestTimeoutError("too slow", phase="total"), NVIDIARAGConnectionError, "timed out after 1.0 s"),
        (
            ConnectError("refused", kind="refused"),
            NVIDIARAGConnectionError,
            "Cannot connect to RAG server at http://rag",
        ),
    ],
)
async def test_errors_are_of_three_kinds(answer: Any, kind: type[NVIDIARAGError], words: str) -> None:
    """Connection, server and request are reported apart; status and body are on the error, the client's error behind it."""
    found, _ = retriever(*[answer] * 3, timeout=1)
    with pytest.raises(kind, match=words) as caught:
        await found.ainvoke("q")
    if isinstance(caught.value, NVIDIARAGServerError):
        assert caught.value.status_code in (200, 404)
    else:
        assert isinstance(caught.value.__cause__, NimError)


@pytest.mark.parametrize(
    "wrong", [{"k": 26}, {"timeout": 0}, {"confidence_threshold": 2}, {"base_url": URL + "/v1/search/"}]
)
def test_settings_of_the_retriever_are_checked(wrong: dict[str, Any]) -> None:
    """At construction."""
    with pytest.raises(ValueError):
        NVIDIARAGRetriever(**{"base_url": URL, **wrong})

"""NVIDIARAGRetriever: documents from the search route of an NVIDIA RAG Blueprint server."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, PrivateAttr, field_validator

from nimclient import Timeouts
from nimclient.errors import APIStatusError, DecodeError, NimError, RequestTimeoutError
from nimclient.integrations.langchain.connection import Link, Links, Options, Server

_ALWAYS = (
    "vdb_top_k",
    "collection_names",
    "messages",
    "enable_query_rewriting",
    "enable_reranker",
    "enable_filter_generator",
    "enable_citations",
    "confidence_threshold",
)
_IF_GIVEN = (
    "vdb_endpoint",
    "filter_expr",
    "embedding_model",
    "embedding_endpoint",
    "reranker_model",
    "reranker_endpoint",
)


class NVIDIARAGError(Exception):
    """Anything that goes wrong in a search; the client's error is its cause."""


class NVIDIARAGConnectionError(NVIDIARAGError):
    """The server was not reached, or did not answer in time."""


class NVIDIARAGServerError(NVIDIARAGError):
    """The server answered with an error, or with what is no search result."""

    def __init__(self, message: str, status_code: int | None = None, body: str = "") -> None:
        super().__init__(message)
        self.status_code = status_code
        self.body = body


class NVIDIARAGValidationError(NVIDIARAGError):
    """The server rejected the request (422)."""

    def __init__(self, message: str, body: str = "") -> None:
        super().__init__(message)
        self.body = body


class NVIDIARAGRetriever(BaseRetriever):
    """Searches the collections of an NVIDIA RAG Blueprint server (`POST {base_url}/v1/search`).

    ``NVIDIARAGRetriever(base_url="http://localhost:8081", collection_names=["manuals"], k=4).invoke("How …?")``

    The documents carry `document_id`, `document_name`, `document_type` and `score` in their metadata, beside what the
    server keeps of each. Raises NVIDIARAGError: its three kinds tell connection, server and request. Constructing one does
    no I/O.
    """

    model_config = ConfigDict(validate_assignment=True)

    base_url: str = Field(description="The RAG server's root, such as http://localhost:8081")
    k: int = Field(10, ge=0, le=25, description="How many documents are returned")
    collection_names: list[str] = Field(default_factory=lambda: ["multimodal_data"])
    vdb_top_k: int = Field(100, ge=0, le=400, description="How many the vector database gives to the reranker")
    vdb_endpoint: str | None = Field(None, description="The vector database; None: the server's own")
    enable_reranker: bool = True
    enable_query_rewriting: bool = False
    enable_filter_generator: bool = False
    enable_citations: bool = True
    filter_expr: str | list[dict[str, Any]] | None = None
    confidence_threshold: float = Field(0.0, ge=0.0, le=1.0, description="Below this score nothing is returned")
    embedding_model: str | None = None
    embedding_endpoint: str | None = None
    reranker_model: str | None = None
    reranker_endpoint: str | None = None
    messages: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]], description="The conversation so far")
    timeout: float = Field(60, ge=1.0, description="Seconds for the whole search")
    transport: Any = Field(None, exclude=True, repr=False, description="For tests: what the client sends through")

    _links: Links = PrivateAttr(default_factory=Links)

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, url: str) -> str:
        if "/v1/search" in url.lower():
            raise ValueError("base_url must not include /v1/search; give the server's root, http://localhost:8081")
        return url

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        with self._errors():
            return _documents(self._now.blocking.request("POST", "/v1/search", json=self._build_payload(query)))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        with self._errors():
            return _documents(await self._now.awaiting.request("POST", "/v1/search", json=self._build_payload(query)))

    def _build_payload(self, query: str) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in _IF_GIVEN if getattr(self, name) is not None}
        return {"query": query, "reranker_top_k": self.k, **{name: getattr(self, name) for name in _ALWAYS}, **given}

    @property
    def _now(self) -> Link:
        server = Server(self.base_url, None, True, (), (), self.transport)
        return self._links.get(server, Options(Timeouts(total=self.timeout), None, ()))

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Raise the client's errors in this retriever's words."""
        url = f"{self.base_url.rstrip('/')}/v1/search"
        try:
            yield
        except APIStatusError as error:
            if error.status == 422:
                raise NVIDIARAGValidationError(
                    f"RAG server validation error (422): {error.body}", error.body
                ) from error
            said = f"RAG server returned HTTP {error.status}: {error.body}"
            raise NVIDIARAGServerError(said, error.status, error.body) from error
        except DecodeError as error:
            raise _no_result(f"invalid JSON: {error}", "") from error
        except RequestTimeoutError as error:
            said = f"Request to RAG server at {url} timed out after {self.timeout} s: {error}"
            raise NVIDIARAGConnectionError(said) from error
        except NimError as error:
            said = f"Cannot connect to RAG server at {url}; the request failed. Is rag-server running there? {error}"
            raise NVIDIARAGConnectionError(said) from error


def _documents(answer: Any) -> list[Document]:
    """The results of a search, with what is known of each in its metadata."""
    if isinstance(answer, str | bytes):
        body = answer if isinstance(answer, str) else answer.decode(errors="replace")
        raise _no_result("invalid JSON", body)
    if answer == []:
        raise _no_result("an empty answer. Check backend logs", "[]")
    if not isinstance(answer, Mapping):
        raise _no_result("an answer that is no object", str(answer))
    results = cast(Mapping[str, Any], answer).get("results", [])
    if not isinstance(results, list):
        raise _no_result("'results' that are no list (they must be a list)", str(results))
    return [_document(result) for result in cast(list[dict[str, Any]], results)]


def _document(result: dict[str, Any]) -> Document:
    metadata: dict[str, Any] = {
        "document_id": result.get("document_id", ""),
        "document_name": result.get("document_name", ""),
        "document_type": result.get("document_type", "text"),
        "score": result.get("score", 0.0),
        **(result.get("metadata") or {}),
    }
    return Document(page_content=result.get("content", ""), metadata=metadata)


def _no_result(what: str, body: str) -> NVIDIARAGServerError:
    return NVIDIARAGServerError(f"RAG server returned {what}. Response: {body[:500]}", 200, body)

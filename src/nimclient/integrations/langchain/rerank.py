"""NVIDIARerank: a document compressor that keeps the most relevant documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, model_validator

from nimclient import Image, Ranking
from nimclient.integrations.langchain import models as registry
from nimclient.integrations.langchain.caller import warn
from nimclient.integrations.langchain.connection import Connection
from nimclient.integrations.langchain.errors import langchain_errors


class NVIDIARerank(Connection, BaseDocumentCompressor):
    """NVIDIA's rerankers: the hosted catalog, NIM containers, vLLM.

    The documents are returned as copies, best first, with `metadata["relevance_score"]` (a NIM's logit, vLLM's score between
    0 and 1). `metadata["image"]` of a document, an http(s) or data URL, is sent to rerankers that accept images.
    `top_n`: how many are kept. Batches of `max_batch_size` documents are sent concurrently.
    """

    model_config = ConfigDict(validate_assignment=True)

    client_name: ClassVar[str] = "NVIDIARerank"

    top_n: int = Field(5, ge=0, description="How many documents are kept")
    truncate: Literal["NONE", "END"] | None = Field(None, description="Whether what is too long is cut off at its end")
    max_batch_size: int = Field(32, ge=1, description="Documents a request")
    extra_headers: dict[str, str] = Field(
        default_factory=dict, exclude=True, repr=False, description="Deprecated: use default_headers"
    )

    @model_validator(mode="after")
    def _rename_headers(self) -> Self:
        if self.extra_headers and not self.default_headers:
            warn(
                "The 'extra_headers' parameter is deprecated and will be removed in a future version. "
                "Please use 'default_headers' instead.",
                DeprecationWarning,
            )
            self._set("default_headers", self.extra_headers)
        return self

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The best `top_n` documents, best first. `callbacks` are ignored: LangChain has no events for reranking."""
        if not documents or self.top_n < 1:
            return []
        passages = self._passages(documents)
        with langchain_errors():
            return _ranked(documents, self._blocking.rerank(query, passages, **self._options()))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The async version."""
        if not documents or self.top_n < 1:
            return []
        passages = self._passages(documents)
        with langchain_errors():
            return _ranked(documents, await self._awaiting.rerank(query, passages, **self._options()))

    def _options(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "top_n": self.top_n,
            "truncate": self.truncate,
            "batch_size": self.max_batch_size,
        }

    def _passages(self, documents: Sequence[Document]) -> list[Any]:
        passages = [_passage(document) for document in documents]
        known = registry.known_model(self.model)
        has_images = any(not isinstance(passage, str) for passage in passages)
        if has_images and known is not None and known.model_type not in (None, "ranking-vlm"):
            warn(
                f"Passage image metadata was supplied, but the reranking model '{self.model}' is not known to support "
                f"image inputs."
            )
        return passages


def _passage(document: Document) -> Any:
    """The text, and the image if there is one; an image alone is sent without text, since servers reject an empty one.

    Raises ValueError for an image that is not an http(s) or data URL.
    """
    image = document.metadata.get("image")
    if not image:
        return document.page_content
    if not isinstance(image, str) or not image.startswith(("http://", "https://", "data:image")):
        raise ValueError(f"metadata['image'] is not an http(s) or data:image URL: {image!r:.80}")
    return {"text": document.page_content, "image": Image(image)} if document.page_content else Image(image)


def _ranked(documents: Sequence[Document], ranking: Ranking) -> list[Document]:
    """Copies in the order of the ranking; the caller's documents are not changed."""
    found: list[Document] = []
    for ranked in ranking.results:
        document = documents[ranked.index]
        found.append(document.model_copy(update={"metadata": {**document.metadata, "relevance_score": ranked.score}}))
    return found

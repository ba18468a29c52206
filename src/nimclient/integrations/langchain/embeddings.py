"""NVIDIAEmbeddings: embeddings of queries and documents for LangChain's vector stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, Field, model_validator

from nimclient import Vectors
from nimclient.integrations.langchain.connection import Connection
from nimclient.integrations.langchain.errors import langchain_errors


class NVIDIAEmbeddings(Connection, Embeddings):
    """NVIDIA's embedding models: the hosted catalog, NIM containers, vLLM.

    Batches of `max_batch_size` texts are sent concurrently; a response that does not match its texts raises.
    `truncate`: "NONE" (a text that is too long is an error), "START" or "END". `dimensions`: for models that support shorter
    vectors. Constructing one does no I/O.
    """

    model_config = ConfigDict(validate_assignment=True)

    client_name: ClassVar[str] = "NVIDIAEmbeddings"

    truncate: Literal["NONE", "START", "END"] = Field("NONE", description="What is cut off a text that is too long")
    dimensions: int | None = Field(None, description="The length of the vectors, where the model can shorten them")
    max_batch_size: int = Field(50, ge=1, description="Texts a request")

    @model_validator(mode="before")
    @classmethod
    def _read_misspelling(cls, values: Any) -> Any:
        """Accept `trucate`, a misspelling of older versions."""
        if isinstance(values, Mapping) and "trucate" in values:
            given = dict(cast(Mapping[str, Any], values))
            truncate = given.pop("trucate")
            return {"truncate": truncate, **given} if truncate is not None else given
        return cast(Any, values)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of some documents, in their order."""
        return _lists(self.vectors(texts)) if _checked(texts) else []

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """The async version."""
        return _lists(await self.avectors(texts)) if _checked(texts) else []

    def embed_query(self, text: str) -> list[float]:
        """The vector of one query."""
        _checked([text])
        with langchain_errors():
            return list(self._blocking.embeddings.embed_query(text, **self._options()))

    async def aembed_query(self, text: str) -> list[float]:
        """The async version."""
        _checked([text])
        with langchain_errors():
            return list(await self._awaiting.embeddings.embed_query(text, **self._options()))

    def vectors(self, texts: list[str]) -> Vectors:
        """The vectors of documents in one buffer of float32, for NumPy code: no Python floats are created."""
        with langchain_errors():
            return self._blocking.embeddings.embed_documents(texts, batch_size=self.max_batch_size, **self._options())

    async def avectors(self, texts: list[str]) -> Vectors:
        """The async version."""
        with langchain_errors():
            return await self._awaiting.embeddings.embed_documents(
                texts, batch_size=self.max_batch_size, **self._options()
            )

    def _options(self) -> dict[str, Any]:
        """The options of each call; `truncate` is sent only if the caller set it."""
        said = self.truncate != "NONE" or "truncate" in self.model_fields_set
        return {
            "model": self.model,
            "truncate": self.truncate if said else None,
            "dimensions": self.dimensions or None,
        }


def _checked(texts: Any) -> list[str]:
    """The texts. Raises ValueError for anything but a list of str."""
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):  # pyright: ignore[reportUnknownVariableType]
        raise ValueError(f"`texts` must be a list of str, not {type(texts).__name__} of other things")  # pyright: ignore[reportUnknownArgumentType]
    return texts  # pyright: ignore[reportUnknownVariableType]


def _lists(vectors: Vectors) -> list[list[float]]:
    lists: list[list[float]] = vectors.tolist()
    return lists

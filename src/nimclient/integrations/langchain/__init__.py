"""The LangChain classes: ChatNVIDIA, NVIDIAEmbeddings, NVIDIARerank, NVIDIA, ChatNVIDIADynamo and NVIDIARAGRetriever.

They have the names and arguments of langchain-nvidia-ai-endpoints, so that a program only changes its import line, and use
the public client: its pool, its retries, its errors. Needs the extra `langchain` (langchain-core).
"""

from __future__ import annotations

from nimclient import __version__
from nimclient.integrations.langchain.chat import ChatNVIDIA
from nimclient.integrations.langchain.completions import NVIDIA
from nimclient.integrations.langchain.dynamo import ChatNVIDIADynamo
from nimclient.integrations.langchain.embeddings import NVIDIAEmbeddings
from nimclient.integrations.langchain.models import Model, register_model
from nimclient.integrations.langchain.priority import get_inference_priority, inference_priority
from nimclient.integrations.langchain.rerank import NVIDIARerank
from nimclient.integrations.langchain.retrievers import (
    NVIDIARAGConnectionError,
    NVIDIARAGError,
    NVIDIARAGRetriever,
    NVIDIARAGServerError,
    NVIDIARAGValidationError,
)

__all__ = [
    "NVIDIA",
    "ChatNVIDIA",
    "ChatNVIDIADynamo",
    "Model",
    "NVIDIAEmbeddings",
    "NVIDIARAGConnectionError",
    "NVIDIARAGError",
    "NVIDIARAGRetriever",
    "NVIDIARAGServerError",
    "NVIDIARAGValidationError",
    "NVIDIARerank",
    "__version__",
    "get_inference_priority",
    "inference_priority",
    "register_model",
]

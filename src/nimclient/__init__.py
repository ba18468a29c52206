"""nimclient: the async-first, minimal Python SDK for NVIDIA NIM inference microservices and vLLM.

Importing this package imports nothing else: each public name is loaded when it is first used, so that a program
that only configures a client never pays for aiohttp, ssl or NumPy.
"""

import sys
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nimclient._base.config import Limits, RetryPolicy, Timeouts
    from nimclient._bulk.workers import AsCompleted
    from nimclient._client import AsyncClient
    from nimclient._resources.conversation import Conversation
    from nimclient._resources.embed_stream import EmbedStream
    from nimclient._resources.parse_stream import ParseStream
    from nimclient._schema.tools import tool
    from nimclient._streams.completions import CompletionStream
    from nimclient._streams.event_stream import EventStream
    from nimclient._streams.stream import ChatStream
    from nimclient._sync.client import Client
    from nimclient._sync.conversation import SyncConversation
    from nimclient._sync.embed_stream import SyncEmbedStream
    from nimclient._sync.many import SyncAsCompleted
    from nimclient._sync.parse_stream import SyncParseStream
    from nimclient._sync.stream import SyncChatStream, SyncCompletionStream, SyncEventStream
    from nimclient.errors import NimError
    from nimclient.prompts import ChatPrompt
    from nimclient.records import (
        Asset,
        Audio,
        Blob,
        ChatChunk,
        ChatCompletion,
        Choice,
        Completion,
        CompletionChoice,
        CompletionChunk,
        CompletionLogprobs,
        Detokenization,
        EmbeddedBatch,
        Embeddings,
        Failure,
        Image,
        Message,
        Metadata,
        Model,
        ModelList,
        Parsed,
        Progress,
        RankedDocument,
        Ranking,
        ResponseMeta,
        Tokenization,
        ToolCall,
        ToolRun,
        Usage,
        Vector,
        Vectors,
        Video,
    )
    from nimclient.records.attempt import AttemptEvent

_HOMES = {
    "AsCompleted": "nimclient._bulk.workers",
    "Asset": "nimclient.records",
    "AsyncClient": "nimclient._client",
    "AttemptEvent": "nimclient.records.attempt",
    "Audio": "nimclient.records",
    "Blob": "nimclient.records",
    "ChatChunk": "nimclient.records",
    "ChatCompletion": "nimclient.records",
    "ChatPrompt": "nimclient.prompts",
    "ChatStream": "nimclient._streams.stream",
    "Choice": "nimclient.records",
    "Client": "nimclient._sync.client",
    "Completion": "nimclient.records",
    "CompletionChoice": "nimclient.records",
    "CompletionChunk": "nimclient.records",
    "CompletionLogprobs": "nimclient.records",
    "CompletionStream": "nimclient._streams.completions",
    "Conversation": "nimclient._resources.conversation",
    "Detokenization": "nimclient.records",
    "EmbedStream": "nimclient._resources.embed_stream",
    "EmbeddedBatch": "nimclient.records",
    "Embeddings": "nimclient.records",
    "EventStream": "nimclient._streams.event_stream",
    "Failure": "nimclient.records",
    "Image": "nimclient.records",
    "Limits": "nimclient._base.config",
    "Message": "nimclient.records",
    "Metadata": "nimclient.records",
    "Model": "nimclient.records",
    "ModelList": "nimclient.records",
    "NimError": "nimclient.errors",
    "ParseStream": "nimclient._resources.parse_stream",
    "Parsed": "nimclient.records",
    "Progress": "nimclient.records",
    "RankedDocument": "nimclient.records",
    "Ranking": "nimclient.records",
    "ResponseMeta": "nimclient.records",
    "RetryPolicy": "nimclient._base.config",
    "SyncAsCompleted": "nimclient._sync.many",
    "SyncChatStream": "nimclient._sync.stream",
    "SyncCompletionStream": "nimclient._sync.stream",
    "SyncConversation": "nimclient._sync.conversation",
    "SyncEmbedStream": "nimclient._sync.embed_stream",
    "SyncEventStream": "nimclient._sync.stream",
    "SyncParseStream": "nimclient._sync.parse_stream",
    "Timeouts": "nimclient._base.config",
    "Tokenization": "nimclient.records",
    "ToolCall": "nimclient.records",
    "ToolRun": "nimclient.records",
    "Usage": "nimclient.records",
    "Vector": "nimclient.records",
    "Vectors": "nimclient.records",
    "Video": "nimclient.records",
    "tool": "nimclient._schema.tools",
}

__all__ = [
    "AsCompleted",
    "Asset",
    "AsyncClient",
    "AttemptEvent",
    "Audio",
    "Blob",
    "ChatChunk",
    "ChatCompletion",
    "ChatPrompt",
    "ChatStream",
    "Choice",
    "Client",
    "Completion",
    "CompletionChoice",
    "CompletionChunk",
    "CompletionLogprobs",
    "CompletionStream",
    "Conversation",
    "Detokenization",
    "EmbedStream",
    "EmbeddedBatch",
    "Embeddings",
    "EventStream",
    "Failure",
    "Image",
    "Limits",
    "Message",
    "Metadata",
    "Model",
    "ModelList",
    "NimError",
    "ParseStream",
    "Parsed",
    "Progress",
    "RankedDocument",
    "Ranking",
    "ResponseMeta",
    "RetryPolicy",
    "SyncAsCompleted",
    "SyncChatStream",
    "SyncCompletionStream",
    "SyncConversation",
    "SyncEmbedStream",
    "SyncEventStream",
    "SyncParseStream",
    "Timeouts",
    "Tokenization",
    "ToolCall",
    "ToolRun",
    "Usage",
    "Vector",
    "Vectors",
    "Video",
    "__version__",
    "tool",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'nimclient' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    if name in ("AsyncClient", "Client") and _is_prompt():
        import_module("nimclient._sync.options").name_options()
    return value


def _is_prompt() -> bool:
    """Whether this process has a prompt, or has loaded a library that completes or explains code at one."""
    return hasattr(sys, "ps1") or not sys.modules.keys().isdisjoint({"IPython", "jedi", "pydoc"})


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""nimclient: the async-first, minimal Python SDK for NVIDIA NIM inference microservices and vLLM.

Importing this package imports nothing else: each public name is loaded when it is first used, so that a program
that only configures a client never pays for aiohttp, ssl or NumPy.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nimclient._client import AsyncClient
    from nimclient._config import Limits, RetryPolicy, Timeouts
    from nimclient._stream import ChatStream
    from nimclient._sync.client import Client
    from nimclient._sync.stream import SyncChatStream
    from nimclient._wire import AttemptEvent
    from nimclient.errors import NimError
    from nimclient.records import (
        ChatChunk,
        ChatCompletion,
        Choice,
        Embeddings,
        Message,
        Model,
        Progress,
        RankedDocument,
        Ranking,
        ResponseMeta,
        ToolCall,
        Usage,
        Vector,
        Vectors,
    )

_HOMES = {
    "AsyncClient": "nimclient._client",
    "AttemptEvent": "nimclient._wire",
    "ChatChunk": "nimclient.records",
    "ChatCompletion": "nimclient.records",
    "ChatStream": "nimclient._stream",
    "Choice": "nimclient.records",
    "Client": "nimclient._sync.client",
    "Embeddings": "nimclient.records",
    "Limits": "nimclient._config",
    "Message": "nimclient.records",
    "Model": "nimclient.records",
    "NimError": "nimclient.errors",
    "Progress": "nimclient.records",
    "RankedDocument": "nimclient.records",
    "Ranking": "nimclient.records",
    "ResponseMeta": "nimclient.records",
    "RetryPolicy": "nimclient._config",
    "SyncChatStream": "nimclient._sync.stream",
    "Timeouts": "nimclient._config",
    "ToolCall": "nimclient.records",
    "Usage": "nimclient.records",
    "Vector": "nimclient.records",
    "Vectors": "nimclient.records",
}

__all__ = [
    "AsyncClient",
    "AttemptEvent",
    "ChatChunk",
    "ChatCompletion",
    "ChatStream",
    "Choice",
    "Client",
    "Embeddings",
    "Limits",
    "Message",
    "Model",
    "NimError",
    "Progress",
    "RankedDocument",
    "Ranking",
    "ResponseMeta",
    "RetryPolicy",
    "SyncChatStream",
    "Timeouts",
    "ToolCall",
    "Usage",
    "Vector",
    "Vectors",
    "__version__",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'nimclient' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

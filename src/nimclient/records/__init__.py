"""What comes back: frozen records, one decoder function each. Public; each is loaded when it is used."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nimclient._base.values import Headers, ResponseMeta, Timings
    from nimclient.records.answers import Parsed, ToolRun
    from nimclient.records.attempt import AttemptEvent
    from nimclient.records.batch import EmbeddedBatch, Failure
    from nimclient.records.chat import (
        ChatChunk,
        ChatCompletion,
        Choice,
        ChunkChoice,
        Delta,
        Logprobs,
        Message,
        TokenLogprob,
        ToolCall,
        ToolCallDelta,
        Usage,
    )
    from nimclient.records.completions import Completion, CompletionChoice, CompletionChunk, CompletionLogprobs
    from nimclient.records.embeddings import Embeddings, Vector, Vectors
    from nimclient.records.files import Asset, Blob
    from nimclient.records.media import Audio, Image, Video
    from nimclient.records.models import Model, ModelList
    from nimclient.records.params import (
        CallOptions,
        ChatOptions,
        CompletionOptions,
        ConversationOptions,
        EmbeddingOptions,
        SamplingOptions,
        TokenizeOptions,
        ToolRunOptions,
        TurnOptions,
    )
    from nimclient.records.progress import Progress
    from nimclient.records.ranking import RankedDocument, Ranking
    from nimclient.records.server import Detokenization, Metadata, ModelInfo, Tokenization

_HOMES = {
    "Asset": "nimclient.records.files",
    "AttemptEvent": "nimclient.records.attempt",
    "Audio": "nimclient.records.media",
    "Blob": "nimclient.records.files",
    "CallOptions": "nimclient.records.params",
    "ChatChunk": "nimclient.records.chat",
    "ChatCompletion": "nimclient.records.chat",
    "ChatOptions": "nimclient.records.params",
    "Choice": "nimclient.records.chat",
    "ChunkChoice": "nimclient.records.chat",
    "Completion": "nimclient.records.completions",
    "CompletionChoice": "nimclient.records.completions",
    "CompletionChunk": "nimclient.records.completions",
    "CompletionLogprobs": "nimclient.records.completions",
    "CompletionOptions": "nimclient.records.params",
    "ConversationOptions": "nimclient.records.params",
    "Delta": "nimclient.records.chat",
    "Detokenization": "nimclient.records.server",
    "EmbeddedBatch": "nimclient.records.batch",
    "EmbeddingOptions": "nimclient.records.params",
    "Embeddings": "nimclient.records.embeddings",
    "Failure": "nimclient.records.batch",
    "Headers": "nimclient._base.values",
    "Image": "nimclient.records.media",
    "Logprobs": "nimclient.records.chat",
    "Message": "nimclient.records.chat",
    "Metadata": "nimclient.records.server",
    "Model": "nimclient.records.models",
    "ModelInfo": "nimclient.records.server",
    "ModelList": "nimclient.records.models",
    "Parsed": "nimclient.records.answers",
    "Progress": "nimclient.records.progress",
    "RankedDocument": "nimclient.records.ranking",
    "Ranking": "nimclient.records.ranking",
    "ResponseMeta": "nimclient._base.values",
    "SamplingOptions": "nimclient.records.params",
    "Timings": "nimclient._base.values",
    "TokenLogprob": "nimclient.records.chat",
    "Tokenization": "nimclient.records.server",
    "TokenizeOptions": "nimclient.records.params",
    "ToolCall": "nimclient.records.chat",
    "ToolCallDelta": "nimclient.records.chat",
    "ToolRun": "nimclient.records.answers",
    "ToolRunOptions": "nimclient.records.params",
    "TurnOptions": "nimclient.records.params",
    "Usage": "nimclient.records.chat",
    "Vector": "nimclient.records.embeddings",
    "Vectors": "nimclient.records.embeddings",
    "Video": "nimclient.records.media",
}

__all__ = [
    "Asset",
    "AttemptEvent",
    "Audio",
    "Blob",
    "CallOptions",
    "ChatChunk",
    "ChatCompletion",
    "ChatOptions",
    "Choice",
    "ChunkChoice",
    "Completion",
    "CompletionChoice",
    "CompletionChunk",
    "CompletionLogprobs",
    "CompletionOptions",
    "ConversationOptions",
    "Delta",
    "Detokenization",
    "EmbeddedBatch",
    "EmbeddingOptions",
    "Embeddings",
    "Failure",
    "Headers",
    "Image",
    "Logprobs",
    "Message",
    "Metadata",
    "Model",
    "ModelInfo",
    "ModelList",
    "Parsed",
    "Progress",
    "RankedDocument",
    "Ranking",
    "ResponseMeta",
    "SamplingOptions",
    "Timings",
    "TokenLogprob",
    "Tokenization",
    "TokenizeOptions",
    "ToolCall",
    "ToolCallDelta",
    "ToolRun",
    "ToolRunOptions",
    "TurnOptions",
    "Usage",
    "Vector",
    "Vectors",
    "Video",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'nimclient.records' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

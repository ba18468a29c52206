"""What comes back: frozen records, one decoder function each. Public."""

from nimclient._wire import AttemptEvent, Headers, ResponseMeta, Timings
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
from nimclient.records.embeddings import Embeddings, Progress, Vector, Vectors
from nimclient.records.models import Model, ModelList
from nimclient.records.params import CallOptions, ChatOptions, EmbeddingOptions, SamplingOptions
from nimclient.records.ranking import RankedDocument, Ranking

__all__ = [
    "AttemptEvent",
    "CallOptions",
    "ChatChunk",
    "ChatCompletion",
    "ChatOptions",
    "Choice",
    "ChunkChoice",
    "Delta",
    "EmbeddingOptions",
    "Embeddings",
    "Headers",
    "Logprobs",
    "Message",
    "Model",
    "ModelList",
    "Progress",
    "RankedDocument",
    "Ranking",
    "ResponseMeta",
    "SamplingOptions",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "Vector",
    "Vectors",
]

"""What comes back: frozen records, one decoder function each. Public."""

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

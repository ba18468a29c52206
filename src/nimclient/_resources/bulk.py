"""The internal interface of `nimclient.jobs`, in addition to the public client: what durable jobs need that public methods do
not offer. `BulkClient` sends prepared calls through a gate; other names are re-exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from nimclient._api.call import Call
from nimclient._api.chat import CHAT_OPTIONS, chat_call
from nimclient._api.embeddings import (
    EMBED_DTYPES,
    EMBEDDING_OPTIONS,
    ENCODING_FORMATS,
    INPUT_TYPES,
    LONGS,
    TRUNCATES,
    check_batch,
)
from nimclient._api.options import check_names, check_whole, check_word, merge_fields, overridden
from nimclient._base import json
from nimclient._base.config import RetryPolicy, environment_key
from nimclient._base.files import check_regular
from nimclient._base.types import Json, JsonDict, is_array, is_items, is_object
from nimclient._base.values import ResponseMeta
from nimclient._bulk.gate import Gate
from nimclient._bulk.progress import Tally
from nimclient._bulk.slicing import SLICE_TEXTS
from nimclient._bulk.vector_cache import write_ahead
from nimclient._bulk.workers import run_all
from nimclient._engine.engine import Engine
from nimclient._http.tasks import running_loop
from nimclient._resources import parsing
from nimclient._resources.base import Resource
from nimclient._resources.chat_calls import ChatCalls
from nimclient._resources.embed_stream import EmbedStream
from nimclient._resources.reuse import ReusingRun
from nimclient._retry.classify import RequestState, classify
from nimclient._retry.policy import Replay
from nimclient._schema.schema import schema_of
from nimclient._schema.structured import check_no_format
from nimclient._streams.accumulate import Accumulator, ChatAccumulator
from nimclient._streams.completions import CompletionAccumulator
from nimclient.errors import AuthenticationError, ClientClosedError, NimError
from nimclient.records._decode import object_or_empty, wrong
from nimclient.records._html import html_table
from nimclient.records._record import Record
from nimclient.records.answers import Parsed
from nimclient.records.chat import ChatCompletion, Message

__all__ = [
    "CHAT_OPTIONS",
    "EMBEDDING_OPTIONS",
    "EMBED_DTYPES",
    "ENCODING_FORMATS",
    "INPUT_TYPES",
    "LONGS",
    "SLICE_TEXTS",
    "TRUNCATES",
    "Accumulator",
    "BulkClient",
    "Call",
    "ChatAccumulator",
    "CompletionAccumulator",
    "Json",
    "JsonDict",
    "Record",
    "Replay",
    "ResponseMeta",
    "Tally",
    "chat_fields",
    "check_batch",
    "check_names",
    "check_no_format",
    "check_regular",
    "check_whole",
    "check_word",
    "environment_key",
    "html_table",
    "is_array",
    "is_items",
    "is_object",
    "json",
    "json_schema_of",
    "object_or_empty",
    "overridden",
    "run_all",
    "running_loop",
    "stops_everything",
    "write_ahead",
    "wrong",
]

T = TypeVar("T")

_OF_THE_CALL = ("timeout", "extra_headers")
_NOT_IN_BODIES = frozenset({"prefix", "batch_size", "concurrency", "stream_usage"})


class BulkClient:
    """A client as seen by a job."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._resource = Resource(engine)

    @property
    def retry(self) -> RetryPolicy:
        """The client's policy. Its `patience` is how long a slice waits for throttling and outages to end."""
        return self._engine.config.retry

    @property
    def is_strict(self) -> bool:
        """Whether ignored options and doubtful results are errors."""
        return self._engine.config.strict

    def defaults_of(self, kind: str) -> Mapping[str, Any]:
        """The client's defaults for calls of this kind: options, and arguments of methods."""
        return self._engine.config.defaults.get(kind, {})

    def fields_of_defaults(self, kind: str, model: str | None) -> JsonDict:
        """What the client's defaults add to the body of a request of this kind."""
        options = self.defaults_of(kind)
        if kind == "chat":
            fields = chat_fields("-", model, options)
        else:
            fields = merge_fields({}, options, not_sent=_NOT_IN_BODIES)
        return {name: value for name, value in fields.items() if name not in ("model", "messages")}

    def warn_once(self, text: str) -> None:
        """Warn at the caller's line, unless this client has already issued this warning."""
        self._engine.core.warn_once(text)

    def remember(self, stream: EmbedStream, max_bytes: int) -> None:
        """Set how much a stream remembers of what it has sent, so as not to send it again."""
        run = stream._run
        assert isinstance(run, ReusingRun)
        run.recent.max_bytes = max_bytes

    def gate(self, route: str, concurrency: int | None, work: Callable[[Any], float]) -> Gate:
        """The gate for all calls of one job. `work`: the amount of work of a result, in any unit."""
        return self._engine.gate(route, concurrency, work=work)

    async def model_of(self, kind: str, model: str | None) -> str:
        """The model of a call of this kind: that of the call or the client, else the first that the server lists."""
        name = self._resource._known_model(kind, model)
        return name if name is not None else await self._resource._default_model(kind, {})

    async def send(self, call: Call[T], gate: Gate) -> T:
        """Send a call through the gate, which waits for throttling and outages to end within the client's patience.

        A default model that no longer exists is replaced once. Raises the call's final error.
        """
        options = {name: value for name, value in self.defaults_of(call.kind).items() if name in _OF_THE_CALL}
        if call.raw is not None:  # already encoded: its model cannot be replaced
            return await self._engine.send(call, options, gate)
        return await self._resource._send(call, options, gate)

    def chat_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options of a chat, with the client's defaults for the others."""
        return self._resource._with_defaults("chat", options)

    async def ask(
        self, messages: Sequence[Message], model: str, options: Mapping[str, Any], gate: Gate
    ) -> ChatCompletion:
        """The answer to a chat, sent through the gate as in `send`."""
        chat = ChatCalls(self._engine)
        return await chat._ask(await chat._call("MapJob", messages, model, options), options, gate)

    async def ask_json(
        self,
        messages: Sequence[Message],
        schema: JsonDict,
        retries: int,
        model: str,
        options: Mapping[str, Any],
        gate: Gate,
    ) -> Parsed[Any]:
        """The same for an answer that is JSON of this schema: see `chat.parse`."""
        chat = ChatCalls(self._engine)
        return await parsing.parse(
            chat, messages, schema, via=None, retries=retries, model=model, options=options, gate=gate
        )


def chat_fields(messages: Any, model: str | None, options: Mapping[str, Any]) -> JsonDict:
    """The body of a chat, as far as it does not depend on the server."""
    return chat_call("chat", messages, model, options, stream=False).fields or {}


def json_schema_of(form: Any) -> JsonDict:
    """The JSON Schema of a type, or a schema as it is. ConfigurationError for a type without a JSON form."""
    return dict(form) if is_object(form) else schema_of(form)


def stops_everything(error: NimError) -> bool:
    """Whether every other request would fail as well: an invalid key, or a server that is unreachable or throttles."""
    kind = classify(error)
    unsent = kind.retryable and kind.state is RequestState.NOT_SENT
    return unsent or kind.outage or isinstance(error, (AuthenticationError, ClientClosedError))

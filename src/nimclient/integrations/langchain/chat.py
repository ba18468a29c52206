"""ChatNVIDIA: chat completions as LangChain's chat model."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, ClassVar, Literal, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented
from langchain_core.messages import AIMessage, BaseMessage, MessageLikeRepresentation, convert_to_messages
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding
from pydantic import Field, model_validator

from nimclient import ChatStream, SyncChatStream
from nimclient._api.chat import chat_call
from nimclient._base.types import JsonDict
from nimclient.errors import NimError
from nimclient.integrations.langchain import catalog, structured
from nimclient.integrations.langchain import models as registry
from nimclient.integrations.langchain.caller import warn
from nimclient.integrations.langchain.connection import ALIASES, SerializableConnection, versions
from nimclient.integrations.langchain.errors import langchain_errors
from nimclient.integrations.langchain.replies import ChunkReader, chat_result
from nimclient.integrations.langchain.requests import ChatArguments, chat_request
from nimclient.integrations.langchain.tools import Tool, ToolChoice, wire_tool_choice, wire_tools

_DEFAULT_MAX_TOKENS = 1024
_MORE_TOKENS = {"nvidia/nemotron-3.5-super-vl-120b-a12b": 8192}
"""The tokens that a reasoning model needs to reach its answer."""

_FIELDS = ("temperature", "max_tokens", "top_p", "seed", "stop", "stream_options", "thinking_mode")
Method = Literal["json_schema", "function_calling", "json_mode"]


class ChatNVIDIA(SerializableConnection, BaseChatModel):
    """NVIDIA's chat models: the hosted catalog, NIM containers, vLLM.

    ``ChatNVIDIA(model="meta/llama-3.3-70b-instruct").invoke("Hello")``

    The fields and their aliases are those of langchain-nvidia-ai-endpoints. `api_key`, `timeout` (seconds without any
    progress), `max_retries` and `streaming` are fields, too. Other keywords go into `model_kwargs`, with a
    UserWarning, and so into each request. Constructing one does no I/O.
    """

    client_name: ClassVar[str] = "ChatNVIDIA"

    temperature: float | None = Field(None, ge=0.0, le=2.0, description="Sampling temperature in [0, 2]")
    max_tokens: int | None = Field(
        _DEFAULT_MAX_TOKENS,
        gt=0,
        lt=2**31 - 1,
        alias="max_completion_tokens",
        description="None: the server's own limit",
    )
    top_p: float | None = Field(None, ge=0.0, le=1.0, description="Top-p for nucleus sampling in [0, 1]")
    seed: int | None = Field(None, ge=0, description="The seed for deterministic results")
    stop: str | list[str] | None = Field(None, description="Stop words (cased)")
    stream_options: dict[str, Any] | None = Field({"include_usage": True}, description="None: no usage on streams")
    thinking_mode: bool | None = Field(None, description="Whether a reasoning model reasons; None: its own default")
    streaming: bool = Field(False, description="Whether `invoke` streams, for callbacks that listen to tokens")
    model_kwargs: dict[str, Any] = Field(default_factory=dict, description="More fields of each request's body")

    @model_validator(mode="before")
    @classmethod
    def _gather_kwargs(cls, values: Any) -> Any:
        """Move other keywords into `model_kwargs`."""
        names = {*cls.model_fields, *(field.alias for field in cls.model_fields.values() if field.alias)}
        given = dict(values)
        rebuilt = cls.model_fields.keys() <= given.keys()  # by configurable_fields: not written by the user
        if "max_tokens" in given and not rebuilt:
            warn(
                "The 'max_tokens' parameter is deprecated and will be removed in a future version. "
                "Please use 'max_completion_tokens' instead.",
                DeprecationWarning,
            )
        extra = {name: given.pop(name) for name in list(given) if name not in {*names, *ALIASES}}
        if extra:
            warn(
                f"{sorted(extra)} are not parameters of {cls.__name__}; they are sent with each request (model_kwargs). "
                f"Please confirm that this is what you intended."
            )
            given["model_kwargs"] = {**(given.get("model_kwargs") or {}), **extra}
        return given

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Set what depends on the resolved model."""
        if "max_tokens" not in self.model_fields_set and self.model in _MORE_TOKENS:
            self._set("max_tokens", _MORE_TOKENS[self.model])
        if self.thinking_mode is not None:
            self._warn_if_it_cannot_think()
        if self.profile is None:
            self._set("profile", self._resolve_model_profile())
        for package, version in versions().items():
            self._add_version(package, version)
        return self

    # what it is --------------------------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "chat-nvidia-ai-playground"

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """What `dumps` writes: the constructor's arguments."""
        written = super().to_json()
        kwargs: Any = written.get("kwargs", {})
        if "max_tokens" in kwargs:
            kwargs["max_completion_tokens"] = kwargs.pop("max_tokens")
        return written

    @property
    def _identifying_params(self) -> builtins.dict[str, Any]:
        """Everything that changes the answer."""
        params = {name: getattr(self, name) for name in ("base_url", "model", *_FIELDS, "model_kwargs")}
        return {**params, **self._own_fields()}

    def _own_fields(self) -> builtins.dict[str, Any]:
        """The fields that a subclass adds."""
        return {}

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """The cache key, from the current fields; headers, which may select the model, as a digest."""
        vars(self).pop("_serialized", None)
        headers = hashlib.sha256(repr(sorted(self.default_headers.items())).encode()).hexdigest()[:16]
        return f"{super()._get_llm_string(stop=stop, **kwargs)}---{self.base_url}---{self.model}---{headers}"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        wanted: builtins.dict[str, Any] = {name: getattr(self, name) for name in ("model", "temperature", "max_tokens")}
        wanted |= self.model_kwargs | kwargs
        params = LangSmithParams(
            ls_provider="NVIDIA",
            ls_model_name=wanted["model"] or "UNKNOWN",
            ls_model_type="chat",
            ls_temperature=wanted["temperature"],
            ls_max_tokens=wanted.get("max_completion_tokens") or wanted["max_tokens"],
        )
        words = stop or wanted.get("stop") or self.stop
        if words:
            params["ls_stop"] = [words] if isinstance(words, str) else list(words)
        return params

    def _resolve_model_profile(self) -> ModelProfile | None:
        known = None if self.model is None else catalog.lookup_weights(self.model)
        if known is None:
            return None
        return ModelProfile(
            tool_calling=known.supports_tools,
            structured_output=known.supports_structured_output,
            reasoning_output=known.supports_thinking,
            image_inputs=known.supports_images,
            image_url_inputs=known.supports_images,
            text_inputs=True,
            text_outputs=True,
        )

    # calls -------------------------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = self._request(messages, stop, kwargs)
        with langchain_errors():
            link = self._now
            forms = request.forms(link.clients.rejected_forms)
            while True:
                try:
                    reply = link.blocking.chat.create(
                        request.messages, model=request.model, **forms.options(stream=False)
                    )
                except NimError as error:
                    forms.reject(error)
                else:
                    return chat_result(reply, request.model)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = self._request(messages, stop, kwargs)
        with langchain_errors():
            link = self._now
            forms = request.forms(link.clients.rejected_forms)
            while True:
                try:
                    options = forms.options(stream=False)
                    reply = await link.awaiting.chat.create(request.messages, model=request.model, **options)
                except NimError as error:
                    forms.reject(error)
                else:
                    return chat_result(reply, request.model)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        request = self._request(messages, stop, kwargs)
        _check_one_choice(request)
        reader = ChunkReader(request.model)
        with langchain_errors(), self._opened(request) as stream:
            for chunk in stream:
                piece = reader.read(chunk)
                if piece is not None:
                    yield piece
            yield from reader.ends()
            yield reader.last(stream.final())

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        request = self._request(messages, stop, kwargs)
        _check_one_choice(request)
        reader = ChunkReader(request.model)
        with langchain_errors():
            async with await self._aopened(request) as stream:
                async for chunk in stream:
                    piece = reader.read(chunk)
                    if piece is not None:
                        yield piece
                for piece in reader.ends():
                    yield piece
                yield reader.last(await stream.final())

    def _opened(self, request: ChatArguments) -> SyncChatStream:
        """Open a stream, with the first form of the request that the server accepts."""
        link = self._now
        forms = request.forms(link.clients.rejected_forms)
        while True:
            stream = link.blocking.chat.stream(request.messages, model=request.model, **forms.options(stream=True))
            try:
                return stream.__enter__()
            except NimError as error:
                forms.reject(error)

    async def _aopened(self, request: ChatArguments) -> ChatStream:
        """The same with await."""
        link = self._now
        forms = request.forms(link.clients.rejected_forms)
        while True:
            try:
                return await link.awaiting.chat.stream(
                    request.messages, model=request.model, **forms.options(stream=True)
                )
            except NimError as error:
                forms.reject(error)

    def _request(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> ChatArguments:
        """The client's call for the current fields."""
        fields = {"model": self.model, **{name: getattr(self, name) for name in _FIELDS}}
        return chat_request(messages, stop, fields, self.model_kwargs, self._call_kwargs(kwargs))

    def _get_payload(
        self, inputs: Sequence[MessageLikeRepresentation], stop: list[str] | None = None, **kwargs: Any
    ) -> JsonDict:
        """The body of a call, as LangChain's page about Dynamo prints it."""
        request = self._request(convert_to_messages(inputs), stop, kwargs)
        options = request.forms({}).options(stream=False)
        return chat_call("create", request.messages, request.model, options, stream=False).fields or {}

    def _call_kwargs(self, kwargs: builtins.dict[str, Any]) -> builtins.dict[str, Any]:
        """The keywords of a call; a subclass may add to them."""
        return kwargs

    def _combine_llm_outputs(self, llm_outputs: list[builtins.dict[str, Any] | None]) -> builtins.dict[str, Any]:
        total: builtins.dict[str, Any] = {}
        model = self.model
        for output in llm_outputs:
            if output is None:  # from a cache
                continue
            model = output.get("model_name") or model
            used: builtins.dict[str, Any] = output.get("token_usage") or {}
            for name, count in used.items():
                if isinstance(count, int):
                    total[name] = total.get(name, 0) + count
        return {"token_usage": total, "model_name": model}

    # bindings ----------------------------------------------------------------------------------------------------

    def bind(self, **kwargs: Any) -> ChatBinding:  # type: ignore[override]  # core's is a private subclass of the same
        """Bind keywords to each call. The binding has `bind_tools` and `with_thinking_mode`, too."""
        return ChatBinding(bound=self, kwargs=kwargs, config={})

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: ToolChoice | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> ChatBinding:
        """Bind tools to each call: functions, LangChain tools, pydantic classes, TypedDicts, JSON schemas, OpenAI's dicts.

        `tool_choice`: "auto", "none", "required" or "any" or True, False, a tool's name, or OpenAI's dict. Raises
        ValueError for a name that is not among the tools.
        """
        known = registry.known_model(self.model)
        if known is not None and not known.supports_tools:
            warn(f"Model '{self.model}' is not known to support tools. Your tool binding may fail at inference time.")
        wire = wire_tools(tools, strict)
        choice = wire_tool_choice(tool_choice, wire)
        bound: builtins.dict[str, Any] = {"tools": wire} if wire else {}
        if choice is not None:
            bound["tool_choice"] = choice
        if parallel_tool_calls is not None:
            bound["parallel_tool_calls"] = parallel_tool_calls
        return self.bind(**bound, **kwargs)

    def with_structured_output(
        self,
        schema: builtins.dict[str, Any] | type | None = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Parse each answer: into instances of a pydantic class, dicts for a TypedDict or JSON schema, members of an enum.

        Args:
            schema: the type; only "json_mode" goes without.
            method: "json_schema" (the server enforces the schema; a server that rejects
                `response_format` is sent `guided_json`), "function_calling" (the schema as a tool), or "json_mode"
                (any JSON object; describe it in the prompt).
            include_raw: return a dict of `raw`, `parsed` and `parsing_error` instead; parsing errors are not raised.
            strict: whether the server must follow the schema exactly (None: yes for "json_schema").
            kwargs: keywords of each call.

        Returns:
            A runnable. Streams yield growing parts. An answer truncated by the token limit gives None for a class
            or an enum.
        """
        if method not in ("json_schema", "function_calling", "json_mode"):
            raise ValueError(f"method is {method!r}; choose json_schema, function_calling or json_mode")
        if schema is None and method != "json_mode":
            raise ValueError(f"method {method!r} needs a schema")
        parser: Runnable[Any, Any]
        if method == "function_calling":
            tool = structured.output_tool(schema, strict)
            kwargs = {"tools": [tool], "tool_choice": wire_tool_choice(tool["function"]["name"], [tool]), **kwargs}
            parser = structured.tool_parser(schema, tool)
        else:
            known = registry.known_model(self.model)
            if known is not None and not known.supports_structured_output:
                warn(
                    f"Model '{self.model}' is not known to support structured output. "
                    "Your output may fail at inference time."
                )
            wanted = {"type": "json_object"} if method == "json_mode" else structured.response_format(schema, strict)
            kwargs = {"response_format": wanted, **kwargs}
            parser = structured.json_parser(schema)
        if schema is not None:
            kwargs["ls_structured_output_format"] = structured.traced_format(schema, method, strict)
        model = self.bind(**kwargs)
        return structured.with_raw(model, parser) if include_raw else model | parser

    def with_thinking_mode(self, enabled: bool = True) -> Self:
        """A copy whose reasoning is switched on or off, with the model's own switch; later bindings keep it."""
        self._warn_if_it_cannot_think()
        copy = self.model_copy(update={"thinking_mode": enabled})
        vars(copy).pop("_serialized", None)  # core copies what it serialized of the original
        return copy

    def _warn_if_it_cannot_think(self) -> None:
        if not registry.can_think(self.model):
            warn(
                f"Model '{self.model}' does not support thinking mode. The thinking mode configuration will be ignored."
            )


class ChatBinding(RunnableBinding[LanguageModelInput, AIMessage]):
    """A ChatNVIDIA with keywords bound: adding tools, structured output or another thinking mode keeps them."""

    @classmethod
    def lc_id(cls) -> list[str]:
        """Serialized like any binding."""
        return [*cls.get_lc_namespace(), "RunnableBinding"]

    def with_thinking_mode(self, enabled: bool = True) -> Self:
        """The same binding over a model whose reasoning is switched on or off."""
        return self.model_copy(update={"bound": self._model.with_thinking_mode(enabled)})

    def bind_tools(self, tools: Sequence[Tool], **kwargs: Any) -> Self:
        """Add tools to the binding; see ChatNVIDIA.bind_tools."""
        return cast(Self, self.bind(**self._model.bind_tools(tools, **kwargs).kwargs))

    @property
    def _model(self) -> ChatNVIDIA:
        bound = self.bound
        if not isinstance(bound, ChatNVIDIA):
            raise TypeError(f"bound to a {type(bound).__name__}, not to a ChatNVIDIA")
        return bound


def _check_one_choice(request: ChatArguments) -> None:
    if (request.options.get("n") or 1) > 1:
        raise ValueError("LangChain streams one message; use generate() for n > 1")

"""NVIDIA: text completions as LangChain's LLM."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, cast

from anyio import create_task_group
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import ConfigDict, Field, model_validator

from nimclient import Completion, CompletionChunk, Usage
from nimclient._base.types import JsonDict
from nimclient.integrations.langchain.caller import warn
from nimclient.integrations.langchain.connection import ALIASES, SerializableConnection, versions
from nimclient.integrations.langchain.errors import langchain_errors
from nimclient.integrations.langchain.requests import COMPLETION_OPTIONS, as_options

_OPTIONS = COMPLETION_OPTIONS - {"timeout", "stream_usage", "extra_headers"}
_KNOWN = _OPTIONS | {"stream"}


class NVIDIA(SerializableConnection, BaseLLM):
    """NVIDIA's text completion models: the hosted catalog, NIM containers, vLLM.

    The options of a request (`max_tokens`, `temperature`, `stop`, `n`, `logprobs`, … and vLLM's) are keywords of the
    constructor, of `bind` and of each call, in ascending precedence; unknown ones are dropped with a UserWarning. Usage and
    finish reason are in the generations of `generate`.
    """

    model_config = ConfigDict(validate_assignment=True)

    client_name: ClassVar[str] = "NVIDIA"

    model_kwargs: dict[str, Any] = Field(default_factory=dict, description="The options of each request")

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, values: Any) -> Any:
        """Move the options of requests into `model_kwargs`."""
        if not isinstance(values, Mapping):
            return values
        names = {*cls.model_fields, *ALIASES}
        given = dict(cast(Mapping[str, Any], values))
        extra = {name: given.pop(name) for name in list(given) if name not in names}
        if options := _recognized(extra):
            given["model_kwargs"] = {**(given.get("model_kwargs") or {}), **options}
        return given

    @model_validator(mode="after")
    def _add_versions(self) -> Self:
        metadata = self.metadata or {}
        self._set("metadata", {**metadata, "lc_versions": {**metadata.get("lc_versions", {}), **versions()}})
        return self

    @property
    def _llm_type(self) -> str:
        return "NVIDIA"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        """Everything that changes the answer: the key of the cache."""
        return {"model": self.model, "base_url": self.base_url, **self.model_kwargs}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "nvidia"
        return params

    # calls -------------------------------------------------------------------------------------------------------

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        model, options = self._request(stop, kwargs, streams=False)
        with langchain_errors():
            complete = self._blocking.completions.create
            return self._result([complete(prompt, model=model, **options) for prompt in prompts])

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        model, options = self._request(stop, kwargs, streams=False)
        found: dict[int, Completion] = {}
        with langchain_errors():
            if len(prompts) == 1:
                found[0] = await self._awaiting.completions.create(prompts[0], model=model, **options)
            else:
                try:
                    async with create_task_group() as group:
                        for position, prompt in enumerate(prompts):
                            group.start_soon(self._complete, found, position, prompt, model, options)
                except ExceptionGroup as errors:
                    raise errors.exceptions[0] from None
        return self._result([found[position] for position in range(len(prompts))])

    async def _complete(
        self, found: dict[int, Completion], position: int, prompt: str, model: str | None, options: dict[str, Any]
    ) -> None:
        found[position] = await self._awaiting.completions.create(prompt, model=model, **options)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        model, options = self._request(stop, kwargs, streams=True)
        reader = _ChunkReader(model)
        with langchain_errors(), self._blocking.completions.stream(prompt, model=model, **options) as stream:
            for chunk in stream:
                piece = reader.read(chunk)
                if piece is not None:
                    if run_manager:
                        run_manager.on_llm_new_token(piece.text, chunk=piece)
                    yield piece
        yield reader.last()

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        model, options = self._request(stop, kwargs, streams=True)
        reader = _ChunkReader(model)
        with langchain_errors():
            async with self._awaiting.completions.stream(prompt, model=model, **options) as stream:
                async for chunk in stream:
                    piece = reader.read(chunk)
                    if piece is not None:
                        if run_manager:
                            await run_manager.on_llm_new_token(piece.text, chunk=piece)
                        yield piece
        yield reader.last()

    def _request(
        self, stop: list[str] | None, kwargs: Mapping[str, Any], *, streams: bool
    ) -> tuple[str | None, dict[str, Any]]:
        """The model and the options of a call."""
        wanted = {"model": self.model, **self.model_kwargs, **_recognized(kwargs)}
        if stop:
            wanted["stop"] = stop
        if bool(wanted.pop("stream", streams)) is not streams:
            said, kind = ("true", "non-streaming") if not streams else ("false", "streaming")
            warn(f"stream set to {said} for {kind} call, ignoring")
        model = wanted.pop("model")
        return model, as_options(wanted, COMPLETION_OPTIONS)

    def _result(self, completions: Sequence[Completion]) -> LLMResult:
        used = sum((completion.usage or Usage() for completion in completions), Usage())
        names = [completion.model for completion in completions if completion.model]
        return LLMResult(
            generations=[_generations(completion) for completion in completions],
            llm_output={"token_usage": used.to_dict(), "model_name": names[0] if names else self.model},
        )


def _generations(completion: Completion) -> list[Generation]:
    return [
        Generation(
            text=choice.text,
            generation_info=_given(
                finish_reason=choice.finish_reason,
                logprobs=None if choice.logprobs is None else choice.logprobs.to_dict(),
                stop_reason=choice.stop_reason,
            ),
        )
        for choice in completion.choices
    ]


class _ChunkReader:
    """Converts the chunks of one stream to LangChain's; usage and finish reason are on the last."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._usage: Usage | None = None
        self._finish_reason: str | None = None

    def read(self, chunk: CompletionChunk) -> GenerationChunk | None:
        """What an event adds, None if nothing."""
        self._usage = chunk.usage or self._usage
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._model = chunk.extra.get("model") or self._model
        logprobs = chunk.logprobs
        if not chunk.text and logprobs is None:
            return None
        info = None if logprobs is None else {"logprobs": logprobs.to_dict()}
        return GenerationChunk(text=chunk.text, generation_info=info)

    def last(self) -> GenerationChunk:
        """The chunk that ends the stream."""
        info = _given(
            finish_reason=self._finish_reason,
            model_name=self._model,
            token_usage=None if self._usage is None else self._usage.to_dict(),
        )
        return GenerationChunk(text="", generation_info=info)


def _recognized(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a request; a UserWarning names unknown ones."""
    unknown = {name for name in options if name not in _KNOWN and name != "model"}
    if unknown:
        warn(f"Unrecognized, ignored arguments: {unknown}")
    return {name: value for name, value in options.items() if name not in unknown}


def _given(**values: Any) -> JsonDict:
    return {name: value for name, value in values.items() if value is not None}

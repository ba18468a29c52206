"""client.completions: text completions, complete and streamed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Unpack

from nimclient._api.call import Call
from nimclient._api.completions import Prompt, completion_call
from nimclient._resources.base import Resource
from nimclient._streams.completions import CompletionStream, read_completion
from nimclient._streams.reader import AnswerReader
from nimclient.records.completions import Completion, CompletionChunk
from nimclient.records.params import CompletionOptions


class AsyncCompletions(Resource):
    """Text completions (POST /v1/completions)."""

    async def create(
        self, prompt: Prompt | None, *, model: str | None = None, **options: Unpack[CompletionOptions]
    ) -> Completion:
        """Continue a prompt and return the complete text.

        `prompt`: a str, a list of str, a list of token ids or a list of such lists (None: only with `prompt_embeds`).
        Each prompt gives `n` choices: those of prompt p have the indexes p * n to p * n + n - 1. vLLM generates 16
        tokens if `max_tokens` is not given.

        Raises TypeError for an unknown option or a prompt of another type; ConfigurationError for a prompt that is empty
        or mixed, with the position; TransportError, APIStatusError or DecodeError if the call fails.
        """
        given = self._with_defaults("completions", options) if self._engine.config.defaults else options
        return await self._send(await self._call("completions.create", prompt, model, given), given)

    def stream(
        self, prompt: Prompt | None, *, model: str | None = None, **options: Unpack[CompletionOptions]
    ) -> CompletionStream:
        """Continue a prompt and stream the text. Returns a stream that is not opened yet.

        Used like `chat.stream`. Invalid input raises here, other errors when the stream is opened or read.
        vLLM rejects `prompt_logprobs` in a stream; with `echo` and `logprobs` the prompt's are in the first events.
        """
        given = self._with_defaults("completions", options) if self._engine.config.defaults else options
        call = self._call_for("completions.stream", prompt, model, given, stream=True)
        return CompletionStream(partial(self._open_stream, call, prompt, given))

    async def _call(
        self, method: str, prompt: Prompt | None, model: str | None, options: Mapping[str, Any], *, stream: bool = False
    ) -> Call[Completion]:
        """The call; without a model, the default is found in the server's list."""
        call = self._call_for(method, prompt, model, options, stream=stream)
        return call if call.model is not None else call.with_model(await self._default_model("completions", options))

    def _call_for(
        self, method: str, prompt: Prompt | None, model: str | None, options: Mapping[str, Any], *, stream: bool
    ) -> Call[Completion]:
        """The call; without a model if none is known."""
        name = self._known_model("completions", model)
        plain = options.get("priority") is None and options.get("session_id") is None
        server = None if plain else self._engine.server_type_for(name)
        return completion_call(method, prompt, name, options, stream=stream, server=server)

    async def _open_stream(
        self, call: Call[Completion], prompt: Prompt | None, options: Mapping[str, Any]
    ) -> AnswerReader[CompletionChunk, Completion]:
        if call.model is None:
            call = await self._call("completions.stream", prompt, None, options, stream=True)
        read = partial(read_completion, choices=call.choices)
        return await self._open(call, options, partial(self._engine.open, options=options, read=read))

"""client.completions: text completions, complete and streamed."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from nimclient._api.call import Call
from nimclient._api.completions import Prompt, completion_call
from nimclient._resources.base import Resource
from nimclient._streams.reader import AnswerReader
from nimclient._streams.stream import CompletionStream, read_completion
from nimclient.records.completions import Completion, CompletionChunk
from nimclient.records.params import CompletionOptions


class AsyncCompletions(Resource):
    """Text completions (POST /v1/completions)."""

    async def create(
        self, prompt: Prompt | None, *, model: str | None = None, **options: Unpack[CompletionOptions]
    ) -> Completion:
        """Have a text continued, and wait for the whole of it.

        `prompt`: a str, a list of str, a list of token ids or a list of such lists (None: only beside `prompt_embeds`).
        Each prompt gives `n` choices: those of prompt p have the indexes p * n to p * n + n - 1. vLLM writes 16 tokens
        where `max_tokens` is not given.

        Raises TypeError for an unknown option or a prompt of another type; ConfigurationError for a prompt that is empty
        or mixed, with the place; TransportError, APIStatusError or DecodeError when the call fails.
        """

        def build(name: str | None) -> Call[Completion]:
            return completion_call("completions.create", prompt, name, options, stream=False)

        return await self._send("completions", model, build, options)

    def stream(
        self, prompt: Prompt | None, *, model: str | None = None, **options: Unpack[CompletionOptions]
    ) -> CompletionStream:
        """Have a text continued, and read it as it is written. Returns a stream that is not opened yet.

        Used like the one of `chat.stream`. Bad input raises here, everything else when the stream is opened or read.
        `prompt_logprobs` is refused by vLLM in a stream; with `echo` and `logprobs` the prompt's are in the first events.
        """

        def build(name: str | None) -> Call[Completion]:
            return completion_call("completions.stream", prompt, name, options, stream=True)

        async def open() -> AnswerReader[CompletionChunk, Completion]:
            return await self._with_model("completions", model, build, send, options)

        async def send(call: Call[Completion]) -> AnswerReader[CompletionChunk, Completion]:
            max_event = self._engine.config.limits.max_event
            read = partial(read_completion, max_event=max_event, choices=call.choices)
            return await self._engine.run(call, options, read)

        build(self._known_model("completions", model))
        return CompletionStream(open)

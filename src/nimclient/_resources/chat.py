"""client.chat: complete and streamed chat completions."""

from __future__ import annotations

from typing import Unpack

from nimclient._engine import Receive
from nimclient._protocol.call import Call
from nimclient._protocol.chat import chat_call
from nimclient._protocol.messages import Messages
from nimclient._resources.base import Resource
from nimclient._stream import ChatStream
from nimclient.records.chat import ChatCompletion
from nimclient.records.params import ChatOptions


class AsyncChat(Resource):
    """Chat completions (POST /v1/chat/completions)."""

    async def create(
        self, messages: Messages, *, model: str | None = None, **options: Unpack[ChatOptions]
    ) -> ChatCompletion:
        """Ask and wait for the whole answer.

        `messages`: a str (one user message) or a list of dicts, Message records and (role, content) tuples, mixed.

        Raises TypeError for an unknown option; ConfigurationError for input that cannot be sent; TransportError,
        APIStatusError or DecodeError when the call fails.
        """

        def build(name: str | None) -> Call[ChatCompletion]:
            return chat_call("chat.create", messages, name, options, stream=False)

        return await self._send("chat", model, build, options)

    def stream(self, messages: Messages, *, model: str | None = None, **options: Unpack[ChatOptions]) -> ChatStream:
        """Ask and read the answer as it is written. Returns a stream that is not opened yet.

        ``async with client.chat.stream(...) as stream: async for chunk in stream: print(chunk.text, end="")``. It can
        also be awaited, or iterated over at once. `stream_usage=False` leaves out `stream_options`. Bad input raises
        here, everything else when the stream is opened or read.
        """

        def build(name: str | None) -> Call[ChatCompletion]:
            return chat_call("chat.stream", messages, name, options, stream=True)

        async def start(receive: Receive[None]) -> None:
            await self._with_model("chat", model, build, lambda call: self._engine.run(call, options, receive), options)

        build(self._known_model("chat", model))
        return ChatStream(start, self._engine.config.limits.max_event)

"""chat.conversation: a chat with a history of its completed turns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Unpack

from nimclient._api.messages import Messages
from nimclient._api.options import overridden
from nimclient._resources.history import BaseConversation, ChatReader, Turn, TurnInput
from nimclient._streams.stream import ChatStream
from nimclient.records.chat import ChatCompletion
from nimclient.records.params import ChatOptions


class Conversation(BaseConversation):
    """A chat with a history, created by `client.chat.conversation(...)`.

    Only completed turns are kept: one that fails, is cancelled or is not read to its end changes nothing. One turn at a
    time: two concurrent ones raise RuntimeError. The history is a list of wire messages in `store[session_id]`.
    """

    async def send(
        self, messages: TurnInput, *, model: str | None = None, **options: Unpack[ChatOptions]
    ) -> ChatCompletion:
        """Send messages and return the answer; both become part of the history.

        `messages`: a str, one message, or a list of messages in the forms of `chat.create` (the results of tools, for
        example). Options override those of the conversation. Raises what `chat.create` raises, and RuntimeError
        while another turn is in flight.
        """
        given = overridden(self._options, options)
        with self._history.turn(messages) as turn:
            reply = await self._ask(turn.request, model=model or self._model, **given)
            turn.complete(reply)
        return reply

    async def _ask(self, messages: Messages, **options: Any) -> ChatCompletion:
        return await self._create(messages, **options)

    def stream(self, messages: TurnInput, *, model: str | None = None, **options: Unpack[ChatOptions]) -> ChatStream:
        """Send messages and stream the answer; see `chat.stream`.

        The turn begins when the stream is opened, and becomes part of the history when it has been read to its end.
        """
        turn = self._history.turn(messages)
        given = overridden(self._options, options)
        self._opener("conversation.stream", turn.said, model or self._model, given)
        return ChatStream(partial(self._begin, turn, model, given), turn.complete)

    async def _begin(self, turn: Turn, model: str | None, options: Mapping[str, Any]) -> ChatReader:
        turn.begin()
        return await self._open(turn, model, options)

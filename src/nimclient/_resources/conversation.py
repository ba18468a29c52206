"""chat.conversation: a chat that remembers its completed turns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from nimclient._api.messages import Messages
from nimclient._resources.history import BaseConversation, Store, Turn, TurnInput
from nimclient._streams.reader import Reader
from nimclient._streams.stream import ChatStream
from nimclient.records.chat import ChatChunk, ChatCompletion
from nimclient.records.params import ChatOptions, ConversationOptions

if TYPE_CHECKING:
    from nimclient._client import AsyncClient
    from nimclient._resources.chat import AsyncChat

Open = Callable[[], Awaitable[Reader[ChatChunk, ChatCompletion]]]


class Conversation(BaseConversation):
    """A chat that remembers: made by `client.chat.conversation(...)`.

    Only completed turns are kept: one that fails, is cancelled or is left unread changes nothing. One turn at a time:
    two at once are a RuntimeError. The history is a list of wire messages in `store[session_id]`.
    """

    async def send(
        self, messages: TurnInput, *, model: str | None = None, **options: Unpack[ChatOptions]
    ) -> ChatCompletion:
        """Say something and wait for the answer; both become part of the history.

        `messages`: a str, one message, or a list of messages in the forms of `chat.create` (the results of tools, for
        example). Options are added to those of the conversation. Raises what `chat.create` raises, and RuntimeError
        while another turn is under way.
        """
        given: dict[str, Any] = {**self._options, **options}
        with self._history.turn(messages) as turn:
            reply = await self._create(turn.request, model=model or self._model, **given)
            turn.complete(reply)
        return reply

    async def _create(self, messages: Messages, **options: Any) -> ChatCompletion:
        return await self._chat.create(messages, **options)

    def stream(self, messages: TurnInput, *, model: str | None = None, **options: Unpack[ChatOptions]) -> ChatStream:
        """Say something and read the answer as it is written; see `chat.stream`.

        The turn begins when the stream is opened, and becomes part of the history when it has been read to its end.
        """
        turn = self._history.turn(messages)
        given: dict[str, Any] = {**self._options, **options}
        return ConversationStream(opener_of(self._chat, turn, model or self._model, given), turn)

    @classmethod
    def from_json(
        cls,
        text: str,
        client: AsyncClient,
        *,
        store: Store | None = None,
        model: str | None = None,
        **options: Unpack[ConversationOptions],
    ) -> Conversation:
        """The conversation that `to_json` saved, over a client, with the options given here.

        Its messages are put into the store. Raises DecodeError or ConfigurationError for text that is none.
        """
        return cls(client.chat, None, store, None, model, options)._restored(text)


def opener_of(chat: AsyncChat, turn: Turn, model: str | None, options: Mapping[str, Any]) -> Open:
    """What opens the stream of a turn. Raises here for input that cannot be sent."""
    chat._opener("conversation.stream", turn.request, model, options)
    return partial(_open, chat, turn, model, options)


async def _open(
    chat: AsyncChat, turn: Turn, model: str | None, options: Mapping[str, Any]
) -> Reader[ChatChunk, ChatCompletion]:
    """Open it with the history as it is by then."""
    return await chat._opener("conversation.stream", turn.request, model, options)()


class ConversationStream(ChatStream):
    """The stream of a turn: it ends the turn where it ends, and completes it where it has been read to its end."""

    def __init__(self, open: Open, turn: Turn) -> None:
        super().__init__(open)
        self._turn = turn

    async def _opened(self) -> Reader[ChatChunk, ChatCompletion]:
        if self._state is None and self._opening is None:
            self._turn.begin()
        try:
            return await super()._opened()
        except BaseException:
            self._end_turn()
            raise

    async def __anext__(self) -> ChatChunk:
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            self._turn.complete(self.partial)
            raise
        except BaseException:
            self._end_turn()
            raise

    async def final(self) -> ChatCompletion:
        """Read the rest and return the whole answer, as `create` would have."""
        try:
            reply = await super().final()
        except BaseException:
            self._end_turn()
            raise
        self._turn.complete(reply)
        return reply

    async def aclose(self) -> None:
        """Close the stream, from any task; a waiting reader ends with StreamInterruptedError. May be called again."""
        await super().aclose()
        self._end_turn()

    def _end_turn(self) -> None:
        if self._opening is None and (self._state is None or self._state.ended):
            self._turn.end()

"""chat.conversation for blocking code. The store is the caller's code: it is used in the caller's thread, not on the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

from nimclient._api.messages import Messages
from nimclient._resources.conversation import Conversation, opener_of
from nimclient._resources.history import BaseConversation, Store, Turn, TurnInput
from nimclient._streams.stream import ChatStream
from nimclient._sync.mirror import like, run_inline
from nimclient._sync.portal import PORTAL
from nimclient._sync.stream import SyncChatStream
from nimclient.records.chat import ChatChunk, ChatCompletion
from nimclient.records.params import ConversationOptions

if TYPE_CHECKING:
    from nimclient._sync.client import Client


class SyncConversation(BaseConversation):
    """A chat that remembers: made by `client.chat.conversation(...)` of a Client. Otherwise like Conversation."""

    send = run_inline(Conversation.send)

    async def _create(self, messages: Messages, **options: Any) -> ChatCompletion:
        return PORTAL.run(self._chat.create, messages, **options)

    @like(Conversation.stream)
    def stream(self, messages: TurnInput, *, model: str | None = None, **options: Any) -> SyncChatStream:
        """See Conversation.stream."""
        turn = self._history.turn(messages)
        opener = opener_of(self._chat, turn, model or self._model, {**self._options, **options})
        return SyncConversationStream(ChatStream(opener), turn)

    @classmethod
    def from_json(
        cls,
        text: str,
        client: Client,
        *,
        store: Store | None = None,
        model: str | None = None,
        **options: Unpack[ConversationOptions],
    ) -> SyncConversation:
        """The conversation that `to_json` saved, over a client, with the options given here.

        Its messages are put into the store. Raises DecodeError or ConfigurationError for text that is none.
        """
        return cls(client.chat._async, None, store, None, model, options)._restored(text)


class SyncConversationStream(SyncChatStream):
    """The stream of a turn: it ends the turn where it ends, and completes it where it has been read to its end."""

    def __init__(self, stream: ChatStream, turn: Turn) -> None:
        super().__init__(stream)
        self._turn = turn
        self._begun = False

    def _begin(self) -> None:
        if not self._begun:
            self._turn.begin()
            self._begun = True

    def __enter__(self) -> Self:
        self._begin()
        try:
            return super().__enter__()
        except BaseException:
            self._turn.end()
            raise

    def __next__(self) -> ChatChunk:
        self._begin()
        try:
            return super().__next__()
        except StopIteration:
            self._turn.complete(self.partial)
            raise
        except BaseException:
            self._turn.end()
            raise

    def final(self) -> ChatCompletion:
        """Read the rest and return the whole answer, as `create` would have."""
        self._begin()
        try:
            reply = super().final()
        except BaseException:
            self._turn.end()
            raise
        self._turn.complete(reply)
        return reply

    def close(self) -> None:
        """Close the stream. May be called again, and from another thread."""
        super().close()
        self._turn.end()

"""chat.conversation for blocking code. The store is the caller's code and runs in the caller's thread, not on the loop."""

from __future__ import annotations

from functools import partial
from typing import Any

from nimclient._api.messages import Messages
from nimclient._api.options import overridden
from nimclient._resources.conversation import Conversation
from nimclient._resources.history import BaseConversation, TurnInput
from nimclient._streams.stream import ChatStream
from nimclient._sync.mirror import like, run_inline
from nimclient._sync.portal import PORTAL
from nimclient._sync.stream import SyncChatStream
from nimclient.records.chat import ChatCompletion


class SyncConversation(BaseConversation):
    """A chat with a history, created by `client.chat.conversation(...)` of a Client. Otherwise like Conversation."""

    send = run_inline(Conversation.send)

    async def _ask(self, messages: Messages, **options: Any) -> ChatCompletion:
        return PORTAL.run(self._create, messages, **options)

    @like(Conversation.stream)
    def stream(self, messages: TurnInput, *, model: str | None = None, **options: Any) -> SyncChatStream:
        """See Conversation.stream."""
        turn = self._history.turn(messages)
        given = overridden(self._options, options)
        self._opener("conversation.stream", turn.said, model or self._model, given)
        return SyncChatStream(ChatStream(partial(self._open, turn, model, given), turn.complete), turn.begin)

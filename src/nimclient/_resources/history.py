"""The history of a conversation: completed turns of one session, in a mapping that the caller may supply.

Pure except for that mapping. A list is never modified in place: each completed turn stores a new one, so that the mapping
may write to disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar, Unpack, cast
from uuid import uuid4
from weakref import ref

from nimclient._api.chat import CHAT_OPTIONS
from nimclient._api.messages import MessageLike, Messages, wire_messages
from nimclient._api.options import check_names, check_whole
from nimclient._base import json as _json
from nimclient._base.cached import cached_property
from nimclient._base.types import JsonDict, is_array
from nimclient._streams.reader import AnswerReader
from nimclient.errors import ConfigurationError
from nimclient.records._decode import object_or_empty
from nimclient.records.chat import ChatChunk, ChatCompletion, Message, decode_message
from nimclient.records.params import ConversationOptions

Store: TypeAlias = MutableMapping[str, list[JsonDict]]
TurnInput: TypeAlias = Messages | Message | Mapping[str, Any]
"""The input of a turn: any form of messages, or a single one."""

ChatReader: TypeAlias = AnswerReader[ChatChunk, ChatCompletion]
Opener: TypeAlias = Callable[[str, object, str | None, Mapping[str, Any]], Callable[[], Awaitable[ChatReader]]]
"""Takes method, messages, model and options; returns the function that opens the stream. Raises for invalid input."""

C = TypeVar("C", covariant=True)

_LEADING = ("system", "developer")


class History:
    """The messages of one session in a store."""

    def __init__(
        self, system: str | None, store: Store | None, session_id: str | None, *, echo_reasoning: bool = False
    ) -> None:
        if system is not None and (not isinstance(system, str) or not system):
            raise ConfigurationError(f"system must be a str that is not empty, not {system!r:.40}")
        if store is not None and not isinstance(store, MutableMapping):
            raise TypeError(f"store takes a mutable mapping, not {type(store).__name__}")
        if session_id is not None and not isinstance(session_id, str):
            raise TypeError(f"session_id takes a str, not {type(session_id).__name__}")
        self.session_id = uuid4().hex if session_id is None else session_id
        self.echo_reasoning = echo_reasoning
        self._system = system
        self._store: Store = {} if store is None else store
        self._turn: ref[Turn] | None = None

    def read(self) -> list[JsonDict]:
        """All messages in wire form. A system message given here replaces a stored one."""
        stored = self._store.get(self.session_id)
        messages = wire_messages(stored, echo_reasoning=True) if stored else []
        if self._system is None:
            return messages
        if messages and messages[0]["role"] in _LEADING:
            messages = messages[1:]
        return [{"role": "system", "content": self._system}, *messages]

    def write(self, messages: list[JsonDict]) -> None:
        """Put the messages into the store."""
        self._store[self.session_id] = messages

    def turn(self, said: TurnInput) -> Turn:
        """A turn with these messages. Raises for messages that cannot be sent."""
        single = isinstance(said, (Message, Mapping))
        messages = [cast(MessageLike, said)] if single else said
        return Turn(self, wire_messages(messages, echo_reasoning=self.echo_reasoning))

    def check_idle(self, turn: Turn | None = None) -> None:
        """Raise RuntimeError while another turn is in flight. A turn whose stream was garbage-collected is not."""
        current = self._turn() if self._turn is not None else None
        if current is not None and current is not turn and current.active:
            raise RuntimeError(
                "a turn of this conversation is in flight; wait for it, read its stream to the end, or close that"
            )

    def begin(self, turn: Turn) -> None:
        """Set the turn in flight."""
        self.check_idle(turn)
        self._turn = ref(turn)

    def trim(self, count: int) -> None:
        """Keep the last `count` messages, in addition to leading system messages, and no tool result without its call."""
        check_whole("the number of messages to keep", count, 0)
        self.check_idle()
        messages = self.read()
        first = next((i for i, message in enumerate(messages) if message["role"] not in _LEADING), len(messages))
        start = max(first, len(messages) - count)
        if start == first:
            return
        while start < len(messages) and messages[start]["role"] == "tool":
            start += 1
        self.write(messages[:first] + messages[start:])

    def to_json(self) -> str:
        """Session id and messages as JSON text."""
        return _json.dumps({"session_id": self.session_id, "messages": self.read()}).decode()


class Turn:
    """One turn of a conversation: the new messages, and the answer once it is complete.

    As a context manager it is in flight until the end of the block.
    """

    def __init__(self, history: History, said: list[JsonDict]) -> None:
        self._history = history
        self.said = said
        self.request = said
        self.active = False

    def begin(self) -> None:
        """Fix the messages to send. Raises RuntimeError while another turn is in flight."""
        self._history.begin(self)
        self.request = [*self._history.read(), *self.said]
        self.active = True

    def complete(self, reply: ChatCompletion | None) -> None:
        """Add the turn to the history; without an answer the history is unchanged."""
        if self.active and reply is not None and reply.message is not None:
            answer = wire_messages([reply.message], echo_reasoning=self._history.echo_reasoning)
            self._history.write([*self._history.read(), *self.said, *answer])
        self.end()

    def end(self) -> None:
        """End the turn; it may begin again."""
        self.active = False

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def saved(text: str) -> tuple[str, list[JsonDict]]:
    """Session id and messages from the text of `to_json`. DecodeError if it is not JSON, ConfigurationError if invalid."""
    data = object_or_empty(_json.loads(text.encode("utf-8", "surrogatepass"), "the saved conversation"))
    session_id, messages = data.get("session_id"), data.get("messages")
    if not isinstance(session_id, str) or not is_array(messages):
        raise ConfigurationError("this is not a saved conversation: it needs a session_id and a list of messages")
    return session_id, wire_messages(messages, echo_reasoning=True) if messages else []


class _Chat(Protocol[C]):
    def conversation(
        self,
        system: str | None = None,
        store: Store | None = None,
        session_id: str | None = None,
        *,
        model: str | None = None,
        **options: Unpack[ConversationOptions],
    ) -> C:
        """See AsyncChat."""
        ...


class HasConversations(Protocol[C]):
    """A client, as far as a conversation needs it."""

    @cached_property  # as the clients have it: checkers compare the kinds
    def chat(self) -> _Chat[C]:
        """Its chat."""
        ...


class BaseConversation:
    """The base of both conversation classes: the history and the options of every turn.

    Args:
        create: `chat.create` of an AsyncClient.
        opener: what opens its streams.
        system: the system message.
        store: where sessions are kept.
        session_id: the key of this one.
        model: the model of every turn.
        options: the options of every turn.
    """

    def __init__(
        self,
        create: Callable[..., Coroutine[Any, Any, ChatCompletion]],
        opener: Opener,
        system: str | None,
        store: Store | None,
        session_id: str | None,
        model: str | None,
        options: Mapping[str, Any],
    ) -> None:
        check_names("chat.conversation", options, CHAT_OPTIONS)
        self._create = create
        self._opener = opener
        self._history = History(system, store, session_id, echo_reasoning=bool(options.get("echo_reasoning")))
        self._model = model
        self._options = {**options, "session_id": session_id} if session_id else dict(options)

    @classmethod
    def from_json(
        cls,
        text: str,
        client: HasConversations[Self],
        *,
        store: Store | None = None,
        model: str | None = None,
        **options: Unpack[ConversationOptions],
    ) -> Self:
        """The conversation that `to_json` saved, over a client, with the options given here.

        Its messages are put into the store. Raises DecodeError or ConfigurationError for invalid text.
        """
        return client.chat.conversation(store=store, model=model, **options)._restored(text)

    async def _open(self, turn: Turn, model: str | None, options: Mapping[str, Any]) -> ChatReader:
        """Open the stream of a turn that has begun."""
        return await self._opener("conversation.stream", turn.request, model or self._model, options)()

    @property
    def session_id(self) -> str:
        """The key of this conversation in its store."""
        return self._history.session_id

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages of completed turns, the system message first."""
        return tuple(decode_message(message) for message in self._history.read())

    def trim(self, count: int) -> None:
        """Keep only the last `count` messages. The system message stays and is not counted.

        A tool result is never kept without the message that called for it. An even number keeps whole turns of question
        and answer; some models want the first message after the system message to be a user's.
        """
        self._history.trim(count)

    def to_json(self) -> str:
        """The session id and all messages as JSON text, for `from_json`. Options are not part of it."""
        return self._history.to_json()

    def _restored(self, text: str) -> Self:
        """This conversation with the saved session and messages."""
        self._history.session_id, messages = saved(text)
        self._history.write(messages)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}(session_id={self.session_id!r}, messages={len(self._history.read())})"

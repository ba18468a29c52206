"""client.chat: complete and streamed chat completions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from nimclient._api.messages import Messages, materialized
from nimclient._base import observers
from nimclient._resources.chat_calls import ChatCalls

if TYPE_CHECKING:
    from nimclient._bulk.workers import AsCompleted
    from nimclient._resources.batch import Conversations
    from nimclient._resources.conversation import Conversation
    from nimclient._resources.history import Store
    from nimclient._resources.parse_stream import ParseStream
    from nimclient._resources.tool_loop import OnToolError
    from nimclient._schema.structured import Via
    from nimclient._streams.stream import ChatStream
    from nimclient.errors import NimError
    from nimclient.records.answers import Parsed, ToolRun
    from nimclient.records.chat import ChatCompletion
    from nimclient.records.params import ChatOptions, ConversationOptions, ToolRunOptions

T = TypeVar("T")


class AsyncChat(ChatCalls):
    """Chat completions (POST /v1/chat/completions)."""

    async def create(
        self, messages: Messages, *, model: str | None = None, **options: Unpack[ChatOptions]
    ) -> ChatCompletion:
        """Send messages and return the complete answer.

        `messages`: a str (one user message) or a list of dicts, Message records and (role, content) tuples, mixed;
        Image, Audio and Video are parts of a content list. `thinking`: True or False, sent as the model's own switch.

        Raises TypeError for an unknown option; ConfigurationError for input that cannot be sent; TransportError,
        APIStatusError or DecodeError if the call fails.
        """
        given = self._with_defaults("chat", options) if self._engine.config.defaults else options
        call = await self._call("chat.create", materialized(messages), model, given)
        return await self._ask(call, given)

    @overload
    async def parse(
        self,
        messages: Messages,
        output: type[T],
        *,
        via: Via | None = None,
        retries: int = 0,
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> Parsed[T]: ...

    @overload
    async def parse(
        self,
        messages: Messages,
        output: Any,
        *,
        via: Via | None = None,
        retries: int = 0,
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> Parsed[Any]: ...

    async def parse(
        self,
        messages: Messages,
        output: Any,
        *,
        via: Via | None = None,
        retries: int = 0,
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> Parsed[Any]:
        """Return the answer as a value of a type: attrs class, dataclass, TypedDict, NamedTuple, Enum, Literal, union,
        list, pydantic model, or a JSON schema as a dict.

        The schema is sent as `response_format`; for a server that rejects it older forms are tried once and remembered.
        The answer is always validated.

        Args:
            messages: As in `create`.
            output: The type of the value.
            via: The form in which the schema is sent; None: found by trying.
            retries: How often an invalid output is sent back to the model with the error.
            model: As in `create`.
            **options: See ChatOptions.

        Raises OutputInvalidError (.text, .path), OutputTruncatedError (cut off by the token limit),
        OutputRefusedError; ConfigurationError for a type without a JSON schema; else what `create` raises.
        """
        from nimclient._resources import parsing

        return await parsing.parse(self, messages, output, via=via, retries=retries, model=model, options=options)

    @overload
    def parse_stream(
        self,
        messages: Messages,
        output: type[T],
        *,
        via: Via | None = None,
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> ParseStream[T]: ...

    @overload
    def parse_stream(
        self,
        messages: Messages,
        output: Any,
        *,
        via: Via | None = None,
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> ParseStream[Any]: ...

    def parse_stream(
        self,
        messages: Messages,
        output: Any,
        *,
        via: Via | None = None,
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> ParseStream[Any]:
        """Like `parse`, as a stream of values that only grow. Returns a stream that is not opened yet.

        ``async with client.chat.parse_stream("...", City) as stream: async for city in stream: print(city.name)``. The last
        value is that of `await stream.final()`, which is what `parse` would have returned.

        Each value is one of the type: text and lists grow, and what did not arrive yet has its empty value ("", [], {},
        None). Nothing is yielded before each number, boolean, choice and date that may not be null is complete; of a
        TypedDict with `total=False`, and of a JSON schema, what is known is yielded from the first key on.

        Args:
            messages: As in `create`.
            output: The type of the value, as in `parse`.
            via: As in `parse`.
            model: As in `create`.
            **options: See ChatOptions.

        Bad input raises here. Opening and reading raises what `stream` raises, with `.partial`; the end what `parse` raises.
        """
        from nimclient._resources.parse_stream import ParseStream, parse_stream

        stream, wanted = parse_stream(self, materialized(messages), output, via=via, model=model, options=options)
        return ParseStream(stream, wanted)

    async def run_tools(
        self,
        messages: Messages,
        tools: Iterable[Callable[..., Any]],
        *,
        max_rounds: int = 8,
        on_tool_error: OnToolError = "return",
        model: str | None = None,
        **options: Unpack[ToolRunOptions],
    ) -> ToolRun:
        """Send messages with tools, run the tools the model calls, and send the results until it answers without a call.

        Calls of one answer run concurrently: coroutine functions on the loop (in Client on its background loop, where
        they must not block), others in worker threads. A `tool_choice` that forces a call applies to the first answer.

        Args:
            messages: As in `create`.
            tools: Functions, also marked with @tool.
            max_rounds: The maximum number of answers.
            on_tool_error: "return" reports an unknown tool, invalid arguments and a function's error to the model; "raise"
                raises a ToolError, with the function's own error as its cause.
            model: As in `create`.
            **options: See ToolRunOptions.

        Raises ToolError in any case for arguments truncated by the token limit, for an answer that announces calls and has
        none, and when `max_rounds` is exceeded; its `.messages` is the conversation so far. Else raises what `create` raises.
        """
        from nimclient._resources import tool_loop

        return await tool_loop.run_tools(
            self,
            messages,
            tools,
            max_rounds=max_rounds,
            on_tool_error=on_tool_error,
            model=model,
            options=self._with_defaults("chat", options),
        )

    def stream(self, messages: Messages, *, model: str | None = None, **options: Unpack[ChatOptions]) -> ChatStream:
        """Send messages and stream the answer. Returns a stream that is not opened yet.

        ``async with client.chat.stream(...) as stream: async for chunk in stream: print(chunk.text, end="")``. It can
        also be iterated over at once (in AsyncClient, or be awaited). `stream_usage=False` leaves out `stream_options`;
        `resume=N` has an interrupted stream continued up to N times, on another replica where there is one.
        Bad input raises here, everything else when the stream is opened or read.
        """
        from nimclient._streams.stream import ChatStream

        return ChatStream(self._opener("chat.stream", materialized(messages), model, options))

    @overload
    async def batch(
        self,
        list_of_messages: Conversations,
        *,
        concurrency: int | None = None,
        on_error: Literal["raise", "collect"] = "raise",
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> list[ChatCompletion]: ...

    @overload
    async def batch(
        self,
        list_of_messages: Conversations,
        *,
        concurrency: int | None = None,
        on_error: Literal["return"],
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> list[ChatCompletion | NimError]: ...

    async def batch(
        self,
        list_of_messages: Conversations,
        *,
        concurrency: int | None = None,
        on_error: Literal["raise", "return", "collect"] = "raise",
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> Any:
        """Send many conversations concurrently; the answers are in the order of the conversations.

        Each conversation is what `create` takes: a str, or a list of messages. `concurrency`: requests in flight
        (None: adapted to the server). Throttling (429, 503, 529) uses no attempt; it waits, up to `RetryPolicy.patience`.

        `on_error="raise"` raises the first error, with the position as `.index`, after cancelling the others; a list is
        validated before anything is sent. "return" puts the error in place of the answer. "collect" finishes all, then
        raises one BatchError with `.failures` (Failure records). Finished answers are on the error as `.completed`, pairs
        (index, ChatCompletion). TypeError for a str in place of the list.
        """
        from nimclient._resources import batch

        results = batch.as_completed(
            self,
            "chat.batch",
            list_of_messages,
            concurrency=concurrency,
            on_error=on_error,
            model=model,
            options=options,
        )
        if not observers.installed:
            return await batch.in_order(results)
        with self._whole("chat", model) as observed:
            replies = await batch.in_order(results)
            observed.append(replies)
        return replies

    @overload
    def as_completed(
        self,
        iterable_of_messages: Conversations,
        *,
        concurrency: int | None = None,
        on_error: Literal["raise", "collect"] = "raise",
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> AsCompleted[ChatCompletion]: ...

    @overload
    def as_completed(
        self,
        iterable_of_messages: Conversations,
        *,
        concurrency: int | None = None,
        on_error: Literal["return"],
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> AsCompleted[ChatCompletion | NimError]: ...

    def as_completed(
        self,
        iterable_of_messages: Conversations,
        *,
        concurrency: int | None = None,
        on_error: Literal["raise", "return", "collect"] = "raise",
        model: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> AsCompleted[Any]:
        """Send many conversations concurrently; yields pairs (index, answer) as they finish.

        Like `batch`, for any iterable or async iterable, including an infinite one: at most `concurrency` conversations are
        taken from it beyond those whose answers were yielded. AsyncClient advances a plain iterable on the event
        loop, so one that blocks should be an async iterable; Client advances it in the thread that reads the answers.

        Leave early with `async with client.chat.as_completed(...) as replies: async for index, reply in replies`: the
        end of the block cancels calls in flight and waits for their end; so does `aclose()`. An error is raised after all
        answers that finished before it, with `.index`; an error of the iterable itself also has the position, and is
        raised after the calls in flight have finished.
        """
        from nimclient._resources import batch

        return batch.as_completed(
            self,
            "chat.as_completed",
            iterable_of_messages,
            concurrency=concurrency,
            on_error=on_error,
            model=model,
            options=options,
        )

    def conversation(
        self,
        system: str | None = None,
        store: Store | None = None,
        session_id: str | None = None,
        *,
        model: str | None = None,
        **options: Unpack[ConversationOptions],
    ) -> Conversation:
        """A chat with a history: `await talk.send("hi")`, `talk.stream("hi")`, `talk.messages`.

        Args:
            system: The system message, which replaces one in the store.
            store: A mutable mapping of session ids to lists of wire messages; a session in it is resumed. None: a new dict.
            session_id: The key in the store; None: a new one.
            model: As in `create`.
            **options: See ConversationOptions; they apply to every turn.
        """
        from nimclient._resources.conversation import Conversation

        given = self._with_defaults("chat", options)
        return Conversation(self.create, self._opener, system, store, session_id, model, given)

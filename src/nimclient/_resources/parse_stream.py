"""chat.parse_stream: structured output as a value that grows while it is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Mapping
from functools import partial
from typing import Any, Generic, Self, TypeVar, cast

from nimclient._api.messages import wire_messages
from nimclient._api.options import check_word
from nimclient._base.types import AsyncClosing, unpicklable
from nimclient._base.values import ResponseMeta
from nimclient._resources.chat_calls import ChatCalls
from nimclient._resources.parsing import OutputCalls, output_options
from nimclient._schema.partial_json import UNKNOWN
from nimclient._schema.partial_output import PartialOutput
from nimclient._schema.structured import FORMS, Output, Via, output_of
from nimclient._streams.reader import AnswerReader
from nimclient._streams.stream import ChatStream
from nimclient.errors import APIStatusError
from nimclient.records.answers import Parsed
from nimclient.records.chat import ChatChunk, ChatCompletion

T = TypeVar("T")


class ParseStream(AsyncIterator[T], AsyncClosing, Generic[T]):
    """Structured output that is being written, not opened yet: `await` it, enter it with `async with`, or iterate over it.

    It yields values of the type that only grow: text and lists get longer, None becomes a value. What a record lacks has
    its empty value ("", [], {}, None); before a number, a boolean or a choice in its place is complete, nothing is yielded.
    The last one is that of `final()`. Otherwise like ChatStream.
    """

    __reduce__ = unpicklable

    def __init__(self, stream: ChatStream, output: Output) -> None:
        self._stream = stream
        self._growing = PartialOutput[T](output)

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await self._stream
        return self

    def __aiter__(self) -> Self:
        aiter(self._stream)
        return self

    async def __anext__(self) -> T:
        growing = self._growing
        while (chunk := await anext(self._stream, None)) is not None:
            if chunk.text and (value := growing.feed(chunk.text)) is not UNKNOWN:
                return cast(T, value)
        if growing.parsed is not None:
            raise StopAsyncIteration
        return (await self.final()).value

    async def final(self) -> Parsed[T]:
        """Read the rest and return the whole answer, as `parse` would have.

        Raises OutputInvalidError, OutputTruncatedError or OutputRefusedError, and what reading the stream raises.
        """
        return self._growing.end(await self._stream.final())

    @property
    def meta(self) -> ResponseMeta | None:
        """The exchange with its timings so far; None before the stream is open."""
        return self._stream.meta

    @property
    def partial(self) -> ChatCompletion | None:
        """The answer as it was received so far."""
        return self._stream.partial

    async def aclose(self) -> None:
        """Close the stream, from any task; a waiting reader gets StreamInterruptedError. Idempotent."""
        await self._stream.aclose()


def parse_stream(
    chat: ChatCalls, messages: object, form: Any, *, via: Via | None, model: str | None, options: Mapping[str, Any]
) -> tuple[ChatStream, Output]:
    """The stream of the answer, and the output in it. See AsyncChat.parse_stream."""
    options = output_options(chat, options)
    check_word("via", via, FORMS)
    output = output_of(form)
    wire = wire_messages(messages, echo_reasoning=bool(options.get("echo_reasoning")))
    calls = OutputCalls(chat, "chat.parse_stream", wire, output, via, model, options, stream=True)
    calls.check()
    return ChatStream(partial(_open, chat, calls)), output


async def _open(chat: ChatCalls, calls: OutputCalls) -> AnswerReader[ChatChunk, ChatCompletion]:
    """Open the stream in the first form that the endpoint does not reject."""
    while True:
        call = await calls.next_call()
        try:
            return await chat._open_stream(call, "chat.parse_stream", (), calls.options)
        except APIStatusError as error:
            calls.reject(error)

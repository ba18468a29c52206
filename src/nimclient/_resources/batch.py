"""chat.batch and chat.as_completed: many conversations concurrently, from any source, through one gate.

A list is validated before anything is sent; items of other sources are validated when they are taken.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias, TypeVar

from anyio import lowlevel
from attrs import frozen

from nimclient._api.chat import CHAT_OPTIONS
from nimclient._api.messages import Messages, materialized, wire_messages
from nimclient._api.options import check_names, check_whole, check_word
from nimclient._base.types import is_items
from nimclient._bulk.gate import Gate
from nimclient._bulk.workers import AsCompleted, Source, located
from nimclient._resources.chat_calls import ChatCalls
from nimclient.errors import ClientClosedError, ConfigurationError, NimError
from nimclient.records.batch import Failure
from nimclient.records.chat import ChatCompletion, decode_message

R = TypeVar("R")

Conversations: TypeAlias = Iterable[Messages] | AsyncIterable[Messages]

_AT_ONCE = 100  # items validated before yielding to other tasks


def as_completed(
    chat: ChatCalls,
    method: str,
    source: Source[Any],
    *,
    concurrency: int | None,
    on_error: str,
    model: str | None,
    options: Mapping[str, Any],
) -> AsCompleted[Any]:
    """See AsyncChat.as_completed."""
    options = chat._with_defaults("chat", options)
    check_names(method, options, CHAT_OPTIONS)
    check_word("on_error", on_error, ("raise", "return", "collect"))
    check_whole("concurrency", concurrency, 1)
    if not isinstance(source, AsyncIterable) and not is_items(source):
        kind = type(source).__name__
        raise TypeError(f"{method} takes a list of conversations, or another iterable of them, not {kind}")
    if isinstance(source, (list, tuple)):
        source = [materialized(item) for item in source]
    gate = chat._engine.gate("chat", concurrency, work=_tokens)
    batch = _Batch(chat, method, on_error, model, options, gate)
    prepare = partial(batch.prepare, source, chat._known_model("chat", model))
    return AsCompleted(source, batch.answer, gate.width, prepare)


@frozen
class _Batch:
    """The state shared by the items of one call."""

    chat: ChatCalls
    method: str
    on_error: str
    model: str | None
    options: Mapping[str, Any]
    gate: Gate

    async def prepare(self, source: Source[Any], model: str | None) -> None:
        """Before the first item is sent: validate a list, find the default model once."""
        if isinstance(source, list):
            if not source:
                return
            if self.on_error == "raise":
                await _look_through(source, partial(self._check, model))
        if model is None:
            await self.chat._default_model("chat", self.options)

    def _check(self, model: str | None, item: Any) -> None:
        self.chat._call_for(self.method, item, model, self.options)

    async def answer(self, index: int, item: Any) -> ChatCompletion | NimError | Failure:
        """The answer to one item, or its error as `on_error` specifies."""
        item = materialized(item)
        try:
            call = await self.chat._call(self.method, item, self.model, self.options)
            return await self.chat._ask(call, self.options, self.gate)
        except (NimError, TypeError) as error:
            located(error, index)
            if self.on_error == "raise" or isinstance(error, ClientClosedError):
                raise
            ours = error if isinstance(error, NimError) else _as_ours(error, index)
            return ours if self.on_error == "return" else Failure(index, None, ours, _text_of(item))


async def _look_through(items: Iterable[Any], check: Callable[[Any], object]) -> None:
    """Raise the error of the first item that cannot be sent."""
    for index, item in enumerate(items):
        try:
            check(item)
        except (NimError, TypeError) as error:
            located(error, index)
            raise
        if index % _AT_ONCE == _AT_ONCE - 1:
            await lowlevel.checkpoint()


def _as_ours(error: TypeError, index: int) -> ConfigurationError:
    """The TypeError of an item as a NimError, like all other failures of items."""
    ours = located(ConfigurationError(str(error)), index)
    ours.__cause__ = error
    return ours


def _text_of(item: Any) -> str | None:
    """The text of the last message."""
    try:
        return decode_message(wire_messages(item)[-1]).text or None
    except (NimError, TypeError):
        return None


def _tokens(reply: ChatCompletion) -> float:
    """The work of an answer: a long one takes longer without the server being at its limit."""
    return float(max(reply.usage.completion_tokens, 1)) if reply.usage else 1.0


async def in_order(results: AsCompleted[R]) -> list[R]:
    """All results in the order of the source. An error has the finished pairs (index, result) as `.completed`."""
    found: dict[int, R] = {}
    async with results:
        try:
            async for index, result in results:
                found[index] = result  # noqa: PERF403  # what came before an error is kept
        except Exception as error:
            with_completed(error, found)
            raise
    return [result for _, result in pairs(found)]


def with_completed(error: Exception, found: Mapping[int, Any]) -> None:
    """Set the finished results as `.completed` of an error of any class."""
    error.__dict__["completed"] = pairs(found)


def pairs(found: Mapping[int, R]) -> tuple[tuple[int, R], ...]:
    """(index, result) in the order of the indexes."""
    return tuple((index, found[index]) for index in sorted(found))

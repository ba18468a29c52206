"""chat.batch and chat.as_completed for blocking code. A list is passed to the loop; any other iterable is the caller's code
and is advanced in the thread that reads the answers, never on the loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from inspect import signature
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar
from weakref import WeakMethod

from anyio import Event

from nimclient._api.messages import materialized
from nimclient._base.callbacks import CallbackQueue
from nimclient._base.types import Closing, unpicklable
from nimclient._bulk.workers import AsCompleted
from nimclient._resources.batch import pairs, with_completed
from nimclient._sync.mirror import declared, is_lazy
from nimclient._sync.portal import PORTAL

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class SyncAsCompleted(Iterator[tuple[int, R]], Closing, Generic[R]):
    """Pairs (index, result) in the order in which the work finishes; see AsCompleted.

    Use it with `with`, so that leaving early cancels calls in flight, or read it to its end. A source that blocks
    delays answers: the reading thread advances it.
    """

    __reduce__ = unpicklable

    def __init__(self, make: Callable[[Any], AsCompleted[R]], source: Any) -> None:
        if isinstance(source, AsyncIterable) and not isinstance(source, Iterable):
            raise TypeError("an async iterable of conversations is for AsyncClient; Client takes a plain one")
        fed = is_lazy(source)
        self._queue = CallbackQueue()
        self._feed = PushSource() if fed else None
        self._async = make(source if self._feed is None else self._feed)
        self._items: Iterator[Any] = iter(source) if fed else iter(())
        if self._feed is not None:
            self._feed.tell = WeakMethod(self._async.tell)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, R]:
        try:
            pair = self._run(partial(self._step, True))
            while pair is None:
                pair = self._run(partial(self._step, False, self._next_item()))
        except StopAsyncIteration:
            raise StopIteration from None
        return pair

    def close(self) -> None:
        """Cancel calls in flight and wait for their end. Idempotent."""
        self._run(self._async.aclose)

    def _run(self, step: Callable[[], Awaitable[T]]) -> T:
        return PORTAL.run_at(self._queue, step)

    def _next_item(self) -> tuple[Any, BaseException | None]:
        """The source's next item, or the error it raised."""
        try:
            return materialized(next(self._items)), None
        except StopIteration:
            return None, StopAsyncIteration()
        except Exception as error:  # noqa: BLE001  # raised in __next__, after the answers to the items before it
            return None, error
        except BaseException:
            self.close()
            raise

    async def _step(self, first: bool, item: tuple[Any, BaseException | None] | None = None) -> tuple[int, R] | None:
        """In the loop: pass an item in, then wait for a result; None if another item is needed.

        The first step of a read takes an item even if a result is ready: one goes in for each that comes out.
        """
        feed = self._feed
        if feed is None:
            return await anext(self._async)
        if item is not None:
            feed.give(*item)
        elif first and feed.needs_item:
            return None
        return self._async.take() if await self._async.wait(lambda: feed.needs_item) else None


class PushSource(AsyncIterator[Any]):
    """In the loop, a source whose items are pushed from outside, one at a time, when it needs one."""

    def __init__(self) -> None:
        self.needs_item = False
        self.tell: Callable[[], Callable[[], None] | None] = lambda: None
        self._arrived: Event | None = None
        self._item: tuple[Any, BaseException | None] = (None, None)

    async def __anext__(self) -> Any:
        self._arrived = Event()
        self.needs_item = True
        self._ask()
        await self._arrived.wait()
        item, error = self._item
        self._item = (None, None)
        if error is not None:
            raise error
        return item

    def _ask(self) -> None:
        """Wake the reader. No reference to it is kept while waiting for an item, so that it can be garbage-collected."""
        if (tell := self.tell()) is not None:
            tell()

    def give(self, item: Any, error: BaseException | None) -> None:
        """Push an item, or the error that the source raised."""
        self.needs_item = False
        self._item = (item, error)
        if self._arrived is not None:
            self._arrived.set()


def in_order(results: SyncAsCompleted[R]) -> list[R]:
    """All results in the order of the source. An error has the finished pairs (index, result) as `.completed`."""
    found: dict[int, R] = {}
    with results:
        try:
            for index, result in results:
                found[index] = result  # noqa: PERF403  # what came before an error is kept
        except Exception as error:
            with_completed(error, found)
            raise
    return [result for _, result in pairs(found)]


def completing(
    method: Callable[Concatenate[Any, P], AsCompleted[R]],
) -> Callable[Concatenate[Any, P], SyncAsCompleted[R]]:
    """The signature and docstring of the blocking twin of a method."""
    return declared(method, signature(method).return_annotation.replace("AsCompleted", "SyncAsCompleted"))

"""Concurrent work: a bounded number of workers over any source of items, with results as they finish.

The bound, `width`, is a function that is called between two items, since it may change. Workers are started or stopped
accordingly. With `weigh`, the bytes of an item, no further one is taken while those in flight have HELD_BYTES together.

`run_all` lives inside its caller. `AsCompleted` yields the results one by one; its workers live in a task that the
iterator owns and ends. The first error of the work ends all of it: siblings are cancelled and awaited, finished results
are kept. After an error of the source, work in flight finishes first.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sized
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, Generic, Self, TypeAlias, TypeVar

import anyio
from anyio.abc import TaskGroup

from nimclient._base.types import AsyncClosing, unpicklable
from nimclient._http.tasks import Background, running_loop
from nimclient.errors import BatchError, NimError, StreamInterruptedError
from nimclient.records.batch import Failure

J = TypeVar("J")
R = TypeVar("R")
E = TypeVar("E", bound=Exception)

HELD_BYTES = 64 * 2**20
"""Of items in flight. Ordinary slices have at most 256 kB; one that is larger than this is in flight alone."""

Source: TypeAlias = Iterable[J] | AsyncIterable[J]
Width: TypeAlias = Callable[[], int]
Weigh: TypeAlias = Callable[[J], int] | None


async def run_all(
    source: Source[J],
    work: Callable[[J], Awaitable[R]],
    width: Width,
    done: Callable[[int, R], None],
    weigh: Weigh[J] = None,
) -> None:
    """Run `work` over all items, at most `width()` at once; `done(position, result)` is called as each finishes.

    Raises the first error of `work`, `done` or the source, never an ExceptionGroup, after all workers have ended.
    """
    try:
        await _Crew(source, partial(_without_position, work), width, done, None, weigh).run()
    except RuntimeError:
        running_loop()  # says what to do without one
        raise


def _without_position(work: Callable[[J], Awaitable[R]], _: int, item: J) -> Awaitable[R]:
    return work(item)


class _Crew(Generic[J, R]):
    """The workers of one call of `run_all`, for work that takes the position of its item.

    With `room` an item is taken when there is a slot for its result.
    """

    def __init__(
        self,
        source: Source[J],
        work: Callable[[int, J], Awaitable[R]],
        width: Width,
        done: Callable[[int, R], None],
        room: _Room | None,
        weigh: Weigh[J],
    ) -> None:
        self._items = _Numbered(source)
        self._weigh = weigh
        self._max_count = len(source) if isinstance(source, Sized) else None
        self._work = work
        self._width = width
        self._done = done
        self._room = room
        self._failures: list[Exception] = []
        self._count = 0

    async def run(self) -> None:
        """Run until the end of the source, or the first error."""
        async with anyio.create_task_group() as group:
            self._hire(group)
        if self._failures:
            raise self._failures[0]

    def _hire(self, group: TaskGroup) -> None:
        """Start one more worker if there may be work: each that has taken an item starts the next."""
        if not self._items.ended and self._items.taken != self._max_count:
            self._count += 1
            group.start_soon(self._run_worker, group)

    async def _run_worker(self, group: TaskGroup) -> None:
        items, weigh = self._items, self._weigh
        try:
            while not items.ended and self._count <= (width := self._width()):
                taken = await self._take()
                if taken is None:
                    return
                if self._count < width:
                    self._hire(group)
                weight = 0 if weigh is None else weigh(taken[1])
                items.held += weight
                try:
                    self._done(taken[0], await self._work(*taken))
                except Exception as error:  # noqa: BLE001  # raised by `run`, without the group around it
                    self._failures.append(error)
                    group.cancel_scope.cancel()
                    return
                del taken  # it may be large, and the next one may have to wait
                items.held -= weight
                if items.awaited is not None:
                    items.awaited.set()
                    items.awaited = None
        finally:
            self._count -= 1

    async def _take(self) -> tuple[int, J] | None:
        """The next item, when there is a slot for its result; None at the end, and after an error of the source."""
        if self._room is not None:
            await self._room.acquire()
        taken = None
        try:
            taken = await self._items.take()
        except Exception as error:  # noqa: BLE001  # likewise
            self._failures.append(located(error, self._items.taken))
        if taken is None and self._room is not None:  # others may wait for a slot only to reach the end
            self._room.release()
        return taken


class _Numbered(Generic[J]):
    """The items of a source with their positions, for several workers: only one advances it at a time."""

    def __init__(self, source: Source[J]) -> None:
        self._next = _stepper(source)
        is_async = isinstance(source, AsyncIterable)  # a plain one is advanced without giving way to another worker
        self._lock: AbstractAsyncContextManager[None] = anyio.Lock(fast_acquire=True) if is_async else nullcontext()
        self.ended = False
        self.taken = 0
        self.held = 0  # bytes of those in flight
        self.awaited: anyio.Event | None = None  # workers wait for `held` to fall

    async def take(self) -> tuple[int, J] | None:
        """The next one, once those in flight leave room; None at the end, and after an error of the source."""
        async with self._lock:
            while self.held >= HELD_BYTES:
                self.awaited = self.awaited or anyio.Event()
                await self.awaited.wait()
            if self.ended:
                return None
            try:
                item = await self._next()
            except StopAsyncIteration:
                self.ended = True
                return None
            except BaseException:
                self.ended = True
                raise
            self.taken += 1
            return self.taken - 1, item


class _Room:
    """A semaphore with a variable size."""

    def __init__(self, width: Width) -> None:
        self._width = width
        self._held = 0
        self._waiting: deque[anyio.Event] = deque()

    async def acquire(self) -> None:
        """Wait for a slot."""
        while self._held >= self._width():
            turn = anyio.Event()
            self._waiting.append(turn)
            try:
                await turn.wait()
            finally:
                if not turn.is_set():
                    self._waiting.remove(turn)
        self._held += 1

    def release(self) -> None:
        """Release a slot, and wake as many waiters as there are free slots."""
        self._held -= 1
        free = min(self._width() - self._held, len(self._waiting))
        for _ in range(free):
            self._waiting.popleft().set()


def _stepper(source: Source[J]) -> Callable[[], Awaitable[J]]:
    """A function that advances the source. It raises StopAsyncIteration at its end."""
    if isinstance(source, AsyncIterable):
        return aiter(source).__anext__
    return partial(_step, iter(source))


async def _step(items: Iterator[J]) -> J:
    for item in items:
        return item
    raise StopAsyncIteration


def located(error: E, index: int) -> E:
    """The error with the position of its item, unless it has one; works for errors of any class."""
    if getattr(error, "index", None) is None:
        error.__dict__["index"] = index
    return error


class AsCompleted(AsyncIterator[tuple[int, R]], AsyncClosing, Generic[R]):
    """Pairs (index, result) in the order in which the work finishes; the index is the item's position in the source.

    Use it as ``async with client.chat.as_completed(...) as replies: async for index, reply in replies``: leaving the
    block, or `aclose()`, cancels work in flight and waits for its end. It closes itself on an error and on
    cancellation. An item is taken from the source when an earlier one has been handed out: at most `width()`
    (`room()` where it is given) are in flight or waiting to be read. `ordered` hands the results out in the order of
    the source.
    """

    __reduce__ = unpicklable

    def __init__(
        self,
        source: Source[Any],
        work: Callable[[int, Any], Awaitable[R | Failure]],
        width: Width,
        prepare: Callable[[], Awaitable[None]],
        *,
        ordered: bool = False,
        room: Width | None = None,
        weigh: Weigh[Any] = None,
    ) -> None:
        self._make: Callable[[], _Workers[R]] = lambda: _Workers(
            source, work, width, prepare, ordered, room or width, weigh
        )
        self._workers: _Workers[R] | None = None
        self._reading = False
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, R]:
        await self.wait(_never)
        return self.take()

    async def wait(self, enough: Callable[[], bool]) -> bool:
        """Wait until there is a result, True, or until `enough()`, False, checked at every event.

        Raises StopAsyncIteration at the end, or the error, after all finished results were yielded.
        """
        if self._reading:
            raise RuntimeError("the results are being read by another task")
        workers = self._workers
        if workers is None:
            if self._closed:
                raise StopAsyncIteration
            workers = self._workers = self._make()
        self._reading = True
        try:
            while not workers.ready:
                if workers.ended:
                    raise workers.outcome()
                if enough():
                    return False
                if not workers.is_here:
                    raise StreamInterruptedError("it was started in another event loop and can only be read there")
                await workers.news()
        except anyio.get_cancelled_exc_class():
            await self.aclose()
            raise
        finally:
            self._reading = False
        return True

    @property
    def is_ready(self) -> bool:
        """Whether a result is ready."""
        return self._workers is not None and bool(self._workers.ready)

    def take(self) -> tuple[int, R]:
        """Return a ready result."""
        assert self._workers is not None
        return self._workers.hand_out()

    def held(self) -> list[tuple[int, R]]:
        """After an error: the results that waited for an earlier one. Once only."""
        workers = self._workers
        return workers.held() if workers is not None and workers.ended else []

    def tell(self) -> None:
        """Make a waiting reader check `enough()` again."""
        if self._workers is not None:
            self._workers.tell()

    async def aclose(self) -> None:
        """Cancel work in flight and wait for its end. Idempotent, from any task; from another loop than its own it does
        not wait.
        """
        self._closed = True
        if self._workers is not None:
            await self._workers.stop()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        workers = getattr(self, "_workers", None)
        if workers is not None and not workers.ended:
            _warn("a batch that was not read to its end was not closed", ResourceWarning, source=self)
            workers.abandon()


class _Workers(Generic[R]):
    """The running half of an AsCompleted: without a reference to the iterator, so that it can be garbage-collected."""

    def __init__(
        self,
        source: Source[Any],
        work: Callable[[int, Any], Awaitable[R | Failure]],
        width: Width,
        prepare: Callable[[], Awaitable[None]],
        ordered: bool,
        room: Width,
        weigh: Weigh[Any],
    ) -> None:
        self.ready: deque[tuple[int, R]] = deque()
        self._ordered = ordered
        self._next = 0
        self._held: dict[int, R] = {}  # finished, while an earlier one is not
        self.ended = False
        self._complete = False
        self._failures: list[Failure] = []
        self._error: Exception | None = None
        self._news = anyio.Event()
        self._room = _Room(room)
        self._background = Background(self._run(source, work, width, prepare, weigh))

    async def _run(
        self,
        source: Source[Any],
        work: Callable[[int, Any], Awaitable[R | Failure]],
        width: Width,
        prepare: Callable[[], Awaitable[None]],
        weigh: Weigh[Any],
    ) -> None:
        try:
            await prepare()
            await _Crew(source, work, width, self._done, self._room, weigh).run()
            self._complete = True
        except Exception as error:  # noqa: BLE001  # raised where the results are read
            self._error = error
        finally:
            self.ended = True
            self.tell()

    def _done(self, index: int, result: R | Failure) -> None:
        if isinstance(result, Failure):
            self._failures.append(result)
            self._room.release()
        elif self._ordered:
            self._held[index] = result
            while self._next in self._held:
                self.ready.append((self._next, self._held.pop(self._next)))
                self._next += 1
            self.tell()
        else:
            self.ready.append((index, result))
            self.tell()

    def held(self) -> list[tuple[int, R]]:
        """Remove and return the results that `ordered` still holds, in order."""
        held = sorted(self._held.items(), key=lambda pair: pair[0])
        self._held.clear()
        return held

    def hand_out(self) -> tuple[int, R]:
        """Return the oldest result and release its slot."""
        pair = self.ready.popleft()
        self._room.release()
        return pair

    def outcome(self) -> Exception:
        """How it ended: StopAsyncIteration on success."""
        if self._error is not None:
            return self._error
        if not self._complete:
            return StreamInterruptedError("the batch was closed before all of its items were finished")
        if self._failures:
            return _batch_error(self._failures)
        return StopAsyncIteration()

    @property
    def is_here(self) -> bool:
        """Whether the workers run in the running loop."""
        return self._background.is_here

    async def news(self) -> None:
        """Wait for a result, for the end, or for `tell`."""
        await self._news.wait()
        self._news = anyio.Event()

    def tell(self) -> None:
        """Wake the reader."""
        self._news.set()

    async def stop(self) -> None:
        """Cancel all workers and wait for their end. Unread results are dropped, which makes it incomplete."""
        self._complete = self._complete and not self.ready
        self.ready.clear()
        await self._background.stop()

    def abandon(self) -> None:
        """`stop` for finalizers."""
        self._background.abandon()


def _never() -> bool:
    return False


def _batch_error(failures: list[Failure]) -> NimError:
    failures = sorted(failures, key=lambda failure: failure.index)
    first = failures[0]
    number = "one item" if len(failures) == 1 else f"{len(failures)} items"
    problem = f"{number} failed, the first at index {first.index}: {first.error}"
    return BatchError(problem, failures=failures)

"""The interface for tracing: process-wide observers of calls. `installed` is an empty tuple by default; checking it is the
only cost per call.

An Observer is notified when a call begins, and returns an Observation: it adds headers to the requests of the call, and is
notified of each attempt and once of the end, with the record or the error. Independent of any tracing library.
Observers are called on the loop of the call and must not block; their errors are logged and do not affect the call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeAlias

from attrs import field, frozen

from nimclient._base.log import log
from nimclient.errors import Attempt

Scope: TypeAlias = Literal["call", "item", "many"]
"""A single call; one request of a call over many items; the whole of such a call."""


@frozen
class CallFacts:
    """A call that begins.

    `kind` is that of the model it needs (chat, completions, embedding, ranking; "" for other routes), `url` that of its first
    attempt, `fields` the JSON body (None where there is none; of the whole of many, only what its requests share).
    """

    kind: str
    scope: Scope
    model: str | None
    url: str
    stream: bool = False
    fields: Mapping[str, Any] | None = field(default=None, repr=False)


@frozen
class ToolFacts:
    """A tool that is about to run. `arguments` is JSON text, as the model wrote it."""

    name: str
    id: str
    arguments: str = field(repr=False)
    description: str | None = None


class Observation(Protocol):
    """An observer's view of one call, or of one run of a tool."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers added to every request of the call. Those set by the caller take precedence."""
        ...

    def enter(self) -> None:
        """What runs in this context until `ended` belongs to it. Called for calls over many items, and for tools."""
        ...

    def attempted(self, attempt: Attempt) -> None:
        """An attempt has ended, with or without a response."""
        ...

    def ended(self, result: object, error: BaseException | None) -> None:
        """It has ended. `result` is the record (of a stream, the answer so far); `error` is None on success.

        Closing a stream early is not an error; its answer has no finish_reason then.
        """
        ...


class Observer(Protocol):
    """Notified of calls. None: not interested in this one."""

    def call(self, facts: CallFacts) -> Observation | None:
        """A call to a server begins."""
        ...

    def tool(self, facts: ToolFacts) -> Observation | None:
        """A function is run for a model."""
        ...


installed: tuple[Observer, ...] = ()
"""Access it as `observers.installed`: it is replaced, never modified."""


def install(observer: Observer) -> None:
    """Notify an observer of every new call of every client in this process."""
    global installed  # replaced only here and in `remove`
    installed = (*installed, observer)


def remove(observer: Observer) -> None:
    """Stop notifying it of new calls; calls in progress still report their end."""
    global installed
    installed = tuple(known for known in installed if known is not observer)


def begin(facts: CallFacts) -> tuple[Observation, ...]:
    """Start observing a call."""
    return _present(_safely(observer.call, facts) for observer in installed)


def headers_of(observations: Iterable[Observation], *own: Mapping[str, str]) -> dict[str, str]:
    """The headers that observations add to a request: none that it already has."""
    taken = {name.lower() for headers in own for name in headers}
    return {name: value for one in observations for name, value in one.headers.items() if name.lower() not in taken}


def attempted(observations: Iterable[Observation], attempt: Attempt) -> None:
    """Report an attempt."""
    for observation in observations:
        _safely(observation.attempted, attempt)


def ended(observations: Iterable[Observation], result: object, error: BaseException | None) -> None:
    """Report the end."""
    for observation in observations:
        _safely(observation.ended, result, error)


@contextmanager
def whole(facts: CallFacts) -> Generator[list[object]]:
    """Observe a call over many items, in the block, which puts the result into the list."""
    with _block(begin(facts)) as results:
        yield results


@contextmanager
def tool_run(facts: ToolFacts) -> Generator[list[object]]:
    """Observe a run of a tool, in the block."""
    with _block(_present(_safely(observer.tool, facts) for observer in installed)) as results:
        yield results


@contextmanager
def _block(observations: Sequence[Observation]) -> Generator[list[object]]:
    results: list[object] = []
    for observation in observations:
        _safely(observation.enter)
    try:
        yield results
    except BaseException as error:
        ended(reversed(observations), None, error)
        raise
    ended(reversed(observations), results[0] if results else None, None)


def _present(observations: Iterable[Observation | None]) -> tuple[Observation, ...]:
    return tuple(one for one in observations if one is not None)


def _safely(function: Callable[..., Any], *args: object) -> Any:
    try:
        return function(*args)
    except Exception:  # an error of the observer must not fail the call
        log.exception("an observer raised")
        return None

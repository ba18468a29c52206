"""The seam for tracing: process-wide observers of calls. `installed` is an empty tuple by default, and a call costs one
check of it.

An Observer is notified when a call begins, and returns an Observation of it: that adds headers to the requests of the call
and is notified of each attempt and of the end, once, with the record or the error. Nothing here knows a tracing library.
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
"""A call of its own; one of the many requests of a call over many items; the whole of such a call."""


@frozen
class CallFacts:
    """A call that begins.

    `kind` is that of the model it needs (chat, completions, embedding, ranking; "" for other routes), `url` where its first
    attempt goes, `fields` the JSON body (None where there is none; of the whole of many, only what its requests share).
    """

    kind: str
    scope: Scope
    model: str | None
    url: str
    stream: bool = False
    fields: Mapping[str, Any] | None = field(default=None, repr=False)


@frozen
class ToolFacts:
    """A function that is about to be run for a model. `arguments` is JSON text, as the model wrote it."""

    name: str
    id: str
    arguments: str = field(repr=False)
    description: str | None = None


class Observation(Protocol):
    """What an observer makes of one call, or of one run of a tool."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that every request of the call has. Those that the caller sets itself come before them."""
        ...

    def enter(self) -> None:
        """What runs from now on in this context, until `ended`, belongs to it. Told of the whole of many, and of tools."""
        ...

    def attempted(self, attempt: Attempt) -> None:
        """An attempt has ended, with a response or without."""
        ...

    def ended(self, result: object, error: BaseException | None) -> None:
        """It is over. `result` is the record, of a stream the answer as far as it came; `error` None where all is well.

        A stream that was closed before its end is no error; its answer has no finish_reason then.
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
"""Read it as `observers.installed`: it is replaced, never changed."""


def install(observer: Observer) -> None:
    """Have an observer told of every call that begins from now on, of every client in this process."""
    global installed  # the one place that replaces it, with `remove`
    installed = (*installed, observer)


def remove(observer: Observer) -> None:
    """Stop notifying it of new calls; calls in progress still report their end."""
    global installed
    installed = tuple(known for known in installed if known is not observer)


def begin(facts: CallFacts) -> tuple[Observation, ...]:
    """The observations of a call that begins."""
    return _present(_safely(observer.call, facts) for observer in installed)


def headers_of(observations: Iterable[Observation], *own: Mapping[str, str]) -> dict[str, str]:
    """What observations add to a request whose own headers are these: none that it has already."""
    taken = {name.lower() for headers in own for name in headers}
    return {name: value for one in observations for name, value in one.headers.items() if name.lower() not in taken}


def attempted(observations: Iterable[Observation], attempt: Attempt) -> None:
    """Tell of an attempt."""
    for observation in observations:
        _safely(observation.attempted, attempt)


def ended(observations: Iterable[Observation], result: object, error: BaseException | None) -> None:
    """Tell of the end."""
    for observation in observations:
        _safely(observation.ended, result, error)


@contextmanager
def whole(facts: CallFacts) -> Generator[list[object]]:
    """Observe a call over many items, in the block; its result is put into the list that is given."""
    with _block(begin(facts)) as results:
        yield results


@contextmanager
def tool_run(facts: ToolFacts) -> Generator[list[object]]:
    """The same of the run of a tool."""
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
    except Exception:  # a fault of the observer must not become the call's
        log.exception("an observer raised")
        return None

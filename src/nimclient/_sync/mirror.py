"""How a blocking method is made of an async one: same signature, same docstring, no body of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from functools import update_wrapper
from inspect import signature
from typing import Any, Concatenate, ParamSpec, Protocol, TypeGuard, TypeVar, cast

from nimclient._sync.portal import PORTAL
from nimclient._types import is_items

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_ITEMS = {"messages", "tools", "texts", "documents", "prompt", "text_or_messages", "tokens"}
"""Parameters that take any iterable."""


class Mirror(Protocol):
    """A blocking object and the async one behind it."""

    _async: Any


def blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[Mirror, P], R]:
    """The blocking twin of an async method: calls the method of the object behind in the portal's loop.

    An iterable that is no list is the caller's code: it is read here, in the caller's thread.
    """
    positions = {n: i for i, n in enumerate(list(signature(method).parameters)[1:]) if n in _ITEMS}

    def call(self: Mirror, /, *args: P.args, **kwargs: P.kwargs) -> R:
        given: Any = args
        for name, position in positions.items():
            if position < len(given):
                if is_lazy(given[position]):
                    given = (*given[:position], list(given[position]), *given[position + 1 :])
            elif is_lazy(kwargs.get(name)):
                kwargs[name] = list(cast(Any, kwargs[name]))
        return PORTAL.run(method, self._async, *given, **kwargs)

    update_wrapper(call, method)
    return call


def is_lazy(source: object) -> TypeGuard[Iterable[Any]]:
    """Whether a source of items is the caller's code: an iterable that is no list."""
    return is_items(source) and not isinstance(source, (list, tuple))


def like(method: Callable[Concatenate[Any, P], Any]) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, P], R]]:
    """Give a function that passes its arguments on the signature and docstring of where they go."""

    def decorate(function: Callable[..., R]) -> Callable[Concatenate[Any, P], R]:
        def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return function(self, *args, **kwargs)

        update_wrapper(call, method)
        return call

    return decorate


def documented_by(method: Any) -> Callable[[F], F]:
    """Give a function whose types are written out the docstring of the method it mirrors, and its signature at run time."""

    def decorate(function: F) -> F:
        update_wrapper(function, method)
        return function

    return decorate

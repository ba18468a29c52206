"""How a blocking method is made of an async one: same signature, same docstring, no body of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from nimclient._sync.portal import PORTAL

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Mirror(Protocol):
    """A blocking object and the async one behind it."""

    _async: Any


def blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[Mirror, P], R]:
    """The blocking twin of an async method: calls the method of the object behind in the portal's loop."""

    def call(self: Mirror, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return PORTAL.run(method, self._async, *args, **kwargs)

    update_wrapper(call, method)
    return call


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

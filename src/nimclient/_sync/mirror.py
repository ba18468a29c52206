"""Generates blocking methods from async ones: same signature, same docstring, no body of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable
from functools import update_wrapper
from inspect import isfunction, signature
from typing import Any, Concatenate, Generic, ParamSpec, TypeGuard, TypeVar, cast

from nimclient._base.types import is_items
from nimclient._sync.portal import PORTAL

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")

_ITEMS = {"messages", "tools", "texts", "documents", "prompt", "text_or_messages", "tokens"}
"""Parameters that take any iterable."""


class Mirror(Generic[A]):
    """A blocking object that wraps an async one.

    Methods are named as assigned here. If calling the async method is not enough, `_name` implements `name`.
    """

    def __init__(self, behind: A) -> None:
        self._async = behind

    def __init_subclass__(cls) -> None:
        for name, value in list(vars(cls).items()):
            if isfunction(value) and (not name.startswith("_") or name.endswith("__")):
                method = copy_signature(vars(cls).get(f"_{name}", value), value)
                method.__name__, method.__module__ = name, cls.__module__
                method.__qualname__ = f"{cls.__qualname__}.{name}"
                setattr(cls, name, method)


def blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[Any, P], R]:
    """The blocking twin of an async method: calls the method of the wrapped object in the portal's loop.

    An iterable other than a list is the caller's code: it is consumed in the caller's thread.
    """
    positions = {n: i for i, n in enumerate(list(signature(method).parameters)[1:]) if n in _ITEMS}

    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        given: Any = args
        for name, position in positions.items():
            if position < len(given):
                if is_lazy(given[position]):
                    given = (*given[:position], list(given[position]), *given[position + 1 :])
            elif is_lazy(kwargs.get(name)):
                kwargs[name] = list(cast(Any, kwargs[name]))
        return PORTAL.run(method, self._async, *given, **kwargs)

    return copy_signature(call, method)


def run_inline(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[Any, P], R]:
    """The blocking twin of an async method that only awaits blocking twins: its body runs in the caller's thread."""

    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        body = method(self, *args, **kwargs)
        try:
            body.send(None)
        except StopIteration as end:
            result: R = end.value
            return result
        body.close()
        raise RuntimeError(f"{method.__qualname__} waits for something that does not block")

    return copy_signature(call, method)


def like(method: Callable[Concatenate[Any, P], Any]) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, P], R]]:
    """Give a function that forwards its arguments the signature and docstring of the target."""

    def decorate(function: Callable[..., R]) -> Callable[Concatenate[Any, P], R]:
        def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return function(self, *args, **kwargs)

        return copy_signature(call, method, function.__annotations__["return"])

    return decorate


def declared(method: Callable[..., Any], returns: object) -> Callable[..., Any]:
    """The signature and docstring of the target, for a method `name` that `_name` implements."""

    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    return copy_signature(call, method, returns)


def copy_signature(call: Callable[..., R], method: Callable[..., Any], returns: object = None) -> Callable[..., R]:
    """A function with the signature and docstring of a method, and its own return type."""
    seen = signature(method)
    update_wrapper(call, method)
    call.__doc__ = blocking_doc(method.__doc__)
    vars(call)["__signature__"] = seen if returns is None else seen.replace(return_annotation=returns)
    del vars(call)["__wrapped__"]  # inspection must not see a coroutine function
    return call


def blocking_doc(doc: str | None) -> str | None:
    """A docstring with the code in it as blocking code."""
    if doc is None:
        return None
    return _AWAITED.sub("", doc).replace("aclose()", "close()")


_AWAITED = re.compile(r"\b(?:async (?=with |for )|await )")


def is_lazy(source: object) -> TypeGuard[Iterable[Any]]:
    """Whether a source is the caller's code: an iterable other than a list."""
    return is_items(source) and not isinstance(source, (list, tuple))

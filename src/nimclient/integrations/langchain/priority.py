"""`inference_priority`: a priority for all Dynamo requests within a function or a block, carried by a context variable."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from functools import wraps
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

_priority: ContextVar[int | None] = ContextVar("nimclient_inference_priority", default=None)


def get_inference_priority() -> int | None:
    """The priority of the innermost enclosing block or function, or None."""
    return _priority.get()


class inference_priority:  # noqa: N801 - used like a function, named as LangChain's users know it
    """Set the priority of all ChatNVIDIADynamo calls in a function or block: ``@inference_priority(5)``, ``with
    inference_priority(5):``.

    Dynamo serves higher numbers first. An inner block overrides an outer one; `priority=` of a call overrides
    both. Works for coroutine functions too; tasks started inside inherit it. Raises ValueError unless it is a
    non-negative whole number.
    """

    def __init__(self, priority: int) -> None:
        if isinstance(priority, bool) or not isinstance(priority, int) or priority < 0:
            raise ValueError(f"priority must be a non-negative integer, got {priority!r}")
        self._priority = priority
        self._tokens: list[Token[int | None]] = []

    def __enter__(self) -> int:
        self._tokens.append(_priority.set(self._priority))
        return self._priority

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _priority.reset(self._tokens.pop())

    def __call__(self, function: F) -> F:
        """The function with this priority around each of its calls."""
        priority = self._priority
        if iscoroutinefunction(function):

            @wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with inference_priority(priority):
                    return await function(*args, **kwargs)

            return cast(F, run_async)

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with inference_priority(priority):
                return function(*args, **kwargs)

        return cast(F, run)

"""Names shared by all layers: JSON aliases, the clock, and questions about types that checkers want asked by a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias, TypeGuard

Json: TypeAlias = Any
"""A decoded JSON value. The one place where Any is meant: what servers put into leaves is theirs to say."""

JsonDict: TypeAlias = dict[str, Any]
"""A decoded JSON object."""

Clock: TypeAlias = Callable[[], float]
"""Returns monotonic seconds."""


class NotGiven(Enum):
    """What an argument is that the caller leaves out: the client's default holds then, and None switches that off."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return self.name


NOT_GIVEN: Any = NotGiven.NOT_GIVEN


def is_items(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether a value is a list of items in the caller's sense: iterable, but neither text nor a mapping."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, Mapping))


def is_object(value: object) -> TypeGuard[dict[Any, Any]]:
    """Whether a value is a dict."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether a value is a list, or a tuple, which is written like one."""
    return isinstance(value, (list, tuple))


def unpicklable(self: object) -> NoReturn:
    """`__reduce__` of what is running in this process."""
    raise TypeError(f"{type(self).__name__} is running in this process and cannot be pickled; send what it gives")


class AsyncClosing:
    """What `async with` closes at the end of its block."""

    async def aclose(self) -> None:
        """Close it. May be called again."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Closing:
    """What `with` closes at the end of its block."""

    def close(self, /) -> None:
        """Close it. May be called again."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

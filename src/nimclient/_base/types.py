"""Shared types: JSON aliases, the clock, type guards, base classes of what is closed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias, TypeGuard

Json: TypeAlias = Any
"""A decoded JSON value. Any is intended here: servers decide what the leaves are."""

JsonDict: TypeAlias = dict[str, Any]
"""A decoded JSON object."""

Clock: TypeAlias = Callable[[], float]
"""Returns monotonic seconds."""


class NotGiven(Enum):
    """The value of an omitted argument: the client's default applies, which None switches off."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return self.name


NOT_GIVEN: Any = NotGiven.NOT_GIVEN


def is_items(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether a value is a collection of items: iterable, but neither text nor a mapping."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, Mapping))


def is_object(value: object) -> TypeGuard[dict[Any, Any]]:
    """Whether a value is a dict."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether a value is a list, or a tuple, which is encoded as one."""
    return isinstance(value, (list, tuple))


def unpicklable(self: object) -> NoReturn:
    """`__reduce__` of an object that is tied to this process."""
    raise TypeError(f"{type(self).__name__} is tied to this process and cannot be pickled; send its results instead")


class AsyncClosing:
    """Base class for `async with`: closed at the end of the block."""

    async def aclose(self) -> None:
        """Close it. May be called more than once."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Closing:
    """Base class for `with`: closed at the end of the block."""

    def close(self, /) -> None:
        """Close it. May be called more than once."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

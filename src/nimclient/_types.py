"""Names shared by all floors: JSON aliases and the clock. No behaviour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Json: TypeAlias = Any
"""A decoded JSON value. The one place where Any is meant: what servers put into leaves is theirs to say."""

JsonDict: TypeAlias = dict[str, Any]
"""A decoded JSON object."""

Clock: TypeAlias = Callable[[], float]
"""Returns monotonic seconds."""

"""What goes wrong, by name: interrupted streams, and what the hosted platform does beside answering.

A fault is `NAME`, for every generating request, or `NAME=N`, for the first N of them. A stream is interrupted after some
tokens: `reset@5`, `reset@5=1`.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple


class FaultResponse(NamedTuple):
    """A response in place of the requested one; None is an empty body."""

    status: int
    body: dict[str, Any] | None
    headers: dict[str, str] = {}  # noqa: RUF012  # never changed


MODIFIERS: Final = {
    "accepted": "202 at once, the answer when it is asked for",
    "stuck": "202 forever",
    "unnamed": "202 without the id to ask for",
    "shaky": "a poll gets a 502 instead of its answer",
    "moved": "302 to the answer",
    "zipped": "302 to a zip archive that holds the answer",
    "deprecated": "a Deprecation header beside the answer",
}
REPLIES: Final = {
    "busy": FaultResponse(429, {"status": 429, "title": "Too Many Requests"}),
    "overloaded": FaultResponse(
        503,
        {
            "error": {
                "message": "ResourceExhausted: Worker local total request limit reached (33/32)",
                "type": "Service Unavailable",
                "code": 503,
            }
        },
    ),
    "offline": FaultResponse(
        503,
        {"status": 503, "title": "Service Unavailable", "detail": "The model is not available."},
        {"Retry-After": "10800"},
    ),
    "cancelled": FaultResponse(504, None, {"NVCF-STATUS": "errored"}),
    "broken": FaultResponse(
        500,
        {
            "type": "urn:inference-service:problem-details:internal-server-error",
            "title": "Internal Server Error",
            "status": 500,
            "detail": "Inference error",
        },
    ),
    "gone": FaultResponse(
        410,
        {
            "type": "about:blank",
            "title": "Gone",
            "status": 410,
            "detail": "The model has reached its end of life on 2026-01-01 and is no longer available.",
        },
    ),
    "forbidden": FaultResponse(403, {"status": 403, "title": "Forbidden", "detail": "Authorization failed"}),
    "unavailable": FaultResponse(
        404,
        {
            "status": 404,
            "title": "Not Found",
            "detail": "Function '00000000-0000-0000-0000-000000000000': Not found for account 'simulator'",
        },
    ),
}
BREAKS: Final = {
    "reset": "the connection is reset",
    "end": "the stream ends as if it were whole",
    "error": "an error event",
    "stall": "nothing more comes",
}
NAMES: Final = (*MODIFIERS, *REPLIES)
DEPRECATED_UNTIL: Final = "2026-12-31T00:00:00Z"


class Break(NamedTuple):
    """How a stream is interrupted, one of BREAKS, and after how many tokens."""

    kind: str
    tokens: int


class Faults:
    """The faults a simulator was given, and how often each is still due. ValueError for an unknown name."""

    def __init__(self, specs: Iterable[str] = ()) -> None:
        self._left: dict[str, float] = {}
        self._breaks: dict[Break, float] = {}
        for spec in (specs,) if isinstance(specs, str) else specs:
            name, given, count = spec.partition("=")
            kind, at, tokens = name.partition("@")
            if name not in NAMES and not (at and kind in BREAKS and tokens.isdecimal()):
                known = ", ".join((*(f"{kind}@TOKENS" for kind in BREAKS), *NAMES))
                raise ValueError(f"the simulator knows no fault {name!r}; it knows {known}")
            if given and not (count.isdecimal() and int(count) > 0):
                raise ValueError(f"fault {name!r} takes how many requests it is for, not {count!r}")
            often = int(count) if given else float("inf")
            if at:
                self._breaks[Break(kind, int(tokens))] = often
            else:
                self._left[name] = often

    @property
    def of_platform(self) -> bool:
        """Whether there are faults of the hosted platform."""
        return bool(self._left)

    def take_break(self) -> Break | None:
        """The first way of breaking a stream that is due; counts it."""
        found = next((found for found, left in self._breaks.items() if left >= 1), None)
        if found is not None:
            self._breaks[found] -= 1
        return found

    def take(self, name: str) -> bool:
        """Whether this fault is due; counts it."""
        left = self._left.get(name, 0)
        if left < 1:
            return False
        self._left[name] = left - 1
        return True

    def response(self) -> FaultResponse | None:
        """The first response that is due in place of the real one."""
        return next((REPLIES[name] for name in self._left if name in REPLIES and self.take(name)), None)

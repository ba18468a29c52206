"""A response that arrives in given reads, without a network."""

from collections.abc import Sequence
from typing import Any

from nimclient import AsyncClient, ChatStream, Limits, RetryPolicy
from nimclient.records import Headers
from nimclient.testing import HttpHead, HttpRequest


class Reads:
    """A body that is delivered in these reads."""

    def __init__(self, reads: Sequence[bytes]) -> None:
        self._reads = iter(reads)

    async def read(self, phase: str, deadline: float | None) -> bytes:
        return next(self._reads, b"")

    async def finish(self) -> None:
        pass

    def abort(self) -> None:
        pass


class Reading:
    """A transport that answers with these reads."""

    def __init__(self, reads: Sequence[bytes]) -> None:
        self._reads = reads

    async def open(self, request: HttpRequest, timeouts: Any, total: float | None) -> tuple[HttpHead, Any]:
        return HttpHead(200, Headers(), 0.0, None, False), Reads(self._reads)

    async def aclose(self) -> None:
        pass


def streamed(reads: Sequence[bytes], retry: RetryPolicy | None = None, **options: Any) -> ChatStream:
    """A chat stream of these reads."""
    transport: Any = Reading(reads)
    limits = Limits(max_event=None)
    return AsyncClient(base_url="http://x", model="m", limits=limits, retry=retry, transport=transport).chat.stream(
        "hi", **options
    )

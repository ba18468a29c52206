"""Reads the events that some servers send in answer to a plain call, by the same rules as a stream."""

from __future__ import annotations

from typing import TypeVar

from nimclient._base.types import JsonDict
from nimclient._base.values import ResponseMeta
from nimclient._streams.accumulate import Accumulator
from nimclient._streams.reader import AnswerReader
from nimclient._streams.response import Response
from nimclient.errors import BodyTooLargeError, DecodeError, NimError, StreamInterruptedError
from nimclient.records._chunks import AnswerChunk

A = TypeVar("A")


async def read_events(
    response: Response, accumulator: Accumulator[A], choices: int, data: bytes | None = None
) -> tuple[JsonDict, ResponseMeta]:
    """The plain answer that the events amount to. `data`: the whole body, if it was read before.

    Raises what a stream raises, with the partial answer; BodyTooLargeError above Limits.max_body.
    """
    reader = _EventsReader(response, accumulator, AnswerChunk, choices)
    if data is not None:
        reader.take(data)
    while reader.failed or not reader.ended:
        await reader.refill()
        reader.ready.clear()
    answer = accumulator.answer()
    if answer is None:
        raise StreamInterruptedError(f"the response was a stream without an answer{reader.last_words()}")
    return answer, reader.meta()


class _EventsReader(AnswerReader[AnswerChunk, A]):
    """Reads at most Limits.max_body bytes, since the caller gets nothing before the answer is complete."""

    __slots__ = ("_size",)

    def _receive(self, data: bytes) -> bool:
        self._size = getattr(self, "_size", 0) + len(data)
        limit = self._response.limits.max_body
        if limit is not None and self._size > limit:
            raise BodyTooLargeError(f"the response exceeds {limit} bytes (Limits.max_body)", limit=limit)
        return super()._receive(data)

    def take(self, data: bytes) -> None:
        """Decode a body that was read to its end."""
        try:
            done = self._receive(data) or self._receive(b"")
            self._stop()
            if not done:
                self._end()
        except NimError as error:
            if isinstance(error, DecodeError) and self.is_complete:
                self._stop()
                return
            self._fail(error)
            raise

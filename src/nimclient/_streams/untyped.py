"""The reader of streams of any route."""

from __future__ import annotations

from nimclient._base.json import loads
from nimclient._base.types import Json
from nimclient._streams.events import decode_untyped
from nimclient._streams.reader import Reader
from nimclient._streams.response import Response
from nimclient._streams.sse import EventBuffer


class UntypedReader(Reader[Json]):
    """Reads a stream of any route: the decoded data of events, the value of a JSON body, or any other body as bytes."""

    __slots__ = ()

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        kind = response.head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            self._buffer = EventBuffer(self._max_event)
        elif kind.endswith(("/json", "+json")):
            self._whole = bytearray()

    def _begin(self, data: bytes) -> bytes:
        if data:
            self._add(data)
        return b""

    def _take(self, block: bytes) -> bool:
        for value in decode_untyped(block):
            if value is None:
                return True
            self._add(value)
        return False

    def _take_whole(self, data: bytes) -> None:
        self._add(loads(data))

    def _add(self, value: Json) -> None:
        self.has_content = True
        self.ready.append(value)

    def _end(self) -> None:
        """Accept any end: completeness depends on the route."""

"""Server-sent events: from bytes to events (WHATWG HTML, 9.2.6), in linear time for any division into reads.

Lines end at LF, CR or CRLF and nowhere else: U+2028 inside JSON is data. Two deviations from the
specification follow real servers: the comments of an event with a name are kept (Dynamo puts the text of `event: error`
there), a line `error:` is such an event (llama-server), and the last event needs no blank line after it.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from nimclient.errors import BodyTooLargeError

_BOM = b"\xef\xbb\xbf"
_CR = 13  # a number, since CPython raises a TypeError, unseen, for each `b"\r" in data`, which takes nine times as long
ENDS = (b"data: [DONE]", b"data:[DONE]", b"data: [DONE]\n", b"data:[DONE]\n")
"""Ends of a stream without a blank line, behind which some servers keep the connection open."""


class Event(NamedTuple):
    """`data` lines are joined by LF; `name` is the `event:` field; `comment` is kept where there is a name."""

    data: bytes
    name: str = ""
    comment: str = ""


class EventBuffer:
    """Feed bytes, get the complete events as one block with LF line ends and no blank line at its end.

    `max_event` is the maximum size in bytes of an incomplete event.
    """

    __slots__ = ("_max_event", "_skip_lf", "_started", "held")

    def __init__(self, max_event: int | None = None) -> None:
        self._max_event = max_event
        self.held = bytearray()  # an incomplete event
        self._skip_lf = False  # the last byte was CR: a following LF belongs to it
        self._started = False

    def feed(self, data: bytes) -> bytes:
        """The events completed by these bytes. Raises BodyTooLargeError above `max_event`."""
        if not self._started:
            data = self._start(data)
        if _CR in data or self._skip_lf:
            data = self._unify_line_ends(data)
        held = self.held
        if not held and data.endswith(b"\n\n"):
            return data[:-2]
        end = data.rfind(b"\n\n")
        if end < 0:
            if held.endswith(b"\n") and data[:1] == b"\n":  # the blank line spans two reads
                block, rest = bytes(held[:-1]), data[1:]
            else:
                held += data
                if self._max_event is not None and len(held) > self._max_event:
                    self._exceeded(self._max_event)
                return b""
        else:
            block, rest = data[:end], data[end + 2 :]
            if held:
                held += block
                block = bytes(held)
        self.held = bytearray(rest)
        if self._max_event is not None and len(rest) > self._max_event:
            self._exceeded(self._max_event)
        return block

    def is_at_end(self) -> bool:
        """Whether the last line so far is an end of the stream, and not only the end of a text about one."""
        return self.held.endswith(ENDS) and bytes(self.held).rstrip(b"\n").rpartition(b"\n")[2] in ENDS

    def flush(self) -> bytes:
        """The last event, completed by the end of the stream without a blank line."""
        block = bytes(self.held).rstrip(b"\n")
        self.held = bytearray()
        return block

    def _start(self, data: bytes) -> bytes:
        """Remove a byte-order mark at the beginning, which may arrive in pieces."""
        data = bytes(self.held) + data
        self.held = bytearray()
        if _BOM.startswith(data):
            self.held = bytearray(data)
            return b""
        self._started = True
        return data.removeprefix(_BOM)

    def _unify_line_ends(self, data: bytes) -> bytes:
        if self._skip_lf and data[:1] == b"\n":
            data = data[1:]
            self._skip_lf = False
        if data:
            self._skip_lf = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _exceeded(self, limit: int) -> NoReturn:
        self.held = bytearray()
        problem = f"an event of the stream exceeds {limit} bytes (Limits.max_event)"
        raise BodyTooLargeError(problem, limit=limit)


class LineBuffer(EventBuffer):
    """An EventBuffer for events that are a line each, without `data:` (NDJSON)."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        """See EventBuffer."""
        begin = b"" if self._started else b"data: "
        return super().feed(begin + data.replace(b"\n", b"\n\ndata: "))


def parse_events(block: bytes) -> list[Event]:
    """The events of any form in a block."""
    return [event for lines in block.split(b"\n\n") if (event := _parse_event(lines)) is not None]


def _parse_event(block: bytes) -> Event | None:
    """One event of any form; None if it is empty (comments only, empty data without a name)."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return Event(block[6:]) if len(block) > 6 else None
    data: list[bytes] = []
    comments: list[str] = []
    name = ""
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"error" and value:
            name = "error"
            data.append(value)
        elif not field and line:
            comments.append(value.decode("utf-8", "replace"))
    payload = b"\n".join(data)
    if name:
        return Event(payload, name, "\n".join(comments))
    return Event(payload) if payload else None

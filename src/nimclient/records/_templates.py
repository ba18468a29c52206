"""Events of a stream that differ in one text only, as nearly all of them do.

A template is the bytes of such an event before and after its text. What starts and ends with them, and is one JSON string in
between, is the same event with another text: it need not be parsed to know what it adds.
"""

from __future__ import annotations

import re
from typing import Self

from nimclient._base.json import dumps, loads, loads_string, loads_strings
from nimclient._base.types import JsonDict
from nimclient.errors import DecodeError

_LF = 10  # as a number: see sse.py
_SHORT = 14
"""Bytes of an event's beginning that are enough to look for."""


class EventTemplate:
    """The bytes around one text of an event. `is_text`: whether it is that of the choice with index 0."""

    __slots__ = ("_begin", "_end", "_head", "_quote", "_separator", "_tail", "is_text")

    def __init__(self, head: bytes, tail: bytes, *, is_text: bool) -> None:
        self._head = head  # "data:" up to the opening quote …
        self._tail = tail  # … and on from the closing one
        self._separator = b"\n\n" + head[:_SHORT]
        self._quote = len(head) - 1
        self._begin, self._end = len(head) - len(head[:_SHORT]), -len(tail)
        self.is_text = is_text

    @classmethod
    def of(cls, data: bytes, event: JsonDict, name: str, *, in_delta: bool, is_text: bool) -> Self | None:
        """The template of an event of one line, given also in its decoded form; None if it is not certain to be one.

        Args:
            data: The event as received.
            event: The same, decoded.
            name: The key of the text, in the only choice …
            in_delta: … or in its delta.
            is_text: See EventTemplate.
        """
        found = re.search(rb'"%b"\s*:\s*"' % name.encode(), data)
        if found is None or not data.startswith(b"data:") or b"\n" in data:
            return None
        template = cls(data[: found.end()], data[data.find(b'"', found.end()) :], is_text=is_text)
        try:
            other = template.filled("another text")
        except DecodeError:
            return None
        choice, same = other["choices"][0], event["choices"][0]
        place, text = (choice["delta"], same["delta"]) if in_delta else (choice, same)
        if place[name] != "another text":
            return None
        place[name] = text[name]
        return template if other == event else None

    def texts(self, block: bytes) -> list[str] | None:
        """The texts of a block of events, none of them empty; None if one of the events is not of this form."""
        if not (block.startswith(self._head) and block.endswith(self._tail)):
            return None
        if _LF not in block:  # one event, as a server sends it that does not wait for others
            return None if (text := loads_string(block[self._quote : self._end + 1])) is None else [text]
        parts = block.split(self._separator)  # it begins what is between two texts, and a short one is found sooner
        if block.count(b"%b\n\n%b" % (self._tail, self._head)) != len(parts) - 1:
            return None
        parts[0] = parts[0][_SHORT:]
        begin, end = self._begin, self._end
        return loads_strings([part[begin:end] for part in parts])

    def filled(self, text: str) -> JsonDict:
        """The event with this text."""
        event: JsonDict = loads(self._head[5:-1] + dumps(text) + self._tail[1:])
        return event

r"""Reads JSON that arrives in pieces, and shows at any time what is known of it. Every character is looked at once.

Values only grow: text gets longer, lists get items, objects get keys. What a later piece could change is not shown yet: a
number or a word up to the character after it, an escape such as `\u00e4` up to its end, half a surrogate pair.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from nimclient._base.json import loads_text
from nimclient._base.types import Json
from nimclient.errors import DecodeError

MAX_DEPTH = 250

_WORDS: Mapping[str, Json] = {"true": True, "false": False, "null": None}
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SPECIAL = re.compile(r'["\\]')
"""What ends a run of plain characters in a string: no line end, which models write as it is."""
_SPACE = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(r"[-+.0-9A-Za-z]*")
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_HALF = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
"""An escape that is not complete."""


class Unknown(Enum):
    """Stands for a value of which nothing can be shown yet."""

    UNKNOWN = "unknown"


UNKNOWN: Any = Unknown.UNKNOWN


class NotJsonError(ValueError):
    """The text is not JSON."""


class OpenValue:
    """An object or a list that is not closed: its finished items, and the key of the item that is being read.

    This one shows plain JSON; subclasses show values of types.
    """

    def __init__(self, *, is_object: bool) -> None:
        self.is_object = is_object
        self.fields: dict[str, Json] = {}  # of an object …
        self.items: list[Json] = []  # … or of a list
        self.key = ""

    def begin(self, key: str) -> None:
        """The item of this key follows."""
        self.key = key

    def opened(self, *, is_object: bool) -> OpenValue:
        """The item that is being read is an object or a list."""
        return OpenValue(is_object=is_object)

    def shows_text(self) -> bool:
        """The item that is being read is a string: whether it is shown before its end."""
        return True

    def add(self, value: Json) -> None:
        """The item is complete."""
        if self.is_object:
            self.fields[self.key] = value
        else:
            self.items.append(value)

    def shown(self, item: Any) -> Any:
        """The value so far, with what is known of the item that is being read; a new one at each call."""
        if not self.is_object:
            return list(self.items) if item is UNKNOWN else [*self.items, item]
        if item is UNKNOWN or self.key in self.fields:  # a key that comes twice counts when it is complete
            return dict(self.fields)
        return {**self.fields, self.key: item}

    def json(self) -> Json:
        """The plain JSON of the finished items."""
        return self.fields if self.is_object else self.items


class _Expected(Enum):
    VALUE = "a value"
    ITEM = "a value, or the end of the list"
    KEY = "a key"
    FIRST_KEY = "a key, or the end of the object"
    COLON = "a colon"
    COMMA = "a comma, or the end"
    STRING = "the rest of a string"
    KEY_STRING = "the rest of a key"
    SCALAR = "the rest of a number, or of true, false, null"


_STRING = _Expected.STRING


class PartialJson:
    """Feed the pieces of one object or list, from its first bracket on. What follows its end is ignored.

    `grew` is whether `shown` has more than when it was read last. Raises NotJsonError, and what the open values raise.
    """

    def __init__(self, root: OpenValue) -> None:
        self._root = root
        self._open: list[OpenValue] = []
        self._expected = _Expected.VALUE
        self._parts: list[str] = []  # of the string, the key or the scalar that is being read
        self._held = ""  # the beginning of an escape
        self._shows_text = False
        self.closed = False
        self.grew = False

    def shown(self) -> Any:
        """What is known so far, UNKNOWN before the first bracket."""
        self.grew = False
        shown: Any = UNKNOWN
        if self._expected is _STRING and self._shows_text:
            self._parts = ["".join(self._parts)]
            shown = self._parts[0]
        for value in reversed(self._open):
            shown = value.shown(shown)
        return shown

    def feed(self, piece: str) -> None:
        """Read the next piece."""
        if self._expected is _STRING and not self._held and _SPECIAL.search(piece) is None:
            self._parts.append(piece)
            self.grew = self.grew or self._shows_text
            return
        text = self._held + piece if self._held else piece
        self._held = ""
        place = 0
        while place < len(text) and not self.closed:
            expected = self._expected
            if expected is _STRING or expected is _Expected.KEY_STRING:
                place = self._read_string(text, place)
            elif expected is _Expected.SCALAR:
                place = self._read_scalar(text, place)
            else:
                space = _SPACE.match(text, place)
                place = space.end() if space is not None else place
                if place < len(text):
                    place = self._read_mark(text[place], place, expected)

    # what is expected where ------------------------------------------------------------------------------------

    def _read_mark(self, mark: str, place: int, expected: _Expected) -> int:
        """Read one character between strings and scalars; returns the place after it."""
        if expected is _Expected.VALUE or expected is _Expected.ITEM:
            return self._begin_value(mark, place, expected)
        if expected is _Expected.COMMA and mark == ",":
            self._expected = _Expected.KEY if self._open[-1].is_object else _Expected.VALUE
        elif expected is _Expected.COLON and mark == ":":
            self._expected = _Expected.VALUE
        elif mark == '"' and (expected is _Expected.KEY or expected is _Expected.FIRST_KEY):
            self._expected = _Expected.KEY_STRING
        elif mark == "}" and (expected is _Expected.FIRST_KEY or expected is _Expected.COMMA):
            self._close(is_object=True)
        elif mark == "]" and expected is _Expected.COMMA:
            self._close(is_object=False)
        else:
            raise NotJsonError(f"{mark!r} in place of {expected.value}")
        return place + 1

    def _begin_value(self, mark: str, place: int, expected: _Expected) -> int:
        if mark == '"' and self._open:
            self._expected = _STRING
            self._shows_text = self._open[-1].shows_text()
            self.grew = self.grew or self._shows_text
        elif mark in "{[":
            is_object = mark == "{"
            self._open.append(self._open[-1].opened(is_object=is_object) if self._open else self._root)
            self._expected = _Expected.FIRST_KEY if is_object else _Expected.ITEM
            self.grew = True
            if len(self._open) > MAX_DEPTH:
                raise NotJsonError("nested too deeply")
        elif mark == "]" and expected is _Expected.ITEM:
            self._close(is_object=False)
        elif self._open and (mark in "-tfn" or "0" <= mark <= "9"):
            self._expected = _Expected.SCALAR
            return place
        else:
            raise NotJsonError(f"{mark!r} in place of {expected.value}")
        return place + 1

    def _close(self, *, is_object: bool) -> None:
        value = self._open.pop()
        if value.is_object != is_object:
            raise NotJsonError("a bracket of the other kind")
        if self._open:
            self._add(value.json())
        else:
            self.closed = True

    def _add(self, value: Json) -> None:
        self._open[-1].add(value)
        self._expected = _Expected.COMMA
        self.grew = True

    # strings and scalars ---------------------------------------------------------------------------------------

    def _read_scalar(self, text: str, place: int) -> int:
        found = _SCALAR.match(text, place)
        end = found.end() if found is not None else place
        self._parts.append(text[place:end])
        if end < len(text):
            self._add(_scalar("".join(self._parts)))
            self._parts.clear()
        return end

    def _read_string(self, text: str, place: int) -> int:
        """Read up to an escape, to the end of the string or of the text."""
        found = _SPECIAL.search(text, place)
        end = len(text) if found is None else found.start()
        if end > place:
            self._parts.append(text[place:end])
            self.grew = self.grew or (self._shows_text and self._expected is _STRING)
        if found is None:
            return end
        if found[0] == '"':
            self._end_string("".join(self._parts))
            return end + 1
        return self._read_escape(text, end)

    def _end_string(self, string: str) -> None:
        self._parts.clear()
        if self._expected is _STRING:
            self._add(string)
        else:
            self._open[-1].begin(string)
            self._expected = _Expected.COLON

    def _read_escape(self, text: str, place: int) -> int:
        """Read one escape, or a pair of them that make one character; hold what is not complete."""
        character, end = _ESCAPES.get(text[place + 1 : place + 2]), place + 2
        if character is None:
            found = _UNICODE.match(text, place)
            if found is None:
                return self._hold(text, place)
            character, end = chr(int(found[1], 16)), found.end()
            if "\ud800" <= character <= "\udbff":
                second = _UNICODE.match(text, end)
                if (second is None and _HALF.fullmatch(text, end) is not None) or end == len(text):
                    return self._hold(text, place, end)
                if second is not None and 0xDC00 <= (low := int(second[1], 16)) <= 0xDFFF:
                    character = (character + chr(low)).encode("utf-16", "surrogatepass").decode("utf-16")
                    end = second.end()
            if "\ud800" <= character <= "\udfff":
                character = "\ufffd"
        self._parts.append(character)
        self.grew = self.grew or (self._shows_text and self._expected is _STRING)
        return end

    def _hold(self, text: str, place: int, half: int | None = None) -> int:
        """Keep an escape at the end of the text for the next piece; `half` is where the second one of a pair begins."""
        if half is None and _HALF.fullmatch(text, place) is None:
            raise NotJsonError("an unknown escape in a string")
        self._held = text[place:]
        return len(text)


def _scalar(word: str) -> Json:
    """A number, true, false or null."""
    if word in _WORDS:
        return _WORDS[word]
    try:
        return loads_text(word, "a number")
    except DecodeError:
        raise NotJsonError(f"{word[:40]!r} is not a number") from None

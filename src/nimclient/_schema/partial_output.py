"""The output of a model that is still being written, as a value of its type."""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar

from nimclient._schema.partial_json import UNKNOWN, NotJsonError, OpenValue, PartialJson
from nimclient._schema.partial_values import Growth
from nimclient._schema.shapes import Misfit, Shape
from nimclient._schema.structured import Output, read_output
from nimclient.records._tags import CLOSE
from nimclient.records.answers import Parsed
from nimclient.records.chat import ChatCompletion

T = TypeVar("T")

_BEGINNING = re.compile(r"\s*(?:(?:```|~~~)[\w-]*\s*)?(?=([{\[]))")
"""What may precede the JSON: white space, and a code fence with its language."""
_MAY_BEGIN = re.compile(r"\s*(?:`{1,2}|~{1,2}|(?:```|~~~)[\w-]*\s*)?")
"""A text that may still begin like this."""


class PartialOutput(Generic[T]):
    """Feed the text of an answer piece by piece; `feed` returns the value so far, UNKNOWN if it did not grow.

    An answer that begins with other words, without the tags of reasoning, shows nothing: only at its end is it known which
    JSON in it is meant. Nor does one after its JSON: the whole is the business of `read_output`.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._growth = Growth()
        self._beginning = ""
        self._is_prose = False
        self._json: PartialJson | None = None
        self._has_shown = False
        self._is_over = False
        self.parsed: Parsed[T] | None = None

    def feed(self, piece: str) -> Any:
        """Read the next piece."""
        while not self._is_over:
            try:
                if self._json is None:
                    piece = self._begin(piece)
                if self._json is None:
                    break
                self._json.feed(piece)
                return self._shown(self._json)
            except (
                NotJsonError,
                Misfit,
                RecursionError,
                OverflowError,
            ):  # what began like JSON is none, or another one
                self._json, self._is_prose, self._is_over = None, True, self._has_shown
        return UNKNOWN

    def end(self, completion: ChatCompletion) -> Parsed[T]:
        """The value of the whole answer. OutputError if it has none."""
        if self.parsed is None:
            self.parsed = Parsed(read_output(self._output, completion), completion)
        return self.parsed

    def _shown(self, json: PartialJson) -> Any:
        self._is_over = json.closed
        shown = UNKNOWN if json.closed or not json.grew else json.shown()
        self._has_shown = self._has_shown or shown is not UNKNOWN
        return shown

    def _begin(self, piece: str) -> str:
        """Look for the beginning of the JSON; returns the text from there on."""
        text, self._beginning = self._beginning + piece, ""
        while True:
            if not self._is_prose:
                found = _BEGINNING.match(text)
                if found is not None:
                    self._json = PartialJson(self._root(is_object=found[1] == "{"))
                    return text[found.end() :]
                if _MAY_BEGIN.fullmatch(text) is not None:
                    self._beginning = text.lstrip()
                    return ""
            reasoning, closed, rest = text.partition(CLOSE)
            self._is_prose = not closed
            if not closed:
                self._beginning = reasoning[1 - len(CLOSE) :]
                return ""
            text = rest

    def _root(self, *, is_object: bool) -> OpenValue:
        output = self._output
        if output.wrapped and is_object:
            return _Wrapper(self._growth, output.shape)
        return self._growth.open(output.shape, is_object=is_object)


class _Wrapper(OpenValue):
    """The object around a value that is not an object itself."""

    def __init__(self, growth: Growth, shape: Shape) -> None:
        super().__init__(is_object=True)
        self._growth = growth
        self._shape = shape

    def begin(self, key: str) -> None:
        """See OpenValue."""
        if key != "value" or self.fields:
            raise Misfit(key, "is not the key of the value")
        super().begin(key)

    def opened(self, *, is_object: bool) -> OpenValue:
        """See OpenValue."""
        return self._growth.open(self._shape, is_object=is_object)

    def shows_text(self) -> bool:
        """See OpenValue."""
        return self._growth.shows_text(self._shape)

    def shown(self, item: Any) -> Any:
        """See OpenValue."""
        return item

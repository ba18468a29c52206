"""Splits `<think>` tags off the text of a stream, for any division into pieces.

The concatenated output equals that of `split_tags` for the whole text, with one exception: a closing tag without an
opening one (DeepSeek's templates) cannot be foreseen, so text before it is returned as content.
"""

from __future__ import annotations

from enum import Enum

from nimclient.records._tags import CLOSE, MAX_SPACE, OPEN


class _Place(Enum):
    BEFORE = "only white space or the beginning of a tag so far"
    INSIDE = "between the tags"
    AFTER = "white space after the closing tag"
    BEYOND = "the text"


class TagSplitter:
    """Feed the pieces of one choice's text in order. `done` is True when all further text is content."""

    __slots__ = ("_begun", "_held", "_place")

    def __init__(self) -> None:
        self._place = _Place.BEFORE
        self._held = ""  # a possible tag, or white space around one
        self._begun = False  # whether any reasoning was returned

    @property
    def done(self) -> bool:
        """Whether there is nothing left to split."""
        return self._place is _Place.BEYOND

    def feed(self, piece: str) -> tuple[str, str]:
        """What this piece adds to the reasoning and to the text."""
        self._held += piece
        if self._place is _Place.BEFORE and not self._opened():
            return "", self._released() if self.done else ""
        reasoning = self._reasoning() if self._place is _Place.INSIDE else ""
        if self._place is _Place.AFTER:
            self._held = self._held.lstrip()
            if self._held:
                self._place = _Place.BEYOND
        return reasoning, self._released() if self.done else ""

    def flush(self) -> tuple[str, str]:
        """The held text at the end of the choice."""
        place, self._place = self._place, _Place.BEYOND
        held = self._released()
        return (self._trimmed(held).rstrip(), "") if place is _Place.INSIDE else ("", held)

    def _released(self) -> str:
        held, self._held = self._held, ""
        return held

    def _opened(self) -> bool:
        """Whether the opening tag is complete; the state becomes BEYOND if there is none."""
        rest = self._held.lstrip()
        space = len(self._held) - len(rest)
        for tag, place in ((OPEN, _Place.INSIDE), (CLOSE, _Place.AFTER)):
            if space <= MAX_SPACE and rest.startswith(tag):
                self._place = place
                self._held = rest[len(tag) :]
                return True
        if space > MAX_SPACE or not (OPEN.startswith(rest) or CLOSE.startswith(rest)):
            self._place = _Place.BEYOND
        return False

    def _reasoning(self) -> str:
        """The reasoning up to the closing tag, or up to the possible beginning of one."""
        inside, closed, rest = self._held.partition(CLOSE)
        if closed:
            self._place = _Place.AFTER
        else:
            tag = inside.rfind("<")
            if tag >= 0 and CLOSE.startswith(inside[tag:]):
                inside = inside[:tag]
        inside = inside.rstrip()
        self._held = rest if closed else self._held[len(inside) :]
        return self._trimmed(inside)

    def _trimmed(self, reasoning: str) -> str:
        """The reasoning without white space before its first word."""
        if not self._begun:
            reasoning = reasoning.lstrip()
            self._begun = bool(reasoning)
        return reasoning


class StrayTagRemover:
    """Takes a closing tag, which a server's own parser left there, off the beginning of a text. Used like TagSplitter."""

    __slots__ = ("_closed", "_held", "done")

    def __init__(self) -> None:
        self._held = ""  # the possible beginning of a tag
        self._closed = False
        self.done = False

    def feed(self, piece: str) -> tuple[str, str]:
        """What this piece adds to the text, after no reasoning."""
        held, self._held = self._held + piece, ""
        body = held.lstrip()
        space = held[: len(held) - len(body)]
        if self._closed:
            self.done = bool(body)
            return "", body
        if body.startswith(CLOSE):
            self._closed = True
            body = body[len(CLOSE) :].lstrip()
        elif body and CLOSE.startswith(body):
            self._held = body
            return "", space
        self.done = bool(body)
        return "", space + body

    def flush(self) -> tuple[str, str]:
        """The held text at the end of the choice."""
        return "", self._held

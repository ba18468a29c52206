"""What a question offers to fill in: the numbers and the names written in it."""

import re
from collections import deque
from typing import Final

from .text import STOP_WORDS

_QUOTED: Final = re.compile(r"[\"“']([^\"”']{1,60})[\"”'](?!\w)")
_NAME: Final = re.compile(r"\b[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_NUMBER: Final = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w]|\.\d)")
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?]\s+)$")


class Hints:
    """Numbers and names to fill in, each used once, and a text for the strings that are left."""

    def __init__(self, question: str = "", fallback: str | None = None) -> None:
        self.question = question.lower()
        self.numbers = deque(numbers_in(question))
        self.names = deque(names_in(question))
        self.fallback = question if fallback is None else fallback


def numbers_in(text: str) -> list[float]:
    """The numbers written in a text, in order."""
    return [float(found) for found in _NUMBER.findall(text)]


def names_in(text: str) -> list[str]:
    """What looks like a name: quoted words, then capitalised words, those that begin a sentence last."""
    inside: list[str] = []
    first: list[str] = []
    for match in _NAME.finditer(text):
        name = match.group()
        if name.lower() not in STOP_WORDS:
            (first if _SENTENCE_START.search(text[: match.start()]) else inside).append(name)
    return list(dict.fromkeys([*_QUOTED.findall(text), *inside, *first]))

"""Splits text into token pieces, words and sentences.

Pure and deterministic. The tokenizer is a regular expression without a vocabulary: its counts resemble those of
a byte-pair tokenizer for English prose, and its pieces joined are exactly the text.
"""

import re
from typing import Final

_PIECE: Final = re.compile(r" ?\w{1,6}| ?[^\w\s]{1,4}|\s{1,8}")
_WORD: Final = re.compile(r"[^\W_]+")
# A sentence ends at its mark, at an empty line, and before a list item or a "Label:" on a line of its own; a plain
# line break inside a paragraph (a wrapped docstring) does not end one.
_SENTENCE_END: Final = re.compile(r"(?<=[.!?。！？])\s+|\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)]|[A-Z]\w*:)\s)")

_STOP_WORDS = """
    a about above after again all also am an and any are as at be because been before being below between both but by
    can could did do does doing down during each few for from further had has have having he her here hers him his how
    i if in into is it its just let may me might more most must my no nor not now of off on once only or other our out
    over own please same shall she should so some such than that the their them then there these they this those
    through to too under until up upon us very was we were what when where which while who whom why will with would
    yes you your
"""
STOP_WORDS: Final = frozenset(_STOP_WORDS.split())


def pieces(text: str) -> list[str]:
    """The tokens of a text, in order; joined they are the text."""
    return _PIECE.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens a text has."""
    return len(_PIECE.findall(text))


def words(text: str) -> list[str]:
    """The words of a text in lower case; snake_case is split into its words."""
    return _WORD.findall(text.lower())


def stem(word: str) -> str:
    """A word without its plural ending: queries → query, classes → class, loops → loop."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]


def content_stems(text: str) -> list[str]:
    """The stems of content words, in order, without stop words."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


def sentences(text: str) -> list[str]:
    """The sentences of a text, each on one line with its white space collapsed."""
    found = (" ".join(part.split()) for part in _SENTENCE_END.split(text))
    return [sentence for sentence in found if sentence]

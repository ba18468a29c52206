"""Finds values in a text for the fields to fill: a day for `day`, a person for `name`.

A field's value is searched after its label ("name: Ada"), then by the meaning of its name (a day, a time, a person, a
place), then by order. No value is used twice. Only regular expressions: German dates are not recognized.
"""

import re
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from .text import STOP_WORDS, stem


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WEEKDAYS: Final = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_MONTHS: Final = "january|february|march|april|may|june|july|august|september|october|november|december"
_DATE: Final = (
    rf"\d{{4}}-\d\d-\d\d|\d{{1,2}}(?:st|nd|rd|th)? (?:{_MONTHS})(?: \d{{4}})?"
    rf"|(?:{_MONTHS}) \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?"
)
_TIME: Final = r"\d{1,2}(?::\d\d)? ?[ap]\.?m\b\.?|\d{1,2}:\d\d(?::\d\d)?|noon|midnight"
_NAME: Final = re.compile(r"\b[A-ZÀ-Þ][\w'’-]*(?: (?:(?:de|van|von|der) )?[A-ZÀ-Þ][\w'’-]*){0,3}")
_QUOTED: Final = re.compile(r"[\"“']([^\"”']{1,60})[\"”'](?!\w)")
_NUMBER: Final = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w]|\.\d)")
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?]\s+|\n\s*)$")
_SERIES: Final = re.compile(rf"{_NAME.pattern}(?:, {_NAME.pattern}){{0,20}},? (?:and|or) {_NAME.pattern}")
_IMPERATIVES: Final = _set(
    "add analyze answer ask book call check compare compute convert create describe explain extract fetch find get give "
    "hello help hi list look make multiply name order parse please plan read reserve return say schedule search show "
    "summarize tell thank thanks translate use weather write"
)
_LIST_BREAK: Final = re.compile(r"\s*(?:,\s*(?:and|or)\s+|,|\s+(?:and|or)\s+)\s*")
_WINDOW: Final = 40
_MAX_READ: Final = 10_000
_NEGATION: Final = re.compile(r"\b(?:no|not|never|without)\b|n't\b", re.IGNORECASE)
# fmt: off
_NUMBER_WORDS: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)
# fmt: on
# The meaning of field names: the words in the name, and the pattern of its values.
_PATTERNS: Final = tuple(
    (_set(words), re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.IGNORECASE))
    for words, pattern in (
        ("email mail", r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
        ("url uri link website homepage", r"https?://[^\s,;)\"']+[^\s,;.)\"']"),
        ("phone telephone mobile", r"\+?\d[\d ()/-]{5,20}\d"),
        ("time hour clock", _TIME),
        ("day date when weekday deadline due", rf"{_DATE}|{_WEEKDAYS}|today|tomorrow|tonight"),
        ("month", _MONTHS),
    )
)
_PERSON: Final = _set("name person customer guest user author who surname host passenger patient contact owner")
_PLACE: Final = _set("city town country place location destination origin where region address state")
_BEFORE_PERSON: Final = re.compile(
    r"\b(?:by|for|named|called|name is|i am|i'm|is|mr\.?|mrs\.?|ms\.?|dr\.?|with)\s+$", re.I
)
_BEFORE_PLACE: Final = re.compile(r"\b(?:in|at|to|from|near|of|for|visit|via)\s+$", re.IGNORECASE)
_ORIGIN: Final = _set("from origin source departure start")
_TARGET: Final = _set("to destination target arrival end")
# Words next to a number that indicate a field.
_NEIGHBOURS: Final = (
    (_set("age"), _set("year old aged")),
    (
        _set("guest people person party size seat count attendee"),
        _set("people person guest seat adult friend table"),
    ),
    (
        _set("price cost amount total budget fee salary"),
        _set("$ € £ usd eur dollar euro"),
    ),
    (
        _set("duration length minute hour night"),
        _set("minute hour day night week"),
    ),
    (_set("temperature degree celsius"), _set("° c degree celsius fahrenheit")),
)


class _Match(NamedTuple):
    start: int
    text: str


class Values:
    """The values in the first 10,000 characters of a text. `fallback` is for strings without a value."""

    def __init__(self, text: str = "", fallback: str | None = None) -> None:
        self.text = text = text[:_MAX_READ]
        self.fallback = text if fallback is None else fallback
        self._numbers = numbers_in(text)
        self._names = names_in(text)
        self._used: set[int] = set()

    def knows(self, field: str) -> bool:
        """Whether the text has a certain value for this field: after its label, or by its meaning."""
        return bool(self._labelled(field) or self._by_pattern(field) or self.knows_number(field))

    def knows_number(self, field: str) -> bool:
        """Whether a number is next to words that indicate the field."""
        return any(self._nearness(at, field) for at in self._numbers)

    def texts(self, field: str) -> list[str]:
        """The unused texts that may fill a field, the most likely first."""
        found = [*self._labelled(field), *self._by_pattern(field), *sorted(self._unused(), key=self._rank(field))]
        return list(dict.fromkeys([item.text for item in found if item.start not in self._used] + [self.fallback]))

    def use(self, text: str) -> bool:
        """Mark a value as used; returns whether it is in the text and was unused."""
        places = {item.start for item in self._names if item.text == text}
        fresh = bool(places - self._used) or (text != self.fallback and text in self.text and not places)
        self._used |= places
        return fresh

    def numbers(self, field: str) -> list[float]:
        """The unused numbers, those next to words that indicate the field first."""
        unused = [at for at in self._numbers if at not in self._used]
        return [self._numbers[at] for at in sorted(unused, key=lambda at: (-self._nearness(at, field), at))]

    def use_number(self, number: float) -> None:
        """Mark the first unused occurrence of a number as used."""
        place = next((at for at, value in self._numbers.items() if value == number and at not in self._used), None)
        if place is not None:
            self._used.add(place)

    def is_true(self, field: str) -> bool:
        """Whether the text mentions a field without a word like "no" or "not" in the same clause."""
        wanted = name_words(field) - {"is", "ha", "has", "need", "want", "include"}
        for clause in re.split(r"[.,;!?\n]|\bbut\b", self.text):
            if wanted and wanted <= set(map(stem, re.findall(r"\w+", clause.lower()))):
                return _NEGATION.search(clause) is None
        return False

    def items(self, field: str) -> list[str]:
        """The texts of a list: those after its label, else a series of names ("Paris, Rome and Oslo")."""
        pattern = rf"\b{_label(field)}\s*(?::|=|\bare\b)\s*([^.\n;]+)"
        if field and (found := re.search(pattern, self.text, re.IGNORECASE)):
            return [item for item in _LIST_BREAK.split(found[1].strip()) if item]
        return series_in(self.text)

    def named(self, texts: list[str]) -> str | None:
        """The first of some texts that occurs in the text."""
        spelled = (text for text in texts if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", self.text, re.IGNORECASE))
        return next((text for text in spelled if text), None)

    def date(self) -> str | None:
        """The first full date in the text, in ISO 8601."""
        found = re.search(_DATE, self.text, re.IGNORECASE)
        return iso_date(found.group()) if found else None

    def matching(self, pattern: str) -> list[str]:
        """The matches of a pattern."""
        return [word for raw in self.text.split() if (word := raw.strip(".,;:!?\"'()")) and re.search(pattern, word)]

    def _labelled(self, field: str) -> list[_Match]:
        if not field:
            return []
        value = (
            r"[\"“']([^\"”']+)[\"”']|([^\s,.;\n][^,;\n]*?)(?=\s+(?:and|with|for|on|at|is|,)\s|[,;\n]|[.!?](?:\s|$)|$)"
        )
        pattern = rf"\b{_label(field)}\b\s*(?::|=|\bis\b|\bnamed\b|\bcalled\b)\s*(?:{value})"
        return [
            _Match(match.start(1) if match[1] else match.start(2), match[1] or match[2])
            for match in re.finditer(pattern, self.text, re.IGNORECASE)
        ]

    def _by_pattern(self, field: str) -> list[_Match]:
        patterns = [pattern for words, pattern in _PATTERNS if words & name_words(field)]
        return [_Match(match.start(), match.group()) for pattern in patterns for match in pattern.finditer(self.text)]

    def _unused(self) -> list[_Match]:
        return [item for item in self._names if item.start not in self._used]

    def _rank(self, field: str) -> "_Rank":
        return _Rank(self.text, name_words(field))

    def _nearness(self, at: int, field: str) -> int:
        """The number of words next to a number that indicate a field."""
        before, after = self.text[max(0, at - _WINDOW) : at].lower(), self.text[at : at + _WINDOW].lower()
        beside = {
            *map(stem, re.findall(r"[a-z]+|[$€£°]", before)[-3:]),
            *map(stem, re.findall(r"[a-z]+|[$€£°]", after)[:3]),
        }
        wanted = name_words(field).union(*(words for names, words in _NEIGHBOURS if names & name_words(field)))
        return len(beside & wanted)


class _Rank:
    """The sort key of names for a field; names at typical positions for the field come first."""

    def __init__(self, text: str, words: frozenset[str]) -> None:
        self._text = text
        self._words = words

    def __call__(self, item: _Match) -> int:
        before = self._text[max(0, item.start - _WINDOW) : item.start]
        if self._words & (_ORIGIN | _TARGET):
            side = "from" if self._words & _ORIGIN else "to"
            return 0 if re.search(rf"\b{side}\s+$", before) else 1
        if self._words & _PLACE:
            return 0 if _BEFORE_PLACE.search(before) else 1
        if self._words & _PERSON:
            return 0 if _BEFORE_PERSON.search(before) else 1 + bool(_BEFORE_PLACE.search(before))
        return 0


@lru_cache(maxsize=1024)
def name_words(field: str) -> frozenset[str]:
    """The words of a property's name: split at snake_case and camelCase, in the singular."""
    return frozenset(map(stem, re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", field).lower())))


def _label(field: str) -> str:
    """A pattern for a field's name in prose."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", field).replace("_", " ").split()
    return r"[\s_-]*".join(map(re.escape, words))


def numbers_in(text: str) -> dict[int, float]:
    """The numbers in a text by position, in digits and words up to twenty, without times and dates."""
    taken = [match.span() for match in re.finditer(rf"{_DATE}|{_TIME}", text, re.IGNORECASE)]
    found = {match.start(): float(match.group().replace(",", "")) for match in _NUMBER.finditer(text)}
    for match in re.finditer(r"\w+", text.lower()):
        if match.group() != "one" and match.group() in _NUMBER_WORDS:
            found[match.start()] = float(_NUMBER_WORDS.index(match.group()))
    return {at: found[at] for at in sorted(found) if not any(start <= at < end for start, end in taken)}


def names_in(text: str) -> list[_Match]:
    """Candidates for names: quoted words, then capitalized ones, those that begin a sentence last; no days or months."""
    inside: list[_Match] = [_Match(match.start(1), match[1]) for match in _QUOTED.finditer(text)]
    first: list[_Match] = []
    for match in _NAME.finditer(text):
        found = _without_opening(_Match(match.start(), match.group()))
        if not found.text or re.fullmatch(rf"(?:{_WEEKDAYS}|{_MONTHS})s?", found.text, re.IGNORECASE):
            continue
        (first if _SENTENCE_START.search(text[max(0, match.start() - _WINDOW) : match.start()]) else inside).append(
            found
        )
    return inside + first


def _without_opening(name: _Match) -> _Match:
    """A name without a capitalized word that only begins the sentence: "Compare Paris" → "Paris", "What" → ""."""
    first, _, rest = name.text.partition(" ")
    if first.lower() in STOP_WORDS or first.lower() in _IMPERATIVES:
        return _Match(name.start + len(first) + 1, rest)
    return name


def series_in(text: str) -> list[str]:
    """The names of the first series in a text: "Paris, Rome and Oslo"; empty without a series."""
    found = _series(text)
    return [] if found is None else [name for name in _LIST_BREAK.split(found.text) if name]


def one_by_one(text: str) -> list[str]:
    """A text with a series of names as one text for each name; else the text itself."""
    found = _series(text)
    if found is None:
        return [text]
    end = found.start + len(found.text)
    return [f"{text[: found.start]}{name}{text[end:]}" for name in series_in(text)]


def _series(text: str) -> _Match | None:
    found = _SERIES.search(text)
    return None if found is None else _without_opening(_Match(found.start(), found.group()))


def iso_date(written: str) -> str | None:
    """A date with its year as YYYY-MM-DD; None for a date without a year or that does not exist."""
    plain = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b|,", "", written)
    for form in ("%Y-%m-%d", "%d %B %Y", "%B %d %Y"):
        try:
            return datetime.strptime(plain, form).date().isoformat()
        except ValueError:
            continue
    return None

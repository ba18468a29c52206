"""Parses docstrings in the styles of Google, NumPy and Sphinx: the text, and the descriptions of parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from attrs import field, frozen

_PARAMETERS = frozenset({"args", "arguments", "parameters", "params", "attributes", "keyword args", "other parameters"})
_OTHERS = frozenset({"returns", "return", "raises", "yields", "example", "examples", "see also", "warns"})
_GOOGLE = re.compile(r"\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:\s*(.*)")
_NUMPY = re.compile(r"\*{0,2}(\w+)\s*(?::.*)?$")
_SPHINX = re.compile(
    r":(?:param|parameter|arg|argument|key|keyword|var|ivar|attribute)\s+(?:[^:]*\s)?\*{0,2}(\w+):\s*(.*)"
)


@frozen
class Documentation:
    """A parsed docstring: the text before its sections, and a text for each parameter."""

    text: str = ""
    parameters: Mapping[str, str] = field(factory=dict[str, str])


def read_docstring(docstring: str | None) -> Documentation:
    """Parse a docstring; sections on results, errors and examples are left out."""
    reader = _DocstringReader(inspect.cleandoc(docstring).splitlines() if docstring else [])
    reader.read()
    parameters = {name: " ".join(words) for name, words in reader.parameters.items()}
    return Documentation("\n".join(reader.prose).strip(), {name: text for name, text in parameters.items() if text})


class _DocstringReader:
    """Reads the lines once; `_section` is the style of the current section, `_words` belong to the current entry."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self.prose: list[str] = []
        self.parameters: dict[str, list[str]] = {}
        self._section = ""
        self._indent: int | None = None
        self._words: list[str] | None = None

    def read(self) -> None:
        for number, line in enumerate(self._lines):
            following = self._lines[number + 1] if number + 1 < len(self._lines) else ""
            if not self._begins_section(line, following):
                self._take(line)

    def _begins_section(self, line: str, following: str) -> bool:
        """Whether the line is a section title, its underline, or a Sphinx entry."""
        underlined = bool(re.fullmatch(r"-{3,}\s*", following))
        title = line.strip().lower() if underlined else line.strip().lower().removesuffix(":")
        if not line.startswith(" ") and (underlined or line.rstrip().endswith(":")) and title in _PARAMETERS | _OTHERS:
            style = "numpy" if underlined else "google"
            self._section = style if title in _PARAMETERS else f"other {style}"
            self._indent = self._words = None
            return True
        if line.startswith(":"):
            self._section = "other sphinx"
            if match := _SPHINX.match(line):
                self._open(match[1], match[2])
            else:
                self._words = None
            return True
        return self._section in ("numpy", "other numpy") and bool(re.fullmatch(r"-{3,}\s*", line))

    def _take(self, line: str) -> None:
        words = line.strip()
        indent = len(line) - len(line.lstrip())
        if self._section.endswith("google") and words and indent == 0:  # a line that is not indented ends the section
            self._section = ""
            self._words = None
        if not self._section:
            self.prose.append(line)
        elif self._section.startswith("other"):
            if self._words is not None and words:
                self._words.append(words)
        elif words:
            self._take_entry(words, indent)

    def _take_entry(self, words: str, indent: int) -> None:
        if self._indent is None:
            self._indent = indent
        if indent > self._indent:
            if self._words is not None:
                self._words.append(words)
            return
        match = (_GOOGLE if self._section == "google" else _NUMPY).match(words)
        self._words = None
        if match:
            self._open(match[1], match[2] if self._section == "google" else "")

    def _open(self, name: str, text: str) -> None:
        self._words = [text] if text else []
        self.parameters[name] = self._words

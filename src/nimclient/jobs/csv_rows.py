"""Reads CSV (RFC 4180) so that a malformed record affects its own row only.

Fields are separated by what separates those of the header: commas, semicolons (Excel's in much of Europe) or tabs.

A quote that is never closed would read the rest of the file into one field, and a stray one would change a text. Such a
record fails with the line that it begins in, and reading resumes at the next line. If the malformed line leaves a quote
open, the lines up to the next odd quote may belong to it: they are rows only if they have as many fields as the header.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from attrs import define, field

from nimclient.errors import ConfigurationError
from nimclient.jobs.lines import open_lines
from nimclient.jobs.objects import ObjectPath
from nimclient.jobs.rows import Row, RowFields, checked_id

MAX_RECORD = 64 << 20
"""Bytes of one record: longer than any text a model accepts, short enough to fit into memory."""

_SEPARATORS = (",", ";", "\t")


@define
class _RecordLines:
    """The lines of a file, which can go back to the second line of a record. `number` is that of the last line."""

    _file: IO[bytes]
    number: int = 0
    separator: str = ","  # of fields
    _ahead: deque[str] = field(factory=deque[str])
    _taken: list[str] = field(factory=list[str])

    def first(self) -> str | None:
        """The first line of a record; see `next`."""
        self._taken.clear()
        return self.next()

    def next(self) -> str | None:
        """The next line with its end, LF, CRLF or CR; None at the end of the file."""
        if not self._ahead:
            data = self._file.readline()
            if not data:
                return None
            pieces = data.splitlines(keepends=True) if b"\r" in data[:-2] else [data]
            self._ahead.extend(piece.decode("utf-8", "surrogateescape") for piece in pieces)
        line = self._ahead.popleft()
        self._taken.append(line)
        self.number += 1
        return line

    def go_back(self) -> None:
        """Go back to after the first line of this record."""
        again = self._taken[1:]
        self._ahead.extendleft(reversed(again))
        self.number -= len(again)
        del self._taken[1:]

    @property
    def has_odd_quote(self) -> bool:
        """Whether the lines of this record leave a quote open, or close one of an earlier record."""
        return sum(line.count('"') for line in self._taken) % 2 == 1


class _Malformed(Exception):
    """A malformed record, with the fields before the fault."""

    def __init__(self, problem: str, fields: list[str]) -> None:
        super().__init__(problem)
        self.fields = fields


def csv_rows(
    path: Path | ObjectPath,
    fields: RowFields,
    check_columns: Callable[[Path | ObjectPath, Iterable[str], RowFields], None],
) -> Iterator[Row]:
    """The rows of a file with a header. A `line` is the last one of the record; of one that is malformed, the first."""
    with open_lines(path) as file:
        lines = _RecordLines(file)
        header = _header(path, lines)
        check_columns(path, header, fields)
        is_open = False  # a malformed record may extend to here
        while (first := lines.first()) is not None:
            if not first.rstrip("\r\n"):
                continue
            number = lines.number
            try:
                record = _record(first, lines)
            except _Malformed as error:
                lines.go_back()
                is_open = is_open or lines.has_odd_quote
                yield _broken(header, error.fields, fields, number, f"the line is not valid CSV: {error}")
                continue
            was_open, is_open = is_open, is_open and not lines.has_odd_quote
            if problem := _problem(header, record, was_open, was_open and lines.has_odd_quote):
                yield _broken(header, record, fields, lines.number, problem)
            else:
                yield fields.row(_named(header, record), lines.number)


def _header(path: Path | ObjectPath, lines: _RecordLines) -> list[str]:
    first = lines.first()
    if first is None or not first.strip():
        return []
    lines.separator = max(_SEPARATORS, key=re.sub('"[^"]*"?', "", first).count)
    try:
        return _record(first, lines)
    except _Malformed as error:
        raise ConfigurationError(f"{path} has a header that is not valid CSV: {error}") from None


def _record(line: str, lines: _RecordLines) -> list[str]:
    """The fields of the record that begins with this line; a quoted field may span more lines."""
    if '"' not in line:
        return line.rstrip("\r\n").split(lines.separator)
    record: list[str] = []
    at = 0
    while True:
        value = ""
        if line.startswith('"', at):
            value, line, at = _quoted(line, at + 1, lines, record)
        end = line.find(lines.separator, at)
        rest = line[at:].rstrip("\r\n") if end < 0 else line[at:end]
        if value and rest.strip(" \t"):
            raise _Malformed(f"text behind the quote that closes a field: {rest[:20]!r}", record)
        record.append(value[1:] + rest)
        if end < 0:
            return record
        at = end + 1


def _quoted(line: str, at: int, lines: _RecordLines, record: list[str]) -> tuple[str, str, int]:
    """A quoted field after its opening quote: a marker and its text, the line it ends in, and its end there."""
    pieces = ['"']
    size = 0
    while True:
        end = line.find('"', at)
        if end < 0:
            pieces.append(line[at:])
            size += len(line) - at
            following = lines.next()
            if following is None:
                raise _Malformed("a quote that is opened here is never closed", record)
            if size > MAX_RECORD:
                raise _Malformed(f"a quote that is opened here is not closed within {MAX_RECORD:,} characters", record)
            line, at = following, 0
            continue
        pieces.append(line[at:end])
        if not line.startswith('""', end):
            return "".join(pieces), line, end + 1
        pieces.append('"')
        at = end + 2


def _problem(header: list[str], record: list[str], is_suspect: bool, closes: bool) -> str:
    """What is wrong with a record; empty fields beyond the header are ignored.

    `is_suspect`: it may be part of a malformed record before it; `closes`: it closes that record's open quote.
    """
    while len(record) > len(header) and not record[-1].strip():
        record.pop()
    if len(record) > len(header):
        return f"the line has {len(record)} fields, the header {len(header)}: put quotes around a text with a separator"
    if is_suspect and (closes or len(record) < len(header)):
        return "the line seems to belong to a record above it, of which a quote is not closed"
    return ""


def _broken(header: list[str], record: list[str], fields: RowFields, line: int, problem: str) -> Row:
    """The row of an invalid record, with its own id if that could be read."""
    value = _named(header, record).get(fields.id) if fields.id is not None else None
    try:
        name = None if value is None else checked_id(value, str(fields.id))
    except ConfigurationError:
        name = None
    return Row(None, name, line, ConfigurationError(problem))


def _named(header: list[str], record: list[str]) -> dict[str, str | None]:
    named: dict[str, str | None] = dict.fromkeys(header)
    named.update(zip(header, record, strict=False))
    return named


def repeated(names: Iterable[str]) -> set[str]:
    """The duplicate names."""
    return {name for name, count in Counter(names).items() if count > 1}

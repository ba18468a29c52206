"""A row of a source, built from a record: the text to embed, and the id of its vector.

An invalid row keeps its position and has an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from itertools import islice
from typing import Any, Literal

from attrs import field, frozen

from nimclient.errors import ConfigurationError, NimError

DIGEST = 16  # bytes
MAX_NAMED = 20  # fields of a record named by an error


@frozen
class Row:
    """One row: its text, its own id (None: its number is the id), its line in the file, and its error.

    `lacks`: "text" or "id" if the record, with the fields `has`, lacks that field.
    """

    text: str | None
    id: str | None = None
    line: int | None = None
    problem: NimError | None = None
    lacks: Literal["text", "id"] | None = field(default=None, eq=False)
    has: tuple[str, ...] = field(default=(), eq=False)

    def digest(self) -> bytes:
        """Identifies the content of the row."""
        parts = (self.id, self.text, None if self.problem is None else str(self.problem))
        return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()


@frozen
class FieldNames:
    """Which fields of a record are the text and the id; `id` None: the row number is the id."""

    text: str
    id: str | None

    def row(self, record: Mapping[Any, Any], line: int | None) -> Row:
        """The row of a record with named fields."""
        name = None
        if self.id is not None:
            if self.id not in record:
                return _row_without("id", self.id, record, None, line)
            try:
                name = checked_id(record[self.id], self.id)
            except ConfigurationError as error:
                return Row(None, None, line, error)
        if self.text not in record:
            return _row_without("text", self.text, record, name, line)
        return text_row(record[self.text], name, line)


def _row_without(
    lacks: Literal["text", "id"], wanted: str, record: Mapping[Any, Any], name: str | None, line: int | None
) -> Row:
    problem = ConfigurationError(f"there is no field {wanted!r}")
    return Row(None, name, line, problem, lacks, tuple(map(str, islice(record, MAX_NAMED))))


def text_row(text: object, name: str | None, line: int | None) -> Row:
    """The row of a text, or of an invalid value in its place."""
    if not isinstance(text, str):
        return Row(None, name, line, ConfigurationError(f"the text must be a str, not {_kind(text)}"))
    if not text:
        return Row(None, name, line, ConfigurationError("the text is empty; servers reject empty texts"))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return Row(None, name, line, ConfigurationError("the text is not valid Unicode"))
    return Row(text, name, line)


def checked_id(value: object, field: str) -> str:
    """The id as a str, from a str or a whole number; ConfigurationError for anything else."""
    if isinstance(value, str) and value:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ConfigurationError(f"the id (field {field!r}) is not valid Unicode") from None
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # Python's own limit, 4,300 digits
            raise ConfigurationError(f"the id (field {field!r}) is a number of too many digits") from None
    raise ConfigurationError(f"the id (field {field!r}) is {_kind(value)}; it takes a text or a whole number")


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    return "an empty text" if value == "" else f"a value of type {type(value).__name__}"

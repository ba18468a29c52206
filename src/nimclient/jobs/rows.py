"""A row of a source, built from a record: the text to embed or the fields of a template, and its id.

An invalid row keeps its position and has an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from hashlib import blake2b
from itertools import islice
from numbers import Integral, Real
from typing import Any, Literal, Protocol, TypeAlias, TypeVar
from uuid import UUID

from attrs import evolve, field, frozen

from nimclient.errors import ConfigurationError, NimError

DIGEST = 16  # bytes
BLOCK_BYTES = 2**22  # read ahead
MAX_NAMED = 20  # fields of a record named by an error
_EXACT = 2**53  # below which a float is one whole number
_MAX_DIGITS = 40  # of a decimal
Lacks: TypeAlias = Literal["text", "id", "template"]


def named(names: Iterable[object]) -> str:
    """Names for a message: not all of many, and none of them long."""
    first = [f"{name!r:.60}" for name in islice(names, MAX_NAMED + 1)]
    return ", ".join(first[:MAX_NAMED] + ["…"] * (len(first) > MAX_NAMED)) or "none"


class Weighed(Protocol):
    """What has a size."""

    @property
    def weight(self) -> int:
        """Its bytes, or characters."""
        ...


W = TypeVar("W", bound=Weighed)


def block_of(items: Iterator[W], most: int) -> list[W]:
    """The next items, to be read ahead: at most so many, and fewer where they are large."""
    block: list[W] = []
    size = 0
    for item in islice(items, most):
        block.append(item)
        size += item.weight
        if size >= BLOCK_BYTES:
            break
    return block


@frozen
class Row:
    """One row: its text, its own id (None: its number is the id), its line in the file, and its error.

    `lacks`: "text", "id" or "template" if the record, with the fields `has`, lacks a field of theirs, or has no text in
    that of the text. `record`: the fields that a template names; then there is no text.
    """

    text: str | None
    id: str | None = None
    line: int | None = None
    problem: NimError | None = None
    lacks: Lacks | None = field(default=None, eq=False)
    has: tuple[str, ...] = field(default=(), eq=False)
    record: Mapping[str, Any] | None = None

    @property
    def weight(self) -> int:
        """Characters of its texts."""
        if self.record is None:
            return 0 if self.text is None else len(self.text)
        return sum(len(value) for value in self.record.values() if isinstance(value, str))

    def digest(self) -> bytes:
        """Identifies the content of the row."""
        parts = (self.id, self.text, None if self.problem is None else str(self.problem))
        return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()


class RowFields(Protocol):
    """The fields that a job takes of a record; `id` None: the row number is the id."""

    @property
    def id(self) -> str | None:
        """That of the id."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them."""
        ...

    def row(self, record: Mapping[Any, Any], line: int | None) -> Row:
        """The row of a record."""
        ...


@frozen
class FieldNames:
    """The fields of the text and the id."""

    text: str
    id: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them."""
        return _columns(self.text, self.id)

    def row(self, record: Mapping[Any, Any], line: int | None) -> Row:
        """The row of a record with named fields."""
        if isinstance(name := _name_in(record, self.id, line), Row):
            return name
        if self.text not in record:
            return _row_without("text", self.text, record, name, line)
        text = record[self.text]
        row = text_row(text, name, line)
        if text is None or isinstance(text, str):
            return row
        return evolve(row, lacks="text", has=_names_of(record))  # the field of something else


@frozen
class TemplateFields:
    """The fields that a template names, and that of the id."""

    names: tuple[str, ...]
    id: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them."""
        return _columns(*self.names, self.id)

    def row(self, record: Mapping[Any, Any], line: int | None) -> Row:
        """The row of a record that has them all."""
        if isinstance(name := _name_in(record, self.id, line), Row):
            return name
        for wanted in self.names:
            if wanted not in record:
                return _row_without("template", wanted, record, name, line)
            value = record[wanted]
            if _is_missing(value):
                problem = "null" if value is None else str(value)
                return Row(None, name, line, ConfigurationError(f"the field {wanted!r} has no value ({problem})"))
            if isinstance(value, (bytes, bytearray, memoryview)):
                binary = ConfigurationError(f"the field {wanted!r} is {_kind(record[wanted])}, not text")
                return Row(None, name, line, binary, "template", _names_of(record))
        return Row(None, name, line, record={wanted: record[wanted] for wanted in self.names})


def _columns(*names: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _name_in(record: Mapping[Any, Any], field: str | None, line: int | None) -> str | Row | None:
    """The id in a record, or the row of one without a usable id; None if no field is named."""
    if field is None:
        return None
    if field not in record:
        return _row_without("id", field, record, None, line)
    value = record[field]
    try:
        return checked_id(value, field)
    except ConfigurationError as error:
        if isinstance(value, (str, Real)) or _is_missing(value):
            return Row(None, None, line, error)
        return Row(None, None, line, error, "id", _names_of(record))  # the field of something else


def _row_without(lacks: Lacks, wanted: str, record: Mapping[Any, Any], name: str | None, line: int | None) -> Row:
    problem = ConfigurationError(f"there is no field {wanted!r}")
    return Row(None, name, line, problem, lacks, _names_of(record))


def _names_of(record: Mapping[Any, Any]) -> tuple[str, ...]:
    return tuple(map(str, islice(record, MAX_NAMED)))


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


def check_field_name(argument: str, name: object) -> None:
    """Raise ConfigurationError unless an argument is the name of a field."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{argument} takes the name of a field, not {name!r:.40}")


def checked_id(value: object, field: str) -> str:
    """The id as a str, from a str, a whole number or a UUID; ConfigurationError for anything else.

    Whole numbers are those of tables as well: of numpy, and 17.0, which pandas makes of 17 where another row has none.
    """
    if isinstance(value, str) and value:
        if "\0" in value:
            raise ConfigurationError(f"the id (field {field!r}) has a NUL character, which PostgreSQL does not store")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ConfigurationError(f"the id (field {field!r}) is not valid Unicode") from None
        return value
    if isinstance(value, UUID):
        return str(value)
    if (number := _whole(value)) is not None:
        try:
            return str(number)
        except ValueError:  # Python's own limit, 4,300 digits
            raise ConfigurationError(f"the id (field {field!r}) is a number of too many digits") from None
    raise ConfigurationError(f"the id (field {field!r}) is {_kind(value)}; it takes a text or a whole number")


def _whole(value: Any) -> int | None:
    """The whole number that a value is; None if it is none, or may be another one that was rounded."""
    if isinstance(value, Decimal):
        is_whole = value.is_finite() and value.adjusted() < _MAX_DIGITS and value == int(value)
    elif isinstance(value, Integral):
        is_whole = not isinstance(value, bool)
    else:
        is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXACT
    return int(value) if is_whole else None


def _is_missing(value: Any) -> bool:
    """Whether it stands for no value: null, NaN, and what pandas has for them."""
    if isinstance(value, (float, Real)):
        return value != value  # NaN alone differs from itself
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _kind(value: object) -> str:
    if _is_missing(value):
        return "missing"
    return "an empty text" if value == "" else f"a value of type {type(value).__name__}"

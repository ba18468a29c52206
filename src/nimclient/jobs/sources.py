"""Reads the rows of a job from files, standard input and iterables, one at a time.

Files are read in a worker thread, some hundred rows at a time. Standard input is read as it arrives, without a thread that
would block the exit of the process. An iterable is advanced only when its next row is needed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias, cast

import anyio
from anyio import lowlevel, to_thread
from attrs import frozen

from nimclient._resources.bulk import is_items, is_object
from nimclient._resources.bulk import json as _json
from nimclient.errors import ConfigurationError, DecodeError
from nimclient.jobs.csv_rows import csv_rows, repeated
from nimclient.jobs.files import store_errors
from nimclient.jobs.lines import BOM, LONG_NUMBER, check_encoding, numbered, open_lines, suffix_of
from nimclient.jobs.objects import SCHEMES, ObjectPath, obstore
from nimclient.jobs.parquet import parquet_rows, rows_of_parquet
from nimclient.jobs.rows import DIGEST, Row, RowFields, block_of, checked_id, named, text_row
from nimclient.jobs.shards import WHOLE, Shard
from nimclient.jobs.sinks.urls import SINKS, is_url, sink_of, split_url
from nimclient.jobs.tables import table_rows

Source: TypeAlias = str | os.PathLike[str] | Iterable[Any] | AsyncIterable[Any]
"""A path, a URL, "-" for standard input, or an iterable of texts, of pairs (id, text), or of mappings with those fields."""

_ROWS_AT_ONCE = 256
_READ_SIZE = 1 << 20
_PARQUET = ".parquet"
_EXACT_DIGITS = 16
_TURN = 64  # rows of an iterable before yielding to other tasks

Reader: TypeAlias = Callable[[Path | ObjectPath, RowFields, Shard], Iterator[Row]]


class RowSource:
    """The rows of a source, or of a shard of it: `async for row in source`."""

    def __init__(self, source: Source, fields: RowFields, shard: Shard = WHOLE) -> None:
        self._path, self._source = checked_source(source)
        self._fields = fields
        self._shard = shard

    @property
    def path(self) -> Path | None:
        """The file, if it is one."""
        return self._path

    @property
    def is_parquet(self) -> bool:
        """Whether reading it needs pyarrow."""
        return self._path is not None and suffix_of(self._path) == _PARQUET

    def __aiter__(self) -> AsyncIterator[Row]:
        if isinstance(self._source, ObjectPath):
            return FileRows(READERS[suffix_of(self._source)](self._source, self._fields, self._shard), self._source)
        if is_url(self._source):
            return FileRows(self._shard.of(table_rows(self._source, self._fields, check_columns)), self._source)
        if self._path is not None:
            return FileRows(READERS[suffix_of(self._path)](self._path, self._fields, self._shard), self._path)
        is_stdin = isinstance(self._source, str)  # "-"
        rows = _LineRows(self._fields) if is_stdin else _ItemRows(self._source, self._fields)
        return rows if self._shard == WHOLE else _ShardRows(rows, self._shard)


def checked_source(source: Source) -> tuple[Path | None, Any]:
    """The path of a source, or the source itself. TypeError or ConfigurationError for an invalid one."""
    given: Any = source
    if is_url(given):
        if split_url(given, SINKS).scheme not in SCHEMES:
            sink_of(given)  # raises for what is missing
            return None, given
        given = ObjectPath(given)
        _check_format(given)
        obstore()
        return None, given
    if isinstance(given, os.PathLike) or (isinstance(given, str) and given != "-"):
        path = Path(cast(str, given))
        _check_format(path)
        if not path.is_file():
            raise ConfigurationError(f"source {path} {'is not a file' if path.exists() else 'does not exist'}")
        return path, None
    if isinstance(given, (bytes, bytearray, Mapping)) or not isinstance(given, (str, AsyncIterable, Iterable)):
        kind = type(cast(object, given)).__name__
        raise TypeError(f"source takes a path, - for standard input, or an iterable of texts, not {kind}")
    return None, cast(Any, given)


def _check_format(path: Path | ObjectPath) -> None:
    suffix = suffix_of(path)
    if suffix not in READERS or (suffix == _PARQUET and path.suffix.lower() != _PARQUET):
        known = ", ".join(sorted(READERS))
        hint = "; an array of JSON becomes .jsonl with `jq -c '.[]'`" if suffix == ".json" else ""
        raise ConfigurationError(
            f"source {path} has a format that cannot be read ({known}, all but Parquet also as .gz or .zst; "
            f"or - for standard input){hint}"
        )


# files ----------------------------------------------------------------------------------------------------------


@frozen
class Content:
    """The content of a file: its digest, and its approximate number of rows (None: unknown).

    Blank lines of a text file are counted as rows. `stamp` is the size and time of the file when it was read.
    """

    digest: str
    rows: int | None
    stamp: list[int]


def content_of(path: Path, known: Mapping[str, Any] | None = None) -> Content:
    """Read a file, which takes about a second per gigabyte, unless its stamp is the known one."""
    digest = blake2b(digest_size=DIGEST)
    lines = 0
    last = b""
    with store_errors(f"cannot read {path}"):
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        if known is not None and known["stamp"] == stamp:
            return Content(**known)
        with path.open("rb") as file:
            while piece := file.read(_READ_SIZE):
                digest.update(piece)
                lines += piece.count(b"\n")
                last = piece
    rows: int | None = None
    if path.suffix.lower() == _PARQUET:
        rows = rows_of_parquet(path)
    elif path.suffix.lower() in _LINES:  # not for a compressed file, whose lines are not counted
        rows = lines + (last[-1:] not in (b"\n", b""))
    return Content(digest.hexdigest(), rows, stamp)


class FileRows(AsyncIterator[Row]):
    """The rows of a file, read one block ahead."""

    def __init__(self, rows: Iterator[Row], path: object) -> None:
        self._all = rows
        self._path = path
        self._block: Iterator[Row] = iter(())

    async def __anext__(self) -> Row:
        for row in self._block:
            return row
        block = await to_thread.run_sync(self._read)
        if not block:
            raise StopAsyncIteration
        self._block = iter(block)
        return next(self._block)

    def close(self) -> None:
        """Close the file, if its end was not reached; a reader that another thread is still in closes it at its end."""
        rows, self._all = self._all, iter(())
        if isinstance(rows, Generator):
            with suppress(ValueError):
                rows.close()

    def _read(self) -> list[Row]:
        with store_errors(f"cannot read {self._path}"):
            return block_of(self._all, _ROWS_AT_ONCE)


def _json_lines(path: Path | ObjectPath, fields: RowFields, shard: Shard) -> Iterator[Row]:
    with open_lines(path) as file:
        for number, line in shard.of(numbered(file)):
            yield json_row(line, fields, number)


def json_row(line: bytes, fields: RowFields, number: int | None) -> Row:
    """The row of a line of JSON."""
    try:
        record = _json.loads(line, "the line", keep_surrogates=True)  # an id or text that has one fails its row
        if LONG_NUMBER.search(line):  # with all their digits, as a template inserts them
            record = json.loads(line.removeprefix(BOM), parse_float=_exact)
    except DecodeError as error:
        return Row(None, None, number, error)
    if not is_object(record):
        return Row(None, None, number, ConfigurationError("the line is not a JSON object"))
    return fields.row(record, number)


def _exact(number: str) -> float | Decimal:
    return float(number) if len(number) < _EXACT_DIGITS else Decimal(number)


def _text_lines(path: Path | ObjectPath, fields: RowFields, shard: Shard) -> Iterator[Row]:
    with open_lines(path) as file:
        for number, line in shard.of(numbered(file)):
            yield plain_row(line, number)


def plain_row(line: bytes, number: int | None) -> Row:
    """The row of a line of text."""
    try:
        return text_row(line.rstrip(b"\r\n").decode(), None, number)
    except UnicodeDecodeError as error:
        return Row(None, None, number, ConfigurationError(f"the line is not valid UTF-8 ({error.reason})"))


def _csv_rows(path: Path | ObjectPath, fields: RowFields, shard: Shard) -> Iterator[Row]:
    return shard.of(csv_rows(path, fields, check_columns))


def check_columns(path: object, names: Iterable[str], fields: RowFields) -> None:
    """Raise ConfigurationError unless each named column exists exactly once."""
    known = list(names)
    for wanted in fields.columns:
        if wanted not in known:
            raise ConfigurationError(f"{path} has no column {wanted!r}; it has {named(known)}")
        if wanted in repeated(known):
            raise ConfigurationError(f"{path} has more than one column {wanted!r}: rename all but one of them")


def _parquet_rows(path: Path | ObjectPath, fields: RowFields, shard: Shard) -> Iterator[Row]:
    return shard.of(parquet_rows(path, fields, check_columns, _ROWS_AT_ONCE))


READERS: Mapping[str, Reader] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".txt": _text_lines,
    _PARQUET: _parquet_rows,
}
_LINES = (".jsonl", ".ndjson", ".txt")


class _ShardRows(AsyncIterator[Row]):
    """The rows of a shard, of those of a source that is not a file."""

    def __init__(self, rows: AsyncIterator[Row], shard: Shard) -> None:
        self._all = rows
        self._shard = shard
        self._skip = shard.index

    async def __anext__(self) -> Row:
        for _ in range(self._skip):
            await anext(self._all)
        row = await anext(self._all)
        self._skip = self._shard.count - 1
        return row


# standard input --------------------------------------------------------------------------------------------------


class _LineRows(AsyncIterator[Row]):
    """The rows of standard input: JSON lines if the first one begins with a brace, else one text per line."""

    def __init__(self, fields: RowFields) -> None:
        self._fields = fields
        try:
            self._descriptor = sys.stdin.fileno()
        except (AttributeError, OSError, ValueError):
            raise ConfigurationError("source is standard input, but there is none") from None
        self._lines: Iterator[bytes] = iter(())
        self._rest = bytearray()
        self._number = 0
        self._is_json: bool | None = None
        self._ended = False
        self._began = False

    async def __anext__(self) -> Row:
        while True:
            for line in self._lines:
                self._number += 1
                if line.strip():
                    return self._row(line)
            if self._ended:
                raise StopAsyncIteration
            self._lines = iter(await self._more())

    def _row(self, line: bytes) -> Row:
        if self._is_json is None:
            self._is_json = line.lstrip().startswith(b"{")
        return json_row(line, self._fields, self._number) if self._is_json else plain_row(line, self._number)

    async def _more(self) -> list[bytes]:
        """The lines received: at least one before the end."""
        while True:
            with store_errors("cannot read standard input"):
                piece = await self._read()
            self._ended = not piece
            start = len(self._rest) if self._began else 0
            self._rest += piece
            if not self._began:
                if len(self._rest) < 4 and b"\n" not in self._rest and not self._ended:
                    continue  # no complete line yet
                self._begin()
            end = len(self._rest) if self._ended else self._rest.rfind(b"\n", start) + 1
            if end or self._ended:
                *lines, last = bytes(self._rest[:end]).split(b"\n")
                del self._rest[:end]
                return [*lines, last] if self._ended else lines

    def _begin(self) -> None:
        """Check the first bytes: a byte-order mark is skipped, UTF-16 is an error."""
        self._began = True
        check_encoding(bytes(self._rest[:4]), "standard input")
        if self._rest.startswith(BOM):
            del self._rest[: len(BOM)]

    async def _read(self) -> bytes:
        try:
            await anyio.wait_readable(self._descriptor)
        except PermissionError:  # a regular file: always readable, and not pollable
            return await to_thread.run_sync(os.read, self._descriptor, _READ_SIZE)
        return os.read(self._descriptor, _READ_SIZE)


# iterables -------------------------------------------------------------------------------------------------------


class _ItemRows(AsyncIterator[Row]):
    """The rows of an iterable. Its errors are raised unchanged, with the row number as `.index`."""

    def __init__(self, source: Any, fields: RowFields) -> None:
        self._fields = fields
        is_async = isinstance(source, AsyncIterable)
        self._async: AsyncIterator[Any] | None = aiter(cast(AsyncIterable[Any], source)) if is_async else None
        self._items: Iterator[Any] = iter(()) if is_async else iter(cast(Iterable[Any], source))
        self._taken = 0

    async def __anext__(self) -> Row:
        try:
            item = await self._next()
        except StopAsyncIteration:
            raise
        except Exception as error:
            if getattr(error, "index", None) is None:
                error.__dict__["index"] = self._taken
            raise
        self._taken += 1
        return item_row(item, self._fields)

    async def _next(self) -> Any:
        if self._async is not None:
            return await anext(self._async)
        if self._taken % _TURN == _TURN - 1:
            await lowlevel.checkpoint()
        for item in self._items:
            return item
        raise StopAsyncIteration


def item_row(item: object, fields: RowFields) -> Row:
    """The row of an item of an iterable: a text, a pair (id, text), or a mapping."""
    if isinstance(item, str):
        return text_row(item, None, None)
    if isinstance(item, Mapping):
        return fields.row(cast(Mapping[Any, Any], item), None)
    if is_items(item):
        pair = list(item)
        if len(pair) == 2:
            try:
                return text_row(pair[1], checked_id(pair[0], "the first of the pair"), None)
            except ConfigurationError as error:
                return Row(None, None, None, error)
    problem = f"a row is a text, a pair (id, text) or a mapping, not a value of type {type(item).__name__}"
    return Row(None, None, None, ConfigurationError(problem))

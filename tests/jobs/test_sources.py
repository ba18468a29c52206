"""Sources: files, standard input and iterables give their rows one after the other."""

import csv
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nimclient.errors import ConfigurationError, JobStoreError
from nimclient.jobs import parquet, sources
from nimclient.jobs.rows import Fields, Row
from nimclient.jobs.sources import RowSource, content_of

TEXT = Fields("text", None)


async def rows_of(source: Any, fields: Fields = TEXT) -> list[Row]:
    return [row async for row in RowSource(source, fields)]


async def test_json_lines(tmp_path: Path) -> None:
    """An object a line; blank lines are no rows but lines are counted with them."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": "b"}\nnonsense')
    first, second, third = await rows_of(path)
    assert (first, second) == (Row("a", None, 1), Row("b", None, 3))
    assert third.line == 4
    assert third.problem is not None


async def test_texts_a_line(tmp_path: Path) -> None:
    """Blank lines are no rows."""
    path = tmp_path / "a.txt"
    path.write_text("one\n \ntwo\r\nthree")
    assert await rows_of(str(path)) == [Row("one", None, 1), Row("two", None, 3), Row("three", None, 4)]


async def test_csv_with_quotes_and_line_breaks(tmp_path: Path) -> None:
    """A byte-order mark is dropped, a field may span lines, a missing field is a row that says so."""
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffid,text\n1,"a\nb"\n2\n3,c\n4,\xff\n'.encode().replace("ÿ".encode(), b"\xff"))
    first, second, third, fourth = await rows_of(path, Fields("text", "id"))
    assert (first.id, first.text, first.line) == ("1", "a\nb", 3)
    assert "missing" in str(second.problem)
    assert third == Row("c", "3", 5)
    assert "Unicode" in str(fourth.problem)


async def test_csv_fields_may_be_long(tmp_path: Path) -> None:
    """Python's own limit of 128 KiB a field does not hold here."""
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "x" * 200_000 + "\n")
    (row,) = await rows_of(path)
    assert row.text == "x" * 200_000


async def test_a_line_that_csv_refuses_is_one_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes behind it is read."""
    monkeypatch.setattr(sources, "_LONGEST_FIELD", 10)
    before = csv.field_size_limit(10)
    try:
        path = tmp_path / "a.csv"
        path.write_text(f"text\na\n{'x' * 20}\nd\n")
        first, bad, last = await rows_of(path)
    finally:
        csv.field_size_limit(before)
    assert (first.text, last.text) == ("a", "d")
    assert "not valid CSV" in str(bad.problem)
    assert (bad.line, last.line) == (3, 4)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
async def test_a_column_that_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    """It names the columns that are."""
    path = tmp_path / name
    if name == "a.csv":
        path.write_text("body,id\nx,1\n")
    else:
        pq.write_table(pa.table({"body": ["x"], "id": [1]}), path)
    with pytest.raises(ConfigurationError, match="no column 'text'; it has 'body', 'id'"):
        await rows_of(path)


async def test_parquet(tmp_path: Path) -> None:
    """Batch after batch, with null as a row that says so and whole numbers as ids."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", None, "c"] * 200, "n": range(600)}), path)
    rows = await rows_of(path, Fields("text", "n"))
    assert [(row.text, row.id) for row in rows[:3]] == [("a", "0"), (None, "1"), ("c", "2")]
    assert len(rows) == 600
    assert rows[599].line == 600


async def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "a.parquet"
    path.write_bytes(b"nonsense")
    with pytest.raises(ConfigurationError, match=r"a\.parquet cannot be read as Parquet"):
        await rows_of(path)


def test_without_pyarrow_parquet_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"install nimclient\[arrow\]"):
        parquet.arrow()


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [("a.txt", "a\nb\n", 2), ("a.jsonl", "a\nb", 2), ("a.csv", "text\na\n", None), ("b.txt", "", 0)],
)
def test_the_content_of_a_file_tells_its_rows_where_lines_do(
    tmp_path: Path, name: str, text: str, rows: int | None
) -> None:
    """A line is a row, except in CSV."""
    path = tmp_path / name
    path.write_text(text)
    assert content_of(path).rows == rows


def test_the_content_of_a_parquet_file(tmp_path: Path) -> None:
    """Its footer tells."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 5}), path)
    assert content_of(path).rows == 5


def test_the_digest_is_of_all_of_the_content(tmp_path: Path) -> None:
    """One byte at the end makes another one."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 2_000_000)
    before = content_of(path).digest
    path.write_bytes(b"x" * 1_999_999 + b"y")
    assert content_of(path).digest != before


@pytest.mark.parametrize(
    ("source", "words"),
    [("missing.jsonl", "does not exist"), ("notes.pdf", "of no kind that can be read"), ("folder.txt", "is no file")],
)
def test_a_path_that_cannot_be_a_source(tmp_path: Path, source: str, words: str) -> None:
    """It is found out when the source is named."""
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ConfigurationError, match=words):
        RowSource(tmp_path / source, TEXT)


@pytest.mark.parametrize("source", [5, None, b"bytes", {"a": 1}])
def test_what_cannot_be_a_source_is_a_type_error(source: Any) -> None:
    """The error names what was given."""
    with pytest.raises(TypeError, match=type(source).__name__):
        RowSource(source, TEXT)


async def test_a_file_that_cannot_be_read_is_a_store_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which."""
    path = tmp_path / "a.txt"
    path.write_text("a\n")
    source = RowSource(path, TEXT)
    path.unlink()
    with pytest.raises(JobStoreError, match=r"cannot read .*a\.txt"):
        await anext(aiter(source))


# standard input ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The writing end of what is standard input now."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as file:
        monkeypatch.setattr(sys, "stdin", file)
        yield writer


async def test_standard_input_is_read_as_it_comes(stdin: int) -> None:
    """A row is there when its line is, though the pipe stays open; the last line needs no end."""
    rows = aiter(RowSource("-", TEXT))
    os.write(stdin, b"one\ntw")
    assert await anext(rows) == Row("one", None, 1)
    os.write(stdin, b"o\nthr")
    assert await anext(rows) == Row("two", None, 2)
    async with anyio.create_task_group() as group:
        group.start_soon(_later, lambda: os.write(stdin, b"ee\rand"))
        group.start_soon(_later, lambda: os.write(stdin, b" more\n\n"))
        assert await anext(rows) == Row("three\rand more", None, 3)
    os.write(stdin, b"four")
    os.close(stdin)
    assert await anext(rows) == Row("four", None, 5)
    with pytest.raises(StopAsyncIteration):
        await anext(rows)


async def _later(action: Callable[[], object]) -> None:
    await anyio.sleep(0.01)
    action()


async def test_a_process_without_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon has none: the error says so."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigurationError, match="standard input, but there is none"):
        aiter(RowSource("-", TEXT))


async def test_standard_input_may_be_json_lines(stdin: int) -> None:
    """The first row that begins with a brace decides."""
    os.write(stdin, b'\n {"text": "a"}\n{"text": "b"}\n')
    os.close(stdin)
    assert [row.text for row in await rows_of("-")] == ["a", "b"]


async def test_waiting_for_standard_input_can_be_cancelled(stdin: int) -> None:
    """No thread is left that waits for a line."""
    with anyio.move_on_after(0.02) as scope:
        await anext(aiter(RowSource("-", TEXT)))
    assert scope.cancelled_caught
    os.close(stdin)


async def test_standard_input_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read in a thread: a loop cannot wait for it."""
    path = tmp_path / "texts"
    path.write_text("one\ntwo\n")
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert [row.text for row in await rows_of("-")] == ["one", "two"]


# iterables ---------------------------------------------------------------------------------------------------------


async def test_iterables_are_advanced_when_a_row_is_wanted() -> None:
    """Nothing is read ahead, so the source may be endless."""
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"text {taken}"

    rows = aiter(RowSource(endless(), TEXT))
    for number in range(1, 201):
        assert (await anext(rows)).text == f"text {number}"
        assert taken == number


async def test_async_iterables() -> None:
    """Their items are rows, too."""

    async def items() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    assert await rows_of(items()) == [Row("a"), Row("b")]


async def test_columns_of_other_libraries_are_iterables() -> None:
    """An array that compares item by item is one, too."""
    assert await rows_of(numpy.array(["a", "b"])) == [Row("a"), Row("b")]


async def test_an_error_of_the_iterable_has_the_number_of_the_row() -> None:
    """It is passed on as it is."""

    def broken() -> Iterator[str]:
        yield "a"
        raise KeyError("gone")

    rows = aiter(RowSource(broken(), TEXT))
    await anext(rows)
    with pytest.raises(KeyError) as caught:
        await anext(rows)
    assert caught.value.index == 1  # type: ignore[attr-defined]

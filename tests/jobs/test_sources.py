"""Sources: files, standard input and iterables give their rows one after the other."""

import gzip
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from nimclient.errors import ConfigurationError, JobStoreError
from nimclient.jobs import parquet, sources
from nimclient.jobs.rows import FieldNames, Row
from nimclient.jobs.sources import RowSource, content_of

TEXT = FieldNames("text", None)


async def rows_of(source: Any, fields: FieldNames = TEXT) -> list[Row]:
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
    first, second, third, fourth = await rows_of(path, FieldNames("text", "id"))
    assert (first.id, first.text, first.line) == ("1", "a\nb", 3)
    assert "missing" in str(second.problem)
    assert third == Row("c", "3", 5)
    assert "Unicode" in str(fourth.problem)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", '\ufeffid;"text, in all";n\r\n1;a, b;\r\n2;"c; ""d""\r\ne";3\r\n'),  # Excel, in much of Europe
        ("a.csv", 'id\t"text, in all"\n1\ta, b\n2\t"c; ""d""\r\ne"\n'),
        ("a.tsv", 'id\t"text, in all"\n1\ta, b\n2\t"c; ""d""\r\ne"\n'),
        ("a.csv", 'id,"text, in all","x;y;z;"\n1,"a, b"\n2,"c; ""d""\r\ne"\n'),
    ],
)
async def test_fields_are_separated_as_those_of_the_header_are(tmp_path: Path, name: str, text: str) -> None:
    """Commas, semicolons or tabs: what is in quotes does not count, and the others are text."""
    (tmp_path / name).write_text(text, newline="")
    rows = await rows_of(tmp_path / name, FieldNames("text, in all", "id"))
    assert [(row.id, row.text) for row in rows] == [("1", "a, b"), ("2", 'c; "d"\r\ne')]


async def test_an_array_of_json_is_no_source(tmp_path: Path) -> None:
    """The error says how it becomes one."""
    (tmp_path / "a.json").write_text('[{"text": "a"}]')
    with pytest.raises(ConfigurationError, match=r"jq -c '\.\[\]'"):
        await rows_of(tmp_path / "a.json")


async def test_csv_fields_may_be_long(tmp_path: Path) -> None:
    """Python's own limit of 128 KiB a field does not hold here."""
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "x" * 200_000 + "\n")
    (row,) = await rows_of(path)
    assert row.text == "x" * 200_000


BROKEN_CSV = [
    pytest.param(
        '1,a\n2,"never closed\n3,c\n4,d\n', [("1", "a"), ("2", None), ("3", "c"), ("4", "d")], id="open to the end"
    ),
    pytest.param('1,a\n2,"never closed\n3,"c"\n4,d\n', [("1", "a"), ("2", None), ("3", "c"), ("4", "d")], id="open"),
    pytest.param('1,a\n2,"say "hi" there"\n3,c\n', [("1", "a"), ("2", None), ("3", "c")], id="stray quote"),
    pytest.param('1,a\n2,"say \\"hi\\""\n3,c\n', [("1", "a"), ("2", None), ("3", "c")], id="backslash"),
    pytest.param("1,a\n2,well, well\n3,c\n", [("1", "a"), ("2", None), ("3", "c")], id="surplus"),
    pytest.param('1,a\n2,"b" ,, \n3,c\n', [("1", "a"), ("2", "b "), ("3", "c")], id="blank surplus"),
    pytest.param(
        '1,5" pipe\n2,"a ""b"" c"\n3,"x\ny"\n', [("1", '5" pipe'), ("2", 'a "b" c'), ("3", "x\ny")], id="sound"
    ),
    pytest.param(
        '1,a\r\n2,"b\r\nc"\r\n3,"open\r\n4,d\r\n', [("1", "a"), ("2", "b\r\nc"), ("3", None), ("4", "d")], id="CRLF"
    ),
    pytest.param('1,a\r2,"open\r3,c', [("1", "a"), ("2", None), ("3", "c")], id="CR"),
]


@pytest.mark.parametrize(("text", "expected"), BROKEN_CSV)
async def test_a_broken_record_of_csv_fails_alone_and_by_its_id(tmp_path: Path, text: str, expected: list[Any]) -> None:
    """An open or stray quote and surplus fields cost their own row; the rows behind it have their texts."""
    path = tmp_path / "a.csv"
    path.write_text("id,text\r\n" + text, newline="")
    rows = await rows_of(path, FieldNames("text", "id"))
    assert [(row.id, row.text) for row in rows] == expected
    assert all((row.problem is None) is (row.text is not None) for row in rows)


async def test_what_a_broken_record_held_is_a_row_only_where_it_looks_like_one(tmp_path: Path) -> None:
    """The lines of a text that spans some are not taken for records of their own."""
    path = tmp_path / "a.csv"
    path.write_text('text,id\n"one "bad" text\nin the middle\nat its end",1\nsound,2\n')
    rows = await rows_of(path, FieldNames("text", None))
    assert [(row.text, row.line) for row in rows if row.problem is None] == [("sound", 5)]
    assert [row.line for row in rows if row.problem is not None] == [2, 3, 4]


def test_the_time_of_broken_csv_grows_with_its_size() -> None:
    """Every line opens a quote: each is read a bounded number of times."""
    counts = []
    for lines in (500, 1000):
        with TemporaryDirectory() as folder:
            path = Path(folder, "a.csv")
            path.write_text("id,text\n" + '1,"open\n' * lines)
            counts.append(calls_of(lambda path=path: list(sources.READERS[".csv"](path, TEXT, sources.WHOLE))))
    assert counts[1] < 2.2 * counts[0]


def calls_of(work: Callable[[], object]) -> int:
    """How many Python functions were called."""
    calls = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
async def test_two_columns_of_one_name_are_an_error(tmp_path: Path, name: str) -> None:
    """Which of them is meant cannot be told; one that is not asked for does no harm."""
    path = tmp_path / name
    if name == "a.csv":
        path.write_text("id,text,text\n1,a,b\n")
    else:
        columns = [pa.array(["1"]), pa.array(["a"]), pa.array(["b"])]
        pq.write_table(pa.Table.from_arrays(columns, names=["id", "text", "text"]), path)
    with pytest.raises(ConfigurationError, match="more than one column 'text'"):
        await rows_of(path)
    assert [row.text for row in await rows_of(path, FieldNames("id", None))] == ["1"]


MARKED = {
    "a.txt": b"one\ntwo\n",
    "a.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
    "a.csv": b'"text","id"\none,1\ntwo,2\n',
}


@pytest.mark.parametrize("name", MARKED)
@pytest.mark.parametrize("is_gzip", [False, True])
async def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str, is_gzip: bool) -> None:
    """As Excel and Notepad write it; compressed, too."""
    path = tmp_path / (f"{name}.gz" if is_gzip else name)
    content = b"\xef\xbb\xbf" + MARKED[name]
    path.write_bytes(gzip.compress(content) if is_gzip else content)
    assert [row.text for row in await rows_of(path)] == ["one", "two"]
    assert content_of(path).rows == (None if is_gzip or name == "a.csv" else 2)


@pytest.mark.parametrize("name", MARKED)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
async def test_utf_16_is_named(tmp_path: Path, name: str, encoding: str) -> None:
    """As PowerShell's `>` writes it, with a mark or without: an error before anything is sent, and what converts it."""
    path = tmp_path / name
    mark = "\ufeff" if encoding == "utf-32-be" else ""
    path.write_bytes((mark + MARKED[name].decode()).encode(encoding))
    with pytest.raises(ConfigurationError, match=r"is UTF-16 text, not UTF-8: convert it with `iconv"):
        await rows_of(path)


async def test_lines_end_at_line_feeds_and_nowhere_else(tmp_path: Path) -> None:
    """Form feeds and the separators of Unicode are part of a text."""
    path = tmp_path / "a.txt"
    path.write_bytes("a\fb\vc\x1cd\x85e\u2028f\u2029g\r\nh\n".encode())
    assert [row.text for row in await rows_of(path)] == ["a\fb\vc\x1cd\x85e\u2028f\u2029g", "h"]


async def test_a_cut_off_gzip_file_is_a_store_error(tmp_path: Path) -> None:
    """It says that it is damaged; what is no gzip at all says so, too."""
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(os.urandom(5000).hex().encode())[:-100])
    with pytest.raises(JobStoreError, match=r"a\.txt\.gz: it is damaged"):
        await rows_of(path)
    path.write_bytes(b"plain text")
    with pytest.raises(JobStoreError, match="Not a gzipped file"):
        await rows_of(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.jsonl.zst", r"zstdcat .*a\.jsonl\.zst \| nimclient embed -"), ("a.parquet.gz", "all but Parquet also as .gz")],
)
def test_what_is_compressed_otherwise_says_what_to_do(
    tmp_path: Path, name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe that decompresses it is shown, where nothing installed reads it."""
    for module in ("compression", "zstandard", "pyarrow"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match=words):
        RowSource(tmp_path / name, TEXT)


async def test_zstd(tmp_path: Path) -> None:
    """A .zst file is read where pyarrow is installed, after its byte-order mark."""
    with pa.output_stream(str(tmp_path / "a.jsonl.zst"), compression="zstd") as file:
        file.write(b"\xef\xbb\xbf" + b'{"text": "one"}\n{"text": "two"}\n')
    assert [row.text for row in await rows_of(tmp_path / "a.jsonl.zst")] == ["one", "two"]


@pytest.mark.parametrize("without", ["pyarrow", "zstandard"])
@pytest.mark.parametrize("cut", [2, 9, 40])
async def test_a_zst_file_that_was_cut_is_damaged(
    tmp_path: Path, cut: int, without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download or copy that ended early is not taken for a shorter file; several frames are one file."""
    monkeypatch.setitem(sys.modules, without, None)
    frame = zstandard.compress(b"".join(b'{"text": "%d"}\n' % number for number in range(2000)))
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(frame * 2)
    assert len(await rows_of(path)) == 4000
    for whole in (b"", frame):
        path.write_bytes(whole + frame[:-cut])
        with pytest.raises(JobStoreError, match="cannot read"):
            await rows_of(path)
    path.write_bytes(frame + frame[:3])
    with pytest.raises(JobStoreError, match="cannot read"):
        await rows_of(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (gzip.compress(b"text", mtime=0), "gzip"),  # with a time the ids of two workers would differ
        (zstandard.compress(b"text"), "zstd"),
        (b"PK\x03\x04\x14\x00", "a ZIP archive"),
        (b"\xfd7zXZ\x00", "xz"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.txt.gz"])
async def test_what_is_compressed_under_the_name_of_a_text_is_named(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    """It is one error that says what the file is, in place of rows that all fail; in a compressed file as well."""
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(ConfigurationError, match=f"is {words}.*, not text: unpack it"):
        await rows_of(tmp_path / name)


@pytest.mark.parametrize("name", ["a.txt.zst", "a.jsonl.zst", "a.csv.zst", "a.txt.gz"])
async def test_a_compressed_file_that_is_none_is_damaged(tmp_path: Path, name: str) -> None:
    """Nothing raw of the module that decompresses it."""
    (tmp_path / name).write_bytes(b"not compressed at all")
    with pytest.raises(JobStoreError, match="cannot read"):
        await rows_of(tmp_path / name)


async def test_names_of_columns_make_no_endless_message(tmp_path: Path) -> None:
    """A file that is no CSV may have a megabyte of them."""
    (tmp_path / "a.csv").write_text("x" * 100_000 + ",y" * 10_000 + "\n1\n")
    with pytest.raises(ConfigurationError, match="has no column 'text'") as failed:
        await rows_of(tmp_path / "a.csv")
    assert len(str(failed.value)) < 1000


@pytest.mark.parametrize("kind", ["text", "id"])
async def test_a_parquet_string_that_is_no_utf8_fails_alone(tmp_path: Path, kind: str) -> None:
    """Parquet files of other writers hold such strings; the other rows of the batch are read."""
    column = pa.array([b"a", b"\xff\xfe", None, b"d"], pa.binary()).view(pa.string())
    path = tmp_path / "a.parquet"
    names = ("id", "text") if kind == "id" else ("text", "other")
    pq.write_table(pa.Table.from_arrays([column, pa.array(["x", "y", "z", "w"])], names=names), path)
    rows = await rows_of(path, FieldNames("text", "id") if kind == "id" else TEXT)
    assert [row.problem is None for row in rows] == [True, False, False, True]
    assert "is not valid Unicode" in str(rows[1].problem)
    assert "missing" in str(rows[2].problem)


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
    rows = await rows_of(path, FieldNames("text", "n"))
    assert [(row.text, row.id) for row in rows[:3]] == [("a", "0"), (None, "1"), ("c", "2")]
    assert len(rows) == 600
    assert rows[599].line == 600


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
async def test_strings_as_other_programs_write_them(tmp_path: Path, kind: pa.DataType) -> None:
    """Texts and ids in a Parquet file may be large strings, views or categories: they are the same rows, null included."""
    path = tmp_path / "a.parquet"
    columns = {"text": pa.array(["a", None, "c", "a"], kind), "n": pa.array(["p", "q", "r", "s"], kind)}
    try:
        pq.write_table(pa.table(columns), path)
    except pa.ArrowNotImplementedError as error:
        pytest.skip(f"pyarrow {pa.__version__}: {error}")
    rows = await rows_of(path, FieldNames("text", "n"))
    assert [(row.text, row.id) for row in rows] == [("a", "p"), (None, "q"), ("c", "r"), ("a", "s")]


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
    [
        ("missing.jsonl", "does not exist"),
        ("notes.pdf", "has a format that cannot be read"),
        ("folder.txt", "is not a file"),
    ],
)
def test_a_path_that_cannot_be_a_source(tmp_path: Path, source: str, words: str) -> None:
    """It is detected when the source is named."""
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


@pytest.mark.parametrize(
    "pieces", [(b"\xef\xbb\xbf", b'{"text": "a"}\n'), (b"\xef", b"\xbb\xbf", b"a\n"), (b"\xef\xbb\xbfa",)]
)
async def test_a_byte_order_mark_on_standard_input_is_no_text(stdin: int, pieces: tuple[bytes, ...]) -> None:
    """However it is cut: what follows decides whether the lines are JSON."""
    async with anyio.create_task_group() as group:
        rows: list[Row] = []

        async def read() -> None:
            rows.extend(await rows_of("-"))

        group.start_soon(read)
        for piece in pieces:
            await anyio.wait_all_tasks_blocked()
            os.write(stdin, piece)
        os.close(stdin)
    assert [row.text for row in rows] == ["a"]


async def test_gzip_on_standard_input_is_named(stdin: int) -> None:
    """A file that was piped as it is."""
    os.write(stdin, gzip.compress(b"a text\n"))
    with pytest.raises(ConfigurationError, match="standard input is gzip, not text"):
        await rows_of("-")
    os.close(stdin)


async def test_utf_16_on_standard_input_is_named(stdin: int) -> None:
    """It is found at its first bytes."""
    os.write(stdin, "a text\n".encode("utf-16"))
    with pytest.raises(ConfigurationError, match="standard input is UTF-16"):
        await rows_of("-")
    os.close(stdin)


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

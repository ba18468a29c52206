"""Rows: what becomes a text, and what is said of what does not."""

from decimal import Decimal
from uuid import UUID

import numpy
import pandas
import pytest

from nimclient.jobs.rows import BLOCK_BYTES, FieldNames, Row, TemplateFields, block_of, text_row
from nimclient.jobs.sources import item_row, json_row, plain_row

FIELDS = FieldNames("text", "id")


def problem(row: Row) -> str:
    assert row.text is None
    assert row.problem is not None
    return str(row.problem)


def test_a_record_gives_its_text_and_its_id() -> None:
    """The named fields are taken, the others are not looked at."""
    assert FIELDS.row({"text": "a", "id": "x", "more": 1}, 3) == Row("a", "x", 3)


def test_a_whole_number_is_an_id() -> None:
    """Numbers become text."""
    assert FIELDS.row({"text": "a", "id": 17}, None).id == "17"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (numpy.int64(17), "17"),
        (numpy.uint64(2**64 - 1), "18446744073709551615"),
        (17.0, "17"),
        (numpy.float64(17.0), "17"),
        (Decimal(17), "17"),
        (Decimal("17.00"), "17"),
        (UUID(int=17), "00000000-0000-0000-0000-000000000011"),
    ],
)
def test_ids_of_tables(value: object, name: str) -> None:
    """numpy has integers of its own, pandas makes floats of a column with a gap, databases have decimals and UUIDs."""
    assert FIELDS.row({"text": "a", "id": value}, None).id == name


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2.0**53, Decimal("1E+99"), Decimal("NaN"), numpy.bool_(True)]
)
def test_numbers_that_are_no_ids(value: object) -> None:
    """What is no whole number, or may be another one that was rounded."""
    assert "the id (field 'id')" in problem(FIELDS.row({"text": "a", "id": value}, 1))


def test_an_id_with_a_nul() -> None:
    """Its row fails alone: a database that does not store it would end the whole job."""
    assert "has a NUL character" in problem(FIELDS.row({"text": "a", "id": "a\0b"}, 1))


@pytest.mark.parametrize("value", [b"x", [1], pandas.Timestamp(0)])
def test_a_field_of_something_else_is_the_wrong_field(value: object) -> None:
    """A job stops at once where no row has a usable id, or text, in the field that was named."""
    assert FIELDS.row({"text": "a", "id": value}, 1).lacks == "id"
    assert FIELDS.row({"text": None, "id": None}, 1).lacks is None


@pytest.mark.parametrize("value", [None, float("nan"), numpy.float32("nan"), pandas.NA, pandas.NaT])
def test_a_template_has_no_place_for_no_value(value: object) -> None:
    """What pandas has in place of null is not asked about as the word "nan"."""
    row = TemplateFields(("a",), None).row({"a": value}, 1)
    assert "the field 'a' has no value" in problem(row)


@pytest.mark.parametrize("value", [b"text", bytearray(b"text"), memoryview(b"text")])
def test_a_template_has_no_place_for_bytes(value: object) -> None:
    """Columns of bytes, as some writers of Parquet have for text, are not asked about as b'text'."""
    row = TemplateFields(("a",), None).row({"a": value}, 1)
    assert "not text" in problem(row)
    assert row.lacks == "template"


@pytest.mark.parametrize("value", [None, True, 1.5, "", [1]])
def test_anything_else_is_no_id(value: object) -> None:
    """A row without a usable id fails: its vector could not be told from others."""
    row = FIELDS.row({"text": "a", "id": value}, 1)
    assert "the id (field 'id')" in problem(row)


def test_without_an_id_field_rows_go_by_their_number() -> None:
    """The id stays open here; the number is known where rows are counted."""
    assert FieldNames("text", None).row({"text": "a", "id": "x"}, None).id is None


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"id": "x"}, "there is no field 'text'"),
        ({"id": "x", "text": None}, "missing"),
        ({"id": "x", "text": 5}, "a value of type int"),
        ({"id": "x", "text": ""}, "the text is empty"),
        ({"id": "x", "text": "\ud800"}, "not valid Unicode"),
    ],
)
def test_a_record_without_a_usable_text_is_a_row_that_says_so(record: dict[str, object], words: str) -> None:
    """It keeps its id and its line."""
    row = FIELDS.row(record, 7)
    assert words in problem(row)
    assert (row.id, row.line) == ("x", 7)


def test_rows_differ_by_digest_when_they_differ() -> None:
    """Text, id and problem count; the line does not."""
    rows = [Row("a"), Row("b"), Row("a", "b"), text_row(None, None, None), Row("ab"), Row("\ud800")]
    assert len({row.digest() for row in rows}) == len(rows)
    assert Row("a", line=1).digest() == Row("a", line=2).digest()


@pytest.mark.parametrize(
    ("line", "words"), [(b"{", "not JSON"), (b"[1]", "not a JSON object"), (b'{"text": "\xff", "id": "x"}', "not JSON")]
)
def test_a_broken_line_of_json_is_a_row_that_says_so(line: bytes, words: str) -> None:
    """The job continues."""
    row = json_row(line, FIELDS, 4)
    assert words in problem(row)
    assert row.line == 4


def test_a_line_of_text_is_taken_without_its_end() -> None:
    """Spaces belong to the text, the line break does not."""
    assert plain_row(b" a b \r\n", 1) == Row(" a b ", None, 1)


def test_a_line_that_is_not_utf8_is_a_row_that_says_so() -> None:
    """The words name the reason."""
    assert "not valid UTF-8" in problem(plain_row(b"\xff\n", 1))


def test_items_are_texts_pairs_and_mappings() -> None:
    """What an iterable may give."""
    assert item_row("a", FIELDS) == Row("a")
    assert item_row(("x", "a"), FIELDS) == Row("a", "x")
    assert item_row([5, "a"], FIELDS) == Row("a", "5")
    assert item_row({"text": "a", "id": "x"}, FIELDS) == Row("a", "x")


@pytest.mark.parametrize("item", [5, None, b"bytes", ("only",), ("x", "y", "z")])
def test_other_items_are_rows_that_say_so(item: object) -> None:
    """The job continues."""
    assert "a row is a text, a pair (id, text) or a mapping" in problem(item_row(item, FIELDS))


def test_a_pair_without_an_id_is_a_row_that_says_so() -> None:
    """None is no id."""
    assert "the first of the pair" in problem(item_row((None, "a"), FIELDS))


@pytest.mark.parametrize("item", [("\ud83d", "a"), {"id": "\ud83d", "text": "a"}, {"id": 10**5000, "text": "a"}])
def test_an_id_that_cannot_be_written_fails_its_row(item: object) -> None:
    """A lone surrogate, and a number of thousands of digits: neither goes into a file, and neither stops a job."""
    assert item_row(item, FIELDS).problem is not None
    assert item_row(item, FIELDS).id is None


def test_large_rows_are_not_read_far_ahead() -> None:
    """A block has so many rows, or a few megabytes of texts and of the fields of a template."""
    small, large = Row("text"), Row("x" * (BLOCK_BYTES // 2))
    rows = iter([small] * 7 + [large] * 2 + [Row(None, record={"a": "x" * BLOCK_BYTES, "b": 1}), small])
    assert [len(block_of(rows, 5)) for _ in range(5)] == [5, 4, 1, 1, 0]

"""Parts: what is written is what other programs read."""

import array
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient.jobs.parts import Format, Group, names_of_part, npy_header, write_part


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def groups() -> Iterator[Group]:
    yield Group([0, 1], ["a", "b"], floats(0.1, 0.2, 0.3, 0.4))
    yield Group([5], ["ü"], floats(1e-30, -0.0))


EVERYTHING = floats(0.1, 0.2, 0.3, 0.4, 1e-30, -0.0)


def write(folder: Path, format: Format) -> dict[str, int]:
    files = write_part(folder, names_of_part(3, format), format, groups, 3, 2)
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == files  # and nothing else is left
    return files


def test_parquet(tmp_path: Path) -> None:
    """Index, id and vector of the types that are promised; each group is a row group."""
    assert list(write(tmp_path, "parquet")) == ["part-00003.parquet"]
    table = pq.read_table(tmp_path / "part-00003.parquet", use_threads=False)
    assert table.schema.field("index").type == pa.int64()
    assert table.schema.field("id").type == pa.string()
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 2)
    assert table["index"].to_pylist() == [0, 1, 5]
    assert table["id"].to_pylist() == ["a", "b", "ü"]
    assert numpy.concatenate([c.flatten().to_numpy() for c in table["vector"].chunks]).tobytes() == EVERYTHING
    assert pq.ParquetFile(tmp_path / "part-00003.parquet").num_row_groups == 2


def test_npy(tmp_path: Path) -> None:
    """NumPy reads it, also without loading it; ids and indexes lie beside it."""
    assert set(write(tmp_path, "npy")) == {"part-00003.npy", "part-00003.ids.jsonl"}
    vectors = numpy.load(tmp_path / "part-00003.npy", mmap_mode="r")
    assert vectors.shape == (3, 2)
    assert vectors.dtype == numpy.float32
    assert vectors.tobytes() == EVERYTHING
    lines = [json.loads(line) for line in (tmp_path / "part-00003.ids.jsonl").read_text().splitlines()]
    assert lines == [{"index": 0, "id": "a"}, {"index": 1, "id": "b"}, {"index": 5, "id": "ü"}]


def test_jsonl(tmp_path: Path) -> None:
    """The numbers of a line are the float32 ones, to the bit."""
    assert list(write(tmp_path, "jsonl")) == ["part-00003.jsonl"]
    lines = [json.loads(line) for line in (tmp_path / "part-00003.jsonl").read_text().splitlines()]
    assert [(line["index"], line["id"]) for line in lines] == [(0, "a"), (1, "b"), (5, "ü")]
    assert array.array("f", [number for line in lines for number in line["vector"]]).tobytes() == EVERYTHING


@given(rows=st.integers(0, 10**12), dimensions=st.integers(1, 10**5))
def test_numpy_reads_the_head_of_npy(rows: int, dimensions: int) -> None:
    """Whatever the shape, NumPy reads it, and the numbers behind it are aligned."""
    ours = npy_header(rows, dimensions)
    assert len(ours) % 64 == 0
    assert numpy.lib.format.read_array_header_1_0(io.BytesIO(ours[8:])) == (
        (rows, dimensions),
        False,
        numpy.dtype("<f4"),
    )


@pytest.mark.parametrize("format", ["parquet", "npy", "jsonl"])
def test_a_part_can_be_written_again(tmp_path: Path, format: Format) -> None:
    """One that a crash left behind is replaced, and the bytes are the same."""
    write(tmp_path, format)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write(tmp_path, format)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("format", ["parquet", "npy", "jsonl"])
def test_float16(tmp_path: Path, format: Format) -> None:
    """Numbers of two bytes, which other programs read as what they are."""
    numbers = [0.5, -1.5, 3.0, 65504.0]
    group = Group([0, 1], ["a", "b"], struct.pack("<4e", *numbers))
    write_part(tmp_path, names_of_part(0, format), format, lambda: [group], 2, 2, "float16")
    path = tmp_path / f"part-00000.{format}"
    if format == "npy":
        vectors = numpy.load(path)
        assert vectors.dtype == numpy.float16
        assert vectors.ravel().tolist() == numbers
    elif format == "parquet":
        table = pq.read_table(path, use_threads=False)
        assert table.schema.field("vector").type == pa.list_(pa.float16(), 2)
        assert table["vector"].chunk(0).flatten().to_numpy().tolist() == numbers
    else:
        assert [n for line in path.read_text().splitlines() for n in json.loads(line)["vector"]] == numbers

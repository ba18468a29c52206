"""Reads and writes Parquet: the only module that uses pyarrow, imported when needed (extra `arrow`).

Vectors are written without a copy: Arrow's array shares their buffer, and no number becomes an object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from nimclient.errors import ConfigurationError
from nimclient.jobs.extras import module_of_extra
from nimclient.jobs.objects import ObjectPath
from nimclient.jobs.rows import BLOCK_BYTES, Row, RowFields

_NOT_UTF_8 = "\udcff"  # as Python decodes a byte that is not UTF-8 (surrogateescape)


def arrow(name: str = "pyarrow") -> Any:
    """A module of pyarrow; ConfigurationError if it is not installed."""
    missing = "Parquet needs pyarrow: install nimclient[arrow], or choose format='npy' or 'jsonl'"
    return module_of_extra(name, missing)


def parquet_rows(
    path: Path | ObjectPath,
    fields: RowFields,
    check_columns: Callable[[Path | ObjectPath, Iterable[str], RowFields], None],
    rows_at_once: int,
) -> Iterator[Row]:
    """The rows of a file, a batch at a time. A `line` is the row's number, from 1."""
    with _opened(path) as file:
        check_columns(path, file.schema_arrow.names, fields)
        columns = list(fields.columns)
        line = 0
        batches = file.iter_batches(_rows_of_block(file.metadata, columns, rows_at_once), columns=columns)
        while (batch := _next_batch(path, batches)) is not None:
            for values in zip(*(_values(batch.column(name)) for name in columns), strict=True):
                line += 1
                yield fields.row(dict(zip(columns, values, strict=True)), line)


def _rows_of_block(footer: Any, columns: Sequence[str], most: int) -> int:
    """How many rows are read at once: fewer where they are large."""
    groups = map(footer.row_group, range(footer.num_row_groups))
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    rows: int = footer.num_rows
    size: int = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
    return max(min(most, rows * BLOCK_BYTES // max(size, 1)), 1)


def _next_batch(path: Path | ObjectPath, batches: Iterator[Any]) -> Any:
    try:
        return next(batches, None)
    except arrow().ArrowException as error:
        raise ConfigurationError(f"{path} cannot be read as Parquet: {error}") from None


def _values(column: Any) -> list[Any]:
    """The values of a column. A string that is not UTF-8, which Parquet allows, becomes an invalid text."""
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        return [_value(scalar) for scalar in column]
    return values


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return _NOT_UTF_8


def rows_of_parquet(path: Path | ObjectPath) -> int:
    """The number of rows of a file, from its footer."""
    with _opened(path) as file:
        count: int = file.metadata.num_rows
    return count


def _opened(path: Path | ObjectPath) -> Any:
    parquet = arrow("pyarrow.parquet")
    try:
        return parquet.ParquetFile(path if isinstance(path, Path) else path.open())
    except arrow().ArrowInvalid as error:
        raise ConfigurationError(f"{path} cannot be read as Parquet: {error}") from None


def write_parquet(
    file: IO[bytes],
    groups: Iterable[tuple[Sequence[int], Sequence[str], bytes]],
    dimensions: int,
    dtype: str,
    metadata: Mapping[bytes, bytes] | None = None,
) -> None:
    """Write groups of rows as row groups: index int64, id string, vector float32[n] or float16[n].

    Args:
        file: Where to.
        groups: Indexes, ids, and vectors as consecutive numbers.
        dimensions: Of each vector.
        dtype: Of its numbers.
        metadata: What the footer carries besides.
    """
    pa = arrow()
    vector = vector_type(dimensions, dtype)
    schema = pa.schema(
        [
            pa.field("index", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("vector", vector, nullable=False),
        ],
        metadata,
    )
    # numbers of embeddings hardly repeat: a dictionary or compression costs time and saves nothing
    writer = arrow("pyarrow.parquet").ParquetWriter(
        file, schema, compression={"index": "zstd", "id": "zstd"}, use_dictionary=False, write_statistics=["index"]
    )
    with writer:
        for indexes, ids, vectors in groups:
            rows = vector_array(vectors, dimensions, dtype)
            columns = [pa.array(indexes, pa.int64()), pa.array(ids, pa.string()), rows]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def vector_type(dimensions: int, dtype: str) -> Any:
    """Arrow's type of a vector."""
    pa = arrow()
    return pa.list_(pa.float16() if dtype == "float16" else pa.float32(), dimensions)


def vector_array(numbers: bytes, dimensions: int, dtype: str) -> Any:
    """An array of vectors that shares the memory of consecutive numbers."""
    pa = arrow()
    kind = vector_type(dimensions, dtype)
    count = len(numbers) // (kind.value_type.bit_width // 8)
    flat = pa.Array.from_buffers(kind.value_type, count, [None, pa.py_buffer(numbers)])
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)

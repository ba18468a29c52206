"""Writes a part of the output: Parquet, NumPy's own format, or JSON lines.

A part consists of groups of rows, of which one is in memory at a time. NumPy's format is written without NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Literal, TypeAlias

from attrs import frozen

from nimclient._resources.bulk import json as _json
from nimclient.jobs.files import write_whole
from nimclient.jobs.parquet import write_parquet
from nimclient.records.embeddings import NUMBER_BYTES, Vectors

Format: TypeAlias = Literal["parquet", "npy", "jsonl"]
FORMATS: tuple[Format, ...] = ("parquet", "npy", "jsonl")
FloatType: TypeAlias = Literal["float32", "float16"]
"""Of a number."""


@frozen
class Group:
    """Rows that are written together: their numbers, ids, and vectors as consecutive numbers."""

    indexes: Sequence[int]
    ids: Sequence[str]
    vectors: bytes


Groups: TypeAlias = Callable[[], Iterable[Group]]
"""Returns the groups of a part, from the first; may be called more than once."""


def names_of_part(number: int, format: Format, suffix: str = "") -> tuple[str, ...]:
    """The file names of a part; `suffix`: that of a shard."""
    stem = f"part{suffix}-{number:05d}"
    return (f"{stem}.ids.jsonl", f"{stem}.npy") if format == "npy" else (f"{stem}.{format}",)


def write_part(
    folder: Path,
    names: Sequence[str],
    format: Format,
    groups: Groups,
    rows: int,
    dimensions: int,
    dtype: FloatType = "float32",
) -> dict[str, int]:
    """Write the files of a part, durably; returns their names and sizes. Raises JobStoreError.

    Args:
        folder: Where they go.
        names: Of the files.
        format: Of the files.
        groups: The content.
        rows: How many there are.
        dimensions: Of each vector.
        dtype: Of its numbers.
    """
    write_vectors = partial(_write_vectors, format, groups, rows, dimensions, dtype)
    files: dict[str, Callable[[IO[bytes]], object]] = dict.fromkeys(names, write_vectors)
    if format == "npy":
        files[names[0]] = partial(_write_identities, groups)
    return {name: write_whole(folder / name, write) for name, write in files.items()}


def _write_vectors(
    format: Format, groups: Groups, rows: int, dimensions: int, dtype: FloatType, file: IO[bytes]
) -> None:
    """Write the file with the vectors, which also has the ids in Parquet and JSON lines."""
    match format:
        case "parquet":
            write_parquet(file, ((group.indexes, group.ids, group.vectors) for group in groups()), dimensions, dtype)
        case "npy":
            file.write(npy_header(rows, dimensions, dtype))
            file.writelines(group.vectors for group in groups())
        case "jsonl":
            for group in groups():
                file.writelines(_lines(group, dimensions, dtype))


def _write_identities(groups: Groups, file: IO[bytes]) -> None:
    """Write the indexes and ids of the rows as JSON lines."""
    for group in groups():
        file.writelines(map(_identity, group.indexes, group.ids))


def npy_header(rows: int, dimensions: int, dtype: FloatType = "float32") -> bytes:
    """The head of a .npy file (version 1.0 of NumPy's format: its length is a multiple of 64)."""
    description = f"{{'descr': '<f{NUMBER_BYTES[dtype]}', 'fortran_order': False, 'shape': ({rows}, {dimensions}), }}"
    padding = -(10 + len(description) + 1) % 64
    text = f"{description}{' ' * padding}\n".encode("latin-1")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def _identity(index: int, name: str) -> bytes:
    return _json.dumps({"index": index, "id": name}) + b"\n"


def _lines(group: Group, dimensions: int, dtype: FloatType) -> Iterator[bytes]:
    vectors = Vectors(group.vectors, dimensions, dtype)
    for index, name, vector in zip(group.indexes, group.ids, vectors, strict=True):
        yield _json.dumps({"index": index, "id": name, "vector": vector.tolist()}) + b"\n"

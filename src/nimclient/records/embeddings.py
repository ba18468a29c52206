"""Records of embeddings: vectors in one contiguous buffer, never in lists, and the checks that they match the request.

Base64 responses carry little-endian float32 (NIM, vLLM, the OpenAI convention); lists of numbers are accepted as well, item
by item. NIM's `embedding_type` gives int8, uint8 and bit-packed binary rows; vLLM's `bytes_only` the numbers alone, one
after the other. NumPy is imported only by `numpy()`.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from attrs import evolve, frozen

from nimclient._base import json as _json
from nimclient._base.types import Json, JsonDict
from nimclient._base.values import ResponseMeta
from nimclient.errors import ConfigurationError, EmbeddingMismatchError
from nimclient.records._decode import as_list, as_object, kind_of, object_or_empty, text_or_none, whole_number, wrong
from nimclient.records._numbers import (
    b64decode,
    decode_rows,
    first_not_finite,
    float16s,
    misread,
    rounded_to_float16,
)
from nimclient.records._record import TopRecord
from nimclient.records._search import best, read_query, scores, scores_numpy
from nimclient.records.usage import Usage, decode_usage, total_of

if TYPE_CHECKING:
    import numpy
    from numpy.typing import DTypeLike, NDArray

DType = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]

_FORMATS: dict[DType, Literal["f", "H", "b", "B"]] = {
    "float32": "f",
    "float16": "H",  # as whole numbers of 16 bits: memoryview does not know "e"
    "int8": "b",
    "uint8": "B",
    "binary": "b",
    "ubinary": "B",
}
_NUMBERS = frozenset({int, float})
_NOT_CUT: Mapping[int, int] = MappingProxyType({})
NUMBER_BYTES: dict[str, int] = {"float32": 4, "float16": 2}  # bytes a number, else 1
_NUMPY = {"float32": "<f4", "float16": "<f2", "int8": "i1", "uint8": "u1", "binary": "i1", "ubinary": "u1"}


class Vector(Sequence[float]):
    """One embedding: a sequence of numbers over a buffer that is not copied. Picklable; equal to any equal sequence."""

    __slots__ = ("_dtype", "_values")

    def __init__(self, buffer: bytes | bytearray | memoryview, dtype: DType = "float32") -> None:
        self._dtype: DType = dtype
        self._values = memoryview(buffer).toreadonly().cast("B").cast(_FORMATS[dtype])

    @property
    def dtype(self) -> DType:
        """The type of the numbers."""
        return self._dtype

    @property
    def buffer(self) -> memoryview:
        """The bytes."""
        return self._values.cast("B")

    def numpy(self) -> NDArray[Any]:
        """A one-dimensional array that shares the buffer."""
        import numpy

        return numpy.frombuffer(self.buffer, _NUMPY[self._dtype])

    def tolist(self) -> list[float]:
        """The numbers as a list (this copies)."""
        return float16s(self.buffer) if self._dtype == "float16" else list(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> Vector: ...
    def __getitem__(self, index: int | slice) -> float | Vector:
        if isinstance(index, slice):
            return Vector(self._values[index].tobytes(), self._dtype)
        value = self._values[index]
        return float16s(int(value).to_bytes(2, "little"))[0] if self._dtype == "float16" else value

    def __iter__(self) -> Iterator[float]:
        return iter(self.tolist() if self._dtype == "float16" else self._values)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Vector) and "float16" not in (self._dtype, other._dtype):
            return self._values == other._values
        if isinstance(other, Sequence) and not isinstance(other, (str, bytes)):
            return self.tolist() == list(cast(Sequence[float], other))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which are not hashable

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return _as_array(self.numpy(), dtype, copy)

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.4g}" for value in self[:3])
        return f"Vector([{shown}{', …' if len(self) > 3 else ''}], dimensions={len(self)}, dtype={self._dtype!r})"

    def __reduce__(self) -> tuple[type[Vector], tuple[bytes, DType]]:
        return Vector, (self._values.tobytes(), self._dtype)


class Vectors(Sequence[Vector]):
    """Embeddings in input order, in one contiguous buffer of len × dimensions numbers.

    `v[i]` is a Vector that shares the buffer, `v[a:b]` Vectors; `.numpy()` and `numpy.asarray(v)` a matrix of shape
    (len, dimensions) that also shares it. `.usage`, `.model` and `.meta` are those of the response (over many requests:
    usage and attempts added up). `.pieces`: with `long="mean"`, the positions of the texts that were cut, and into how many
    pieces.
    """

    __slots__ = ("_buffer", "_row", "dimensions", "dtype", "meta", "model", "pieces", "usage")

    def __init__(
        self,
        buffer: bytes | bytearray | memoryview,
        dimensions: int,
        dtype: DType = "float32",
        *,
        usage: Usage | None = None,
        model: str | None = None,
        meta: ResponseMeta | None = None,
        pieces: Mapping[int, int] = _NOT_CUT,
    ) -> None:
        self._buffer = memoryview(buffer).toreadonly().cast("B")
        self._row = dimensions * NUMBER_BYTES.get(dtype, 1)
        self.dimensions = dimensions
        self.dtype: DType = dtype
        self.usage = usage
        self.model = model
        self.meta = meta
        self.pieces = pieces
        if len(self._buffer) % max(self._row, 1):
            raise ValueError(f"{len(self._buffer)} bytes do not hold whole vectors of {dimensions} {dtype} numbers")

    @property
    def buffer(self) -> memoryview:
        """All bytes, row after row."""
        return self._buffer

    @property
    def zeros(self) -> tuple[int, ...]:
        """The positions of all-zero vectors: no search finds them, and their cosine is undefined."""
        if not self._row:
            return ()
        firsts = self._buffer[:: self._row].tobytes()  # a vector that begins with another byte is not zero
        if 0 not in firsts:
            return ()
        return tuple(
            i
            for i, first in enumerate(firsts)
            if not first and not any(self._buffer[i * self._row : (i + 1) * self._row])
        )

    @property
    def extra(self) -> JsonDict:
        """Always empty: unknown fields of the response are on Embeddings."""
        return {}

    def numpy(self) -> NDArray[Any]:
        """A matrix of shape (len, dimensions) that shares the buffer."""
        import numpy

        return numpy.frombuffer(self._buffer, _NUMPY[self.dtype]).reshape(len(self), self.dimensions)

    def tolist(self) -> list[list[float]]:
        """A list of lists (this copies and is slow: one Python object per number)."""
        return [vector.tolist() for vector in self]

    def search(self, query: Sequence[float], k: int = 10) -> list[tuple[int, float]]:
        """The `k` vectors nearest to a query by cosine, best first: pairs (index, score), with scores from -1 to 1.

        `query`: a Vector or any sequence of as many numbers. Equal scores keep the order of the vectors; one that is zero
        throughout is never found (`zeros`). int8 and uint8 are compared as the numbers they are, binary and ubinary bit
        by bit, with a query of bits or of 8 numbers a byte. Every vector is looked at: 100,000 of 1024 dimensions take
        about a second with NumPy, which is used where it is installed, and some forty times as long without.

        Raises TypeError for a text or several vectors; ConfigurationError for a query of other dimensions, one that is
        all zeros or not finite, and a `k` below 1.
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ConfigurationError(f"k takes a whole number of at least 1, not {k!r:.40}")
        if not len(self):
            return []
        direction = read_query(query, self.dimensions, self.dtype)
        try:
            import numpy
        except ImportError:
            return best(scores(self, self.dtype, direction), k)
        return best(scores_numpy(numpy, self.numpy(), self.dtype, direction), k)

    def to_dict(self) -> JsonDict:
        """The vectors as the `data` of a response, with model and usage."""
        data = [{"object": "embedding", "index": i, "embedding": v.tolist()} for i, v in enumerate(self)]
        usage = self.usage.to_dict() if self.usage else None
        return {"object": "list", "data": data, "model": self.model, "usage": usage}

    def __len__(self) -> int:
        return len(self._buffer) // self._row if self._row else 0

    @overload
    def __getitem__(self, index: int) -> Vector: ...
    @overload
    def __getitem__(self, index: slice) -> Vectors: ...
    def __getitem__(self, index: int | slice) -> Vector | Vectors:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                rows: bytes | memoryview = self._buffer[start * self._row : max(start, stop) * self._row]
            else:
                rows = b"".join(self._rows(range(start, stop, step)))
            some = Vectors(rows, self.dimensions, self.dtype, usage=self.usage, model=self.model, meta=self.meta)
            if self.pieces:
                places = range(start, stop, step)
                some.pieces = {places.index(at): n for at, n in self.pieces.items() if at in places}
            return some
        position = range(len(self))[index]  # negative indexes and IndexError as for a list
        return Vector(self._buffer[position * self._row : (position + 1) * self._row], self.dtype)

    def _rows(self, positions: range) -> Iterator[memoryview]:
        return (self._buffer[p * self._row : (p + 1) * self._row] for p in positions)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Vectors):
            return (self.dimensions, self.dtype, self._buffer) == (other.dimensions, other.dtype, other._buffer)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a mutable-sized buffer's equal is its value

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return _as_array(self.numpy(), dtype, copy)

    def __repr__(self) -> str:
        return f"Vectors({len(self)} × {self.dimensions}, dtype={self.dtype!r}, model={self.model!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self._buffer.tobytes(), self.dimensions, self.dtype, self.usage, self.model, self.meta)
        return _restore_vectors, (*state, dict(self.pieces))


def _restore_vectors(
    buffer: bytes,
    dimensions: int,
    dtype: DType,
    usage: Usage | None,
    model: str | None,
    meta: ResponseMeta | None,
    pieces: Mapping[int, int] = _NOT_CUT,
) -> Vectors:
    return Vectors(buffer, dimensions, dtype, usage=usage, model=model, meta=meta, pieces=pieces)


def _as_array(values: NDArray[Any], dtype: DTypeLike | None, copy: bool | None) -> NDArray[Any]:
    wanted: numpy.dtype[Any] = values.dtype
    if dtype is not None:
        import numpy

        wanted = numpy.dtype(dtype)
    if wanted != values.dtype:
        if copy is False:
            raise ValueError(f"vectors are {values.dtype}; making them {wanted} needs a copy")
        return values.astype(wanted)
    return values.copy() if copy else values


@frozen(repr=False)
class Embeddings(TopRecord):
    """The response to one embedding request: `.vectors` in the order of the texts, `.usage`, `.model`."""

    vectors: Vectors
    model: str | None = None
    usage: Usage | None = None

    def to_dict(self) -> JsonDict:
        """The response as a JSON object, numbers as lists."""
        return {**self.vectors.to_dict(), **self.extra}


def joined_embeddings(answers: Sequence[Embeddings]) -> Embeddings:
    """Several responses as one, in their order: usage and attempts are added up, the rest is that of the first."""
    first, usage = answers[0], total_of(answer.usage for answer in answers)
    meta = first.meta and evolve(first.meta, attempts=sum(answer.meta.attempts for answer in answers if answer.meta))
    pieces: dict[int, int] = {}
    place = 0
    for answer in answers:
        pieces.update((place + at, count) for at, count in answer.vectors.pieces.items())
        place += len(answer.vectors)
    like, buffer = first.vectors, b"".join(answer.vectors.buffer for answer in answers)
    vectors = Vectors(buffer, like.dimensions, like.dtype, usage=usage, model=like.model, meta=meta, pieces=pieces)
    return Embeddings(vectors, first.model, usage, extra=first.extra, meta=meta)


_KEY = b'"embedding":"'
_EMPTY = _KEY + b'"'
_BEFORE_KEY = {b"{", b","}


def loads_embeddings(data: bytes) -> Json:
    """The JSON of a response with its base64 vectors decoded: each `embedding` is bytes.

    Nearly all of such a response is base64 text of one length. It is cut out before the rest is parsed as JSON, which saves
    a str per vector. In valid JSON these bytes can only be the key (inside a string the quotes would be escaped); a response
    of any other form is parsed as usual.
    """
    try:
        start = data.index(_KEY) + len(_KEY)
        parts = _vector_of(data.index(b'"', start) - start).split(data)
        rest, encoded = parts[::2], parts[1::2]
        if {part[-1:] for part in rest[:-1]} <= _BEFORE_KEY:
            rows = decode_rows(encoded)
            value = _json.loads(_EMPTY.join(rest))
            items: list[JsonDict] = value["data"]
            if [item["embedding"] for item in items] == [""] * len(rows):
                for item, row in zip(items, rows, strict=True):
                    item["embedding"] = row
                return value
    except (ValueError, LookupError, TypeError):  # another form: the ordinary parser reports what is wrong
        pass
    return _json.loads(data)


@lru_cache(maxsize=16)
def _vector_of(length: int) -> re.Pattern[bytes]:
    """A key and its base64 text of this length; `.{n}` of anything takes no time of its own."""
    return re.compile(_KEY + rb'(.{%d})"' % length, re.DOTALL)


def decode_embeddings(
    value: Json,
    *,
    count: int | None = None,
    dimensions: int | None = None,
    dtype: DType = "float32",
    meta: ResponseMeta | None = None,
) -> Embeddings:
    """The vectors of a response, ordered by their `index`.

    Raises EmbeddingMismatchError if there are not `count` of them, if an index is missing, repeated or out of range, if
    their lengths differ from each other or from `dimensions`, or if a value is not a finite number; DecodeError if `data`
    is missing. float16 in JSON is float32 that is rounded here, to the bits that a server would send.
    """
    is_float16, dtype = dtype == "float16", "float32" if dtype == "float16" else dtype
    data = dict(as_object(value, "body", meta))
    if "data" not in data:
        raise wrong("it is missing", "data", meta)
    items = as_list(data.pop("data"), "data", meta)
    if count is not None and len(items) != count:
        raise wrong(f"{len(items)} vectors for {count} texts", "data", meta, EmbeddingMismatchError)
    items = _in_order(items, meta)
    try:
        rows: list[bytes] = [item["embedding"] for item in items]
        buffer = b"".join(rows)
    except (KeyError, TypeError):
        rows = [_decode_row(item, position, dtype, meta) for position, item in enumerate(items)]
        buffer = b"".join(rows)
    usage = decode_usage(data.pop("usage", None))
    model = text_or_none(data.pop("model", None))
    width = len(rows[0]) if rows else 0
    _check_widths(rows, width, dimensions, dtype, meta)
    if problem := misread(rows[0] if rows else b"", dtype):
        raise wrong(problem, "data[0].embedding", meta, EmbeddingMismatchError)
    per_row = width // 4 if dtype == "float32" else width
    _check_finite(buffer, per_row, dtype, meta)
    data.pop("object", None)
    if is_float16:
        buffer, dtype = rounded_to_float16(buffer), "float16"
        _check_finite(buffer, per_row, dtype, meta)
    vectors = Vectors(buffer, per_row, dtype, usage=usage, model=model, meta=meta)
    return Embeddings(vectors, model, usage, extra=data, meta=meta)


def decode_raw_embeddings(
    data: bytes,
    *,
    count: int,
    dimensions: int | None = None,
    dtype: DType = "float32",
    meta: ResponseMeta | None = None,
) -> Embeddings:
    """The vectors of a body that is nothing but their numbers, in the order of the texts; it is not copied.

    Such a response has no usage and names no model. Raises EmbeddingMismatchError if the bytes do not divide evenly into
    `count` vectors, of `dimensions` if given, or if a value is not a finite number.
    """
    per_row, rest = divmod(len(data), count * NUMBER_BYTES.get(dtype, 1))
    if rest or not per_row:
        raise wrong(f"{len(data)} bytes are not {count} {dtype} vectors", "body", meta, EmbeddingMismatchError)
    if dimensions not in (None, per_row):
        problem = f"{per_row} dimensions, but {dimensions} were requested"
        raise wrong(problem, "body", meta, EmbeddingMismatchError)
    if dtype == "float32" and (unlike := misread(data[: 4 * per_row], dtype)):
        raise wrong(unlike, "body", meta, EmbeddingMismatchError)
    _check_finite(data, per_row, dtype, meta)
    return Embeddings(Vectors(data, per_row, dtype, meta=meta), meta=meta)


def _check_finite(buffer: bytes, per_row: int, dtype: DType, meta: ResponseMeta | None) -> None:
    if (bad := first_not_finite(buffer, dtype)) is not None:
        raise wrong("NaN or infinity in the vector", f"data[{bad // per_row}]", meta, EmbeddingMismatchError)


def _in_order(items: list[Any], meta: ResponseMeta | None) -> list[Any]:
    """Items sorted by `index`; unchanged if no item has one; EmbeddingMismatchError otherwise."""
    try:
        indexes = [item["index"] for item in items]
    except (KeyError, TypeError):
        if any(object_or_empty(item).get("index") is not None for item in items):
            raise wrong("an item has no index", "data", meta, EmbeddingMismatchError) from None
        return items
    if indexes == list(range(len(items))) and bool not in map(type, indexes[:2]):  # True == 1
        return items
    if all(index is None for index in indexes):
        return items
    placed: list[Any] = [None] * len(items)
    for position, (sent, item) in enumerate(zip(indexes, items, strict=True)):
        index = whole_number(sent)
        if index is None or not 0 <= index < len(items) or placed[index] is not None:
            problem = f"index {sent!r:.40} is repeated, out of range or not a whole number"
            raise wrong(problem, f"data[{position}].index", meta, EmbeddingMismatchError)
        placed[index] = item
    return placed


def _decode_row(item: Json, position: int, dtype: DType, meta: ResponseMeta | None) -> bytes:
    row: Any = object_or_empty(item).get("embedding")
    try:
        if isinstance(row, str):
            return b64decode(row)
        if isinstance(row, list):
            if not _NUMBERS.issuperset(map(type, cast(list[Any], row))):
                is_matrix = list in map(type, cast(list[Any], row))  # llama-cpp-python, of a chat model
                raise TypeError("it is one for each token" if is_matrix else "not all items are numbers")
            return array(_FORMATS[dtype], cast(list[Any], row)).tobytes()
    except (ValueError, TypeError, OverflowError) as error:
        problem = f"not a vector of {dtype} numbers ({error})"
    else:
        problem = f"expected a list of numbers or base64 text, got {kind_of(row)}"
    raise wrong(problem, f"data[{position}].embedding", meta, EmbeddingMismatchError)


def _check_widths(
    rows: list[bytes], width: int, dimensions: int | None, dtype: DType, meta: ResponseMeta | None
) -> None:
    size = 4 if dtype == "float32" else 1
    per_byte = 8 if dtype in ("binary", "ubinary") else 1
    wanted = None if dimensions is None else -(-dimensions // per_byte) * size
    if set(map(len, rows)) == {width} and width and width % size == 0 and wanted in (None, width):
        return
    for position, row in enumerate(rows):
        if len(row) != width or not width or width % size:
            problem = f"{len(row)} bytes, but the first vector has {width}" if row else "the vector is empty"
            raise wrong(problem, f"data[{position}].embedding", meta, EmbeddingMismatchError)
    if rows:
        problem = f"{width // size * per_byte} dimensions, but {dimensions} were requested"
        raise wrong(problem, "data[0].embedding", meta, EmbeddingMismatchError)

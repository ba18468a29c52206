"""Vectors as bytes, in the types and byte orders of vLLM's `embed_dtype` and `endianness`."""

import math
import struct
import sys
from collections.abc import Sequence
from typing import Any, Final

from .wire import BytesResponse, TokenCounts, encoded

EMBED_DTYPES: Final = ("float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2")
ENDIANNESSES: Final = ("native", "little", "big")

_PACKED: Final = {"float32": "f", "float16": "e"}
_BITS: Final = {"bfloat16": (8, 7), "fp8_e4m3": (4, 3), "fp8_e5m2": (5, 2)}
"""Bits of exponent and fraction of the types that `struct` does not know."""


def packed(vector: Sequence[float], dtype: str, endianness: str) -> bytes:
    """The numbers of a vector, one after the other."""
    order = sys.byteorder if endianness == "native" else endianness
    sign = "<" if order == "little" else ">"
    if dtype in _PACKED:
        return struct.pack(f"{sign}{len(vector)}{_PACKED[dtype]}", *vector)
    code = "H" if dtype == "bfloat16" else "B"
    return struct.pack(f"{sign}{len(vector)}{code}", *(_small_float(value, *_BITS[dtype]) for value in vector))


def _small_float(value: float, exponent_bits: int, fraction_bits: int) -> int:
    """The bits of the nearest number of a small type, ties to even, for values within its range."""
    bias = (1 << (exponent_bits - 1)) - 1
    exponent = max(math.frexp(value)[1] - 1, 1 - bias) if value else 1 - bias
    steps = round(math.ldexp(abs(value), fraction_bits - exponent))
    bits = steps + ((exponent + bias - 1) << fraction_bits)  # a normal number's first bit is the lowest of the exponent
    return bits | (math.copysign(1.0, value) < 0) << (exponent_bits + fraction_bits)


def raw_response(
    body: dict[str, Any], rows: Sequence[bytes], dtype: str, endianness: str, shape: int, *, metadata: bool
) -> BytesResponse:
    """The response with these vectors; `metadata`: with a header that says what `body` would have said."""
    usage = TokenCounts(body["usage"]["prompt_tokens"])
    if not metadata:
        return BytesResponse(rows, {}, usage=usage)
    size = len(rows[0])
    data = [
        {
            "index": at,
            "embed_dtype": dtype,
            "endianness": endianness,
            "start": at * size,
            "end": (at + 1) * size,
            "shape": [shape],
        }
        for at in range(len(rows))
    ]
    counts = {name: body["usage"][name] for name in ("prompt_tokens", "total_tokens")}
    head = {"id": body["id"], "created": body["created"], "model": body["model"], "data": data, "usage": counts}
    return BytesResponse(rows, {"metadata": encoded(head).decode()}, usage=usage)

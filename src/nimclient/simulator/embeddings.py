"""`/v1/embeddings` like a NeMo Retriever NIM, with hashed n-gram features as vectors.

Asymmetric models require an `input_type` (or the model's name with its suffix); too long texts are rejected unless
`truncate` says which end to cut. Shortened vectors are a normalized prefix; the integer types
are scaled by the vector's largest component, the binary ones pack one sign bit a component.
"""

import base64
import re
import sys
import zlib
from array import array
from dataclasses import dataclass
from typing import Any, Final, cast

from .catalog import INPUT_TYPES, ServedModel
from .features import Features, shortened
from .fields import Fields
from .raw_vectors import EMBED_DTYPES, ENDIANNESSES, packed
from .rejections import Rejection, bad_field, invalid_field
from .text import pieces
from .vocabulary import Vocabulary

TRUNCATE: Final = ("NONE", "START", "END")

RAW_ENCODINGS: Final = ("bytes", "bytes_only")
_ENCODINGS: Final = ("float", "base64")
_TYPES: Final = ("float", "int8", "uint8", "binary", "ubinary")
_MODALITIES: Final = ("text", "image", "text_image")
_DATA_URL: Final = re.compile(r"data:image/[\w.+-]+;base64,[\w+/=]*")


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A checked request; `input_type` is "query", "passage" or nothing for a symmetric model."""

    texts: tuple[str, ...]
    input_type: str
    truncate: str
    dimensions: int
    encoding: str
    type: str
    embed_dtype: str = "float32"
    endianness: str = "native"


def read_embedding(fields: Fields, model: ServedModel, named_type: str | None, dimensions: int) -> EmbeddingRequest:
    """Validate a request; `named_type` is from the model's name, `dimensions` is the full size of a vector."""
    _check_modality(fields)
    return EmbeddingRequest(
        texts=_texts(fields, model),
        input_type=_input_type(fields, model, named_type),
        truncate=fields.one_of("truncate", TRUNCATE) or "NONE",
        dimensions=fields.integer("dimensions", min=1, max=dimensions) or dimensions,
        encoding=fields.one_of("encoding_format", _ENCODINGS) or "float",
        type=fields.one_of("embedding_type", _TYPES) or "float",
    )


def read_openai_embedding(
    fields: Fields, model: ServedModel, vocabulary: Vocabulary, dimensions: int, *, raw: bool = False
) -> EmbeddingRequest:
    """The same for a server with OpenAI's fields and vLLM's `truncate_prompt_tokens`, and ignores those of NIM.

    `input` may hold token ids. The beginning is cut off, as in vLLM. `raw`: whether vectors may be sent as bytes.
    """
    keep = fields.integer("truncate_prompt_tokens", min=-1)
    texts = _token_texts(fields, vocabulary) or _texts(fields, model)
    if keep is not None and keep > 0:
        texts = tuple("".join(pieces(text)[-keep:]) for text in texts)
    return EmbeddingRequest(
        texts=texts,
        input_type="",
        truncate="NONE" if keep is None else "START",
        dimensions=fields.integer("dimensions", min=1, max=dimensions) or dimensions,
        encoding=_word(fields, "encoding_format", (*_ENCODINGS, *RAW_ENCODINGS) if raw else _ENCODINGS) or "float",
        type="float",
        embed_dtype=(_word(fields, "embed_dtype", EMBED_DTYPES) if raw else None) or "float32",
        endianness=(_word(fields, "endianness", ENDIANNESSES) if raw else None) or "native",
    )


def _word(fields: Fields, name: str, allowed: tuple[str, ...]) -> str | None:
    """One of the allowed words, else a rejection in pydantic's words."""
    word = fields.text(name)
    if word is not None and word not in allowed:
        *others, last = map(repr, allowed)
        raise invalid_field(name, "literal_error", f"Input should be {', '.join(others)} or {last}")
    return word


def _token_texts(fields: Fields, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The texts of an input of token ids, one list or several; none for an input of texts."""
    given = fields.given("input")
    ids = cast("list[Any]", given) if isinstance(given, list) else []
    lists = [ids] if _is_token_list(ids) else ids
    return tuple(map(vocabulary.words_of, lists)) if all(map(_is_token_list, lists)) else ()


def _is_token_list(item: Any) -> bool:
    numbers = cast("list[Any]", item) if isinstance(item, list) else []
    return bool(numbers) and all(isinstance(number, int) for number in numbers)


def _texts(fields: Fields, model: ServedModel) -> tuple[str, ...]:
    texts = fields.texts("input")
    if texts is None:
        raise fields.missing("input")
    if not texts:
        raise bad_field("input", "must hold at least one text.")
    for at, text in enumerate(texts):
        if not text:
            raise bad_field("input", f"the text at index {at} is empty.")
    return tuple(map(without_images, texts)) if model.images else tuple(texts)


def without_images(text: str) -> str:
    """The text with every image data URL replaced by a word derived from its bytes."""
    return _DATA_URL.sub(lambda match: f"image{zlib.crc32(match.group().encode()):08x}", text)


def _input_type(fields: Fields, model: ServedModel, named_type: str | None) -> str:
    given = fields.one_of("input_type", INPUT_TYPES) or named_type
    if given is None and not model.symmetric:
        raise Rejection(400, "'input_type' parameter is required for this model.", param="input_type")
    return given if given and not model.symmetric else ""


def _check_modality(fields: Fields) -> None:
    for modality in fields.texts("modality") or ():
        if modality not in _MODALITIES:
            raise bad_field("modality", f"must be one of {', '.join(_MODALITIES)}, got {modality}.")


def fitted(text: str, limit: int, truncate: str) -> tuple[str, int]:
    """A text within the limit, and its number of tokens; Rejection (400) if it is too long and must not be truncated."""
    tokens = pieces(text)
    if len(tokens) <= limit:
        return text, len(tokens)
    if truncate == "NONE":
        raise Rejection(400, f"Input length {len(tokens)} exceeds maximum allowed token size {limit}", param="input")
    kept = tokens[-limit:] if truncate == "START" else tokens[:limit]
    return "".join(kept), limit


def embed(request: EmbeddingRequest, model: ServedModel, features: Features) -> dict[str, Any]:
    """The body of the answer."""
    texts = [fitted(text, model.token_limit, request.truncate) for text in request.texts]
    tokens = sum(count for _, count in texts)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": at, "embedding": _embedding(text, request, features)}
            for at, (text, _) in enumerate(texts)
        ],
        "model": model.id,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _embedding(text: str, request: EmbeddingRequest, features: Features) -> Any:
    """A vector in the encoding of its request."""
    vector = features.embedding(text, request.input_type)
    if request.dimensions < len(vector):
        vector = shortened(vector, request.dimensions)
    numbers = as_type(vector, request.type)
    if request.encoding == "float":
        return numbers.tolist()
    if request.type == "float":
        data = packed(numbers, request.embed_dtype, request.endianness)
        return data if request.encoding in RAW_ENCODINGS else base64.b64encode(data).decode()
    return base64.b64encode(little_endian(numbers)).decode()


def as_type(vector: list[float], type: str) -> "array[float] | array[int]":
    """The vector in one of the embedding types."""
    if type == "float":
        return array("f", vector)
    if type in ("int8", "uint8"):
        scale = 127.0 / max(map(abs, vector))
        shift = 0 if type == "int8" else 128
        return array("b" if type == "int8" else "B", [round(value * scale) + shift for value in vector])
    packed = _sign_bits(vector)
    return array("B", packed) if type == "ubinary" else array("b", [byte - 128 for byte in packed])


def _sign_bits(vector: list[float]) -> bytes:
    """One bit a component, the first in the highest bit of the first byte; the last byte is padded with zeros."""
    bits = "".join("1" if value > 0 else "0" for value in vector)
    size = (len(bits) + 7) // 8
    return int(bits.ljust(size * 8, "0"), 2).to_bytes(size, "big")


def little_endian(numbers: "array[float] | array[int]", byteorder: str = sys.byteorder) -> bytes:
    """The bytes of the numbers in little-endian order."""
    if byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()

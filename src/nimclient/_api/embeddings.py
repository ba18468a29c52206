"""Embeddings: arguments → Call (POST /embeddings).

`input_type` and `truncate` are NIM's; vLLM and others ignore them silently. Vectors are requested in base64, which takes
less than half the bytes and a third of the work of JSON numbers; a server that rejects it is sent `float` from then on.
vLLM also sends their raw bytes, which need no decoding, but come without usage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from nimclient._api.call import RAW_BYTES, Call
from nimclient._api.catalog import is_symmetric
from nimclient._api.options import (
    check_names,
    check_text,
    check_texts,
    check_whole,
    check_word,
    merge_fields,
    names_of,
)
from nimclient._api.server_types import TRUNCATES_ANYWAY, ServerType, truncate_instead
from nimclient._base.types import JsonDict
from nimclient._base.values import ResponseMeta
from nimclient.errors import ConfigurationError
from nimclient.records.embeddings import (
    DType,
    Embeddings,
    decode_embeddings,
    decode_raw_embeddings,
    loads_embeddings,
)
from nimclient.records.params import EmbeddingOptions

EMBEDDING_OPTIONS = names_of(EmbeddingOptions)
INPUT_TYPES = ("query", "passage")
TRUNCATES = ("NONE", "START", "END")
LONGS = ("mean",)
ENCODING_FORMATS = ("float", "base64", RAW_BYTES)
EMBED_DTYPES = ("float32", "float16")
EMBEDDING_TYPES = ("float", "int8", "uint8", "binary", "ubinary")

_NOT_SENT = frozenset({"prefix", "embed_dtype"})
_LAYOUT = frozenset({"encoding_format", "embed_dtype", "endianness"})
"""Fields that change what raw bytes mean."""


def embeddings_call(
    method: str,
    texts: Sequence[str],
    model: str | None,
    *,
    input_type: str | None,
    truncate: str | None,
    dimensions: int | None,
    encoding_format: str | None,
    options: Mapping[str, Any],
    input_type_is_ours: bool = False,
    raw: bool = False,
    check: Callable[[Embeddings], None] | None = None,
) -> Call[Embeddings]:
    """The call for these texts, checked. TypeError for a str or an unknown option, ConfigurationError for bad input.

    Args:
        method: The name of the public method, for errors.
        texts: The input, a list of str.
        model: None while it is unknown.
        input_type: "query" or "passage" (NIM).
        truncate: How NIM truncates a text that is too long.
        dimensions: The requested dimensions of the vectors.
        encoding_format: None: base64, or float if the server rejects it; see `raw`.
        options: EmbeddingOptions.
        input_type_is_ours: Whether the client added it, so that it may be dropped.
        raw: Whether to ask for raw bytes, unless the caller says how vectors are sent; base64 if the server rejects them.
        check: An additional check of the response; its errors count as decoding errors.
    """
    check_names(method, options, EMBEDDING_OPTIONS)
    checked = check_texts("texts", texts)
    words = (
        ("input_type", input_type, INPUT_TYPES),
        ("truncate", truncate, TRUNCATES),
        ("encoding_format", encoding_format, ENCODING_FORMATS),
        ("embedding_type", options.get("embedding_type"), EMBEDDING_TYPES),
        ("embed_dtype", options.get("embed_dtype"), EMBED_DTYPES),
    )
    for name, word, known in words:
        if word is not None:
            check_word(name, word, known)
    if dimensions is not None:
        check_whole("dimensions", dimensions, 1)
    prefix = options.get("prefix")
    if prefix is not None and prefix != "":
        checked = [check_text("prefix", prefix) + text for text in checked]
    fields: JsonDict = {"input": checked} if model is None else {"model": model, "input": checked}
    for name, value in (("input_type", input_type), ("truncate", truncate), ("dimensions", dimensions)):
        if value is not None:
            fields[name] = value
    dtype = dtype_of(options)
    raw = (
        raw
        and encoding_format is None
        and dtype in EMBED_DTYPES
        and _LAYOUT.isdisjoint(options.get("extra_body") or ())
    )
    fields["encoding_format"] = encoding_format or (RAW_BYTES if raw else "base64")
    merge_fields(fields, options, not_sent=_NOT_SENT)
    may_be_raw = fields["encoding_format"] == RAW_BYTES
    if may_be_raw and options.get("embed_dtype") is not None:
        fields.setdefault("embed_dtype", dtype)
    droppable_fields = (
        *((RAW_BYTES,) if raw else ()),
        *(("encoding_format",) if encoding_format is None else ()),
        *(("input_type",) if input_type_is_ours else ()),
    )
    expected: Any = {"count": len(checked), "dimensions": dimensions, "dtype": dtype, "check": check}
    return Call(
        "POST",
        "/embeddings",
        partial(_decode, decode_embeddings, **expected),
        fields,
        model=model,
        droppable_fields=droppable_fields,
        parse=loads_embeddings,
        decode_raw=partial(_decode, decode_raw_embeddings, **expected) if may_be_raw else None,
        kind="embedding",
    )


def dtype_of(options: Mapping[str, Any]) -> DType:
    """The type of the numbers that these options ask for."""
    packed, dtype = options.get("embedding_type") or "float", options.get("embed_dtype") or "float32"
    if packed == "float":
        return cast(DType, dtype)
    if dtype != "float32":
        raise ConfigurationError(f"embedding_type={packed!r} and embed_dtype={dtype!r} exclude each other")
    return cast(DType, packed)


def with_texts(call: Call[Embeddings], texts: Sequence[str | list[int]], prefix: str | None) -> Call[Embeddings]:
    """The call for other texts, which are known to be valid; all else was checked when `call` was created.

    A text may be its token ids, which have the prefix in them.
    """
    if prefix:
        texts = [prefix + text if isinstance(text, str) else text for text in texts]
    return Call(
        call.method,
        call.path,
        partial(cast(Any, call.decode), count=len(texts)),
        {**(call.fields or {}), "input": texts},
        model=call.model,
        droppable_fields=call.droppable_fields,
        parse=call.parse,
        decode_raw=None if call.decode_raw is None else partial(cast(Any, call.decode_raw), count=len(texts)),
        kind=call.kind,
    )


def ignored_options(call: Call[Embeddings], prefix: str | None, server: ServerType | None) -> list[tuple[str, str]]:
    """The options of the call that such a server (IGNORES_NIM_FIELDS) ignores silently, each with what to use instead.

    An `input_type` added by the client does not matter if the caller gives a prefix ("" if the model needs none) or the
    model treats queries and passages alike.
    """
    fields = call.fields or {}
    ignored: list[tuple[str, str]] = []
    handled = prefix is not None or (call.model is not None and is_symmetric(call.model))
    if "input_type" in fields and not ("input_type" in call.droppable_fields and handled):
        ignored.append(("input_type", 'pass prefix= as the model card says ("" if it needs none)'))
    if "truncate" in fields and fields["truncate"] != TRUNCATES_ANYWAY.get(server):
        ignored.append(("truncate", truncate_instead(server)))
    if fields.get("embedding_type") not in (None, "float"):
        instead = "pass embed_dtype= instead" if server == "vllm" else "its vectors are always float32"
        ignored.append(("embedding_type", instead))
    return ignored


def _decode(
    read: Callable[..., Embeddings],
    data: Any,
    meta: ResponseMeta,
    *,
    check: Callable[[Embeddings], None] | None,
    **expected: Any,
) -> Embeddings:
    """The vectors that `read` finds in JSON or in raw bytes, checked."""
    answer = read(data, meta=meta, **expected)
    if check is not None:
        check(answer)
    return answer


def check_batch(batch_size: int | None, concurrency: int | None) -> None:
    """Raise ConfigurationError unless both are None or whole numbers of at least 1."""
    for name, value in (("batch_size", batch_size), ("concurrency", concurrency)):
        if value is not None:
            check_whole(name, value, 1)


def check_query(text: object) -> str:
    """Check one text; TypeError for a list."""
    if not isinstance(text, str):
        raise TypeError(f"text takes a str, not {type(text).__name__}")
    return check_text("text", text)

"""Records of a server's metadata and version, and of its tokenizer."""

from __future__ import annotations

from typing import Any, cast

from attrs import frozen

from nimclient._base.types import Json, JsonDict
from nimclient._base.values import ResponseMeta
from nimclient.records._decode import (
    as_list,
    as_object,
    object_or_empty,
    objects,
    pop_count,
    text_or_none,
    wrong,
)
from nimclient.records._record import Record, TopRecord


@frozen(repr=False)
class ModelInfo(Record):
    """A model that a NIM container was built with: its short name and where its weights come from."""

    short_name: str | None = None
    url: str | None = None


@frozen(repr=False)
class Metadata(TopRecord):
    """Metadata of a server.

    `server` is "nim" or "vllm", by the route that responded. `version` is the release of the container or of vLLM;
    `api_version` comes from NIM's /v1/version only. The others come from NIM's /v1/metadata: `models` and `assets` (names or
    URLs) that the container was built with, `license` unchanged, `profile` the id of the selected model profile.
    """

    server: str
    version: str | None = None
    api_version: str | None = None
    models: tuple[ModelInfo, ...] = ()
    assets: tuple[str, ...] = ()
    license: JsonDict | None = None
    profile: str | None = None


@frozen(repr=False)
class Tokenization(TopRecord):
    """A text, or messages in the model's chat template, as tokens.

    `count` is the number of tokens, `max_model_len` the model's maximum, `tokens` the ids, `token_strs` the texts of the
    tokens with `return_token_strs=True`, else empty.
    """

    count: int
    tokens: tuple[int, ...]
    max_model_len: int | None = None
    token_strs: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count


@frozen(repr=False)
class Detokenization(TopRecord):
    """Tokens as text."""

    text: str


def decode_metadata(value: Json, meta: ResponseMeta | None = None) -> Metadata:
    """NIM's `GET /v1/metadata`. `assetInfo` is a list of str in some NIMs, of `{"assetName", "url"}` in others."""
    data = dict(as_object(value, "body", meta))
    models = [
        ModelInfo(text_or_none(item.get("shortName")), text_or_none(item.get("modelUrl")))
        for item in objects(data.pop("modelInfo", None))
    ]
    assets = data.pop("assetInfo", None)
    return Metadata(
        "nim",
        version=text_or_none(data.pop("version", None)),
        models=tuple(models),
        assets=tuple(_asset_names(assets)),
        license=object_or_empty(data.pop("licenseInfo", None)) or None,
        profile=text_or_none(data.pop("selectedModelProfileId", None)),
        extra=data,
        meta=meta,
    )


def _asset_names(assets: Json) -> list[str]:
    items = cast(list[Any], assets) if isinstance(assets, list) else []
    named = [item if isinstance(item, str) else object_or_empty(item) for item in items]
    names = [item if isinstance(item, str) else item.get("url") or item.get("assetName") for item in named]
    return [name for name in names if isinstance(name, str)]


def decode_nim_version(value: Json, meta: ResponseMeta | None = None) -> Metadata:
    """NIM's `GET /v1/version`: `{"release", "api"}`."""
    data = dict(as_object(value, "body", meta))
    release, api = text_or_none(data.pop("release", None)), text_or_none(data.pop("api", None))
    return Metadata("nim", version=release, api_version=api, extra=data, meta=meta)


def decode_vllm_version(value: Json, meta: ResponseMeta | None = None) -> Metadata:
    """vLLM's `GET /version`: `{"version"}`."""
    data = dict(as_object(value, "body", meta))
    return Metadata("vllm", version=text_or_none(data.pop("version", None)), extra=data, meta=meta)


def decode_tokenization(value: Json, meta: ResponseMeta | None = None) -> Tokenization:
    """`{"count", "max_model_len", "tokens", "token_strs"}`; the tokens are required."""
    data = dict(as_object(value, "body", meta))
    tokens = _tokens(data.pop("tokens", None), meta)
    count = pop_count(data, "count")
    texts = data.pop("token_strs", None)
    return Tokenization(
        count=len(tokens) if count is None else count,
        tokens=tokens,
        max_model_len=pop_count(data, "max_model_len"),
        token_strs=tuple(str(text) for text in cast(list[Any], texts)) if isinstance(texts, list) else (),
        extra=data,
        meta=meta,
    )


def _tokens(value: Json, meta: ResponseMeta | None) -> tuple[int, ...]:
    tokens = as_list(value, "tokens", meta)
    for position, token in enumerate(tokens):
        if type(token) is not int:
            raise wrong(f"expected a whole number, got {token!r:.40}", f"tokens[{position}]", meta)
    return tuple(tokens)


def decode_detokenization(value: Json, meta: ResponseMeta | None = None) -> Detokenization:
    """`{"prompt"}`."""
    data = dict(as_object(value, "body", meta))
    text = data.pop("prompt", None)
    if not isinstance(text, str):
        raise wrong("it is missing", "prompt", meta)
    return Detokenization(text, extra=data, meta=meta)

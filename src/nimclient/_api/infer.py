"""Generic calls: any NIM with a JSON API, and requests to any other route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from nimclient._api.call import Call
from nimclient._api.options import check_names, names_of
from nimclient._api.urls import http_parts
from nimclient._base import json as _json
from nimclient._base.types import Json
from nimclient._base.values import ResponseMeta
from nimclient._nvcf.media import named_assets
from nimclient._retry.policy import Replay
from nimclient.errors import ConfigurationError
from nimclient.records.files import Blob
from nimclient.records.params import CallOptions

_OPTIONS = names_of(CallOptions)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_AGAIN_IS_THE_SAME = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})  # idempotent, RFC 9110 9.2.2


def infer_call(
    name: str, path_or_url: str, json: Json, assets: object, options: Mapping[str, Any], accept: str
) -> Call[Blob]:
    """A POST of JSON whose response body is returned unchanged, also from behind a redirect.

    Args:
        name: The name of the public method, for errors.
        path_or_url: Below the root, or absolute.
        json: The body.
        assets: The assets that the body refers to, as records or ids.
        options: CallOptions.
        accept: The value of the Accept header.
    """
    check_names(name, options, _OPTIONS)
    headers = {} if assets is None else named_assets(assets, options.get("extra_headers"))
    return Call(
        "POST",
        _place(path_or_url, "path_or_url"),
        as_blob,
        raw=_body(json, options, "json"),
        replay=Replay.ONCE,
        headers=headers,
        accept=accept,
        at_root=True,
        follow=True,
    )


def request_call(method: str, path_or_url: str, json: Json, options: Mapping[str, Any], *, stream: bool) -> Call[Blob]:
    """Any request. Its method decides whether it may be replayed.

    Args:
        method: The HTTP method.
        path_or_url: Below the root, or absolute.
        json: The body; None sends none.
        options: CallOptions.
        stream: Whether the response is read event by event.
    """
    check_names("request", options, _OPTIONS)
    if not isinstance(method, str) or method.upper() not in _METHODS:
        raise ConfigurationError(f"method is {method!r:.40}; choose one of {', '.join(_METHODS)}")
    method = method.upper()
    nothing = json is None and options.get("extra_body") is None
    return Call(
        method,
        _place(path_or_url, "path_or_url"),
        as_blob,
        raw=None if nothing else _body(json, options, "json"),
        replay=Replay.SAFE if method in _AGAIN_IS_THE_SAME else Replay.ONCE,
        stream=stream,
        accept="application/json, */*;q=0.5",
        at_root=True,
        follow=True,
        allow_plain_202=True,
    )


def as_blob(data: Json, meta: ResponseMeta) -> Blob:
    """The body of a response as received."""
    return Blob(data, meta.headers.get("content-type", "").partition(";")[0].strip().lower(), meta)


def value_of(blob: Blob) -> Json:
    """The content of a body: None if empty, decoded JSON, other text as a str, else bytes."""
    if not blob.data:
        return None
    if blob.content_type == "text/plain" or not _looks_like_json(blob):
        return _text_or_bytes(blob.data)
    return blob.json()


def _looks_like_json(blob: Blob) -> bool:
    if blob.content_type.endswith(("/json", "+json")):
        return True
    return not blob.content_type and blob.data.lstrip()[:1] in (b"{", b"[")


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _place(path_or_url: object, where: str) -> str:
    """A path below the root, with its slash, or an absolute URL. ConfigurationError for anything else."""
    if not isinstance(path_or_url, str) or not path_or_url:
        raise ConfigurationError(f'{where} must be a path ("/v1/infer") or a URL, not {path_or_url!r:.40}')
    if not all("!" <= c <= "~" for c in path_or_url) or "#" in path_or_url:
        raise ConfigurationError(f"{where} has white space, a fragment or a character outside ASCII; percent-encode it")
    if "://" not in path_or_url.partition("?")[0]:
        return "/" + path_or_url.lstrip("/")
    http_parts(path_or_url, where, "must be a path or look like https://host/v1/path", "extra_headers=")
    return path_or_url


def _body(json: Json, options: Mapping[str, Any], what: str) -> bytes:
    extra: Json = options.get("extra_body")
    if extra is not None:
        if not isinstance(extra, Mapping) or not (json is None or isinstance(json, Mapping)):
            raise ConfigurationError(f"extra_body is merged into a JSON object; {what} is {type(json).__name__}")
        json = {**cast(Mapping[str, Json], json or {}), **cast(Mapping[str, Json], extra)}
    elif isinstance(json, Mapping):
        json = dict(cast(Mapping[str, Json], json))
    return _json.dumps(json, what)

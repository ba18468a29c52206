"""Which sink, and which rows, a URL stands for. A URL must not hold a password: it would show in process lists and errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from nimclient._resources.bulk import environment_key
from nimclient.errors import ConfigurationError
from nimclient.jobs.objects import SCHEMES, store_of
from nimclient.jobs.parquet import arrow
from nimclient.jobs.sinks.base import Sink
from nimclient.jobs.sinks.lance import LanceSink
from nimclient.jobs.sinks.objects import ObjectSink
from nimclient.jobs.sinks.postgres import PostgresSink
from nimclient.jobs.sinks.qdrant import QdrantSink
from nimclient.jobs.sinks.sqlite import SQLiteSink


def is_url(value: object) -> bool:
    """Whether it is a str such as s3://bucket/vectors."""
    return isinstance(value, str) and "://" in value


def sink_of(output: object) -> Sink | None:
    """The sink of an output: that of a URL, or the output itself; None for the path of a folder.

    Raises ConfigurationError for an unknown URL, one with a password, and a library that is missing.
    """
    if is_url(output):
        url = split_url(cast(str, output), SINKS)
        return SINKS[url.scheme](url)
    if isinstance(output, Sink) and not isinstance(output, (str, os.PathLike)):
        return output
    return None


def split_url(text: str, known: Mapping[str, object]) -> SplitResult:
    """The parts of a URL. Raises ConfigurationError unless its scheme is known and it holds no password."""
    url = urlsplit(text)
    if url.scheme not in known:
        raise ConfigurationError(
            f"{url.scheme}:// is no store that nimclient knows; choose one of {', '.join(f'{name}://' for name in known)}"
        )
    if url.password:
        raise ConfigurationError(
            f"a {url.scheme}:// URL with a password would be seen by others: leave it out, and set it where the store's own "
            f"tools look for it (PGPASSWORD or ~/.pgpass for PostgreSQL)"
        )
    return url


def path_of(url: SplitResult) -> str:
    """The path of a URL on this machine: name:///relative or name:////absolute, as SQLAlchemy writes it."""
    path = unquote(url.netloc + url.path).removeprefix("/")
    if not path:
        raise ConfigurationError(
            f"{url.scheme}:// takes a path: {url.scheme}:///relative/path or {url.scheme}:////absolute/path"
        )
    return path


def query_of(url: SplitResult, **defaults: str) -> dict[str, str]:
    """The parameters of a URL, with defaults. Raises ConfigurationError for others."""
    given = dict(parse_qsl(url.query))
    if unknown := given.keys() - defaults.keys():
        raise ConfigurationError(f"{url.scheme}:// has no parameter {min(unknown)!r}; it has {', '.join(defaults)}")
    return {**defaults, **given}


def _sqlite(url: SplitResult) -> SQLiteSink:
    return SQLiteSink(path_of(url), **query_of(url, table="vectors"))


def _objects(url: SplitResult) -> ObjectSink:
    query_of(url)
    arrow()
    return ObjectSink(store_of(url.geturl()), url.geturl())


def _lance(url: SplitResult) -> LanceSink:
    return LanceSink(path_of(url), **query_of(url, table="vectors"))


def _qdrant(url: SplitResult) -> QdrantSink:
    if url.netloc:
        scheme = "https" if url.scheme.endswith("https") else "http"
        return QdrantSink(
            **query_of(url, collection="vectors", distance="Cosine"),
            url=f"{scheme}://{url.netloc}{url.path}",
            api_key=None if (key := environment_key("QDRANT_API_KEY")) is None else key.reveal(),
        )
    return QdrantSink(
        **query_of(url, collection="vectors", distance="Cosine"),
        path=path_of(url),
        force_disable_check_same_thread=True,
    )


def _postgres(url: SplitResult) -> PostgresSink:
    given = dict(parse_qsl(url.query))
    table = given.pop("table", "vectors")
    return PostgresSink(url._replace(query=urlencode(given)).geturl(), table)


SINKS: Mapping[str, Callable[[SplitResult], Sink]] = {
    **dict.fromkeys(SCHEMES, _objects),
    "sqlite": _sqlite,
    "lancedb": _lance,
    "qdrant": _qdrant,
    "qdrant+https": _qdrant,
    "postgresql": _postgres,
}
"""The sink of a URL, by scheme."""

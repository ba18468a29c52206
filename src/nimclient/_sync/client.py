"""Client: the same SDK for scripts, notebooks and worker threads. Nothing is written twice: see `mirror`."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import Any, Self

from nimclient._client import AsyncClient
from nimclient._resources.chat import AsyncChat
from nimclient._resources.embeddings import AsyncEmbeddings
from nimclient._resources.health import AsyncHealth
from nimclient._resources.models import AsyncModels
from nimclient._sync.mirror import blocking, like
from nimclient._sync.portal import PORTAL
from nimclient._sync.stream import SyncChatStream


class Chat:
    """Chat completions, blocking."""

    def __init__(self, chat: AsyncChat) -> None:
        self._async = chat

    create = blocking(AsyncChat.create)

    @like(AsyncChat.stream)
    def stream(self, *args: Any, **options: Any) -> SyncChatStream:
        """See AsyncChat.stream."""
        return SyncChatStream(self._async.stream(*args, **options))


class Embeddings:
    """Embeddings, blocking."""

    def __init__(self, embeddings: AsyncEmbeddings) -> None:
        self._async = embeddings

    create = blocking(AsyncEmbeddings.create)
    embed_query = blocking(AsyncEmbeddings.embed_query)
    embed_documents = blocking(AsyncEmbeddings.embed_documents)


class Models:
    """Models, blocking."""

    def __init__(self, models: AsyncModels) -> None:
        self._async = models

    list = blocking(AsyncModels.list)
    get = blocking(AsyncModels.get)


class Health:
    """Health, blocking."""

    def __init__(self, health: AsyncHealth) -> None:
        self._async = health

    ready = blocking(AsyncHealth.ready)
    live = blocking(AsyncHealth.live)


class Client:
    """The blocking client: every method, option, record and error of AsyncClient, over one background loop.

    It works in scripts, in threads, and where a loop is running already (Jupyter). Use it with `with`, or call `close`.
    """

    @like(AsyncClient.__init__)
    def __init__(self, *args: Any, **settings: Any) -> None:
        self._async = AsyncClient(*args, **settings)

    @classmethod
    def _over(cls, client: AsyncClient) -> Self:
        made = cls.__new__(cls)
        made._async = client
        return made

    @cached_property
    def chat(self) -> Chat:
        """Chat completions, whole and streamed."""
        return Chat(self._async.chat)

    @cached_property
    def embeddings(self) -> Embeddings:
        """Embeddings of one request, one query, or many documents."""
        return Embeddings(self._async.embeddings)

    @cached_property
    def models(self) -> Models:
        """The models of the server."""
        return Models(self._async.models)

    @cached_property
    def health(self) -> Health:
        """Whether the server is alive and ready."""
        return Health(self._async.health)

    rerank = blocking(AsyncClient.rerank)
    close = blocking(AsyncClient.aclose)

    @property
    def base_url(self) -> str:
        """The API root, ending in /v1."""
        return self._async.base_url

    @like(AsyncClient.with_options)
    def with_options(self, **settings: Any) -> Client:
        """See AsyncClient.with_options."""
        return Client._over(self._async.with_options(**settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        PORTAL.run(self._async.aclose)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._async)


def _restore(cls: type[Client], client: AsyncClient) -> Client:
    return cls._over(client)

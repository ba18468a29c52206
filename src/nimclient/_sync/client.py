"""Client: the same SDK for scripts, notebooks and worker threads. Methods are generated: see `mirror`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from nimclient._api.messages import materialized
from nimclient._base import observers
from nimclient._base.cached import cached_property
from nimclient._base.config import Dialect
from nimclient._base.types import Closing, Json, is_array
from nimclient._client import AsyncClient, check_settings
from nimclient._resources import batch
from nimclient._resources.assets import AsyncAssets
from nimclient._resources.chat import AsyncChat
from nimclient._resources.completions import AsyncCompletions
from nimclient._resources.embeddings import AsyncEmbeddings
from nimclient._resources.health import AsyncHealth
from nimclient._resources.history import Store
from nimclient._resources.models import AsyncModels
from nimclient._sync.conversation import SyncConversation
from nimclient._sync.embed_stream import SyncEmbedStream
from nimclient._sync.many import SyncAsCompleted, completing, in_order
from nimclient._sync.mirror import Mirror, blocking, declared, is_lazy, like
from nimclient._sync.portal import PORTAL
from nimclient._sync.stream import SyncChatStream, SyncCompletionStream, SyncEventStream
from nimclient.records.params import CallOptions

if TYPE_CHECKING:
    from nimclient._resources.parse_stream import ParseStream
    from nimclient._sync.parse_stream import SyncParseStream

P = ParamSpec("P")
T = TypeVar("T")


def growing(
    method: Callable[Concatenate[Any, P], ParseStream[T]],
) -> Callable[Concatenate[Any, P], SyncParseStream[T]]:
    """The signature and docstring of the blocking twin of `parse_stream`."""
    return declared(method, "SyncParseStream[Any]")


class Chat(Mirror[AsyncChat]):
    """Chat completions, blocking."""

    create = blocking(AsyncChat.create)
    parse = blocking(AsyncChat.parse)
    run_tools = blocking(AsyncChat.run_tools)
    parse_stream = growing(AsyncChat.parse_stream)

    def _parse_stream(self, *args: Any, **options: Any) -> SyncParseStream[Any]:
        from nimclient._sync.parse_stream import SyncParseStream

        return SyncParseStream(self._async.parse_stream(*args, **options))

    @like(AsyncChat.stream)
    def stream(self, *args: Any, **options: Any) -> SyncChatStream:
        """See AsyncChat.stream."""
        return SyncChatStream(self._async.stream(*args, **options))

    batch = blocking(AsyncChat.batch)
    as_completed = completing(AsyncChat.as_completed)

    def _batch(self, list_of_messages: Any, **settings: Any) -> Any:
        if is_lazy(list_of_messages):
            results = self._completed("chat.batch", list_of_messages, **settings)
            if not observers.installed:
                return in_order(results)
            with self._async._whole("chat", settings.get("model")) as observed:
                replies = in_order(results)
                observed.append(replies)
            return replies
        if is_array(list_of_messages):
            list_of_messages = [materialized(messages) for messages in list_of_messages]
        run: Any = self._async.batch
        return PORTAL.run(run, list_of_messages, **settings)

    def _as_completed(self, iterable_of_messages: Any, **settings: Any) -> SyncAsCompleted[Any]:
        return self._completed("chat.as_completed", iterable_of_messages, **settings)

    def _completed(
        self,
        method: str,
        source: Any,
        *,
        concurrency: int | None = None,
        on_error: str = "raise",
        model: str | None = None,
        **options: Any,
    ) -> SyncAsCompleted[Any]:
        return SyncAsCompleted(
            lambda items: batch.as_completed(
                self._async, method, items, concurrency=concurrency, on_error=on_error, model=model, options=options
            ),
            source,
        )

    @like(AsyncChat.conversation)
    def conversation(
        self,
        system: str | None = None,
        store: Store | None = None,
        session_id: str | None = None,
        *,
        model: str | None = None,
        **options: Any,
    ) -> SyncConversation:
        """See AsyncChat.conversation."""
        chat = self._async
        given = chat._with_defaults("chat", options)
        return SyncConversation(chat.create, chat._opener, system, store, session_id, model, given)


class Completions(Mirror[AsyncCompletions]):
    """Text completions, blocking."""

    create = blocking(AsyncCompletions.create)

    @like(AsyncCompletions.stream)
    def stream(self, *args: Any, **options: Any) -> SyncCompletionStream:
        """See AsyncCompletions.stream."""
        return SyncCompletionStream(self._async.stream(*args, **options))


class Embeddings(Mirror[AsyncEmbeddings]):
    """Embeddings, blocking."""

    create = blocking(AsyncEmbeddings.create)
    embed_query = blocking(AsyncEmbeddings.embed_query)

    embed_documents = blocking(AsyncEmbeddings.embed_documents)

    @like(AsyncEmbeddings.embed_stream)
    def embed_stream(self, source: Any, **settings: Any) -> SyncEmbedStream:
        """See AsyncEmbeddings.embed_stream."""
        return SyncEmbedStream(self._async.embed_stream(source, **settings), source)


class Models(Mirror[AsyncModels]):
    """Models, blocking."""

    list = blocking(AsyncModels.list)
    get = blocking(AsyncModels.get)


class Health(Mirror[AsyncHealth]):
    """Health, blocking."""

    ready = blocking(AsyncHealth.ready)
    live = blocking(AsyncHealth.live)
    wait_ready = blocking(AsyncHealth.wait_ready)


class Assets(Mirror[AsyncAssets]):
    """Files on the hosted platform, blocking."""

    upload = blocking(AsyncAssets.upload)
    get = blocking(AsyncAssets.get)
    delete = blocking(AsyncAssets.delete)


class Client(Mirror[AsyncClient], Closing):
    """The blocking client: every method, option, record and error of AsyncClient, over one background loop.

    It works in scripts, in threads, and where a loop is running already (Jupyter). Use it with `with`, or call `close`.
    """

    @like(AsyncClient.__init__)
    def __init__(self, *args: Any, **settings: Any) -> None:
        check_settings(type(self).__name__, settings)
        self._async = AsyncClient(*args, **settings)

    @classmethod
    def _over(cls, client: AsyncClient) -> Self:
        made = cls.__new__(cls)
        made._async = client
        return made

    @cached_property
    def chat(self) -> Chat:
        """Chat completions, complete and streamed."""
        return Chat(self._async.chat)

    @cached_property
    def completions(self) -> Completions:
        """Text completions, complete and streamed."""
        return Completions(self._async.completions)

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

    @cached_property
    def assets(self) -> Assets:
        """Files on the hosted platform, for input too large for a request."""
        return Assets(self._async.assets)

    rerank = blocking(AsyncClient.rerank)
    metadata = blocking(AsyncClient.metadata)
    tokenize = blocking(AsyncClient.tokenize)
    detokenize = blocking(AsyncClient.detokenize)
    infer = blocking(AsyncClient.infer)
    infer_raw = blocking(AsyncClient.infer_raw)
    warm = blocking(AsyncClient.warm)

    def close(self) -> None:
        """Close all connections. Calls in flight end with ClientClosedError, later ones raise it. Idempotent."""
        if hasattr(self, "_async"):  # else its construction failed
            PORTAL.run(self._async.aclose)

    @overload
    def request(
        self,
        method: str,
        path_or_url: str,
        *,
        json: Json = None,
        stream: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Json: ...

    @overload
    def request(
        self, method: str, path_or_url: str, *, json: Json = None, stream: Literal[True], **options: Unpack[CallOptions]
    ) -> SyncEventStream: ...

    def request(
        self, method: str, path_or_url: str, *, json: Json = None, stream: bool = False, **options: Unpack[CallOptions]
    ) -> Json:
        """Send any request with the client's key, retries, time limits and errors.

        `path_or_url` as in `infer`; a query is sent unchanged. Returns the response as decoded JSON, other text as a str,
        other data as bytes, None for an empty body. With `stream=True` returns an open EventStream of the decoded events; the
        body is not changed, so include what the route needs ("stream": true). GET, HEAD, PUT, DELETE and OPTIONS are
        replay-safe, POST and PATCH are replayed like a generation.
        """
        send: Any = self._async.request
        answer = PORTAL.run(partial(send, method, path_or_url, json=json, stream=stream, **options))
        return SyncEventStream(answer) if stream else answer

    @property
    def base_url(self) -> str:
        """The API root, ending in /v1; with several replicas that of the first."""
        return self._async.base_url

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The API roots of all replicas."""
        return self._async.base_urls

    @property
    def dialect(self) -> Dialect | None:
        """The server type behind the base URL: as given, by its host, or as detected from responses so far."""
        return self._async.dialect

    @like(AsyncClient.with_options)
    def with_options(self, **settings: Any) -> Client:
        """See AsyncClient.with_options."""
        return Client._over(self._async.with_options(**settings))

    def __repr__(self) -> str:
        if not hasattr(self, "_async"):  # __init__ raised, and a debugger displays the object
            return f"<{type(self).__name__} that was not initialized>"
        urls = self.base_urls
        return f"{type(self).__name__}(base_url={urls[0] if len(urls) == 1 else list(urls)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._async)


def _restore(cls: type[Client], client: AsyncClient) -> Client:
    return cls._over(client)

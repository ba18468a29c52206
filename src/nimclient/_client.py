"""AsyncClient: settings, namespaces, lifecycle. Creating one does no I/O and needs no running loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, Never, Self, Unpack, overload

from attrs import evolve

from nimclient._api.options import check_whole
from nimclient._api.urls import parse_base_urls
from nimclient._base.cached import cached_property
from nimclient._base.config import (
    HOSTED_BASE_URL,
    HOW_TO_GET_A_KEY,
    ApiKey,
    ClientConfig,
    Credentials,
    Dialect,
    Limits,
    RetryPolicy,
    Timeouts,
    check_affinity,
    check_dialect,
    check_headers,
    check_models,
    environment_base_url,
    is_nvidia,
    resolve_timeouts,
)
from nimclient._base.init_lock import init_lock
from nimclient._base.types import NOT_GIVEN, AsyncClosing
from nimclient.errors import ConfigurationError

if TYPE_CHECKING:
    from nimclient._api.defaults import Defaults
    from nimclient._api.messages import Messages
    from nimclient._api.ranking import Document
    from nimclient._base.types import Json
    from nimclient._engine.engine import Engine
    from nimclient._engine.shared_state import SharedState
    from nimclient._http.base import Transport
    from nimclient._resources.assets import AsyncAssets
    from nimclient._resources.chat import AsyncChat
    from nimclient._resources.completions import AsyncCompletions
    from nimclient._resources.embeddings import AsyncEmbeddings
    from nimclient._resources.health import AsyncHealth
    from nimclient._resources.models import AsyncModels
    from nimclient._streams.event_stream import EventStream
    from nimclient.records.attempt import AttemptEvent
    from nimclient.records.files import Asset, Blob
    from nimclient.records.models import Model
    from nimclient.records.params import CallOptions, TokenizeOptions
    from nimclient.records.ranking import Ranking
    from nimclient.records.server import Detokenization, Metadata, Tokenization


class AsyncClient(AsyncClosing):
    """A client for the hosted NVIDIA catalog, self-hosted NIM containers and vLLM's OpenAI-compatible server.

    One client is enough for a program: it works in every asyncio loop, in any thread, across several `asyncio.run` calls,
    and after pickling (which carries its settings, never a literal key). Each loop gets its own connections at its first
    call; they are closed by `aclose`, by leaving `async with`, or with the loop.

    Args:
        api_key: A str or a callable returning one; None: NVIDIA_NIM_API_KEY, else NVIDIA_API_KEY (for NVIDIA's own hosts).
        base_url: With or without /v1, or a list of replicas that serve the same models: each request goes to the one with
            the smallest outstanding requests × latency, a retry to another one. None: NVIDIA_BASE_URL, else the hosted
            catalog.
        model: The default model, or one per kind ("chat", "embedding", "ranking", "completions"); None: the first
            suitable model that the server lists.
        timeouts: Time limits; a number is the total in seconds.
        retry: When failed attempts are retried.
        limits: Limits on concurrency, sizes and request rate.
        dialect: The server type, where it cannot be detected.
        headers: Headers of every request to a configured origin.
        verify: True, False, a CA file or folder, or an SSLContext.
        cert: A client certificate.
        proxy: The URL of an HTTP proxy.
        trust_env: Whether the environment's proxy settings are used.
        endpoints: A separate URL for a model, or a Model record with its kind, aliases and features (`endpoint=None`: at
            the base URL).
        strict: Whether ignored options and doubtful results are errors.
        on_attempt: Called with an AttemptEvent after every attempt.
        transport: Sends the requests in place of aiohttp: an object with the methods of nimclient.testing.Transport; the
            client closes it.
        defaults: Options of every call of a kind, {"chat": {"temperature": 0}, "embedding": {"truncate": "END"}}
            ("completions" and "ranking", too); options of a call override them, and None there switches one off.
        affinity: With replicas: None (smallest load), or "prefix" (turns of a conversation go where their prefix is cached).

    Raises ConfigurationError for settings that cannot work, TypeError for an unknown one, in `defaults` too.
    """

    def __init__(
        self,
        /,
        api_key: ApiKey | None = None,
        base_url: str | Sequence[str] | None = None,
        *,
        model: str | Mapping[str, str] | None = None,
        timeouts: Timeouts | float | None = None,
        retry: RetryPolicy | None = None,
        limits: Limits | None = None,
        dialect: Dialect | None = None,
        headers: Mapping[str, str] | None = None,
        verify: Any = True,
        cert: Any = None,
        proxy: str | None = None,
        trust_env: bool = True,
        endpoints: Mapping[str, str | Model] | None = None,
        strict: bool = False,
        on_attempt: Callable[[AttemptEvent], object] | None = None,
        transport: Transport | None = None,
        defaults: Defaults | None = None,
        affinity: Literal["prefix"] | None = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            check_settings(type(self).__name__, unknown)
        environment = environment_base_url() if base_url is None else None
        if environment is not None:
            bases = parse_base_urls(environment, "NVIDIA_BASE_URL")
        else:
            bases = parse_base_urls(HOSTED_BASE_URL if base_url is None else base_url)
        credentials = Credentials.gather(api_key, base_from_environment=environment is not None)
        config = ClientConfig(
            base_urls=tuple(base.api for base in bases),
            credentials=credentials,
            models=check_models(model),
            timeouts=resolve_timeouts(Timeouts(), timeouts),
            retry=_of_type("retry", retry, RetryPolicy),
            limits=_of_type("limits", limits, Limits),
            dialect=check_dialect(dialect),
            headers=check_headers(headers),
            verify=verify,
            cert=cert,
            proxy=_check_proxy(proxy),
            trust_env=trust_env,
            catalog=_read_endpoints(endpoints),
            strict=strict,
            on_attempt=on_attempt,
            transport=_check_transport(transport),
            defaults=_merge_defaults({}, defaults),
            affinity=check_affinity(affinity),
        )
        origin = bases[0].origin
        if is_nvidia(origin) and credentials.for_origin(origin, origin) is None:
            raise ConfigurationError(f"the hosted catalog ({origin}) needs an API key: {HOW_TO_GET_A_KEY}")
        self._config = config
        self._shared: SharedState | None = None
        self._owns_core = True

    # namespaces ------------------------------------------------------------------------------------------------

    @cached_property
    def chat(self) -> AsyncChat:
        """Chat completions, complete and streamed."""
        from nimclient._resources.chat import AsyncChat

        return AsyncChat(self._engine)

    @cached_property
    def completions(self) -> AsyncCompletions:
        """Text completions, complete and streamed."""
        from nimclient._resources.completions import AsyncCompletions

        return AsyncCompletions(self._engine)

    @cached_property
    def embeddings(self) -> AsyncEmbeddings:
        """Embeddings of one request, one query, or many documents."""
        from nimclient._resources.embeddings import AsyncEmbeddings

        return AsyncEmbeddings(self._engine)

    @cached_property
    def models(self) -> AsyncModels:
        """The models of the server."""
        from nimclient._resources.models import AsyncModels

        return AsyncModels(self._engine)

    @cached_property
    def health(self) -> AsyncHealth:
        """Whether the server is alive and ready."""
        from nimclient._resources.health import AsyncHealth

        return AsyncHealth(self._engine)

    @cached_property
    def assets(self) -> AsyncAssets:
        """Files on the hosted platform, for input too large for a request."""
        from nimclient._resources.assets import AsyncAssets

        return AsyncAssets(self._engine)

    async def rerank(
        self,
        query: str,
        documents: Sequence[Document],
        *,
        model: str | None = None,
        top_n: int | None = NOT_GIVEN,
        truncate: str | None = NOT_GIVEN,
        batch_size: int | None = NOT_GIVEN,
        concurrency: int | None = NOT_GIVEN,
        **options: Unpack[CallOptions],
    ) -> Ranking:
        """Sort `documents` by relevance to `query`, best first; `top_n` keeps the best n.

        Args:
            query: The query.
            documents: Each a str, an Image, or both as {"text": …, "image": …} (images: vision-language rerankers).
            model: None: the client's, else the first reranker that the server lists.
            top_n: The number of documents to return; None: all.
            truncate: "NONE" or "END", for pairs that are too long (NIM).
            batch_size: Documents per request (None: 512, the maximum of NIM); slices are sent concurrently and merged by
                score.
            concurrency: Requests in flight; None: adapted to the server.
            **options: See CallOptions.

        NIM uses /v1/ranking, or the model's own URL in the hosted catalog; vLLM and Dynamo use /v1/rerank. The form is
        detected by the first response and remembered; the client's `dialect=` sets it in advance.

        Raises TypeError for a str in place of a list, ConfigurationError naming the index of a document that is empty or
        of another type, RerankMismatchError if the ranking does not match the documents, NotFoundError if the server has
        no route for reranking, else TransportError or APIStatusError. With several slices the error has `.index`, the
        first document of the failing one, and `.completed`, pairs (index of the first document, Ranking).
        """
        from nimclient._resources.base import Resource
        from nimclient._resources.ranking import rerank

        return await rerank(
            Resource(self._engine),
            query,
            documents,
            model=model,
            top_n=top_n,
            truncate=truncate,
            batch_size=batch_size,
            concurrency=concurrency,
            options=options,
        )

    async def metadata(self, **options: Unpack[CallOptions]) -> Metadata:
        """Metadata of the server: a NIM's /v1/metadata (else its /v1/version), vLLM's /version.

        Raises NotFoundError if it has none of them (Dynamo, the hosted catalog), else what every call raises.
        """
        from nimclient._resources.base import Resource
        from nimclient._resources.server import metadata

        return await metadata(Resource(self._engine), options)

    async def tokenize(
        self, text_or_messages: Messages, *, model: str | None = None, **options: Unpack[TokenizeOptions]
    ) -> Tokenization:
        """The tokens of a text (str), or of messages (list) in the model's chat template: POST /tokenize (vLLM, NIM 2.x).

        Without a model, in the call or the client, the server uses its own. Raises NotFoundError if the server has no
        such route, TypeError for an unknown option, else what every call raises.
        """
        from nimclient._resources.base import Resource
        from nimclient._resources.server import tokenize

        return await tokenize(Resource(self._engine), text_or_messages, model, options)

    async def detokenize(
        self, tokens: Sequence[int], *, model: str | None = None, **options: Unpack[CallOptions]
    ) -> Detokenization:
        """The text of token ids: POST /detokenize (vLLM, NIM 2.x). Errors as in `tokenize`."""
        from nimclient._resources.base import Resource
        from nimclient._resources.server import detokenize

        return await detokenize(Resource(self._engine), tokens, model, options)

    async def infer(
        self,
        path_or_url: str,
        json: Json,
        *,
        assets: Sequence[Asset | str] | None = None,
        **options: Unpack[CallOptions],
    ) -> Json:
        """Send JSON to any NIM (OCR, page elements, images, biology, …) and return the response as decoded JSON.

        `path_or_url`: a path below the server's root ("/v1/infer", "/biology/mit/boltz2/predict"), or a full URL, as the
        hosted catalog has one per model. The key is sent only to allowed origins. `assets`: uploads that the body refers
        to, as records or ids. A pending result (202) is polled, within `Timeouts.headers`; a result behind a redirect (302)
        is fetched without key and headers.

        Raises DecodeError for a response that is not JSON (kept as the error's `.blob`), ConfigurationError for invalid
        input, else what every call raises.
        """
        from nimclient._resources.infer import infer

        return await infer(self._engine, path_or_url, json, assets, options)

    async def infer_raw(
        self,
        path_or_url: str,
        json: Json,
        *,
        assets: Sequence[Asset | str] | None = None,
        **options: Unpack[CallOptions],
    ) -> Blob:
        """Like `infer`, but returns the response body unchanged: images, audio, the zip archives of large results."""
        from nimclient._resources.infer import infer_raw

        return await infer_raw(self._engine, path_or_url, json, assets, options)

    @overload
    async def request(
        self,
        method: str,
        path_or_url: str,
        *,
        json: Json = None,
        stream: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Json: ...

    @overload
    async def request(
        self, method: str, path_or_url: str, *, json: Json = None, stream: Literal[True], **options: Unpack[CallOptions]
    ) -> EventStream: ...

    async def request(
        self, method: str, path_or_url: str, *, json: Json = None, stream: bool = False, **options: Unpack[CallOptions]
    ) -> Json:
        """Send any request with the client's key, retries, time limits and errors.

        `path_or_url` as in `infer`; a query is sent unchanged. Returns the response as decoded JSON, other text as a str,
        other data as bytes, None for an empty body. With `stream=True` returns an open EventStream of the decoded events; the
        body is not changed, so include what the route needs ("stream": true). GET, HEAD, PUT, DELETE and OPTIONS are
        replay-safe, POST and PATCH are replayed like a generation.
        """
        from nimclient._resources.infer import request, request_stream

        return await (request_stream if stream else request)(self._engine, method, path_or_url, json, options)

    # settings and life ------------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """The API root, ending in /v1; with several replicas that of the first."""
        return self._config.base_urls[0]

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The API roots of all replicas."""
        return self._config.base_urls

    @property
    def dialect(self) -> Dialect | None:
        """The server type behind the base URL: as given, by its host, or as detected from responses so far."""
        return self._engine.dialect_for()

    def with_options(
        self,
        /,
        *,
        timeouts: Timeouts | float | None = None,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
        model: str | Mapping[str, str] | None = None,
        defaults: Defaults | None = None,
        **unknown: Never,
    ) -> Self:
        """A lightweight copy with other settings that shares the connections; closing it closes nothing.

        Args:
            timeouts: Time limits; a number is the total in seconds.
            retry: When failed attempts are retried.
            headers: Added to those of this client.
            model: The default model, or one per kind.
            defaults: Added to those of this client, option by option.
        """
        if unknown:
            from nimclient._api.defaults import reject_settings

            reject_settings("with_options", unknown, ("timeouts", "retry", "headers", "model", "defaults"))
        config = self._config
        changed = evolve(
            config,
            timeouts=resolve_timeouts(config.timeouts, timeouts),
            retry=config.retry if retry is None else _of_type("retry", retry, RetryPolicy),
            headers={**config.headers, **check_headers(headers)},
            models=config.models if model is None else check_models(model),
            defaults=_merge_defaults(config.defaults, defaults),
        )
        copy = self._restored(changed)
        copy._shared = self._core
        copy._owns_core = False
        return copy

    async def warm(self, connections: int) -> int:
        """Open connections in advance, including TLS and proxy, spread over the replicas; returns how many are open.

        The first calls then need no handshake. A connection that is idle for four seconds is closed. Connections that cannot
        be opened within `Timeouts.connect` are not counted and raise nothing; ConfigurationError for what is no number of
        connections. A custom transport is warmed if it has the method `warm(requests, timeouts)`.
        """
        check_whole("connections", connections, 0)
        return await self._engine.warm(connections)

    async def aclose(self) -> None:
        """Close all connections. Calls in flight end with ClientClosedError, later ones raise it. Idempotent."""
        if getattr(self, "_owns_core", False):  # else a copy, or its construction failed
            await self._core.aclose()

    @cached_property
    def _engine(self) -> Engine:
        from nimclient._engine.engine import Engine

        return Engine(self._config, self._core)

    @property
    def _core(self) -> SharedState:
        if self._shared is None:
            from nimclient._engine.shared_state import SharedState

            with init_lock():  # threads may use a new client for the first time at the same moment
                if self._shared is None:
                    self._shared = SharedState(self._config)
        return self._shared

    @classmethod
    def _restored(cls, config: ClientConfig) -> Self:
        client = cls.__new__(cls)
        client._config = config
        client._shared = None
        client._owns_core = True
        return client

    def __repr__(self) -> str:
        if not hasattr(self, "_config"):  # __init__ raised, and a debugger displays the object
            return f"<{type(self).__name__} that was not initialized>"
        urls = self.base_urls
        return f"{type(self).__name__}(base_url={urls[0] if len(urls) == 1 else list(urls)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._config.portable())


def _restore(cls: type[AsyncClient], config: ClientConfig) -> AsyncClient:
    """An unpickled client. Literal keys are not pickled: the key is taken from this environment."""
    return cls._restored(config.completed())


def _read_endpoints(endpoints: object) -> dict[str, Model]:
    if endpoints is None:
        return {}
    from nimclient._api.catalog import read_endpoints

    return read_endpoints(endpoints)


def _merge_defaults(first: Defaults, defaults: Defaults | None) -> Defaults:
    if defaults is None:
        return first
    from nimclient._api.defaults import check_defaults, merged_defaults

    return merged_defaults(first, check_defaults(defaults))


def check_settings(owner: str, settings: Mapping[str, object]) -> None:
    """Raise TypeError for a setting that clients do not have. `owner`: the class that was called."""
    known = [name for name in signature(AsyncClient).parameters if name != "unknown"]
    unknown = [name for name in settings if name not in known]
    if unknown:
        from nimclient._api.defaults import reject_settings

        reject_settings(owner, unknown, known)


def _of_type(name: str, value: Any, kind: type[Any]) -> Any:
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name} takes a {kind.__name__}, not {type(value).__name__}")
    return value


def _check_proxy(proxy: str | None) -> str | None:
    if proxy is not None and (not isinstance(proxy, str) or not proxy.startswith(("http://", "https://"))):
        raise ConfigurationError(
            "proxy must look like http://host:3128 (user:password@ before the host if it needs one); SOCKS is not supported"
        )
    return proxy


def _check_transport(transport: Any) -> Any:
    if transport is not None and not (hasattr(transport, "open") and hasattr(transport, "aclose")):
        raise ConfigurationError(
            f"transport needs the methods of nimclient.testing.Transport; {type(transport).__name__} lacks them"
        )
    return transport

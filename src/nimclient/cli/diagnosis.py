"""What the doctor looks at, in this order: the way to the server, the server, its models, one small request of each kind,
and the key, which only these requests can judge. What makes the rest pointless ends it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import anyio

from nimclient import AsyncClient, AttemptEvent, NimError
from nimclient.cli.connection import Key, is_hosted
from nimclient.cli.findings import Finding, counted, failed, milliseconds
from nimclient.cli.network import proxy_of, tls_handshake
from nimclient.errors import (
    APIStatusError,
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
    RequestTimeoutError,
)
from nimclient.records import Metadata, ModelList

SERVERS = {"nim": "NIM", "vllm": "vLLM", "dynamo": "NVIDIA Dynamo", "hosted": "NVIDIA's hosted catalog"}
EXPIRES_SOON = 14  # days
REASON_SECONDS = 0.3
_NOT_SERVED = (400, 404, 405, 422, 501)
_KINDS = {"chat": ("chat", "vlm"), "embedding": ("embedding",), "ranking": ("ranking",)}

Probe = Callable[[str | None], Awaitable[Finding]]


class Diagnosis:
    """Of one server with one client. Every request has the time limit of the client, and none is repeated."""

    def __init__(
        self,
        make: Callable[[Callable[[AttemptEvent], object]], AsyncClient],
        key: Key,
        model: str | None,
        seconds: float,
    ) -> None:
        self.client = make(self._heard)
        self._key = key
        self._model = model
        self._seconds = seconds
        self._events: list[AttemptEvent] = []
        self._models = ModelList([])
        self._refused = False  # the key, or that there is none
        self._chatted: str | None = None  # the model that has answered
        self._served = 0  # requests that a model has answered

    def _heard(self, event: AttemptEvent) -> None:
        self._events.append(event)

    async def findings(self) -> AsyncGenerator[Finding]:
        """All findings, as they come."""
        async with self.client:
            connection, goes_on = await self._connection()
            yield connection
            if not goes_on:
                if self._refused:
                    yield self._key_finding()
                return
            yield await self._server()
            yield self._models_finding()
            yield await self._probed("chat", "chat", self._chat)
            yield self._context()
            yield await self._probed("embeddings", "embedding", self._embeddings)
            yield await self._probed("reranking", "ranking", self._reranking)
            yield self._key_finding()

    # the way to the server -----------------------------------------------------------------------------------------

    async def _connection(self) -> tuple[Finding, bool]:
        """List the models, and tell how that was reached; False where nothing else can work."""
        url = self.client.base_url
        proxy = proxy_of(url)
        way = f"through the proxy {proxy}" if proxy else "no proxy"
        facts: dict[str, Any] = {"proxy": proxy, "tls": None}
        try:
            self._models = await self.client.models.list()
        except NotFoundError as error:
            return await self._without_models(error, way, facts)
        except AuthenticationError as error:
            self._refused = True
            return Finding("connection", "ok", f"{way}; the server asks for a key ({error.status})", facts=facts), False
        except NimError as error:
            return failed("connection", error, **facts), False
        meta = self._models.meta
        assert meta is not None
        connect, seconds = meta.timings.connect, self._events[-1].seconds
        facts |= {"connect_seconds": connect, "seconds": seconds}
        speed = f"connected in {milliseconds(connect)}, models listed in {milliseconds(seconds)}"
        return (await self._secured(way, speed, facts)), True

    async def _secured(self, way: str, speed: str, facts: dict[str, Any]) -> Finding:
        """The finding of a connection that works, with what is known of its TLS."""
        url = self.client.base_url
        if not url.startswith("https://"):
            return Finding("connection", "ok", f"plain HTTP, no TLS; {way}; {speed}", facts=facts)
        tls = None if facts["proxy"] else await anyio.to_thread.run_sync(tls_handshake, url, self._seconds)
        if tls is None:
            return Finding("connection", "ok", f"TLS, certificate valid; {way}; {speed}", facts=facts)
        facts["tls"] = {"version": tls.version, "issuer": tls.issuer, "days_left": tls.days}
        text = f"{tls.version}, certificate by {tls.issuer}, valid for {tls.days} more days; {way}; {speed}"
        remedy = "renew the server's certificate soon" if tls.days < EXPIRES_SOON else ""
        return Finding("connection", "ok", text, remedy, facts)

    async def _without_models(self, error: NotFoundError, way: str, facts: dict[str, Any]) -> tuple[Finding, bool]:
        """A server without a list of models: some NIMs have none; else the path is wrong."""
        try:
            ready = await self.client.health.ready(timeout=self._seconds)
        except NimError:
            ready = False
        if ready:
            return Finding("connection", "ok", f"{way}; healthy, but it lists no models", facts=facts), True
        remedy = "check the path in --base-url: it is the root of the server, with or without /v1"
        return failed("connection", error, remedy, **facts), False

    # the server ------------------------------------------------------------------------------------------------------

    async def _server(self) -> Finding:
        """Which kind of server, which version, and whether it is ready."""
        metadata = await self._metadata()
        kind = self.client.dialect or (metadata.server if metadata else None)
        version = metadata.version if metadata else None
        facts: dict[str, Any] = {"kind": kind, "version": version, "ready": None}
        named = SERVERS.get(kind or "", "an OpenAI-compatible server of unknown kind") + (
            f" {version}" if version else ""
        )
        if kind == "hosted":
            return Finding("server", "ok", named, facts=facts)
        missing = await self._not_ready()
        facts["ready"] = missing is None
        if missing is None:
            return Finding("server", "ok", f"{named}, ready", facts=facts)
        if isinstance(missing, APIStatusError) and missing.status == 404:
            facts["ready"] = None
            return Finding("server", "ok", f"{named}; it has no route that tells whether it is ready", facts=facts)
        text = f"{named}, not ready: {missing}"
        return Finding("server", "failed", text, "wait until its model is loaded, or look at its log", facts)

    async def _not_ready(self) -> BaseException | None:
        """Why the server is not ready."""
        try:
            if not await self.client.health.ready(timeout=self._seconds):
                await self.client.health.wait_ready(timeout=REASON_SECONDS)  # its error says why
        except RequestTimeoutError as error:
            return error.__cause__ or error
        except NimError as error:
            return error
        return None

    async def _metadata(self) -> Metadata | None:
        if is_hosted(self.client.base_url):
            return None
        try:
            return await self.client.metadata()
        except NimError:  # Dynamo has none; whatever else is wrong shows elsewhere
            return None

    def _models_finding(self) -> Finding:
        counts = counted(self._models)
        adapters = sum(model.parent is not None for model in self._models)
        facts: dict[str, Any] = {"models": [{"id": model.id, "kind": model.kind} for model in self._models]}
        if self._model is not None and self._models and self._model not in self._models.ids:
            few = ", ".join(self._models.ids[:3]) + (", …" if len(self._models) > 3 else "")
            text = f"{self._model} is not among the {len(self._models)} that the server lists"
            return Finding("models", "failed", text, f"name one of them with --model: {few}", facts)
        if not self._models:
            return Finding("models", "note", "the server lists none", facts=facts)
        if len(self._models) <= 3:
            text = ", ".join(f"{model.id} ({model.kind})" for model in self._models)
        else:
            text = f"{len(self._models)}: " + ", ".join(f"{number} {kind}" for kind, number in counts.items())
        return Finding("models", "ok", text + (f"; {adapters} of them adapters" if adapters else ""), facts=facts)

    def _context(self) -> Finding:
        """How many tokens the model takes that has chatted, else the first of which the server says it."""
        told = {model.id: model.max_model_len or model.extra.get("context_window") for model in self._models}
        told = {name: length for name, length in told.items() if isinstance(length, int)}
        chosen = (
            self._chatted if self._chatted in told else self._model if self._model in told else next(iter(told), None)
        )
        if chosen is None:
            return Finding(
                "context", "note", "the server does not tell how long an input may be", facts={"tokens": None}
            )
        length = told[chosen]
        return Finding("context", "ok", f"{length:,} tokens ({chosen})", facts={"tokens": length, "model": chosen})

    # one request of each kind ------------------------------------------------------------------------------------------

    async def _probed(self, name: str, kind: str, probe: Probe) -> Finding:
        """The finding of one small request, for the model that was named or the server's own."""
        facts: dict[str, Any] = {"model": None}
        asked = self._asked(kind)
        if self._refused:
            return Finding(name, "note", "not tried without a good key", facts=facts)
        if asked is False:
            return Finding(name, "note", "no model for it", facts=facts)
        self._events.clear()
        try:
            found = await probe(self._model)
        except ConfigurationError as error:  # no model of the kind, or the named one is of another
            return Finding(name, "note", str(error).removesuffix("; pass model="), facts=facts)
        except AuthenticationError as error:
            self._refused = True
            return Finding(name, "note", f"not without a good key ({error.status})", facts=facts)
        except NimError as error:
            if asked is None and isinstance(error, APIStatusError) and error.status in _NOT_SERVED:
                return Finding(name, "note", f"not served ({error.status})", facts=facts)
            return failed(name, error, **facts)
        self._served += 1
        return found

    def _asked(self, kind: str) -> bool | None:
        """Whether the server has a model of this kind; None: perhaps, it has one of unknown kind."""
        kinds = {model.kind for model in self._models if self._model in (None, model.id)}
        if is_hosted(self.client.base_url) and self._model is None:
            return True
        if kinds & set(_KINDS[kind]):
            return True
        return None if "unknown" in kinds or not kinds else False

    async def _chat(self, model: str | None) -> Finding:
        stream = self.client.chat.stream("Say ok.", model=model, max_tokens=1)
        reply = await stream.final()
        assert reply.meta is not None
        timings, self._chatted = reply.meta.timings, reply.model
        facts = {"model": reply.model, "ttft_seconds": timings.ttft, "seconds": timings.total}
        text = f"{reply.model}: first token after {milliseconds(timings.ttft)}"
        return Finding("chat", "ok", text, facts=facts)

    async def _embeddings(self, model: str | None) -> Finding:
        answer = await self.client.embeddings.embed_documents(["ok"], model=model, prefix="")
        seconds = self._events[-1].seconds
        way = await self._base64(answer.model)
        text = f"{answer.model}: {answer.dimensions} dimensions, base64 {way}, {milliseconds(seconds)}"
        facts = {
            "model": answer.model,
            "dimensions": answer.dimensions,
            "base64": way == "accepted",
            "seconds": seconds,
        }
        return Finding("embeddings", "ok", text, facts=facts)

    async def _base64(self, model: str | None) -> str:
        """Whether the server sends vectors in base64: the client takes what comes, so that it is asked once more."""
        refused = {name for event in self._events for name in ("encoding_format", "input_type") if _names(event, name)}
        if "encoding_format" in refused:
            return "refused"
        fields = {"model": model, "input": ["ok"], "encoding_format": "base64", "input_type": "passage"}
        answer = await self.client.infer("/v1/embeddings", {k: v for k, v in fields.items() if k not in refused})
        return "accepted" if isinstance(answer["data"][0]["embedding"], str) else "ignored"

    async def _reranking(self, model: str | None) -> Finding:
        ranking = await self.client.rerank("ok", ["yes", "no"], model=model)
        assert ranking.meta is not None
        path = "/" + ranking.meta.url.split("/", 3)[3]
        form = "NIM's form" if path.endswith(("/ranking", "/reranking")) else "the form of Jina and Cohere"
        seconds = self._events[-1].seconds
        facts = {"model": ranking.model, "path": path, "measure": ranking.measure, "seconds": seconds}
        who = f"{ranking.model}: " if ranking.model else ""
        scores = ranking.measure.replace("_", " ") + "s"
        return Finding("reranking", "ok", f"{who}{form} at {path}, {scores}, {milliseconds(seconds)}", facts=facts)

    # the key -----------------------------------------------------------------------------------------------------------

    def _key_finding(self) -> Finding:
        """Whether the key is good: only a request that needs one can tell."""
        key = self._key
        facts = {"source": key.source, "sent": key.sent, "valid": None}
        if self._refused:
            facts["valid"] = False
            if key.sent:
                return Finding("key", "failed", f"the one of {key.source} is refused", key.remedy, facts)
            return Finding(
                "key", "failed", f"none was sent, and the server wants one{key.held_back}", key.remedy, facts
            )
        if not key.sent:
            return Finding("key", "ok", f"none was sent, and none is needed{key.held_back}", facts=facts)
        if not self._served:
            return Finding(
                "key", "note", f"the one of {key.source} was sent; nothing has shown whether it is valid", facts=facts
            )
        if is_hosted(self.client.base_url):
            facts["valid"] = True
            return Finding("key", "ok", f"the one of {key.source} is valid", facts=facts)
        return Finding("key", "ok", f"the one of {key.source} was sent and nobody objected", facts=facts)


def _names(event: AttemptEvent, field: str) -> bool:
    """Whether an attempt failed because of a field."""
    return isinstance(event.error, APIStatusError) and field in event.error.body

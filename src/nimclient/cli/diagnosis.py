"""The checks of the doctor, in this order: the connection, the server, its models, one small request of each kind, and the
key, which only these requests can verify. An unreachable server ends it. Without any answer of a model it fails.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, cast

import anyio

from nimclient import AsyncClient, AttemptEvent, NimError
from nimclient.cli.connection import Key, is_hosted
from nimclient.cli.findings import Finding, counted, failed, milliseconds
from nimclient.cli.network import proxy_of, tls_handshake
from nimclient.errors import (
    APIStatusError,
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    ModelNotFoundError,
    StreamError,
)
from nimclient.records import Metadata, ModelList, Vectors

SERVERS = {
    "nim": "NIM",
    "vllm": "vLLM",
    "dynamo": "NVIDIA Dynamo",
    "hosted": "NVIDIA's hosted catalog",
    "llama.cpp": "llama-server",
    "litellm": "LiteLLM",
    "infinity": "infinity",
    "sglang": "SGLang",
    "tei": "Text Embeddings Inference",
    "lmdeploy": "LMDeploy",
    "guardrails": "NeMo Guardrails",
}
EXPIRES_SOON = 14  # days
PLACEHOLDER = "default"  # the model of a server that lists none: some serve one model under any name
_NO_ROUTE = (404, 405, 501)
_NOT_ITS_KIND = (400, 422, 500)  # statuses for a request that the model does not support
_KEY = re.compile(r"\b(api[ _-]?key|authenticat|unauthori[sz]ed|token)", re.I)
_ALONE = ("ok", "a text of some more words, which is embedded alone and then among others")
_OTHERS = (
    "a",
    "two words",
    "three words more",
    "x" * 40,
    "the quick brown fox jumps over the lazy dog",
    "the last of them",
)
_ALIKE = 0.99  # cosine; rounding to bfloat16 leaves 0.999
_KINDS = {"chat": ("chat", "vlm"), "embedding": ("embedding",), "ranking": ("ranking",)}

Probe = Callable[[str | None], Awaitable[Finding]]


class Diagnosis:
    """Checks one server with one client. Every request has the client's time limit, and none is retried."""

    def __init__(
        self,
        make: Callable[[Callable[[AttemptEvent], object]], AsyncClient],
        key: Key,
        model: str | None,
        seconds: float,
    ) -> None:
        self.client = make(self._record)
        self._key = key
        self._model = model
        self._seconds = seconds
        self._events: list[AttemptEvent] = []
        self._models = ModelList([])
        self._listed = True
        self._is_relay = False  # NeMo Guardrails lists the models of the server behind it, and serves chat only
        self._unlisted: NimError | None = None  # why the models are not listed
        self._rejected_key = False  # or the server requires one that was not sent
        self._chatted: str | None = None  # the model that answered
        self._results: dict[
            str, str
        ] = {}  # of the requests: "works", "no route", "failed", "server error" or "not tried"

    def _record(self, event: AttemptEvent) -> None:
        self._events.append(event)

    async def findings(self) -> AsyncGenerator[Finding]:
        """All findings, as they are made."""
        async with self.client:
            connection, is_reached = await self._connection()
            yield connection
            if not is_reached:
                if self._rejected_key:
                    yield self._key_finding()
                return
            server = await self._server()
            yield server
            yield self._models_finding()
            chat = await self._probed("chat", "chat", self._chat)
            yield chat
            yield self._context()
            embeddings = await self._probed("embeddings", "embedding", self._embeddings)
            yield embeddings
            reranking = await self._probed("reranking", "ranking", self._reranking)
            yield reranking
            if not self.worked and not self._rejected_key:
                is_clear = all(one.state != "failed" for one in (server, chat, embeddings, reranking))
                if is_clear or self._has_no_route:
                    yield await self._nothing_works()
            yield self._key_finding()

    @property
    def _has_no_route(self) -> bool:
        """Whether the server has neither a list of models nor a route for any of the requests."""
        return not self._listed and set(self._results.values()) == {"no route"}

    @property
    def worked(self) -> list[str]:
        """The requests that a model has answered."""
        return [name for name, result in self._results.items() if result == "works"]

    # the connection ------------------------------------------------------------------------------------------------

    async def _connection(self) -> tuple[Finding, bool]:
        """List the models, and report how the server was reached; False if nothing else can work."""
        url = self.client.base_url
        proxy = proxy_of(url)
        way = f"through the proxy {proxy}" if proxy else "no proxy"
        facts: dict[str, Any] = {"proxy": proxy, "tls": None}
        try:
            self._models = await self.client.models.list()
        except AuthenticationError as error:
            self._rejected_key = True
            return Finding("connection", "ok", f"{way}; the server asks for a key ({error.status})", facts=facts), False
        except (APIStatusError, DecodeError, StreamError) as error:
            self._listed = False
            self._unlisted = error
            reason = f"{error.status}" if isinstance(error, APIStatusError) else "the response is no list"
            return (await self._secured(way, f"the models are not listed ({reason})", facts)), True
        except NimError as error:
            return failed("connection", error, **facts), False
        meta = self._models.meta
        assert meta is not None
        connect, seconds = meta.timings.connect, self._events[-1].seconds
        facts |= {"connect_seconds": connect, "seconds": seconds}
        speed = f"connected in {milliseconds(connect)}, models listed in {milliseconds(seconds)}"
        return (await self._secured(way, speed, facts)), True

    async def _secured(self, way: str, speed: str, facts: dict[str, Any]) -> Finding:
        """The finding of a working connection, with its TLS details."""
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

    # the server ------------------------------------------------------------------------------------------------------

    async def _server(self) -> Finding:
        """The server type, its version, and whether it is ready."""
        metadata = await self._metadata()
        named_itself = metadata.server if metadata else None
        kind = self.client.dialect or named_itself or self.client._engine.server_type_for()
        self._is_relay = kind == "guardrails" or (kind is None and await self._has_rails())
        if self._is_relay:
            kind = "guardrails"
        version = metadata.version if metadata else None
        facts: dict[str, Any] = {"kind": kind, "version": version, "ready": None}
        unknown = "an OpenAI-compatible server of unknown kind" if self._listed else "an HTTP server of unknown kind"
        named = SERVERS.get(kind or "", unknown) + (f" {version}" if version else "")
        if kind == "hosted":
            return Finding("server", "ok", named, facts=facts)
        missing = await self._not_ready()
        facts["ready"] = missing is None
        if missing is None:
            return Finding("server", "ok", f"{named}, ready", facts=facts)
        if self._says_nothing(missing):
            facts["ready"] = None
            return Finding("server", "ok", f"{named}; it has no route that says whether it is ready", facts=facts)
        text = f"{named}, not ready: {missing}"
        return Finding("server", "failed", text, "wait until its model is loaded, or look at its log", facts)

    async def _has_rails(self) -> bool:
        """Whether it is NeMo Guardrails, whose list of models and streams do not tell."""
        try:
            configs: Any = await self.client.request("GET", "/v1/rails/configs")
        except NimError:
            return False
        return isinstance(configs, list) and all(
            isinstance(one, dict) and "id" in one for one in cast(list[Any], configs)
        )

    def _says_nothing(self, missing: NimError) -> bool:
        """Whether there is no such route: a 404, or the same error as for the model list."""
        status = getattr(missing, "status", None)
        same = type(missing) is type(self._unlisted) and status == getattr(self._unlisted, "status", None)
        return status == 404 or (same and status not in (502, 503, 504))

    async def _not_ready(self) -> NimError | None:
        """Why the server is not ready: what `health.ready` found, however long it took."""
        try:
            return await self.client.health._any("ready", self._seconds)
        except NimError as error:
            return error

    async def _metadata(self) -> Metadata | None:
        if is_hosted(self.client.base_url):
            return None
        try:
            return await self.client.metadata()
        except NimError:  # Dynamo has none; other problems show elsewhere
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
        """The context length of the model that answered, else of the first model for which the server states it."""
        told = {model.id: model.max_model_len or model.extra.get("context_window") for model in self._models}
        told = {name: length for name, length in told.items() if isinstance(length, int)}
        chosen = (
            self._chatted if self._chatted in told else self._model if self._model in told else next(iter(told), None)
        )
        if chosen is None:
            return Finding("context", "note", "the server does not state its context length", facts={"tokens": None})
        length = told[chosen]
        return Finding("context", "ok", f"{length:,} tokens ({chosen})", facts={"tokens": length, "model": chosen})

    # one request of each kind ------------------------------------------------------------------------------------------

    async def _probed(self, name: str, kind: str, probe: Probe) -> Finding:
        """The finding of one small request, for the named model or the server's."""
        facts: dict[str, Any] = {"model": None}
        serves = self._serves(kind)
        self._results[name] = "not tried"
        if self._rejected_key:
            return Finding(name, "note", "not tried without a valid key", facts=facts)
        if serves is False:
            return Finding(name, "note", "no model for it", facts=facts)
        self._events.clear()
        try:
            found = await probe(self._model or (None if self._listed else PLACEHOLDER))
        except ConfigurationError as error:  # no model of the kind, or the named one has another kind
            return Finding(name, "note", str(error).removesuffix("; pass model="), facts=facts)
        except NimError as error:
            return self._unserved(name, error, serves, facts)
        self._results[name] = "works"
        return found

    def _unserved(self, name: str, error: NimError, serves: bool | None, facts: dict[str, Any]) -> Finding:
        """The finding of a request that no model answered, which is not a fault if the server need not serve it."""
        status = error.status if isinstance(error, APIStatusError) else None
        if isinstance(error, AuthenticationError) or (status == 400 and _KEY.search(error.message)):
            self._rejected_key = True
            return Finding(name, "note", f"not without a valid key ({status})", facts=facts)
        if not self._listed and isinstance(error, ModelNotFoundError):
            text = f"not tried: the server lists no models, and has none called {PLACEHOLDER!r}"
            return Finding(name, "note", text, "name a model with --model", facts)
        if serves is None and status in _NO_ROUTE:
            self._results[name] = "no route"
            return Finding(name, "note", f"not served ({status})", facts=facts)
        if serves is None and (status in _NOT_ITS_KIND or isinstance(error, (DecodeError, StreamError))):
            self._results[name] = "no route" if status is None else "server error" if status == 500 else "not tried"
            return Finding(name, "note", f"{'failed' if status == 500 else 'not served'}: {error}", facts=facts)
        self._results[name] = "failed"
        return failed(name, error, **facts)

    async def _nothing_works(self) -> Finding:
        """The finding if no model has answered anything, and there is no other problem."""
        if not self._listed and await self._is_without_v1():
            text = "the routes of this server are at its root, without /v1; nimclient uses those below /v1"
            remedy = (
                "start it with its routes below /v1 (infinity: --url-prefix /v1), put a gateway in front of it that adds "
                "/v1, or name the URL of the model (`endpoints=` in Python)"
            )
            return Finding("requests", "failed", text, remedy)
        if not self._has_no_route:
            text = "no request was answered by a model"
            remedy = "name a model with --model" if self._model is None else "name another model with --model"
            if not self._listed and set(self._results.values()) == {"server error"}:  # LiteLLM's, without a key
                text = "the server fails with status 500, whatever is requested"
                remedy = "read its log; if it wants a key, set NVIDIA_NIM_API_KEY or pass --api-key-file"
            return Finding("requests", "failed", text, remedy)
        text = "this is a web server, but not an inference server: it has no model list, and no route for any request"
        remedy = "check the path in --base-url: it is the root of the server, with or without /v1; check host and port"
        return Finding("requests", "failed", text, remedy)

    async def _is_without_v1(self) -> bool:
        root = self.client.base_url.removesuffix("/v1")
        try:
            models: Any = await self.client.request("GET", f"{root}/models")
        except NimError:
            return False
        return isinstance(models, dict) and isinstance(cast(dict[str, Any], models).get("data"), list)

    def _serves(self, kind: str) -> bool | None:
        """Whether the server has a model of this kind; None: unknown, since it has one of unknown kind."""
        if self._is_relay and kind != "chat":
            return None
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
        answer = await self.client.embeddings.embed_documents(_ALONE[:1], model=model, prefix="")
        seconds = self._events[-1].seconds
        way = await self._base64(answer.model)
        cosine = await self._cosine_among_others(answer, model or answer.model)
        text = f"{answer.model}: {answer.dimensions} dimensions, base64 {way}"
        facts = {
            "model": answer.model,
            "dimensions": answer.dimensions,
            "base64": way == "accepted",
            "cosine_among_others": cosine,
            "seconds": seconds,
        }
        if cosine is not None and cosine < _ALIKE:
            text += f"; a text has another vector among other texts than alone (cosine {cosine:.2f})"
            remedy = (
                "the server mixes up what it computes at once: update it, or embed with batch_size=1, concurrency=1"
            )
            return Finding("embeddings", "failed", text, remedy, facts)
        alike = "" if cosine is None else ", the same in batches"
        return Finding("embeddings", "ok", f"{text}{alike}, {milliseconds(seconds)}", facts=facts)

    async def _cosine_among_others(self, first: Vectors, model: str | None) -> float | None:
        """The least cosine of two texts' vectors, embedded alone and then in two batches at once; None if there are none.

        `first`: the vector of the first text. llama-server and Ollama have sent others in batches (llama.cpp #26282).
        """
        texts, embed = [_ALONE[0], *_OTHERS, _ALONE[1]], self.client.embeddings.embed_documents
        try:
            second = await embed(texts[-1:], model=model, prefix="")
            found = await embed(texts, model=model, prefix="", batch_size=len(texts) // 2, concurrency=2)
            pairs = (first[0], 0), (second[0], len(texts) - 1)
            return min(dict(found.search(alone, len(found))).get(at, 0.0) for alone, at in pairs)
        except NimError:
            return None

    async def _base64(self, model: str | None) -> str:
        """Whether the server sends vectors in base64: the client accepts both forms, so this takes another request."""
        rejected = {name for event in self._events for name in ("encoding_format", "input_type") if _names(event, name)}
        if "encoding_format" in rejected:
            return "rejected"
        fields = {"model": model, "input": ["ok"], "encoding_format": "base64", "input_type": "passage"}
        answer = await self.client.infer("/v1/embeddings", {k: v for k, v in fields.items() if k not in rejected})
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
        """Whether the key is valid: only a request that needs one can show it."""
        key = self._key
        facts = {"source": key.source, "sent": key.sent, "valid": None}
        if self._rejected_key:
            facts["valid"] = False
            if key.sent:
                return Finding("key", "failed", f"the one from {key.source} is rejected", key.remedy, facts)
            return Finding(
                "key", "failed", f"none was sent, and the server wants one{key.held_back}", key.remedy, facts
            )
        if not key.sent and not self.worked:
            text = f"none was sent; whether one is needed is not known{key.held_back}"
            return Finding("key", "note", text, facts=facts)
        if not key.sent:
            return Finding("key", "ok", f"none was sent, and none is needed{key.held_back}", facts=facts)
        if not self.worked:
            return Finding(
                "key", "note", f"the one from {key.source} was sent; whether it is valid is not known", facts=facts
            )
        if is_hosted(self.client.base_url):
            facts["valid"] = True
            return Finding("key", "ok", f"the one from {key.source} is valid", facts=facts)
        return Finding("key", "ok", f"the one from {key.source} was sent and not rejected", facts=facts)


def _names(event: AttemptEvent, field: str) -> bool:
    """Whether an error names a field."""
    return isinstance(event.error, APIStatusError) and field in event.error.body

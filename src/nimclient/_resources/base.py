"""What all namespaces share: finding the model of a call, and sending it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from nimclient._api import catalog
from nimclient._api.call import Call
from nimclient._api.models import list_call
from nimclient._engine.engine import Engine
from nimclient.errors import ConfigurationError, ModelDeprecationWarning, ModelNotFoundError
from nimclient.records.models import ModelList

T = TypeVar("T")
R = TypeVar("R")


class Resource:
    """A namespace of a client. Holds the engine and nothing else."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def _send(
        self, kind: str, model: str | None, build: Callable[[str | None], Call[T]], options: Mapping[str, Any]
    ) -> T:
        """Build the call for the model and send it."""
        return await self._with_model(kind, model, build, lambda call: self._engine.send(call, options), options)

    async def _with_model(
        self,
        kind: str,
        model: str | None,
        build: Callable[[str | None], Call[T]],
        send: Callable[[Call[T]], Awaitable[R]],
        options: Mapping[str, Any],
    ) -> R:
        """Send the call for `model`, or for the default model of its kind.

        A default that was found by listing the server is looked up again once when the server no longer knows it.
        """
        name = self._known_model(kind, model)
        if name is not None:
            return await send(build(name))
        build(None)  # bad input must be found before anything is sent, even before the models are listed
        defaults = self._engine.core.default_models
        found = defaults.get(kind)
        if found is not None:
            try:
                return await send(build(found))
            except ModelNotFoundError:
                if await self._find_default(kind, options) == found:
                    raise
        else:
            await self._find_default(kind, options)
        return await send(build(defaults[kind]))

    def _known_model(self, kind: str, model: str | None) -> str | None:
        """The model that the caller named here or for the client, or the hosted default; None: ask the server."""
        configured = self._engine.config.models
        name = model if model is not None else configured.get(kind, configured.get("*"))
        if name is not None:
            if not isinstance(name, str) or not name:
                raise ConfigurationError(f"model must be a model id, not {name!r:.40}")
            name = self._resolved(name)
            self._engine.catalog.check_kind(name, kind)
            return name
        if not self._engine.is_hosted:
            return None
        default = catalog.hosted_default(kind)
        if default is None:
            raise ConfigurationError(f"the hosted catalog has no default model of kind {kind}; pass model=")
        return default

    def _described(self, models: ModelList) -> ModelList:
        """A server's list with what is known of its models; a gateway's list does not tell what an account may call."""
        engine = self._engine
        hosted = engine.is_hosted or engine.config.dialect == "hosted"
        believed = engine.dialect_for() != "hosted"
        return engine.catalog.described(models, hosted=hosted, believed=believed, called=engine.core.called)

    def _warn_ignored(self, option: str, instead: str) -> None:
        """Say once that the server ignores what the caller asks for; ConfigurationError for a strict client."""
        problem = f"the server ignores {option}, which is NIM's; {instead}"
        if self._engine.config.strict:
            raise ConfigurationError(problem)
        self._engine.core.warn_once(problem)

    def _resolved(self, name: str) -> str:
        """The id for an alias, of the caller's own or an old one of the hosted catalog; anything else is an id.

        What the hosted catalog calls by another name now, or will remove, is warned of once. A server of one's own may
        serve a model under any name, so it is sent what it is called.
        """
        if (own := self._engine.catalog.own_id(name)) is not None:
            return own
        known = catalog.lookup(name) if self._engine.dialect_for(name) == "hosted" else None
        if known is None:
            return name
        fate = "deprecated: NVIDIA may remove it at any time"
        if known.id != name:
            fate = f", which is {fate}" if known.deprecated else ""
            self._engine.core.warn_once(f"{name!r} is an old name; it is sent as {known.id!r}{fate}")
        elif known.deprecated:
            self._engine.core.warn_once(f"model {name!r} is {fate}", ModelDeprecationWarning, f"deprecation of {name}")
        return known.id

    async def _ensure_default(self, kind: str, options: Mapping[str, Any]) -> None:
        """Find the default model of a kind, if it is not known: once before a call over many items, not once for each."""
        if kind not in self._engine.core.default_models:
            await self._find_default(kind, options)

    async def _find_default(self, kind: str, options: Mapping[str, Any]) -> str:
        """Ask the server, within the time and with the headers of the call that needs to know."""
        own = {name: options.get(name) for name in ("timeout", "extra_headers")}
        engine = self._engine
        models = self._described(await engine.send(list_call(), own))
        found = engine.catalog.first_of_kind(models, kind)
        if found is None:
            listed = ", ".join(models.ids[:5]) or "nothing"
            raise ConfigurationError(f"the server lists no model of kind {kind} (it lists {listed}); pass model=")
        self._engine.core.default_models[kind] = found
        return found

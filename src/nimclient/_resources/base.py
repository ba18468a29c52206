"""The base of all namespaces: finds the model of a call and sends it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from nimclient._api import catalog
from nimclient._api.call import Call
from nimclient._api.options import ARGUMENTS, overridden
from nimclient._base import observers
from nimclient._base.observers import CallFacts
from nimclient._base.types import NOT_GIVEN
from nimclient._engine.engine import Engine
from nimclient.errors import ConfigurationError, ModelDeprecationWarning, ModelNotFoundError, NimError

if TYPE_CHECKING:
    from nimclient._bulk.gate import Gate
    from nimclient.records.models import ModelList

T = TypeVar("T")
R = TypeVar("R")


class DefaultModel(str):
    """A default model: the first of its kind that the server lists. It may change later."""

    __slots__ = ()


class Resource:
    """A namespace of a client. Holds the engine and nothing else."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _send(self, call: Call[T], options: Mapping[str, Any], gate: Gate | None = None) -> Coroutine[Any, Any, T]:
        """Send a call; if its model does not exist, send it once more with the current default, or the current name."""
        if isinstance(call.model, DefaultModel) or call.model in catalog.aliases():
            return self._send_with_another(call, options, gate)
        return self._engine.send(call, options, gate)

    async def _send_with_another(self, call: Call[T], options: Mapping[str, Any], gate: Gate | None) -> T:
        try:
            return await self._engine.send(call, options, gate)
        except ModelNotFoundError:
            model = await self._other_model(call, options)
            if model is None:
                raise
        return await self._engine.send(call.with_model(model), options, gate)

    async def _open(
        self, call: Call[Any], options: Mapping[str, Any], open: Callable[[Call[Any]], Coroutine[Any, Any, R]]
    ) -> R:
        """The same for a response that stays open. `open` sends a call and makes something of its open response."""
        try:
            return await open(call)
        except ModelNotFoundError:
            model = await self._other_model(call, options)
            if model is None:
                raise
        return await open(call.with_model(model))

    def _whole(self, kind: str, model: str | None) -> AbstractContextManager[list[object]]:
        """Observe a call over many items as one, in the block, which puts the result into the list."""
        known = self._known_model(kind, model)
        url = (None if known is None else self._engine.endpoint_of(known)) or self._engine.config.base_urls[0]
        return observers.whole(CallFacts(kind, "many", known, url))

    def _known_model(self, kind: str, model: str | None) -> str | None:
        """The model of a call: that of the call or the client, else the default; None: find it in the server's list."""
        configured = self._engine.config.models
        name = model if model is not None else configured.get(kind, configured.get("*"))
        if name is not None:
            if not isinstance(name, str) or not name:
                raise ConfigurationError(f"model must be a model id, not {name!r:.40}")
            known = self._engine.known()
            resolved: str | None = known.get((kind, name))
            if resolved is None:
                resolved = self._resolved(name)
                self._engine.catalog.check_kind(resolved, kind)
                known[kind, name] = resolved
            return resolved
        if not self._engine.is_hosted:
            return self._engine.core.default_models.get(kind)
        default = catalog.hosted_default(kind)
        if default is None:
            raise ConfigurationError(f"the hosted catalog has no default model of kind {kind}; pass model=")
        return default

    def _with_defaults(self, kind: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options of a call, with the client's defaults for the others."""
        defaults = self._engine.config.defaults.get(kind)
        if not defaults:
            return options
        return overridden({name: value for name, value in defaults.items() if name not in ARGUMENTS}, options)

    def _chosen(self, kind: str, **arguments: Any) -> list[Any]:
        """The arguments in their order, the client's default, else None, for each that is NOT_GIVEN."""
        defaults = self._engine.config.defaults.get(kind, {})
        chosen: list[Any] = []
        for name, value in arguments.items():
            chosen.append(defaults.get(name) if value is NOT_GIVEN else value)
        return chosen

    def _described(self, models: ModelList) -> ModelList:
        """The server's list with catalog data; a gateway's list does not show which models an account may call."""
        engine = self._engine
        hosted, believed = engine.stated_dialect == "hosted", not engine.is_platform()
        return engine.catalog.described(models, hosted=hosted, believed=believed, called=engine.core.called)

    def _warn_ignored(self, option: str, instead: str) -> None:
        """Warn once that the server ignores an option; ConfigurationError for a strict client."""
        problem = f"the server ignores {option}, which is NIM's; {instead}"
        if self._engine.config.strict:
            raise ConfigurationError(problem)
        self._engine.core.warn_once(problem)

    def _resolved(self, name: str) -> str:
        """The id for an alias, of `endpoints=` or an old one of the hosted catalog; anything else is an id.

        Renamed and deprecated models of the hosted catalog are warned of once. A self-hosted server may serve a model
        under any name, so it is sent unchanged; see `_listed_name`.
        """
        if (own := self._engine.catalog.own_id(name)) is not None:
            return own
        if (listed := self._engine.core.dialects.listed_names.get(name)) is not None:
            return listed
        known = catalog.lookup(name) if self._engine.is_platform(self._engine.endpoint_of(name)) else None
        if known is None:
            return name
        fate = "deprecated: NVIDIA may remove it at any time"
        if known.id != name:
            fate = f", which is {fate}" if known.deprecated else ""
            self._engine.core.warn_once(f"{name!r} is an old name; it is sent as {known.id!r}{fate}")
        elif known.deprecated:
            self._engine.core.warn_once(f"model {name!r} is {fate}", ModelDeprecationWarning, f"deprecation of {name}")
        return known.id

    async def _default_model(self, kind: str, options: Mapping[str, Any]) -> str:
        """The first model of a kind that the server lists, requested with the time limits and headers of the call."""
        engine = self._engine
        models = self._described(await self._server_list(options))
        found = engine.catalog.first_of_kind(models, kind)
        if found is None:
            listed = ", ".join(models.ids[:5]) or "nothing"
            raise ConfigurationError(f"the server lists no model of kind {kind} (it lists {listed}); pass model=")
        default = engine.core.default_models[kind] = DefaultModel(found)
        return default

    def _server_list(self, options: Mapping[str, Any]) -> Coroutine[Any, Any, ModelList]:
        """The server's list, on behalf of a call with these options."""
        from nimclient._api.models import list_call

        return self._engine.send(list_call(), _of_the_call(options))

    async def _other_model(self, call: Call[Any], options: Mapping[str, Any]) -> str | None:
        """The model to use in place of one that the server does not know, or None."""
        if isinstance(call.model, DefaultModel):
            return await self._new_default(call, options)
        return None if call.model is None or call.fields is None else await self._listed_name(call.model, options)

    async def _listed_name(self, name: str, options: Mapping[str, Any]) -> str | None:
        """The current name for an old name of the hosted catalog, if the server lists it; warned of once."""
        known = catalog.lookup(name)
        if known is None or known.id == name:
            return None
        try:
            listed = await self._server_list(options)
        except NimError:
            return None
        if known.id not in listed.ids:
            return None
        self._engine.core.dialects.learn_name(name, known.id)
        self._engine.core.warn_once(f"{name!r} is an old name; it is sent as {known.id!r}, which the server lists")
        return known.id

    async def _new_default(self, call: Call[Any], options: Mapping[str, Any]) -> str | None:
        """The default model that replaces the call's; None if there is none, or the call's was not a default."""
        if not isinstance(call.model, DefaultModel) or call.fields is None:
            return None
        found = await self._default_model(call.kind, options)
        return None if found == call.model else found


def _of_the_call(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options for another request on behalf of a call: its timeout and headers."""
    return {name: options.get(name) for name in ("timeout", "extra_headers")}

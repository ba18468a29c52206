"""The fields that all classes share (server, key, time limits, headers), and the clients behind them.

All objects of a process with the same server and key share one client, and so one pool per loop; creating or copying an
object opens nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Self, cast
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from attrs import frozen
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, PrivateAttr, SecretStr, model_validator

from nimclient import AsyncClient, Client, ModelList, RetryPolicy, Timeouts, __version__
from nimclient._base.cached import cached_property
from nimclient.errors import ConfigurationError
from nimclient.integrations.langchain import catalog
from nimclient.integrations.langchain import models as registry
from nimclient.integrations.langchain.caller import warn
from nimclient.integrations.langchain.errors import langchain_errors

HOSTED = "https://integrate.api.nvidia.com/v1"
_HOSTED_HOSTS = ("integrate.api.nvidia.com", "ai.api.nvidia.com")
_KEYS = ("NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY")
ALIASES = {  # langchain-openai's first: nvidia_… win
    "openai_api_key": "api_key",
    "openai_api_base": "base_url",
    "nvidia_api_key": "api_key",
    "nvidia_base_url": "base_url",
}
_MAX_LINKS = 8
_OLD_COMPLETIONS = "nvidia/mistral-nemo-minitron-8b-base"  # the client has no default for it
_KIND_OF = {"ChatNVIDIA": "chat", "NVIDIAEmbeddings": "embedding", "NVIDIARerank": "ranking", "NVIDIA": "completions"}


@frozen
class Server:
    """The settings that select an object's client. `environment`: keys and base URL that the client may take from it."""

    base_url: str | None
    api_key: str | None
    verify: bool | str
    endpoints: tuple[registry.Model, ...]
    environment: tuple[str | None, ...]
    transport: Any

    def settings(self) -> dict[str, Any]:
        """The arguments of the client."""
        return {
            "api_key": self.api_key,
            "base_url": self.base_url,
            "verify": self.verify,
            "transport": self.transport,
            "endpoints": {model.id: registry.to_record(model) for model in self.endpoints},
        }


class Clients:
    """The blocking and the async client of one server, created on first use, and what was learned about it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.rejected_forms: dict[str | None, set[str]] = {}  # of structured output, by model

    @cached_property
    def blocking(self) -> Client:
        """For blocking calls."""
        return Client(**self.server.settings())

    @cached_property
    def awaiting(self) -> AsyncClient:
        """For async calls, in any loop."""
        return AsyncClient(**self.server.settings())


_clients: WeakValueDictionary[Server, Clients] = WeakValueDictionary()


@frozen
class Options:
    """The options that an object overrides."""

    timeouts: Timeouts | None
    retry: RetryPolicy | None
    headers: tuple[tuple[str, str], ...]

    def settings(self) -> dict[str, Any]:
        """The arguments of `with_options`."""
        return {"timeouts": self.timeouts, "retry": self.retry, "headers": dict(self.headers)}


class Link:
    """A view of the shared clients with an object's limits and headers."""

    def __init__(self, server: Server, options: Options) -> None:
        self.server = server
        self.options = options
        self.models: tuple[registry.Model, ...] | None = None  # as listed by the server
        self.clients = _clients.get(server) or _clients.setdefault(server, Clients(server))

    @cached_property
    def blocking(self) -> Client:
        """The blocking client with this object's limits and headers."""
        return self.clients.blocking.with_options(**self.options.settings())

    @cached_property
    def awaiting(self) -> AsyncClient:
        """The async client with this object's limits and headers."""
        return self.clients.awaiting.with_options(**self.options.settings())


class Links:
    """The links of an object and of its copies. They are not part of its state: all are equal, none is pickled."""

    def __init__(self) -> None:
        self._links: dict[tuple[Server, Options], Link] = {}

    def get(self, server: Server, options: Options) -> Link:
        """The link for these fields, created if missing."""
        link = self._links.get((server, options))
        if link is None:
            if len(self._links) >= _MAX_LINKS:  # for an object whose fields change between calls
                self._links.clear()
            link = self._links[server, options] = Link(server, options)
        return link

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Links)

    __hash__ = None  # type: ignore[assignment]  # equal to all others

    def __deepcopy__(self, memo: object) -> Links:
        return self

    def __reduce__(self) -> tuple[type[Links], tuple[()]]:
        return Links, ()


@frozen
class OldClient:
    """What langchain-nvidia-ai-endpoints keeps behind `_client`, where notebooks look things up; for reading only."""

    base_url: str
    api_key: SecretStr | None
    mdl_name: str | None
    model: registry.Model | None
    is_hosted: bool
    timeout: float | None
    verify_ssl: bool | str


class EnvironmentKey(SecretStr):
    """A key from the environment: displayed like a passed one, and sent only where the client sends such a key."""


class Connection(BaseModel):
    """The fields that all classes share. None of them is part of a request's body."""

    model_config = ConfigDict(protected_namespaces=(), populate_by_name=True, hide_input_in_errors=True)

    client_name: ClassVar[str] = ""
    """The class name used by models, for subclasses too."""

    base_url: str | None = Field(
        None, description="The server, with or without /v1; None: NVIDIA_BASE_URL or the catalog"
    )
    model: str | None = Field(None, description="The model; None: the catalog's default, or the first the server lists")
    api_key: InstanceOf[SecretStr] | SecretStr | None = Field(
        None, description="The key; None: NVIDIA_NIM_API_KEY or NVIDIA_API_KEY"
    )
    timeout: float | None = Field(None, ge=0, description="Seconds without any progress; None: the client's own limits")
    max_retries: int | None = Field(None, ge=0, description="Tries after the first; None: two")
    verify_ssl: bool | str = Field(True, description="Whether, or with which CA file, certificates are verified")
    default_headers: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    transport: Any = Field(
        None, exclude=True, repr=False, description="For tests: what the client sends through (nimclient.testing)"
    )
    usage_telemetry_enabled: bool | None = Field(
        None, exclude=True, repr=False, description="Accepted and without effect: nimclient sends no telemetry"
    )

    _resolved: bool = PrivateAttr(False)
    _links: Links = PrivateAttr(default_factory=Links)
    _environment_base: str | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _read_aliases(cls, values: Any) -> Any:
        """The names of langchain-nvidia-ai-endpoints and langchain-openai win over the short ones."""
        if not isinstance(values, Mapping):
            return values
        given = dict(cast(Mapping[str, Any], values))
        for alias, name in ALIASES.items():
            value = given.pop(alias, None)
            if value is not None:
                given[name] = value
            elif given.get(name) == "":
                given[name] = (
                    None  # not taken away: what validates an assignment gets all fields, and keeps what it returns
                )
        return given

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        """Normalize the URL, read the environment, find the default model, warn of suspicious settings."""
        if not self._resolved:  # validated assignments come here, too
            self._take_environment()
            self._set("base_url", _normalized(self.base_url or self._environment_base or HOSTED))
            self._resolve_model()
            self._resolved = True
        return self

    def _set(self, name: str, value: Any) -> None:
        vars(self)[name] = value  # without validation, and not "set by the caller"

    def _take_environment(self) -> None:
        if base := os.environ.get("NVIDIA_BASE_URL", "").strip():
            self._environment_base = _normalized(base)
        if self.api_key is None and (key := os.environ.get("NVIDIA_API_KEY", "").strip()):
            self._set("api_key", EnvironmentKey(key))

    def _resolve_model(self) -> None:
        if self.is_hosted and not self._has_key:
            warn("An API key is required for the hosted NIM. This will become an error in the future.")
        if self.model is None:
            if self.is_hosted:
                self._set("model", _default_model(self.client_name))
            return
        known = registry.known_model(self.model)
        if known is not None and self.model in (known.aliases or ()):
            warn(f"Model {self.model} is deprecated. Using {known.id} instead.")
            if self.is_hosted:
                self._set("model", known.id)
        if self.is_hosted:
            self._warn_of_model(self.model, known)

    def _warn_of_model(self, name: str, known: registry.Model | None) -> None:
        if known is None:
            if not name.startswith("nvdev/"):
                warn(f"Model {name} is unknown, check `available_models`: its type is unknown and inference may fail.")
            return
        if known.deprecated:
            warn(f"Model {known.id} on endpoint {self.base_url} is deprecated and may be removed in a future release.")
        if known.client is None:
            warn(f"Unable to determine validity of {known.id}")
        elif known.client != self.client_name:
            warn(
                f"Model {known.id} is incompatible with client {self.client_name}. Please check "
                f"`{self.client_name}.get_available_models()`."
            )

    @property
    def is_hosted(self) -> bool:
        """Whether the base URL is NVIDIA's catalog."""
        return urlsplit(self.base_url or "").hostname in _HOSTED_HOSTS

    @property
    def _client(self) -> OldClient:
        return OldClient(
            base_url=self.base_url or "",
            api_key=None if self.api_key is None else SecretStr(self.api_key.get_secret_value()),
            mdl_name=self.model,
            model=registry.known_model(self.model),
            is_hosted=self.is_hosted,
            timeout=self.timeout,
            verify_ssl=self.verify_ssl,
        )

    @property
    def _has_key(self) -> bool:
        return self.api_key is not None or any(os.environ.get(name, "").strip() for name in _KEYS)

    # clients -----------------------------------------------------------------------------------------------------

    @property
    def _now(self) -> Link:
        """The clients for the current fields."""
        server = Server(
            None if self.base_url == self._environment_base else _normalized(self.base_url or HOSTED),
            self._explicit_key(),
            self.verify_ssl,
            tuple(model for model in registry.registered_models() if model.id == self.model or _is_url(model.endpoint)),
            tuple(os.environ.get(name) for name in (*_KEYS, "NVIDIA_BASE_URL")),
            self.transport,
        )
        options = Options(self._timeouts(), self._retry(), tuple(self.default_headers.items()))
        if self.is_hosted and not self._has_key:
            raise ConfigurationError(
                "[401] Unauthorized: the hosted catalog needs an API key. "
                "Please check or regenerate your API key: create one at https://build.nvidia.com "
                "and set NVIDIA_API_KEY (or pass api_key=)"
            )
        return self._links.get(server, options)

    @property
    def _blocking(self) -> Client:
        return self._now.blocking

    @property
    def _awaiting(self) -> AsyncClient:
        return self._now.awaiting

    def _explicit_key(self) -> str | None:
        """The caller's key; one from the environment is left to the client, which decides where it may be sent."""
        if self.api_key is None or isinstance(self.api_key, EnvironmentKey):
            return None
        return self.api_key.get_secret_value()

    def _timeouts(self) -> Timeouts | None:
        """`timeout` limits inactivity, so that a long stream may continue as long as data arrives."""
        seconds = self.timeout
        if seconds is None:
            return None
        return Timeouts(connect=seconds, headers=seconds, first_event=seconds, idle=seconds)

    def _retry(self) -> RetryPolicy:
        """Documents wait for a server that throttles, but not for one that is away, and without retries for neither."""
        if self.max_retries is None:
            return RetryPolicy(wait_for_server=False)
        return RetryPolicy(
            attempts=self.max_retries + 1, patience=None if self.max_retries else 0, wait_for_server=False
        )

    # models ------------------------------------------------------------------------------------------------------

    @property
    def available_models(self) -> list[registry.Model]:
        """The models for this class: those the server lists (one request per object), extended by the model table. In
        the hosted catalog only models of this class."""
        link = self._now
        if link.models is None:
            with langchain_errors():
                self._keep_models(link, link.blocking.models.list())
        return list(link.models or ())

    @classmethod
    def get_available_models(cls, **kwargs: Any) -> list[registry.Model]:
        """The models for this class; the arguments are those of the constructor."""
        return cls(**kwargs).available_models

    async def aget_available_models(self) -> list[registry.Model]:
        """`available_models` with await."""
        link = self._now
        if link.models is None:
            with langchain_errors():
                self._keep_models(link, await link.awaiting.models.list())
        return list(link.models or ())

    def _keep_models(self, link: Link, listed: ModelList) -> None:
        link.models = tuple(registry.listed_models(listed, self.client_name if self.is_hosted else None))

    # pickles -----------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[Any, Any]:
        """Without key, headers and client: the copy takes the key from its own environment."""
        state = super().__getstate__()
        hidden: dict[str, Any] = {"api_key": None, "default_headers": {}, "transport": None}
        given = state["__pydantic_fields_set__"] - hidden.keys()
        return {
            **state,
            "__dict__": {**state["__dict__"], **hidden},
            "__pydantic_fields_set__": given,
        }

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        if key := os.environ.get("NVIDIA_API_KEY", "").strip():
            self._set("api_key", EnvironmentKey(key))


class SerializableConnection(Connection):
    """The connection of language models, which LangChain can store with `dumps`."""

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """True: `dumps` and `loads` work."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """The public module."""
        return ["nimclient", "integrations", "langchain"]

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The key, which is never serialized."""
        return {"api_key": "NVIDIA_API_KEY"}


def versions() -> dict[str, str]:
    """The version of this package for LangChain's traces."""
    return {"nimclient": __version__}


def _default_model(client: str) -> str | None:
    kind = _KIND_OF[client]
    return _OLD_COMPLETIONS if kind == "completions" else catalog.hosted_default(kind)


def _is_url(endpoint: str | None) -> bool:
    return endpoint is not None and endpoint.startswith(("http://", "https://"))


@cache
def _normalized(base_url: str) -> str:
    """The API root as parsed by the client, with the host's original spelling. Raises ConfigurationError (a ValueError) for
    an invalid URL."""
    host = urlsplit(base_url).netloc
    return AsyncClient("unused", base_url).base_url.replace(host.lower(), host, 1)

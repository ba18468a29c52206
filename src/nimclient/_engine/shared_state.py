"""State shared by a client and its `with_options` copies: pools, retry budget, and what was learned about servers."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nimclient._api.call import RAW_BYTES, Call
from nimclient._api.server_types import Dialects
from nimclient._api.urls import parse_base_url
from nimclient._base.callbacks import run_callback
from nimclient._base.config import ClientConfig, RetryPolicy
from nimclient._base.init_lock import init_lock, out_of_resources
from nimclient._base.log import log
from nimclient._base.warnings import warn_caller
from nimclient._bulk.ticket import Users
from nimclient._engine.replicas import Replicas
from nimclient._http.base import TransportSettings
from nimclient._http.tasks import Background, Sleeper, in_thread, running_loop
from nimclient._nvcf.platform import deprecation
from nimclient._retry.classify import rejects_field
from nimclient._retry.policy import RetryBudget
from nimclient.errors import (
    APIStatusError,
    ClientClosedError,
    ModelDeprecationWarning,
    NimError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from nimclient._api.ranking import Form
    from nimclient._bulk.pacer import Memory
    from nimclient._bulk.rate import RateLimit
    from nimclient._bulk.slicing import Sizes
    from nimclient._bulk.vector_cache import VectorCache
    from nimclient._engine.share import Share
    from nimclient._engine.shared_pace import SharedPacer
    from nimclient._http.base import Transport

T = TypeVar("T")

_TRANSPORT = "nimclient._http.aiohttp"


class SharedState:
    """State shared by a client and its `with_options` copies: pools, retry budget, and what was learned about servers."""

    def __init__(self, config: ClientConfig) -> None:
        self.settings = TransportSettings(config.limits, config.verify, config.cert)
        self.budget = RetryBudget()
        self.share: Share | None = None
        self.rate: RateLimit | None = None
        per_minute = (config.limits.requests_per_minute, config.limits.tokens_per_minute)
        if config.limits.share is not None:
            from nimclient._engine.share import Share
            from nimclient._engine.shared_pace import SharedRate

            self.share = Share(config.limits.share, config.base_urls)
            self.rate = None if per_minute == (None, None) else SharedRate(self.share, *per_minute)
        elif per_minute != (None, None):
            from nimclient._bulk.rate import RateLimit

            self.rate = RateLimit(*per_minute)
        self.users = Users()
        self.closed = False
        self._bases = tuple(map(parse_base_url, config.base_urls))
        self._affinity = config.affinity
        self._replicas = self._new_replicas()
        self._pid = os.getpid()
        self.default_models: dict[str, str] = {}
        self.dialects = Dialects()
        self.called: dict[str, bool] = {}  # by model: whether calls have shown that it can be called
        self.ranking_form: Form | None = None  # the form that the server accepts
        self._warnings: set[str] = set()
        self.ready = cast("Transport | None", config.transport)
        """The transport, if there is one already."""
        self._sleeper = Sleeper()
        self._background: Background | None = None
        self.rejected_forms: dict[tuple[str, str | None], set[str]] = {}  # of structured output, by URL and model
        self.sizes: dict[tuple[str, str | None], Sizes] = {}  # of slices, by URL and model
        self.served: dict[tuple[str, str | None], str] = {}  # the model as answers name it, by URL and model
        self.rejected: dict[tuple[str, str | None], frozenset[str]] = {}
        self._sends_raw: set[tuple[str, str | None]] = set()  # URL and model of vectors that came as raw bytes
        self.proxies: dict[str, str | None] = {}
        self.caches: dict[Path, VectorCache] = {}
        self.memories = defaultdict[tuple[Sequence[str], str], "Memory"](_new_memory)
        """What calls have learned of how much a server takes, by its URLs and the route."""

    async def transport(self) -> Transport:
        """The transport; the first call imports aiohttp in a worker thread, since that takes a tenth of a second."""
        if self.ready is None:
            running_loop()  # says what to do without one
            if _TRANSPORT not in sys.modules:
                try:
                    await in_thread(partial(import_module, _TRANSPORT))
                except OSError as error:
                    raise out_of_resources(error.errno or 0) from None
            if self.closed:  # while aiohttp was being imported
                raise ClientClosedError("the client is closed")
            from nimclient._http.aiohttp import AiohttpTransport

            with init_lock():
                if self.ready is None:
                    self.ready = AiohttpTransport(self.settings)
        return self.ready

    @property
    def replicas(self) -> Replicas:
        """The replicas; a forked child, which has no requests in flight, gets a new object."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._replicas = self._new_replicas()
        return self._replicas

    def _new_replicas(self) -> Replicas:
        return Replicas(self._bases, time.monotonic, random.random, self._affinity)

    async def aclose(self) -> None:
        """Close the pools. Calls in flight end with ClientClosedError."""
        self.closed = True
        self._sleeper.interrupt()
        if self._background is not None:
            await self._background.stop()
        if self.share is not None:
            self.share.close()
        while self.caches:
            self.caches.popitem()[1].close()
        if self.ready is not None:
            await self.ready.aclose()

    def shared_pacer(self, retry: RetryPolicy, concurrency: int | None, route: str) -> SharedPacer:
        """The pacer of a call of a client with a share. ConfigurationError if its folder cannot be used."""
        from nimclient._engine.shared_pace import SharedPacer

        assert self.share is not None
        return SharedPacer(retry, concurrency, share=self.share, route=route, rate=self.rate, users=self.users)

    def run_in_background(self, main: Coroutine[Any, Any, None]) -> None:
        """Run what ends by itself soon, and at the latest with the client. One at a time."""
        self._background = Background(main)

    async def sleep(self, seconds: float) -> None:
        """Wait. ClientClosedError as soon as the client is closed."""
        if self.closed or not await self._sleeper.sleep(seconds):
            raise ClientClosedError("the client was closed during the call")

    def warn_once(self, text: str, category: type[Warning] = UserWarning, subject: str | None = None) -> None:
        """Warn at the caller's line, unless this client has already warned of this text or subject."""
        if (subject or text) not in self._warnings:
            self._warnings.add(subject or text)
            run_callback(warn_caller, text, category)

    def without_rejected(self, url: str, call: Call[T]) -> Call[T]:
        """The call without the droppable fields that this endpoint has rejected before."""
        rejected = self.rejected.get((url, call.model))
        return call.without(rejected) if rejected and not rejected.isdisjoint(call.droppable_fields) else call

    def learn_rejected(self, url: str, call: Call[Any], error: NimError) -> frozenset[str]:
        """Record which droppable fields a 400 or 422 rejects."""
        if not isinstance(error, APIStatusError):
            return frozenset()
        named = frozenset(name for name in call.droppable_fields if rejects_field(error, name))
        if RAW_BYTES in call.droppable_fields:
            if RAW_BYTES in named:
                named -= {"encoding_format"}  # its other values may be fine
            elif not named and error.status in (400, 422) and (url, call.model) not in self._sends_raw:
                return frozenset((RAW_BYTES,))  # perhaps these; remembered by `learn_raw` if the call succeeds without
        if named:
            self._remember_rejected((url, call.model), named)
        return named

    def learn_raw(self, url: str, call: Call[Any], *, is_raw: bool) -> None:
        """Record whether the response to a call that may get raw bytes was raw bytes."""
        key = (url, call.model)
        if is_raw:
            self._sends_raw.add(key)
        elif RAW_BYTES not in self.rejected.get(key, ()):
            self._remember_rejected(key, frozenset((RAW_BYTES,)))

    def takes_raw(self, url: str, model: str | None) -> bool:
        """Whether this endpoint has not yet answered otherwise when asked for raw bytes."""
        return RAW_BYTES not in self.rejected.get((url, model), ())

    def _remember_rejected(self, key: tuple[str, str | None], names: frozenset[str]) -> None:
        self.rejected[key] = self.rejected.get(key, frozenset()) | names
        self.dialects.changes += 1

    def note_deprecation(self, call: Call[Any], value: str) -> None:
        """Warn, once per model, of the header by which a server says that it will be removed."""
        words = deprecation(call.model, call.shown_path, value)
        log.info("%s", words)
        self.warn_once(words, ModelDeprecationWarning, f"deprecation of {call.model or call.shown_path}")


def _new_memory() -> Memory:
    from nimclient._bulk.pacer import Memory

    return Memory()

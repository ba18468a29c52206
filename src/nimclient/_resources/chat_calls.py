"""Chat calls as every method of client.chat makes them: built for the server behind the model, sent with their images."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from attrs import evolve

from nimclient._api.assets import with_pending
from nimclient._api.call import Call
from nimclient._api.catalog import takes_assets
from nimclient._api.chat import chat_call
from nimclient._bulk.gate import Gate
from nimclient._resources.assets import uploaded
from nimclient._resources.base import Resource
from nimclient._streams.reader import AnswerReader
from nimclient._streams.stream import read_chat
from nimclient.records.chat import ChatChunk, ChatCompletion
from nimclient.records.media import Image


class ChatCalls(Resource):
    """What create, stream, parse, run_tools and batch have in common."""

    async def _call(
        self, method: str, messages: object, model: str | None, options: Mapping[str, Any], *, stream: bool = False
    ) -> Call[ChatCompletion]:
        """The call, for a model that is found by asking the server where nobody named one."""
        name = self._known_model("chat", model)
        call = self._call_for(method, messages, name, options, stream=stream)
        if name is not None:
            return call  # else bad input was found before the server is asked
        name = await self._default_model("chat", options)
        return self._call_for(method, messages, name, options, stream=stream)

    def _call_for(
        self, method: str, messages: object, model: str | None, options: Mapping[str, Any], *, stream: bool = False
    ) -> Call[ChatCompletion]:
        """The call in the form that the server behind this model takes."""
        engine = self._engine
        dialect = engine.dialect_for(model)
        hosted = dialect == "hosted"
        own = engine.catalog.own.get(model or "")
        uploads: tuple[Image, ...] = ()
        if hosted and model is not None and takes_assets(model):
            messages, uploads = with_pending(messages)
        call = chat_call(
            method,
            messages,
            model,
            options,
            stream=stream,
            hosted=hosted,
            developer=not hosted and dialect != "dynamo",
            switch=None if own is None else own.thinking_switch,
        )
        return evolve(call, uploads=uploads) if uploads else call

    async def _ask(
        self, call: Call[ChatCompletion], options: Mapping[str, Any], gate: Gate | None = None
    ) -> ChatCompletion:
        """Send a call, its large images beside it."""
        if not call.uploads:
            return await self._send(call, options, gate)
        async with uploaded(self._engine, call, options) as complete:
            return await self._send(complete, options, gate)

    def _opener(
        self, method: str, messages: object, model: str | None, options: Mapping[str, Any]
    ) -> Callable[[], Awaitable[AnswerReader[ChatChunk, ChatCompletion]]]:
        """What opens a stream of this call. Bad input raises here."""
        given = self._with_defaults("chat", options) if self._engine.config.defaults else options
        name = self._known_model("chat", model)
        call = self._call_for(method, messages, name, given, stream=True)
        return partial(self._open_stream, call, method, messages, given)

    async def _open_stream(
        self, call: Call[ChatCompletion], method: str, messages: object, options: Mapping[str, Any]
    ) -> AnswerReader[ChatChunk, ChatCompletion]:
        if call.model is None:
            call = await self._call(method, messages, None, options, stream=True)
        read = partial(read_chat, choices=call.choices)
        if not call.uploads:
            return await self._open(call, options, read)
        async with uploaded(self._engine, call, options) as complete:
            return await self._open(complete, options, read)

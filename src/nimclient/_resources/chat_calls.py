"""Builds and sends the calls of all methods of client.chat, for the server behind the model, with their images."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from attrs import evolve

from nimclient._api.call import Call
from nimclient._api.catalog import takes_assets
from nimclient._api.chat import chat_call
from nimclient._api.options import check_whole
from nimclient._resources.base import DefaultModel, Resource
from nimclient.records.chat import ChatChunk, ChatCompletion

if TYPE_CHECKING:
    from nimclient._bulk.gate import Gate
    from nimclient._streams.reader import AnswerReader
    from nimclient.records.media import Image


class ChatForm(NamedTuple):
    """The form of a chat for one model: see `chat_call`. `assets`: large images are uploaded, not put into messages."""

    model: str | None
    hosted: bool
    developer: bool
    assets: bool
    switch: str | None


class ChatCalls(Resource):
    """Shared by create, stream, parse, run_tools and batch."""

    async def _call(
        self, method: str, messages: object, model: str | None, options: Mapping[str, Any], *, stream: bool = False
    ) -> Call[ChatCompletion]:
        """The call; without a model, the default is found in the server's list."""
        call = self._call_for(method, messages, model, options, stream=stream)
        if call.model is not None:
            return call  # else invalid input must raise before a request is sent
        name = await self._default_model("chat", options)
        return self._call_for(method, messages, name, options, stream=stream)

    def _call_for(
        self, method: str, messages: object, model: str | None, options: Mapping[str, Any], *, stream: bool = False
    ) -> Call[ChatCompletion]:
        """The call in the form that the server behind this model accepts; without a model if none is known."""
        known = self._engine.known() if model is None or isinstance(model, str) else {}
        form: ChatForm = known.get(("form of a chat", model)) or self._form(model)
        uploads: tuple[Image, ...] = ()
        if form.assets:
            from nimclient._api.assets import with_pending

            messages, uploads = with_pending(messages)
        call = chat_call(
            method,
            messages,
            form.model,
            options,
            stream=stream,
            hosted=form.hosted,
            developer=form.developer,
            switch=form.switch,
            server=None
            if options.get("priority") is None and options.get("session_id") is None
            else self._engine.server_type_for(form.model),
        )
        return evolve(call, uploads=uploads) if uploads else call

    def _form(self, model: str | None) -> ChatForm:
        """The form of a chat with this model, as far as its server type is known."""
        engine = self._engine
        name = self._known_model("chat", model)
        dialect = engine.dialect_for(name)
        hosted = dialect == "hosted"
        own = engine.catalog.own.get(name or "")
        form = ChatForm(
            model=name,
            hosted=hosted,
            developer=not hosted and dialect != "dynamo",
            assets=hosted and name is not None and takes_assets(name),
            switch=None if own is None else own.thinking_switch,
        )
        if name is not None and not isinstance(name, DefaultModel):
            engine.known()["form of a chat", model] = form
        return form

    def _ask(
        self, call: Call[ChatCompletion], options: Mapping[str, Any], gate: Gate | None = None
    ) -> Awaitable[ChatCompletion]:
        """Send a call with its large images."""
        return self._upload_and_ask(call, options, gate) if call.uploads else self._send(call, options, gate)

    async def _upload_and_ask(
        self, call: Call[ChatCompletion], options: Mapping[str, Any], gate: Gate | None
    ) -> ChatCompletion:
        from nimclient._resources.assets import uploaded

        async with uploaded(self._engine, call, options) as complete:
            return await self._send(complete, options, gate)

    def _opener(
        self, method: str, messages: object, model: str | None, options: Mapping[str, Any]
    ) -> Callable[[], Awaitable[AnswerReader[ChatChunk, ChatCompletion]]]:
        """The function that opens a stream of this call. Invalid input raises here."""
        given = self._with_defaults("chat", options) if self._engine.config.defaults else options
        resumes = given.get("resume")
        if resumes is None:
            resumes = self._engine.config.retry.resume
        if resumes:
            given = self._resumable(model, given, resumes)
        call = self._call_for(method, messages, model, given, stream=True)
        return partial(self._open_stream, call, method, messages, given)

    def _resumable(self, model: str | None, options: Mapping[str, Any], resumes: int) -> Mapping[str, Any]:
        """The options of a stream that may be resumed: the token ids of an answer are what continues it exactly."""
        from nimclient._api.resume import CONTINUING

        check_whole("resume", resumes, 0)
        asks = self._engine.dialect_for(self._known_model("chat", model)) in (None, *CONTINUING)
        if asks and options.get("return_token_ids") is None:
            options = {**options, "return_token_ids": True}
        return {**options, "resume": resumes}

    async def _open_stream(
        self, call: Call[ChatCompletion], method: str, messages: object, options: Mapping[str, Any]
    ) -> AnswerReader[ChatChunk, ChatCompletion]:
        if call.model is None:
            call = await self._call(method, messages, None, options, stream=True)
        open: Callable[[Call[Any]], Coroutine[Any, Any, AnswerReader[ChatChunk, ChatCompletion]]]
        if options.get("resume"):
            from nimclient._engine.resume import read_resumable

            resumable = partial(read_resumable, self._engine, options["resume"])
            open = partial(self._engine.open_resumable, options=options, read=resumable)
        else:
            from nimclient._streams.stream import read_chat

            open = partial(self._engine.open, options=options, read=partial(read_chat, choices=call.choices))
        if not call.uploads:
            return await self._open(call, options, open)
        from nimclient._resources.assets import uploaded

        async with uploaded(self._engine, call, options) as complete:
            return await self._open(complete, options, open)

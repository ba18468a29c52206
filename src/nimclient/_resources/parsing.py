"""chat.parse: request structured output in a form that the server accepts, and retry invalid output."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from nimclient._api.call import Call
from nimclient._api.messages import wire_messages
from nimclient._api.options import check_whole, check_word, overridden
from nimclient._base.callbacks import call_user
from nimclient._base.types import JsonDict
from nimclient._bulk.gate import Gate
from nimclient._resources.chat_calls import ChatCalls
from nimclient._retry.classify import rejects_form
from nimclient._schema.structured import (
    FORM_NAMES,
    FORMAT_OPTIONS,
    FORMS,
    Output,
    Via,
    check_no_format,
    correction,
    form_fields,
    form_messages,
    output_of,
    read_output,
)
from nimclient.errors import APIStatusError, OutputInvalidError
from nimclient.records.answers import Parsed
from nimclient.records.chat import ChatCompletion


async def parse(
    chat: ChatCalls,
    messages: object,
    form: Any,
    *,
    via: Via | None,
    retries: int,
    model: str | None,
    options: Mapping[str, Any],
    gate: Gate | None = None,
) -> Parsed[Any]:
    """See AsyncChat.parse. `gate`: that of a call over many items."""
    options = output_options(chat, options)
    check_word("via", via, FORMS)
    max_retries = check_whole("retries", retries, 0) or 0
    output = output_of(form)
    wire = wire_messages(messages, echo_reasoning=bool(options.get("echo_reasoning")))
    while True:
        completion = await _ask(chat, OutputCalls(chat, "chat.parse", wire, output, via, model, options), gate)
        try:
            return Parsed(await call_user(partial(read_output, output, completion)), completion)
        except OutputInvalidError as error:
            if not max_retries:
                raise
            max_retries -= 1
            wire = correction(wire, error)


async def _ask(chat: ChatCalls, calls: OutputCalls, gate: Gate | None) -> ChatCompletion:
    """Send the call in the first form that the endpoint does not reject."""
    while True:
        call = await calls.next_call()
        try:
            return await chat._ask(call, calls.options, gate)
        except APIStatusError as error:
            calls.reject(error)


def output_options(chat: ChatCalls, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with the client's defaults. ConfigurationError for one that the output sets itself."""
    check_no_format(options)
    defaults = chat._with_defaults("chat", {})
    return overridden({name: value for name, value in defaults.items() if name not in FORMAT_OPTIONS}, options)


class OutputCalls:
    """The calls that request an output: one in each form, except those that the endpoint is known to reject."""

    def __init__(
        self,
        chat: ChatCalls,
        method: str,
        wire: list[JsonDict],
        output: Output,
        via: Via | None,
        model: str | None,
        options: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> None:
        self._chat = chat
        self._method = method
        self._wire = wire
        self._output = output
        self._via: Via | None = via
        self._model = model
        self.options = options
        self._stream = stream
        self._forms: list[Via] | None = None
        self._rejected: set[Via] = set()

    async def next_call(self) -> Call[ChatCompletion]:
        """The call in the next form."""
        if self._forms is None:
            first = self._via or FORMS[0]
            call = await self._call(first)
            known = cast(dict[Any, set[Via]], self._chat._engine.core.rejected_forms)
            self._rejected = known.setdefault((self._chat._engine.url_of(call), call.model), set())
            self._forms = [self._via] if self._via else [form for form in FORMS if form not in self._rejected]
            if self._forms[0] == first:
                return call
        return await self._call(self._forms[0])

    def check(self) -> None:
        """Raise what is wrong with the arguments, before anything is sent."""
        self._chat._call_for(self._method, *self._request(self._via or FORMS[0]), stream=self._stream)

    async def _call(self, form: Via) -> Call[ChatCompletion]:
        return await self._chat._call(self._method, *self._request(form), stream=self._stream)

    def _request(self, form: Via) -> tuple[list[JsonDict], str | None, Mapping[str, Any]]:
        """The messages, the model and the options for this form."""
        asked = {**self.options, **form_fields(form, self._output, self.options)}
        return form_messages(form, self._output, self._wire), self._model, asked

    def reject(self, error: APIStatusError) -> None:
        """Remember that the form is rejected; raises the error if it says something else, or if there is no other form."""
        assert self._forms is not None
        if len(self._forms) == 1 or not rejects_form(error, FORM_NAMES[self._forms[0]]):
            raise error
        self._rejected.add(self._forms.pop(0))

"""chat.parse: request structured output in a form that the server accepts, and retry invalid output."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from nimclient._api.call import Call
from nimclient._api.messages import wire_messages
from nimclient._api.options import check_whole, check_word
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
    check_no_format(options)
    defaults = chat._with_defaults("chat", {})
    options = {**{name: value for name, value in defaults.items() if name not in FORMAT_OPTIONS}, **options}
    check_word("via", via, FORMS)
    max_retries = check_whole("retries", retries, 0) or 0
    output = output_of(form)
    wire = wire_messages(messages, echo_reasoning=bool(options.get("echo_reasoning")))
    while True:
        completion = await _ask(chat, wire, output, via, model, options, gate)
        try:
            return Parsed(await call_user(partial(read_output, output, completion)), completion)
        except OutputInvalidError as error:
            if not max_retries:
                raise
            max_retries -= 1
            wire = correction(wire, error)


async def _ask(
    chat: ChatCalls,
    wire: list[JsonDict],
    output: Output,
    via: Via | None,
    model: str | None,
    options: Mapping[str, Any],
    gate: Gate | None,
) -> ChatCompletion:
    """Send the messages in the first form that the endpoint does not reject."""
    first = via or FORMS[0]
    call = await _call(chat, wire, output, first, model, options)
    rejected = cast(dict[Any, set[Via]], chat._engine.core.rejected_forms).setdefault(
        (chat._engine.url_of(call), call.model), set()
    )
    forms: list[Via] = [via] if via else [form for form in FORMS if form not in rejected]
    for form in forms:
        if form != first:
            call = await _call(chat, wire, output, form, model, options)
        try:
            return await chat._ask(call, options, gate)
        except APIStatusError as error:
            if form == forms[-1] or not rejects_form(error, FORM_NAMES[form]):
                raise
            rejected.add(form)
    raise AssertionError("the last form returns or raises")


async def _call(
    chat: ChatCalls, wire: list[JsonDict], output: Output, form: Via, model: str | None, options: Mapping[str, Any]
) -> Call[ChatCompletion]:
    """The call that requests the output in this form."""
    asked = {**options, **form_fields(form, output, options)}
    return await chat._call("chat.parse", form_messages(form, output, wire), model, asked)

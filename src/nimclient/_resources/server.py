"""Metadata, version and tokenizer of a server; public through AsyncClient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nimclient._api.call import Call
from nimclient._api.messages import Messages, materialized
from nimclient._api.models import metadata_calls
from nimclient._api.tokens import detokenize_call, tokenize_call
from nimclient._resources.base import Resource, T
from nimclient._retry.classify import is_no_route
from nimclient._retry.faults import no_route
from nimclient.errors import APIStatusError, DecodeError
from nimclient.records.server import Detokenization, Metadata, Tokenization


async def metadata(resource: Resource, options: Mapping[str, Any]) -> Metadata:
    """See AsyncClient.metadata."""
    missing: APIStatusError | None = None
    for call in metadata_calls():
        try:
            return await resource._engine.send(call, options)
        except APIStatusError as error:
            if not is_no_route(error):
                raise
            missing = missing or error
    assert missing is not None
    raise no_route(missing, "the server has no route for its version (NIM and vLLM have one)") from missing


async def tokenize(
    resource: Resource, text_or_messages: Messages, model: str | None, options: Mapping[str, Any]
) -> Tokenization:
    """See AsyncClient.tokenize."""
    content = materialized(text_or_messages)
    name = _named(resource, model)
    engine = resource._engine
    developer = engine.dialect_for(name) not in ("dynamo", "hosted")
    call = tokenize_call(content, name, options, developer=developer)
    known = engine.server_type_for(name)
    if known is not None:
        call = tokenize_call(content, name, options, developer=developer, server_type=known)
    try:
        return await _send(resource, call, options)
    except DecodeError:
        found = engine.server_type_for(name)  # as detected from the response
        if found == known:
            raise
        return await _send(
            resource, tokenize_call(content, name, options, developer=developer, server_type=found), options
        )


async def detokenize(
    resource: Resource, tokens: Sequence[int], model: str | None, options: Mapping[str, Any]
) -> Detokenization:
    """See AsyncClient.detokenize."""
    return await _send(resource, detokenize_call(tokens, _named(resource, model), options), options)


def _named(resource: Resource, model: str | None) -> str | None:
    """The model of the call or the client; without one the server uses its own."""
    configured = resource._engine.config.models
    name = model if model is not None else configured.get("chat", configured.get("*"))
    return None if name is None else resource._resolved(name)


async def _send(resource: Resource, call: Call[T], options: Mapping[str, Any]) -> T:
    try:
        return await resource._engine.send(call, options)
    except APIStatusError as error:
        if is_no_route(error):
            raise no_route(error, f"the server has no {call.path} (vLLM and NIM 2.x have one)") from error
        raise

"""Tokens: arguments → Call (POST /tokenize and /detokenize, below the root; vLLM and NIM 2.x have them)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nimclient._api.call import Call
from nimclient._api.messages import wire_messages
from nimclient._api.options import check_names, merge_fields, names_of
from nimclient._base.types import JsonDict, is_items
from nimclient._schema.tools import wire_tools
from nimclient.errors import ConfigurationError
from nimclient.records.params import CallOptions, TokenizeOptions
from nimclient.records.server import Detokenization, Tokenization, decode_detokenization, decode_tokenization

TOKENIZE_OPTIONS = names_of(TokenizeOptions)
DETOKENIZE_OPTIONS = names_of(CallOptions)
_NOT_SENT = frozenset({"tools"})


def tokenize_call(
    text_or_messages: object, model: str | None, options: Mapping[str, Any], *, developer: bool = True
) -> Call[Tokenization]:
    """A str is a text as it is; a list is a chat, put into the model's template by the server."""
    check_names("tokenize", options, TOKENIZE_OPTIONS)
    fields: JsonDict = {} if model is None else {"model": model}
    if isinstance(text_or_messages, str):
        fields["prompt"] = text_or_messages
    else:
        fields["messages"] = wire_messages(text_or_messages, developer=developer)
    if tools := wire_tools(options.get("tools") or ()):
        fields["tools"] = tools
    merge_fields(fields, options, not_sent=_NOT_SENT)
    return Call("POST", "/tokenize", decode_tokenization, fields, model=model, at_root=True)


def detokenize_call(tokens: Sequence[int], model: str | None, options: Mapping[str, Any]) -> Call[Detokenization]:
    """The ids as a list, checked."""
    check_names("detokenize", options, DETOKENIZE_OPTIONS)
    if not is_items(tokens):
        raise TypeError(f"detokenize takes a list of token ids, not {type(tokens).__name__}")
    ids: list[Any] = list(tokens)
    for position, token in enumerate(ids):
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise ConfigurationError(f"tokens[{position}] must be a token id, not {token!r:.40}")
    fields: JsonDict = {} if model is None else {"model": model}
    fields["tokens"] = ids
    merge_fields(fields, options)
    return Call("POST", "/detokenize", decode_detokenization, fields, model=model, at_root=True)

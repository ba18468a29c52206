"""Tokens: arguments → Call (POST /tokenize and /detokenize, below the root; vLLM and NIM 2.x have them)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from nimclient._api.call import Call
from nimclient._api.messages import wire_messages
from nimclient._api.options import check_names, merge_fields, names_of
from nimclient._api.server_types import ServerType
from nimclient._base.types import Json, JsonDict, is_items
from nimclient._base.values import ResponseMeta
from nimclient._schema.tools import wire_tools
from nimclient.errors import ConfigurationError, DecodeError
from nimclient.records._decode import object_or_empty
from nimclient.records.params import CallOptions, TokenizeOptions
from nimclient.records.server import Detokenization, Tokenization, decode_detokenization, decode_tokenization

TOKENIZE_OPTIONS = names_of(TokenizeOptions)
DETOKENIZE_OPTIONS = names_of(CallOptions)
_NOT_SENT = frozenset({"tools"})


def tokenize_call(
    text_or_messages: object,
    model: str | None,
    options: Mapping[str, Any],
    *,
    developer: bool = True,
    server_type: ServerType | None = None,
) -> Call[Tokenization]:
    """A str is tokenized unchanged; a list is a chat, which the server renders with the model's template.

    Args:
        text_or_messages: The input.
        model: None: the server uses its own.
        options: TokenizeOptions.
        developer: Whether the server accepts the role of that name.
        server_type: llama-server calls the text `content`; for `prompt` it returns 200 without tokens.
    """
    check_names("tokenize", options, TOKENIZE_OPTIONS)
    fields: JsonDict = {} if model is None else {"model": model}
    text = text_or_messages if isinstance(text_or_messages, str) else None
    if text is not None:
        fields["content" if server_type == "llama.cpp" else "prompt"] = text
    else:
        fields["messages"] = wire_messages(text_or_messages, developer=developer)
    if tools := wire_tools(options.get("tools") or ()):
        fields["tools"] = tools
    merge_fields(fields, options, not_sent=_NOT_SENT)
    decode = partial(_decode_tokens, is_empty=text == "", is_text=text is not None)
    return Call("POST", "/tokenize", decode, fields, model=model, at_root=True)


def _decode_tokens(value: Json, meta: ResponseMeta, *, is_empty: bool, is_text: bool) -> Tokenization:
    found = decode_tokenization(value, meta)
    if found.count == 0 and not is_empty:
        where = "a non-empty text" if is_text else "the messages; it may accept only a text here"
        raise DecodeError(f"the server counted no tokens in {where}", path="tokens", status=meta.status)
    return found


def _decode_text(value: Json, meta: ResponseMeta) -> Detokenization:
    """llama-server calls the text `content`."""
    data = object_or_empty(value)
    if "prompt" not in data and "content" in data:
        value = {**data, "prompt": data["content"]}
        del value["content"]
    return decode_detokenization(value, meta)


def detokenize_call(tokens: Sequence[int], model: str | None, options: Mapping[str, Any]) -> Call[Detokenization]:
    """The validated ids as a list."""
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
    return Call("POST", "/detokenize", _decode_text, fields, model=model, at_root=True)

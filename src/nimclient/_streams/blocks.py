"""Joins the pieces of blocks of reasoning in a stream: OpenRouter's `reasoning_details`, LiteLLM's `thinking_blocks`.

The signature of a block comes in its last pieces. Whoever sends a block back sends it whole, or it is rejected.
"""

from __future__ import annotations

from typing import Any

from nimclient._base.types import JsonDict, is_object

_TEXTS = ("text", "summary", "thinking")
_SIGNATURE = "signature"


def whole_blocks(pieces: list[Any]) -> list[Any]:
    """The blocks that these pieces amount to, in linear time; anything that is no object stays as it is."""
    groups: list[list[Any]] = []
    for piece in pieces:
        if groups and is_object(piece) and _continues(groups[-1][0], groups[-1][-1], piece):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return [group[0] if len(group) == 1 else _joined(group) for group in groups]


def _continues(first: Any, last: Any, piece: JsonDict) -> bool:
    """Whether a piece belongs to the block that begins and, so far, ends with these. An encrypted block (`data`) is whole."""
    return (
        is_object(first)
        and first.get("type") == piece.get("type")
        and first.get("index") == piece.get("index")
        and not (last.get(_SIGNATURE) and any(piece.get(name) for name in _TEXTS))
        and "data" not in piece
    )


def _joined(pieces: list[JsonDict]) -> JsonDict:
    whole = {name: value for piece in pieces for name, value in piece.items() if value is not None}
    for name in (*_TEXTS, _SIGNATURE):
        if name in whole:
            whole[name] = "".join(text for piece in pieces if isinstance(text := piece.get(name), str))
    return whole

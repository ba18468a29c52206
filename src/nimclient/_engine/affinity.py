"""Prefix affinity: which replica has probably cached the beginning of a conversation.

Rendezvous hashing: each pair of prefix and replica has a pseudo-random weight, and the largest wins. All processes agree
on it without communicating; if a replica is lost, only its share moves. Bounded load (`room`): a replica above it is
skipped, so a popular prefix spills to the replica with the next weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import ceil
from typing import Any
from zlib import crc32

from nimclient._api.options import SESSION_HEADERS
from nimclient._base.json import dumps

PROMPT = 1024  # characters of a completion's prompt
OVERLOAD = 1.25  # of the mean of outstanding requests
SMALL = 4  # outstanding requests: too few to move a conversation for
_MASK = 2**64 - 1


def prefix_of(fields: Mapping[str, Any] | None, headers: Mapping[str, str]) -> int | None:
    """A checksum of what all turns of a conversation have in common: its session id, if the headers have one, since a
    system prompt may change and a history be trimmed; else the messages up to the first one of the user.

    For a completion, of the beginning of its prompt; None for other calls. Conversations that collide share a replica.
    """
    if session := next((headers[name] for name in SESSION_HEADERS if name in headers), None):
        return crc32(session.encode())
    match fields:
        case {"messages": [*messages]}:
            users = (i for i, message in enumerate(messages) if message.get("role") == "user")
            return crc32(dumps(messages[: next(users, 0) + 1]))
        case {"prompt": str(prompt)}:
            return crc32(prompt[:PROMPT].encode(errors="replace"))
        case _:
            return None


def seed_of(replica: str) -> int:
    """The seed of a replica's weights, 64 bits."""
    return int.from_bytes(blake2b(replica.encode(), digest_size=8).digest(), "big")


def weight(prefix: int, seed: int) -> int:
    """The weight of a replica for this prefix: both mixed by multiplication and shifts, as in SplitMix64."""
    mixed = (prefix ^ seed) * 0x9E3779B97F4A7C15 & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    return mixed ^ mixed >> 31


def room(outstanding: Sequence[float]) -> int:
    """How many requests one replica may have, given those outstanding at each and one more to place."""
    return max(ceil(OVERLOAD * (sum(outstanding) + 1) / len(outstanding)), SMALL)

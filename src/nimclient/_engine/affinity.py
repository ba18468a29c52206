"""Prefix affinity: which replica has probably cached the beginning of a conversation.

Rendezvous hashing: each pair of prefix and replica has a pseudo-random weight, and the largest wins. All processes agree
on it without talking; without a replica, only its share moves. Bounded load (`room`): who is over it is passed over, so a
popular prefix spills to the replica with the next weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import ceil
from typing import Any
from zlib import crc32

from nimclient._base.json import dumps

PROMPT = 1024  # characters of a completion's prompt
OVERLOAD = 1.25  # of the mean of outstanding requests
SMALL = 4  # outstanding requests that are no load worth moving a conversation for
_MASK = 2**64 - 1


def prefix_of(fields: Mapping[str, Any] | None) -> int | None:
    """A checksum of what all turns of a conversation begin with: the messages up to the first one of the user.

    Of a completion the beginning of its prompt; None for other calls. Equal ones of two conversations only have them meet.
    """
    match fields:
        case {"messages": [*messages]}:
            users = (i for i, message in enumerate(messages) if message.get("role") == "user")
            return crc32(dumps(messages[: next(users, 0) + 1]))
        case {"prompt": str(prompt)}:
            return crc32(prompt[:PROMPT].encode(errors="replace"))
        case _:
            return None


def seed_of(replica: str) -> int:
    """What makes the weights of a replica its own, of 64 bits."""
    return int.from_bytes(blake2b(replica.encode(), digest_size=8).digest(), "big")


def weight(prefix: int, seed: int) -> int:
    """The weight of a replica for this prefix: both mixed by multiplication and shifts, as in SplitMix64."""
    mixed = (prefix ^ seed) * 0x9E3779B97F4A7C15 & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    return mixed ^ mixed >> 31


def room(outstanding: Sequence[float]) -> int:
    """How many requests a replica may have, of these over all replicas, and the one that is to be placed."""
    return max(ceil(OVERLOAD * (sum(outstanding) + 1) / len(outstanding)), SMALL)

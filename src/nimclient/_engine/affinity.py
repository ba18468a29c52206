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

from nimclient._base.json import dumps

PROMPT = 1024  # characters of a completion's prompt
OVERLOAD = 1.25  # of the mean of outstanding requests
SMALL = 4  # outstanding requests that are no load worth moving a conversation for


def prefix_of(fields: Mapping[str, Any] | None) -> bytes | None:
    """A digest of what all turns of a conversation begin with: the messages up to the first one of the user.

    Of a completion the beginning of its prompt; None for other calls.
    """
    match fields:
        case {"messages": [*messages]}:
            users = (i for i, message in enumerate(messages) if message.get("role") == "user")
            return blake2b(dumps(messages[: next(users, 0) + 1]), digest_size=8).digest()
        case {"prompt": str(prompt)}:
            return blake2b(prompt[:PROMPT].encode(errors="replace"), digest_size=8).digest()
        case _:
            return None


def weight(prefix: bytes, replica: str) -> float:
    """The weight of a replica for this prefix, from 0 to 1."""
    digest = blake2b(replica.encode(), key=prefix, digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2.0**48


def room(outstanding: Sequence[float]) -> int:
    """How many requests a replica may have, of these over all replicas, and the one that is to be placed."""
    return max(ceil(OVERLOAD * (sum(outstanding) + 1) / len(outstanding)), SMALL)

"""A share of a job: shard i of n takes the rows i, i + n, i + 2n, … of the source.

So shards are equally large, and the length of the source need not be known. A job numbers the rows of its shard
consecutively; what readers see has the numbers of the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

from attrs import frozen

from nimclient.errors import ConfigurationError

T = TypeVar("T")
ShardOf: TypeAlias = tuple[int, int] | None
"""(i, n): shard i of n, counted from 0. None: the whole source."""

_SUFFIX = re.compile(r"-(\d{5})-of-(\d{5})(?=[.-])")
_MAX_SHARDS = 100_000


@frozen
class Shard:
    """Shard `index` of `count`."""

    index: int = 0
    count: int = 1

    @property
    def suffix(self) -> str:
        """The suffix of its file names: "-00003-of-00008", "" for the whole source."""
        return f"-{self.index:05d}-of-{self.count:05d}" if self.count > 1 else ""

    def number(self, row: int) -> int:
        """The number in the source of a row of the shard."""
        return row * self.count + self.index

    def share(self, rows: int) -> int:
        """How many rows of a source belong to it."""
        return len(range(self.index, rows, self.count))

    def of(self, items: Iterable[T]) -> Iterator[T]:
        """Its items."""
        return islice(items, self.index, None, self.count)

    def __str__(self) -> str:
        return f"shard {self.index} of {self.count}"


WHOLE = Shard()


def checked_shard(shard: ShardOf) -> Shard:
    """The shard of an argument; ConfigurationError for anything but (i, n) with 0 <= i < n."""
    if shard is None:
        return WHOLE
    is_pair = isinstance(shard, (tuple, list)) and len(shard) == 2 and all(type(number) is int for number in shard)
    if not is_pair or not 0 <= shard[0] < shard[1] < _MAX_SHARDS:
        raise ConfigurationError(f"shard takes (i, n) with i from 0 to n - 1, not {shard!r:.40}")
    return Shard(*shard)


def shard_from(text: str, environment: Mapping[str, str]) -> tuple[int, int]:
    """The shard of a command line: "3/8", or "auto" for that of an indexed Job of Kubernetes; else ConfigurationError."""
    if text == "auto":
        index, count = (environment.get(name, "") for name in ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"))
        if not (index.isdecimal() and count.isdecimal()):
            raise ConfigurationError(
                "shard auto takes JOB_COMPLETION_INDEX, which an indexed Job of Kubernetes sets, and JOB_COMPLETIONS, which "
                "its manifest must set to the number of completions"
            )
    else:
        index, _, count = text.partition("/")
        is_pair = index.isdecimal() and count.isdecimal() and len(text) < 20  # int() has a limit
        if not is_pair or int(index) >= int(count):
            words = "i/n with i from 0 to n - 1, such as 0/8, or auto"
            raise ConfigurationError(f"shard takes {words}, not {text!r:.40}")
    shard = checked_shard((int(index), int(count)))
    return shard.index, shard.count


def shard_in(name: str) -> Shard:
    """The shard that a file's name is of."""
    found = _SUFFIX.search(name)
    return WHOLE if found is None else Shard(int(found[1]), int(found[2]))


def with_shard(path: Path, shard: Shard) -> Path:
    """The file of a shard: answers-00003-of-00008.jsonl for answers.jsonl."""
    return path.with_name(f"{path.stem}{shard.suffix}{path.suffix}")

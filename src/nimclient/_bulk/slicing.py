"""Cuts texts into slices by count and bytes, learns a server's limits from rejections, and finds the text at fault in a
rejected slice by bisection.

Pure: nothing here sends, waits or knows a body.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from attrs import define, field, frozen

from nimclient._retry.classify import FailureScope, is_status, rejects_count
from nimclient.errors import ConfigurationError, NimError
from nimclient.records.batch import Failure

SLICE_TEXTS = 64
SLICE_BYTES = 256_000
_SUSPICIONS_OF_PROVEN = 5
GROW_AFTER = 12  # accepted slices before a guessed limit is tried again
BODY_BYTES = 20_000_000
"""Maximum bytes of a slice of the caller's own size: the hosted catalog accepts 25 MiB, and JSON escapes add to that."""


@define
class Sizes:
    """The maximum batch size of one endpoint and model as learned from rejections; None: no rejection so far.

    A limit stated by the server is permanent. A guessed one, from rejections that do not mention the size, is doubled again
    after some consecutive successes, sooner if that succeeds and later if it fails: sporadic rejections do not shrink
    the slices permanently.
    """

    texts: int | None = None
    weight: int | None = None
    _suspected: int = 0  # texts of the largest slice that may have been too large; 0: none
    _suspicions: int = 0  # rejections since a slice larger than suspected was accepted
    _proven: int = 0  # texts of the largest slice that was ever accepted
    _guessed: bool = False
    _taken: int = 0
    _grow_after: int = GROW_AFTER

    def learn(self, error: NimError, texts: int, weight: int) -> None:
        """Record the largest accepted part of a slice that was rejected although each of its texts is valid.

        If neither the text nor a 413 shows that the size was the cause, only the second rejection in a row counts, or the
        fifth if the server has taken a larger slice before: then it is probably not the size.
        """
        if is_status(error, 413) and not rejects_count(error):
            self.weight = min(weight, self.weight or weight)
        elif rejects_count(error):
            self.texts = min(texts, self.texts or texts)
            self._guessed, self._suspected, self._suspicions = False, 0, 0
        else:
            self._suspected = max(texts, self._suspected)
            self._suspicions += 1
            if self._suspicions >= (_SUSPICIONS_OF_PROVEN if self._proven > texts else 2):
                self.texts = min(texts, self.texts or texts)
                self._guessed, self._suspected, self._suspicions = True, 0, 0
                self._grow_after *= 2
                self._taken = 0

    def accepted(self, texts: int) -> None:
        """Record a slice accepted in one request: a larger one than suspected clears the suspicion."""
        self._proven = max(self._proven, texts)
        if 0 < self._suspected < texts:
            self._suspected = self._suspicions = 0
            self._grow_after = GROW_AFTER
        if self._guessed and self.texts is not None and texts >= self.texts:
            self._taken += 1
            if self._taken >= self._grow_after:
                self.texts *= 2
                self._taken = 0


@frozen
class Slice:
    """Texts that go into one request, their positions in the source, and the items among them that cannot be sent.

    `weight`: UTF-8 bytes of the texts, where the slice comes from a Slicer.
    """

    indexes: Sequence[int]
    texts: list[str]
    failures: tuple[Failure, ...] = ()
    weight: int = 0


class Slicer:
    """Builds slices from single texts: at most `max_texts` texts and `limit` bytes, within the server's limits.

    A text above the limit gets its own slice; one above `largest` cannot be sent. With `strict` an item that cannot be
    sent raises ConfigurationError with its position; without, it is a Failure of its slice. `positions`: those of the items
    in the source, if they are not all of it.
    """

    __slots__ = (
        *("_bytes", "_failures", "_first", "_most", "_places", "_positions", "_texts"),
        *("largest", "limit", "max_texts", "positions", "sizes", "strict", "taken"),
    )

    def __init__(
        self,
        max_texts: int,
        limit: int,
        sizes: Sizes,
        *,
        largest: int | None,
        strict: bool,
        positions: Sequence[int] | None = None,
    ) -> None:
        self.max_texts = max_texts
        self.limit = limit
        self.sizes = sizes
        self.largest = largest
        self.strict = strict
        self.positions = positions
        self.taken = 0
        self._start()

    def _start(self) -> None:
        self._texts: list[str] = []
        self._failures: list[Failure] = []
        self._first = self.taken
        self._positions: list[int] | None = None  # None: consecutive from the first
        sizes = self.sizes
        self._places = self.max_texts if sizes.texts is None else min(self.max_texts, sizes.texts)  # left in this slice
        self._most = self._bytes = self.limit if sizes.weight is None else min(self.limit, sizes.weight)

    def add(self, item: object) -> Slice | None:
        """Add the next item; returns a slice that is complete with it, or that it does not fit into."""
        weight = _weight(item)
        if weight is None or (self.largest is not None and weight > self.largest):
            return self._add_bad(item, weight)
        full = self._cut() if self._texts and (weight > self._bytes or self._places < 1) else None
        if not self._texts:
            self._first = self.taken
        if self._positions is not None:
            self._positions.append(self.taken)
        self._texts.append(cast(str, item))
        self._bytes -= weight
        self._places -= 1
        self.taken += 1
        return self._cut() if full is None and (self._places < 1 or self._bytes < 1) else full

    def cut_list(self, texts: Sequence[Any]) -> Iterator[Slice]:
        """The slices of a list, up to the `rest`. Texts that are valid and fit into one slice are not checked one by one."""
        while self.taken < len(texts):
            if not self._texts and not self._failures:
                part = list(texts[self.taken : self.taken + self._places])
                weight = _weight_of_all(part, self._bytes)
                if weight is not None and weight <= min(self._bytes, self.largest or weight):
                    self._texts, self._first = part, self.taken
                    self._bytes -= weight
                    self.taken += len(part)
                    yield self._cut()
                    continue
            if (full := self.add(texts[self.taken])) is not None:
                yield full

    def rest(self) -> Slice | None:
        """What is left at the end of the source."""
        return self._cut() if self._texts or self._failures else None

    def _add_bad(self, item: object, weight: int | None) -> Slice | None:
        position = self.taken if self.positions is None else self.positions[self.taken]
        error = ConfigurationError(f"texts[{position}] {_problem(item, weight)}")
        error.index = position
        if self.strict:
            raise error
        if self._positions is None and self._texts:
            self._positions = list(range(self._first, self._first + len(self._texts)))
        self._failures.append(failure_of(error, position, item))
        self.taken += 1
        self._places -= 1
        return self._cut() if self._places < 1 else None

    def _cut(self) -> Slice:
        indexes: Sequence[int] = range(self._first, self._first + len(self._texts))
        if self._positions is not None and self._positions[-1] != indexes[-1]:
            indexes = tuple(self._positions)
        if self.positions is not None:
            indexes = [self.positions[index] for index in indexes]
        made = Slice(indexes, self._texts, tuple(self._failures), self._most - self._bytes)
        self._start()
        return made


def _weight(item: object) -> int | None:
    """The UTF-8 bytes of a text; None for an invalid item."""
    if not isinstance(item, str) or not item:
        return None
    if item.isascii():
        return len(item)
    try:
        return len(item.encode())
    except UnicodeEncodeError:
        return None


def _weight_of_all(texts: list[Any], most: int) -> int | None:
    """The UTF-8 bytes of texts; None if one of them is invalid, and if there are certainly more than `most`."""
    try:
        if sum(map(len, texts)) > most:
            return None
        whole = "".join(texts)
        return (len(whole) if whole.isascii() else len(whole.encode())) if all(texts) else None
    except (TypeError, UnicodeEncodeError):
        return None


def _problem(item: object, weight: int | None) -> str:
    if weight is not None:
        return f"has {weight} bytes, more than a request may have"
    if not isinstance(item, str):
        return f"must be a str, not {type(item).__name__}"
    return "holds a lone surrogate, which UTF-8 cannot encode" if item else "is empty; servers reject empty texts"


def failure_of(error: NimError, index: int, item: object) -> Failure:
    """The Failure of an item. A str subclass may carry its own `id`."""
    own: Any = getattr(item, "id", None)
    return Failure(index, None if own is None else str(own), error, item if isinstance(item, str) else None)


def weight_of(texts: Sequence[str]) -> int:
    """UTF-8 bytes of texts that can be sent."""
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts)


# bisection ----------------------------------------------------------------------------------------------------------


@frozen
class _Part:
    span: range
    tells: bool = False
    """The first half of a rejected part: if it is accepted, the fault is in the other half, which is next."""


@define
class Bisection:
    """Decides which part of a slice is sent next, until every text was accepted or has failed.

    A rejected part is halved. If its first half is accepted the fault is in the second, which is halved without being
    sent: one bad text among n costs at most 2·log2(n) requests beyond the first.
    """

    _stack: list[_Part]
    largest: int = field(default=0, init=False)
    """Number of texts of the largest accepted part."""
    _unclear: int = field(default=0, init=False)
    _aside: range | None = field(default=None, init=False)

    @classmethod
    def of(cls, count: int, max_texts: int | None) -> Bisection:
        """The slice of `count` texts, in parts of at most `max_texts`."""
        if max_texts is None or count <= max_texts:
            return cls([_Part(range(count))] if count else [])
        return cls([_Part(span) for span in reversed(_cut(range(count), max_texts))])

    @property
    def part(self) -> range | None:
        """The positions to send next; None at the end."""
        return self._stack[-1].span if self._stack else None

    def accepted(self) -> None:
        """Record that the part was accepted."""
        part = self._stack.pop()
        self.largest = max(self.largest, len(part.span))
        if part.tells and len(self._stack[-1].span) > 1:
            self._halve(self._stack.pop().span, tells=True)
        if self._aside is not None:
            self._halve(self._aside, tells=False)
            self._aside = None

    def rejected(self, kind: FailureScope, max_texts: int | None = None) -> list[range]:
        """Record that the part was rejected; returns the positions that fail with it. `max_texts`: the server's maximum.

        If it is unclear whether a text or the server is at fault, and both halves fail before anything of the slice was
        accepted, it is the server: the whole slice fails, at the cost of two more requests.
        """
        span = self._stack.pop().span
        failed: list[range] = []
        if len(span) == 1:
            failed.append(span)
        elif kind is FailureScope.UNCLEAR and not self.largest and self._looks_like_the_server(span):
            if self._unclear > 2:
                failed += [span, *(part.span for part in self._stack)]
                self._stack.clear()
        elif kind is FailureScope.REQUEST and max_texts is not None:
            self._stack.extend(_Part(piece) for piece in reversed(_cut(span, max_texts)))
        else:
            self._halve(span, tells=kind is FailureScope.ITEM)
        if self._aside is not None and not self._stack:  # nothing else was taken either
            failed.append(self._aside)
            self._aside = None
        return failed

    def _looks_like_the_server(self, span: range) -> bool:
        """Whether a part that failed for an unclear reason is the second one (it is put aside), or a later one."""
        self._unclear += 1
        if self._unclear == 2 and self._stack:
            self._aside = span
        return self._unclear > 2 or self._aside is not None

    def _halve(self, span: range, *, tells: bool) -> None:
        middle = len(span) // 2
        self._stack.append(_Part(span[middle:]))
        self._stack.append(_Part(span[:middle], tells))


def _cut(span: range, max_texts: int) -> list[range]:
    return [span[start : start + max_texts] for start in range(0, len(span), max_texts)]

"""Turns rows into the texts to send, skips those that are done, and assigns vectors to rows."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from hashlib import blake2b

import anyio
from attrs import frozen

from nimclient.errors import (
    BadRequestError,
    ConfigurationError,
    JobMismatchError,
    NimError,
    RequestTooLargeError,
    UnprocessableEntityError,
)
from nimclient.jobs.checkpoint import DoneSpan, FailedRow, LongRow, RowSpan
from nimclient.jobs.rows import DIGEST, Row, named
from nimclient.jobs.shards import WHOLE, Shard
from nimclient.jobs.sources import FileRows
from nimclient.records.batch import EmbeddedBatch, Failure
from nimclient.records.embeddings import Vectors

_FINAL = (ConfigurationError, BadRequestError, RequestTooLargeError, UnprocessableEntityError)
_MAX_LOST = 1000  # rows without a text that are not recorded yet
_MAX_LACKING = 100  # consecutive first rows without the named field: the name is wrong


@frozen
class _Sent:
    """A row whose text was handed out: its number in the shard and in the source, id, line, and digest."""

    row: int
    index: int
    id: str
    line: int | None
    digest: bytes | None


class TextFeed(AsyncIterator[str]):
    """The texts of the rows that are not done, in the order of the source.

    `done_after` returns the done rows; `keep` records rows without a text, once there are many. With `watched`
    (a source whose content is not known in advance) done rows are compared, span by span, with those that were sent.
    Raises JobMismatchError if they differ. It waits while as many texts as `allow` specifies are in flight or not on
    disk yet. `shard`: the one that the rows are of; inside they are numbered as they come.
    """

    def __init__(
        self,
        rows: AsyncIterator[Row],
        done_after: Callable[[int], Awaitable[list[DoneSpan]]],
        keep: Callable[[list[FailedRow]], Awaitable[None]],
        *,
        watched: bool,
        shard: Shard = WHOLE,
    ) -> None:
        self._rows = rows
        self._done_after = done_after
        self._keep = keep
        self._watched = watched
        self._shard = shard
        self._done: deque[DoneSpan] = deque()
        self._last: DoneSpan | None = None
        self._looked = False
        self._flying: dict[int, _Sent] = {}
        self._handed_out = 0
        self._lost: list[FailedRow] = []
        self._hash = blake2b(digest_size=DIGEST)
        self.count = 0
        """Rows so far: all of them once the feed has ended."""
        self._most = 0
        self._room = anyio.Event()
        self.is_misnamed = False
        """Whether it ended because no row has the named field."""
        self._lacking: Row | None = None
        self._has_the_fields = False

    async def __anext__(self) -> str:
        while len(self._flying) >= self._most:
            self._room = anyio.Event()
            await self._room.wait()
        while True:
            try:
                row = await anext(self._rows)
            except StopAsyncIteration:
                await self._check_end()
                self._check_fields(self.count)
                raise
            number = self.count
            self.count += 1
            if await self._is_done(number, row):
                self._has_the_fields = True  # an earlier run accepted them
                continue
            if row.lacks is None:
                self._has_the_fields = self._has_the_fields or row.problem is None
            else:
                self._lacking = self._lacking or row
                self._check_fields(_MAX_LACKING)
            digest = row.digest() if self._watched else None
            index = self._shard.number(number)
            sent = _Sent(number, index, row.id or str(index), row.line, digest)
            if row.problem is not None or row.text is None:
                self._lost.append(_lost(sent, row.problem, final=True))
                if len(self._lost) >= _MAX_LOST:
                    await self._keep(self.without_text())
                continue
            self._flying[self._handed_out] = sent
            self._handed_out += 1
            return row.text

    async def aclose(self) -> None:
        """Close the source, if it is a file."""
        if isinstance(self._rows, FileRows):
            self._rows.close()

    async def _is_done(self, number: int, row: Row) -> bool:
        done = self._last
        if done is None or number >= done.stop:
            done = self._last = await self._next_done()
        if done is None or number < done.start:
            return False
        if self._watched:
            self._hash.update(row.digest())
            if number == done.stop - 1:
                if self._hash.digest() != done.digest:
                    first, last = self._shard.number(done.start), self._shard.number(number)
                    rows = f"row {last}" if first == last else f"rows {first} to {last}"
                    raise JobMismatchError(
                        f"the source has changed: {rows} were another text, or had another id, when the job sent "
                        f"them; use the same source, or choose another output"
                    )
                self._hash = blake2b(digest_size=DIGEST)
        return True

    async def _next_done(self) -> DoneSpan | None:
        """The next span of done rows. It is queried only when the row after the last one arrives, so that none is missed."""
        if not self._done and not self._looked:
            self._done.extend(await self._done_after(-1 if self._last is None else self._last.start))
            self._looked = not self._done
        return self._done.popleft() if self._done else None

    async def _check_end(self) -> None:
        """Raise JobMismatchError if done rows are beyond the end of the source."""
        last = self._last
        if last is None or last.stop <= self.count:
            last = await self._next_done()
        if self._watched and last is not None:
            raise JobMismatchError(
                f"the source has changed: it ends after {self._shard.number(self.count)} rows, and the job has finished row "
                f"{self._shard.number(last.stop - 1)}; use the same source, or choose another output"
            )

    def _check_fields(self, rows: int) -> None:
        """Raise ConfigurationError if none of the first rows has the named fields."""
        row = self._lacking
        if row is not None and not self._has_the_fields and self.count >= rows:
            where = "" if row.line is None else f" (line {row.line})"
            self.is_misnamed = True
            raise ConfigurationError(
                f"{row.problem}; the first row{where} has {named(row.has)}: name one of them with {row.lacks}="
            )

    def allow(self, texts: int) -> None:
        """The maximum number of texts handed out but not on disk: what a crash costs."""
        self._most = texts
        self._room.set()

    def finished(self, batch: EmbeddedBatch) -> tuple[list[RowSpan], list[FailedRow]]:
        """The rows of a batch of texts, and the rows without a text before them."""
        sent = [self._flying[index] for index in batch.indexes]
        lost = self.without_text()
        for failure in batch.failures:
            row = self._flying[failure.index]
            final = isinstance(failure.error, _FINAL)
            lost.append(_lost(row, failure.error, failure.text, final=final))
        return list(_runs(sent, batch.vectors)), lost

    def cut(self, batch: EmbeddedBatch) -> list[LongRow]:
        """The rows of a batch whose texts were cut into pieces."""
        sent = [(self._flying[index], count) for index, count in batch.pieces.items()]
        return [LongRow(row.row, {"index": row.index, "id": row.id, "pieces": count}) for row, count in sent]

    def landed(self, batch: EmbeddedBatch) -> None:
        """Record that the batch is on disk."""
        for index in (*batch.indexes, *(failure.index for failure in batch.failures)):
            del self._flying[index]
        self._room.set()

    def without_text(self) -> list[FailedRow]:
        """The rows without a text since the last call."""
        lost, self._lost = self._lost, []
        return lost


def _runs(sent: Sequence[_Sent], vectors: Vectors) -> list[RowSpan]:
    """Group rows with their vectors into spans of consecutive rows."""
    runs: list[RowSpan] = []
    start = 0
    for at in range(1, len(sent) + 1):
        if at == len(sent) or sent[at].row != sent[at - 1].row + 1:
            piece = sent[start:at]
            digests = [row.digest for row in piece if row.digest is not None]
            digest = blake2b(b"".join(digests), digest_size=DIGEST).digest() if digests else None
            rows = range(piece[0].row, piece[-1].row + 1)
            runs.append(RowSpan(rows, [row.id for row in piece], vectors[start:at].buffer, digest))
            start = at
    return runs


def _lost(sent: _Sent, error: NimError | None, text: str | None = None, *, final: bool) -> FailedRow:
    record = Failure(sent.index, sent.id, error or ConfigurationError("there is no text"), text).to_dict()
    if sent.line is not None:
        record["line"] = sent.line
    digest = None if sent.digest is None else blake2b(sent.digest, digest_size=DIGEST).digest()
    return FailedRow(sent.row, record, final, digest)

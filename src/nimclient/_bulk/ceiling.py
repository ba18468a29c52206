"""How many requests a server works on at once, found without a queue there, while users wait for answers, too. Pure.

A window that looks for the highest throughput has to put more in flight than the server works on, and whoever comes then
waits behind it. Here the time of a request is what counts. Where requests wait, it grows with how many are in flight
(Little's law), so the ratio of two such times says what the server works on at once. Where nothing waits, it does not, or by
less: a server that puts requests into one batch takes a little longer for each. So more has been too much only where the time
has grown by more than half as much as the requests in flight: there throughput over time, Kleinrock's power, is largest.
All that is tried is smaller, or larger by little. The time is that of a unit of work: answers differ in length.
"""

from __future__ import annotations

from enum import Enum
from math import sqrt

from attrs import define, field

FIRST = 4
MAX_SIZE = 512
STEP = 1.5  # growth of a round at the beginning
RAISE = 1.2  # and of a trial afterwards
SAME = 0.15  # a difference within which what two trials have found is averaged
LOWER = 0.7  # share of a smaller one
POWER = 0.5  # growth of the time as a share of that of the requests in flight: more is too much
QUEUED = 1.05  # times as long, and as much longer as chance explains: a request has waited
EXACT = 0.04  # of the time that a round measures, where answers differ: the more they do, the longer it is
MAX_ROUND = 256  # answers
MIN_ROUND = 32
MIN_GROWTH = 8
REST = 256  # rounds between two larger trials: so few users meet one


class Aim(Enum):
    """What a round is for."""

    GROWING = "growing"
    HOLDING = "holding"
    LOWERED = "lowered"  # a trial: how long a request takes with less in flight
    RAISED = "raised"  # a trial: whether it takes longer with more


@define
class Sums:
    """The answers of a round, as sums."""

    answers: int = 0
    seconds: float = 0.0
    work: float = 0.0
    _seconds2: float = 0.0
    _work2: float = 0.0
    _both: float = 0.0

    def add(self, seconds: float, work: float) -> None:
        """Add an answer."""
        self.answers += 1
        self.seconds += seconds
        self.work += work
        self._seconds2 += seconds * seconds
        self._work2 += work * work
        self._both += seconds * work

    @property
    def time(self) -> float:
        """Seconds of a unit of work."""
        return self.seconds / self.work

    @property
    def spread(self) -> float:
        """How far one answer is from that time as a rule, as a share of it."""
        time = self.time
        squares = self._seconds2 - 2 * time * self._both + time * time * self._work2
        return sqrt(max(squares, 0.0) * self.answers) / self.seconds


@define
class Ceiling:
    """`size` is how many may be in flight, those of users included."""

    size: int = FIRST
    _state: Aim = Aim.GROWING
    _free: float = 0.0  # seconds of a unit of work where nothing waits; 0: not known
    _measured: int = 0  # answers that this is the mean of
    _at: int = 0  # how many were in flight then
    _spread: float = 0.0
    _before: tuple[int, float] = (0, 0.0)  # the size before a smaller trial, and the time then
    _held: int = 0  # the size before a larger one
    _vain: bool = False  # the larger one was in vain
    _resting: int = 0
    _after: int = 0  # number of requests sent when the size changed: only later ones count
    _round: Sums = field(factory=Sums)

    @property
    def is_new(self) -> bool:
        """Whether nothing is known of the server yet."""
        return self._state is Aim.GROWING

    def start(self, size: int) -> None:
        """Begin with what is known of the server; a trial follows."""
        self.size, self._state = max(size, 1), Aim.HOLDING

    def succeeded(self, seq: int, sent: int, seconds: float, work: float) -> None:
        """Record the answer to request number `seq` of `sent`, which was sent while as many were in flight as may be."""
        if seq <= self._after or not work:
            return
        self._round.add(seconds, work)
        if self._round.answers >= self._wanted() and self._round.seconds:
            self._spread = max(self._round.spread, 0.5 * self._spread)
            self._judge(self._round, sent)

    def _wanted(self) -> int:
        """How many answers a round has."""
        if self._state is Aim.GROWING:
            return max(self.size, MIN_GROWTH)
        exact = EXACT / 2 if self._state is Aim.LOWERED else EXACT  # what is found then holds for long
        return min(max(round((self._spread / exact) ** 2), MIN_ROUND), MAX_ROUND)

    def _judge(self, this: Sums, sent: int) -> None:
        """What has been seen in a round, and what the next one is for."""
        if self._state is Aim.LOWERED:
            self._judge_lowered(this, sent)
        elif self._waited(this):
            self._vain = self._state is Aim.RAISED
            self._lower(this, sent)
        elif self._state is Aim.GROWING:
            self._know(this)
            self._become(max(self.size + 1, int(self.size * STEP)), sent)
        else:
            self._hold(this, sent)

    def _waited(self, this: Sums) -> bool:
        """Whether requests have waited at the server, by what they take where nothing waits; what is not known is tried."""
        if not self._free:
            return self._state is not Aim.GROWING
        chance = 2.0 * self._spread * sqrt(1 / this.answers + 1 / self._measured)
        if this.time < self._free * (1.0 - chance):
            self._free, self._measured, self._at = this.time, this.answers, self.size
        growth = POWER * (self.size / self._at - 1.0)
        return this.time > self._free * max(QUEUED + chance, 1.0 + growth)

    def _know(self, this: Sums) -> None:
        """Record a round in which nothing has waited: a mean with the one before, where they are much the same."""
        if this.time > self._free * QUEUED:
            self._free, self._measured = this.time, 0
        answers = self._measured + this.answers
        self._free += (this.time - self._free) * this.answers / answers
        self._measured, self._at = answers, self.size

    def _hold(self, this: Sums, sent: int) -> None:
        """Nothing has waited: more is tried, at once after a trial that was not in vain, else now and then."""
        if self._state is Aim.HOLDING:
            self._resting -= 1
            if self._resting > 0:
                self._become(self.size, self._after)
                return
            self._held = self.size
            self._free, self._measured = this.time, 0
        self._know(this)
        self._state = Aim.RAISED
        self._become(max(self.size + 1, round(self.size * RAISE)), sent)

    def _lower(self, this: Sums, sent: int) -> None:
        self._state, self._before = Aim.LOWERED, (self.size, this.time)
        self._become(max(int(self.size * LOWER), 1), sent)

    def _judge_lowered(self, this: Sums, sent: int) -> None:
        """A request that takes less time now has waited before, by as much as the difference."""
        size, before = self._before
        share = this.time / before
        if share <= 1.1 * self.size / size and self.size > 1:  # it still waits, or as good as that
            self._lower(this, sent)
            return
        self._free, self._measured, self._at, self._state = this.time, this.answers, self.size, Aim.HOLDING
        found = min(size * share, size)
        if self._vain:
            if abs(found - self._held) <= SAME * found:
                found = (found + self._held) / 2
            self._resting = REST
        else:
            self._resting = 0
        self._become(round(found), sent)

    def _become(self, size: int, sent: int) -> None:
        self.size, self._after = max(min(size, MAX_SIZE), 1), sent
        self._round = Sums()

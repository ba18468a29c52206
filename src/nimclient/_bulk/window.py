"""How many requests a server can use at once, found out from its answers: arithmetic over times that are passed in.

A server with a hard limit says so: a refusal cuts the window to what it left in flight, once for all requests that were
sent before the cut. A server that queues never says so: the window grows while throughput grows with it, and is tried in
both directions now and then. What trials cost in refusals must have been earned by successes before the next one. How
long an answer takes decides nothing by itself: of a chat it depends on the length of the answer.
"""

from __future__ import annotations

from enum import Enum
from math import inf

from attrs import define

FIRST = 16
MOST = 512

GAIN = 1.15  # a window larger by half pays when throughput grows by this
SMALLEST_ROUND = 32  # answers; fewer say little about throughput
SHORTEST_REST = 4  # rounds between two trials
LONGEST_REST = 64

LOWER = 0.6  # of the window is tried
TRIAL_ROUND = 128  # answers
LOSS = 0.95  # a smaller window is as good when throughput stays above this
SURE_LOSS = 0.8  # what ends a trial after EARLY answers
EARLY = 24
ROOM = 1.3  # of the smallest window that is as good: a short queue, so that the server is never idle
CHANGED = 1.3  # throughput that grows by this without a larger window: the server is another one now

SHARES = (0.0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4)  # that cuts take, one soon after the other, beyond what is refused
DEEP = 0.75  # a fall below this part is no overdone trial
LARGE = 8  # windows that fall deep without a gap in what the server takes
PROBE_SHARE = 0.02  # refusals that trials may cost, a success
MAX_PROBE_COST = 8.0


class State(Enum):
    """What the window is doing."""

    GROWING = "growing"
    HOLDING = "holding"  # a round without growth, to see what the last one was worth
    RESTING = "resting"
    LOWERING = "lowering"  # a round with less, to see what it costs


@define
class Round:
    """What comes back in a round of `wanted` answers, after `skipped` ones that belong to the time before."""

    wanted: int
    skipped: int
    began: float
    answers: int = 0
    work: float = 0.0

    def add(self, now: float, seconds: float, work: float) -> bool:
        """Count an answer; True when the round is complete."""
        if self.skipped > 0:
            self.skipped -= 1
            self.began = now
            return False
        if self.began == -inf:  # the first answer of all
            self.began = now - seconds
        self.answers += 1
        self.work += work
        return self.answers >= self.wanted and now > self.began

    def throughput(self, now: float) -> float:
        """Work a second."""
        return self.work / (now - self.began)


class Window:
    """The number of requests that may be in flight, `size`. It is never below 1."""

    def __init__(self, first: int = FIRST) -> None:
        self._size = float(first)
        self._state = State.GROWING
        self._step = 1.0  # of growth, an answer: the window doubles in one
        self._best = 0.0  # throughput since growth began, and the window after that round
        self._best_size = self._size
        self._throughput = 0.0  # while resting; 0: not known
        self._round = Round(max(first, SMALLEST_ROUND), 0, -inf)
        self._filled = 0  # answers of the round that came while the window was what kept more from being sent
        self._lowered_from = self._size
        self._up_next = False
        self._rest = SHORTEST_REST
        self._resting = 0  # rounds until the next trial
        self._limited = False  # the last growth ended with a refusal
        self._cut_at = 0  # as many requests had been sent
        self._return_to = 0.0
        self._served = 0  # of the requests sent since
        self._proven = 0.0  # the size that the last refusal left, or that a trial began with
        self._cuts = 0  # without a calm between them, and where they began
        self._top = self._size
        self.starved_cuts = 0  # cuts in a row between which the server took nothing, and
        self._dry_from = self._size  # where those began between which the server took nothing
        self._trial = False  # they began with a trial, and cost:
        self._probe_cost = 0.0
        self._credit = 0.0

    @property
    def size(self) -> int:
        """How many may be in flight."""
        return int(self._size)

    @property
    def is_new(self) -> bool:
        """Whether it has only grown so far: what the server does with more is not known."""
        return self._state is State.GROWING and not self._limited and not self._proven

    @property
    def is_calm(self) -> bool:
        """Whether many answers came since the last refusal."""
        return self._served >= max(2.0 * self._size, 1.0 / PROBE_SHARE)

    def succeeded(self, now: float, place: int, seconds: float, work: float, full: bool) -> None:
        """The answer to request number `place` came; `full`: the window was what kept more from being sent."""
        self._served += place > self._cut_at
        self._credit += PROBE_SHARE
        self._filled += full
        if full and self._size < self._return_to:
            self._size += 1.0
        elif full and self._state is State.GROWING:
            self._size = min(self._size + self._step, MOST)
        if self._round.add(now, seconds, work) or (self._state is State.LOWERING and self._is_lost(now)):
            self._judge(now, self._round.throughput(now))
        elif full and self._limited and self._state is State.RESTING and self._may_probe:
            self._grow(now)

    def refused(self, place: int, sent: int, others: int) -> int:
        """The server refused request number `place` of `sent`, while `others` were in flight.

        Returns how much it speaks against a limit on requests in flight: 0 where such a limit explains it, 2 where nothing
        else was in flight, 1 where a large window fell deep although the server took requests all the time.
        """
        self._probe_cost += self._trial
        if place <= self._cut_at:  # one of a burst: the cut goes down to what the burst left
            self._size = self._proven = max(1.0, min(self._size, others))
            self._remember(others)
            return 0
        if self._state is State.GROWING or self.is_calm:
            self._cuts = 0
            self._top = self._size
            self._trial = self._state is State.GROWING and self._proven > 0
            self._probe_cost = float(self._trial)
        taken = place > self._cut_at + 1
        no_reason = taken and self._size <= self._proven
        self.starved_cuts += 1
        if taken:
            self.starved_cuts = 0
            self._dry_from = self._size
        self._remember(others)
        self._size = self._proven = max(1.0, min(others, self._size * (1.0 - SHARES[self._cuts])))
        self._cuts = min(self._cuts + 1, len(SHARES) - 1)
        if self._size < self._top * DEEP:  # the server has less room than before: no trial is to blame
            self._trial, self._probe_cost = False, 0.0
        self._cut_at = sent
        self._served = 0
        self._credit = 0.0
        self._limited = True
        self._throughput = 0.0
        self._state = State.RESTING
        self._begin(skipped=self.size)
        if not no_reason:
            return 0
        return 2 if not others else int(self._top >= LARGE and self._size <= self._top * DEEP)

    def paused(self, seconds: float) -> None:
        """A refusal cost time, too: as many requests as would have been answered in it."""
        self._probe_cost += self._trial * seconds * self._throughput

    def _remember(self, others: int) -> None:
        """Half of a window that was lost because the server took nothing at all is back as soon as it answers."""
        self._return_to = 0.0 if others else self._dry_from / 2.0

    @property
    def _may_probe(self) -> bool:
        price = max(1.0, min(self._probe_cost, max(MAX_PROBE_COST, self._size / 4.0)))
        return self._served >= self._size and self._credit >= price

    def _begin(self, now: float = -inf, skipped: int = 0, least: int = SMALLEST_ROUND) -> None:
        self._round = Round(max(self.size, least), skipped, now)
        self._filled = 0

    def _judge(self, now: float, throughput: float) -> None:
        least = 1.0 if 2 * self._filled >= self._round.answers else float(FIRST)
        if self._state is State.LOWERING:
            self._judge_lowering(throughput, least)
        elif self._state is State.RESTING:
            self._judge_rest(now, throughput, least)
        else:
            self._judge_growth(now, throughput, least)

    def _grow(self, now: float) -> None:
        self._state = State.GROWING
        self._step = 0.5 if self._limited else max(0.5 * self._size, 1.0) / max(self._size, SMALLEST_ROUND)
        self._proven = self._best_size = self._size
        self._best = self._throughput
        self._begin(now)

    def _judge_growth(self, now: float, throughput: float, least: float) -> None:
        """Go on while it pays; after a round that did not pay, see one more without growth before giving up."""
        if throughput >= self._best * GAIN:
            self._best, self._best_size = throughput, self._size
            self._rest = SHORTEST_REST
            self._state = State.GROWING
            self._begin(now)
        elif self._state is State.GROWING:
            self._state = State.HOLDING
            self._begin(skipped=self.size)
        else:
            self._limited = self._limited and least > 1.0  # a limit that was not reached is still there
            self._up_next = False
            self._throughput = self._throughput or throughput
            in_flight, self._size = self.size, self._best_size
            if self._rest == SHORTEST_REST and not self._limited:  # it has grown: by too much
                self._lower(least)
            else:
                self._pause(in_flight)

    def _judge_rest(self, now: float, throughput: float, least: float) -> None:
        self._begin(now)
        self._resting -= 1
        if throughput > self._throughput * CHANGED:
            self._throughput = throughput
            self._resting, self._up_next = 0, True
        else:
            self._throughput = 0.7 * self._throughput + 0.3 * throughput
        if self._resting <= 0 and not self._limited:
            if self._up_next:
                self._grow(now)
            else:
                self._lower(least)

    def _lower(self, least: float = 1.0) -> None:
        """Try less. Where something else holds requests back, a smaller window would cost nothing: not below `least`."""
        if self._size < least + 1.0:
            self._rest_longer()
            return
        self._state = State.LOWERING
        self._lowered_from, self._size = self._size, max(least, self._size * LOWER)
        self._begin(skipped=int(self._lowered_from), least=TRIAL_ROUND)

    def _is_lost(self, now: float) -> bool:
        """Whether a trial shows before its end that it costs much."""
        trial = self._round
        return trial.answers >= EARLY and trial.throughput(now) < self._throughput * SURE_LOSS

    def _judge_lowering(self, throughput: float, least: float) -> None:
        """Go on where it costs nothing; else the window is what the loss shows: below the knee, it is proportional."""
        if throughput >= self._throughput * CHANGED:
            self._throughput = throughput
            self._size = self._lowered_from
            self._rest_longer()
            self._resting = 1
        elif throughput >= self._throughput * LOSS:
            self._lower(least)
        else:
            knee = min(self._lowered_from, self._size * self._throughput / throughput)
            self._size = min(knee * ROOM + 1.0, MOST)
            self._rest_longer()

    def _rest_longer(self) -> None:
        self._up_next = True
        self._rest = min(self._rest * 2, LONGEST_REST)
        self._pause(self.size)

    def _pause(self, skipped: int) -> None:
        self._state = State.RESTING
        self._resting = self._rest
        self._begin(skipped=skipped)

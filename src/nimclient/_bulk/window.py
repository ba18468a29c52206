"""Adapts the number of requests in flight to a server. Pure: times are passed in.

A server with a hard limit throttles: that cuts the window to the remaining requests in flight, once for all requests sent
before the cut. A server that queues never throttles: the window grows while throughput grows with it, and trials in both
directions follow from time to time. A trial's cost in throttles must be earned by successes before the next one. Latency
alone decides nothing: that of a chat depends on the length of the answer.
"""

from __future__ import annotations

from enum import Enum

from attrs import astuple, define

from nimclient._base.types import JsonDict

FIRST = 16
MAX_SIZE = 512

GAIN = 1.15  # growing by half is worthwhile if throughput grows by this factor
MIN_ROUND = 32  # responses; fewer do not measure throughput
MIN_REST = 4  # rounds between two trials
MAX_REST = 64

LOWER = 0.6  # share of the window in a trial
TRIAL_ROUND = 128  # responses
LOSS = 0.95  # a smaller window is as good if throughput stays above this share
SURE_LOSS = 0.8  # share that ends a trial after EARLY responses
EARLY = 24
ROOM = 1.3  # factor on the smallest equivalent window: a short queue keeps the server busy
CHANGED = 1.3  # throughput growth without a larger window that means the server has changed

SHARES = (0.0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4)  # additional reduction by consecutive cuts
DEEP = 0.75  # a fall below this share is not caused by a trial
LARGE = 8  # minimum window for evidence of a rate limit
PROBE_SHARE = 0.02  # throttles that trials may cost per success
MAX_PROBE_COST = 8.0

NOT_BEGUN = -1.0  # the time of a round without a response


class State(Enum):
    """The state of the window."""

    GROWING = "growing"
    HOLDING = "holding"  # a round without growth, to measure the last one
    RESTING = "resting"
    LOWERING = "lowering"  # a round with a smaller window, to measure its cost


@define
class Round:
    """The responses of a round of `wanted`, after `skipped` ones that belong to the previous round."""

    wanted: int
    skipped: int
    began: float
    answers: int = 0
    work: float = 0.0

    def add(self, now: float, seconds: float, work: float) -> bool:
        """Add a response; True when the round is complete."""
        if self.skipped > 0:
            self.skipped -= 1
            self.began = now
            return False
        if self.began == NOT_BEGUN:  # the first response of all
            self.began = now - seconds
        self.answers += 1
        self.work += work
        return self.answers >= self.wanted and now > self.began

    def throughput(self, now: float) -> float:
        """Work per second."""
        return self.work / (now - self.began)


class Window:
    """The maximum number of requests in flight, `size`, at least 1."""

    def __init__(self, first: int = FIRST) -> None:
        self._size = float(first)
        self._state = State.GROWING
        self._step = 1.0  # growth per response: the window doubles in one round
        self._best = 0.0  # best throughput since growth began, and its window
        self._best_size = self._size
        self._throughput = 0.0  # while resting; 0: not known
        self._round = Round(max(first, MIN_ROUND), 0, NOT_BEGUN)
        self._filled = 0  # responses of the round that came while the window was what kept more from being sent
        self._lowered_from = self._size
        self._up_next = False
        self._knee = float(MAX_SIZE)  # the capacity of the server, as far as trials have shown it
        self._rest = MIN_REST
        self._resting = 0  # rounds until the next trial
        self._limited = False  # the last growth ended with throttling
        self._cut_at = 0  # number of requests sent at the last cut
        self._return_to = 0.0
        self._served = 0  # responses to requests sent since
        self._proven = 0.0  # the size after the last throttle, or at the start of a trial
        self._cuts = 0  # consecutive cuts, and the size at the first
        self._top = self._size
        self.starved_cuts = 0  # consecutive cuts without an accepted request between them
        self._dry_from = self._size  # the size at the first of them
        self._trial = False  # the cuts began with a trial, of this cost:
        self._probe_cost = 0.0
        self._credit = 0.0

    def state(self) -> JsonDict:
        """All that it knows, for `restore`."""
        return {**vars(self), "_state": self._state.value, "_round": astuple(self._round)}

    def restore(self, state: JsonDict) -> None:
        """Continue from the state of another one."""
        for name in vars(self):
            setattr(self, name, state[name])
        self._state = State(state["_state"])
        self._round = Round(*state["_round"])

    def resume(self, size: float, *, found: bool, limited: bool) -> None:
        """Begin with what an earlier one has learned: see `settled`, `is_new` and `is_limited`."""
        self._size = self._best_size = self._lowered_from = min(max(size, 1.0), float(MAX_SIZE))
        if found:
            self._limited = limited
            self._proven = self._size if limited else 0.0
            self._up_next = True
            self._pause(0)

    @property
    def settled(self) -> float:
        """The size that has proved right: without a trial that runs, and with what an outage took."""
        if self._state is State.LOWERING:
            return self._lowered_from
        if self._state is State.RESTING:
            return max(self._size, self._return_to)
        return min(self._best_size, self._size)

    @property
    def is_limited(self) -> bool:
        """Whether the server throttled where growth ended, rather than queued."""
        return self._limited

    @property
    def size(self) -> int:
        """Maximum requests in flight."""
        return int(self._size)

    @property
    def capacity(self) -> int:
        """How many the server works on at once, once that is known: without the short queue that keeps it busy."""
        if self._state is not State.RESTING or self._limited:
            return self.size
        return max(min(self.size, int(self._knee)), 1)

    @property
    def is_new(self) -> bool:
        """Whether it has only grown so far, without finding a limit."""
        return self._state is State.GROWING and not self._limited and not self._proven

    @property
    def is_calm(self) -> bool:
        """Whether many responses arrived since the last throttle."""
        return self._served >= max(2.0 * self._size, 1.0 / PROBE_SHARE)

    def succeeded(self, now: float, seq: int, seconds: float, work: float, full: bool) -> None:
        """Record the response to request number `seq`; `full`: the window was the limit."""
        self._served += seq > self._cut_at
        self._credit += PROBE_SHARE
        self._filled += full
        if full and self._size < self._return_to:
            self._size += 1.0
        elif full and self._state is State.GROWING:
            self._size = min(self._size + self._step, MAX_SIZE)
        if self._round.add(now, seconds, work) or (self._state is State.LOWERING and self._is_lost(now)):
            self._judge(now, self._round.throughput(now))
        elif full and self._limited and self._state is State.RESTING and self._may_probe:
            self._grow(now)

    def interrupted(self) -> None:
        """Responses are not recorded for a while: the round begins again after them."""
        self._begin(skipped=self.size)

    def throttled(self, seq: int, sent: int, others: int) -> int:
        """Record the throttling of request number `seq` of `sent`, while `others` were in flight.

        Returns the evidence against a limit on requests in flight: 0 if such a limit explains it, 2 if nothing else was in
        flight, 1 if a large window fell deep although the server accepted requests all the time.
        """
        self._probe_cost += self._trial
        if seq <= self._cut_at:  # one of a burst: cut to what the burst left in flight
            self._size = self._proven = max(1.0, min(self._size, others))
            self._remember(others)
            return 0
        if self._state is State.GROWING or self.is_calm:
            self._cuts = 0
            self._top = self._size
            self._trial = self._state is State.GROWING and self._proven > 0
            self._probe_cost = float(self._trial)
        taken = seq > self._cut_at + 1
        no_reason = taken and self._size <= self._proven
        self.starved_cuts += 1
        if taken:
            self.starved_cuts = 0
            self._dry_from = self._size
        self._remember(others)
        self._size = self._proven = max(1.0, min(others, self._size * (1.0 - SHARES[self._cuts])))
        self._cuts = min(self._cuts + 1, len(SHARES) - 1)
        if self._size < self._top * DEEP:  # the server's capacity fell: not caused by a trial
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

    def cleared(self) -> None:
        """Return to the size before the last cuts: a limit on requests per time has explained them."""
        self._size = max(self._size, self._top)
        self._limited, self._proven, self._return_to = False, 0.0, 0.0
        self._cuts = self.starved_cuts = 0
        self._rest_longer()

    def paused(self, seconds: float) -> None:
        """Add the time lost by throttling, in requests, to the cost of a trial."""
        self._probe_cost += self._trial * seconds * self._throughput

    def _remember(self, others: int) -> None:
        """Remember half of a window lost in an outage, to restore it when the server responds again."""
        self._return_to = 0.0 if others else self._dry_from / 2.0

    @property
    def _may_probe(self) -> bool:
        price = max(1.0, min(self._probe_cost, max(MAX_PROBE_COST, self._size / 4.0)))
        return self._served >= self._size and self._credit >= price

    def _begin(self, now: float = NOT_BEGUN, skipped: int = 0, minimum: int = MIN_ROUND) -> None:
        self._round = Round(max(self.size, minimum), skipped, now)
        self._filled = 0

    def _judge(self, now: float, throughput: float) -> None:
        minimum = 1.0 if 2 * self._filled >= self._round.answers else float(FIRST)
        if self._state is State.LOWERING:
            self._judge_lowering(throughput, minimum)
        elif self._state is State.RESTING:
            self._judge_rest(now, throughput, minimum)
        else:
            self._judge_growth(now, throughput, minimum)

    def _grow(self, now: float) -> None:
        self._state = State.GROWING
        self._step = 0.5 if self._limited else max(0.5 * self._size, 1.0) / max(self._size, MIN_ROUND)
        self._proven = self._best_size = self._size
        self._best = self._throughput
        self._begin(now)

    def _judge_growth(self, now: float, throughput: float, minimum: float) -> None:
        """Continue while throughput grows; otherwise hold for one more round before stopping."""
        if throughput >= self._best * GAIN:
            self._best, self._best_size = throughput, self._size
            self._rest = MIN_REST
            self._state = State.GROWING
            self._begin(now)
        elif self._state is State.GROWING:
            self._state = State.HOLDING
            self._begin(skipped=self.size)
        else:
            self._limited = self._limited and minimum > 1.0  # a limit that was not reached still applies
            self._up_next = False
            self._throughput = self._throughput or throughput
            in_flight, self._size = self.size, self._best_size
            if self._rest == MIN_REST and not self._limited:  # it has grown too far
                self._lower(minimum)
            else:
                self._pause(in_flight)

    def _judge_rest(self, now: float, throughput: float, minimum: float) -> None:
        self._begin(now)
        self._resting -= 1
        self._throughput = self._throughput or throughput
        if throughput > self._throughput * CHANGED:
            self._throughput = throughput
            self._resting, self._up_next = 0, True
        else:
            self._throughput = 0.7 * self._throughput + 0.3 * throughput
        if self._resting <= 0 and not self._limited:
            if self._up_next:
                self._grow(now)
            else:
                self._lower(minimum)

    def _lower(self, minimum: float = 1.0) -> None:
        """Try a smaller window, not below `minimum`: if something else limits requests, a trial would show no cost."""
        if self._size < minimum + 1.0:
            self._rest_longer()
            return
        self._state = State.LOWERING
        self._lowered_from, self._size = self._size, max(minimum, self._size * LOWER)
        self._begin(skipped=int(self._lowered_from), minimum=TRIAL_ROUND)

    def _is_lost(self, now: float) -> bool:
        """Whether a trial shows a high cost before its end."""
        trial = self._round
        return trial.answers >= EARLY and trial.throughput(now) < self._throughput * SURE_LOSS

    def _judge_lowering(self, throughput: float, minimum: float) -> None:
        """Continue if it costs nothing; else derive the window from the loss: below the knee throughput is proportional."""
        if throughput >= self._throughput * CHANGED:
            self._throughput = throughput
            self._size = self._lowered_from
            self._rest_longer()
            self._resting = 1
        elif throughput >= self._throughput * LOSS:
            self._lower(minimum)
        else:
            knee = min(self._lowered_from, self._size * self._throughput / throughput)
            self._knee = knee
            self._size = min(knee * ROOM + 1.0, MAX_SIZE)
            self._rest_longer()

    def _rest_longer(self) -> None:
        self._up_next = True
        self._rest = min(self._rest * 2, MAX_REST)
        self._pause(self.size)

    def _pause(self, skipped: int) -> None:
        self._state = State.RESTING
        self._resting = self._rest
        self._begin(skipped=skipped)

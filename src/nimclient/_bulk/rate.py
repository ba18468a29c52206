"""Rate limits: of requests and tokens given by the user, of requests learned from throttling.

A server that limits requests per time has no quota left when it throttles. So the requests accepted between two throttles
are its quota for that time, within one request. Slightly more is sent, so that there is a next throttle to learn from.
"""

from __future__ import annotations

from math import inf

from attrs import astuple, define

from nimclient._base.types import JsonDict
from nimclient._bulk.ticket import Cost

SIGNS = 4  # evidence against a limit on requests in flight before a rate limit is assumed
MIN_SAMPLE = 8  # requests between two throttles for an estimate
ENOUGH = 48  # requests for a good estimate, after which the next one begins
EXCESS = 0.02  # share sent beyond the estimate
OVERDUE = 64  # requests without throttling after which the excess doubles
CUSHION = 4  # requests held back after a throttle: what is late then makes no further one, and the excess spends them
CREDIT_SECONDS = 6.0  # of tokens that were reserved and not taken
PER_BYTE = 0.25  # tokens of a body, before the first answer
ANSWER = 256.0  # tokens of an answer, before the first one, where the request sets no maximum
MAX_GUESS = 8192.0  # tokens of a body, before the first answer: it may hold an image
REMEMBERED = 32  # answers: older ones fade


@define
class _Seen:
    """Fading sums over the answers to one kind of request."""

    answers: float = 0.0
    bytes: float = 0.0
    prompt: float = 0.0
    completion: float = 0.0


class TokenEstimates:
    """The tokens of requests, by their kind: those of the body by its bytes, those of the answer by their mean."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def state(self) -> JsonDict:
        """All that was seen, for `restore`."""
        return {kind: astuple(seen) for kind, seen in self._seen.items()}

    def restore(self, state: JsonDict) -> None:
        """Continue from what another one has seen."""
        self._seen = {kind: _Seen(*seen) for kind, seen in state.items()}

    def of(self, cost: Cost) -> float:
        """The expected tokens."""
        seen = self._seen.get(cost.kind)
        most = cost.max_answer
        if seen is None:
            answer = ANSWER if most is None else float(most)
            return min(PER_BYTE * cost.size, MAX_GUESS) + answer
        answer = seen.completion / seen.answers
        return seen.prompt / seen.bytes * cost.size + (answer if most is None else min(answer, most))

    def learn(self, cost: Cost, prompt: float, completion: float) -> None:
        """Record what a request took."""
        seen = self._seen.setdefault(cost.kind, _Seen())
        fade = 1.0 - 1.0 / REMEMBERED if seen.answers >= REMEMBERED else 1.0
        seen.answers = fade * seen.answers + 1.0
        seen.bytes = fade * seen.bytes + max(cost.size, 1)
        seen.prompt = fade * seen.prompt + prompt
        seen.completion = fade * seen.completion + completion


class RateLimit:
    """A limit of requests per minute, of tokens per minute, or both, evenly spaced.

    The tokens of a request are estimated when it is sent. What it took beyond that delays the next one; what it left, up
    to a few seconds' worth, lets the next ones follow up to twice as fast.
    """

    __slots__ = (
        "_debt",
        "_estimates",
        "_max_credit",
        "_next",
        "_next_by_tokens",
        "_per_minute",
        "_slack",
        "_spacing",
        "_token_spacing",
    )

    def __init__(
        self, requests_per_minute: float | None, tokens_per_minute: float | None = None, *, slack: float = 0.0
    ) -> None:
        self._spacing = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._token_spacing = 0.0 if tokens_per_minute is None else 60.0 / tokens_per_minute
        self._next = self._next_by_tokens = 0.0
        self._debt = 0.0  # tokens that were taken beyond those reserved
        self._slack = slack  # seconds that a request may be late without delaying the next one
        self._max_credit = (tokens_per_minute or 0.0) * CREDIT_SECONDS / 60.0
        self._per_minute = tokens_per_minute or inf
        self._estimates = TokenEstimates()

    def state(self) -> JsonDict:
        """All that changes, for `restore`."""
        return {
            "next": self._next,
            "by_tokens": self._next_by_tokens,
            "debt": self._debt,
            "seen": self._estimates.state(),
        }

    def restore(self, state: JsonDict) -> None:
        """Continue from the state of another one."""
        self._next, self._next_by_tokens, self._debt = state["next"], state["by_tokens"], state["debt"]
        self._estimates.restore(state["seen"])

    def schedule(self, cost: Cost | None) -> tuple[float, float]:
        """When the next slot is that nobody has reserved, and how many seconds after it the next one."""
        tokens = 0.0 if cost is None or not self._token_spacing else self._estimates.of(cost) * self._token_spacing
        return max(self._next, self._next_by_tokens), max(self._spacing, tokens)

    def pause(self, now: float) -> float:
        """Seconds until the next slot that nobody has reserved."""
        return max(self._next - now, self._next_by_tokens - now, 0.0)

    def reserve(self, now: float, cost: Cost | None = None) -> float:
        """Reserve the next slot; returns the seconds until it."""
        slot = max(self._next, self._next_by_tokens, now - self._slack)
        self._next = slot + self._spacing
        if self._token_spacing and cost is not None:
            cost.expected = self._estimates.of(cost)
            tokens = max(cost.expected + self._debt, cost.expected / 2.0)
            self._debt += cost.expected - tokens
            self._next_by_tokens = slot + tokens * self._token_spacing
        return max(slot - now, 0.0)

    def settle(self, cost: Cost, prompt: int, completion: int) -> None:
        """Record the tokens that a request took: at most those of a minute, else the server would have rejected it."""
        most = self._per_minute
        self._estimates.learn(cost, min(prompt, most), min(completion, most))
        debt = min(self._debt + prompt + completion - cost.expected, most)
        self._debt = max(debt, -self._max_credit)


class LearnedRate:
    """`per_second` is the server's rate; None while there is no evidence of a rate limit."""

    def __init__(self) -> None:
        self.per_second: float | None = None
        self._signs = 0
        self._since = 0.0  # time of a throttle (-1: of none yet), and the number of the last request sent before it
        self._since_seq = 0
        self._accepted = 0  # requests sent since then and accepted
        self._since_throttle = 0  # sent since the last throttle
        self._since_wait = 0  # sent since one last had to wait, or found room in the window
        self._sample = ENOUGH  # requests that the estimate is made of
        self._excess = EXCESS
        self._next = 0.0

    def state(self) -> JsonDict:
        """All that it knows, for `restore`. What is None is left out."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def restore(self, state: JsonDict) -> None:
        """Continue from the state of another one."""
        for name in vars(self):
            setattr(self, name, state.get(name))

    def resume(self, per_second: float | None) -> None:
        """Begin with the rate that an earlier one has learned: the server may have saved up quota since."""
        self.per_second = per_second
        self._since = 0.0 if per_second is None else -1.0

    @property
    def next_at(self) -> float:
        """When the next request may be sent."""
        return self._next

    def pause(self, now: float) -> float:
        """Seconds until the next request may be sent."""
        if self.per_second is None or now >= self._next:
            return 0.0
        self._since_wait = 0
        return self._next - now

    def sent(self, now: float, window: int, full: bool = True) -> None:
        """Record a sent request, with the current window size; `full`: whether that is what limits."""
        self._accepted += 1
        if self.per_second is None:
            return
        self._since_throttle += 1
        self._since_wait = self._since_wait + 1 if full else 0
        if self._since_wait > max(2 * window, OVERDUE):  # the window is the limit
            self.per_second = None
            self._signs = 0
            return
        if self._since_throttle > min(OVERDUE, max(2 * self._sample, MIN_SAMPLE)):  # that of few is doubted sooner
            self._since_throttle = 0
            self._excess *= 2.0
        spacing = 1.0 / self.per_second
        self._next = max(self._next, now - spacing) + spacing / (1.0 + self._excess)

    def throttled(self, now: float, seq: int, sent: int, signs: int) -> None:
        """Record the throttling of request number `seq` of `sent`; `signs`: see Window.throttled."""
        self._accepted -= seq > self._since_seq
        held_back = CUSHION if self._since_throttle >= 2 * MIN_SAMPLE else 1  # some servers let nothing be saved up
        self._since_throttle = 0
        self._excess = EXCESS
        seconds = now - self._since
        if self.per_second is not None:
            counts = self._since >= 0.0  # else what was accepted until now includes what the server had saved up
            if counts and self._accepted >= MIN_SAMPLE and seconds > 0.0:
                self.per_second = self._accepted / seconds
                self._sample = self._accepted
            self._next = max(self._next, now + held_back / self.per_second)
            if self._accepted >= ENOUGH or not counts:
                self._restart(now, sent)
            return
        self._signs += signs
        if not self._signs:
            self._restart(now, sent)
        elif self._signs >= SIGNS and self._accepted > 0 and seconds > 0.0:
            self.per_second = self._accepted / seconds
            self._sample = self._accepted
            self._next = now + CUSHION / self.per_second
            self._since_wait = 0

    def calmed(self) -> None:
        """Reset the evidence after many responses without throttling."""
        self._signs = 0

    def _restart(self, now: float, sent: int) -> None:
        self._since = now
        self._since_seq = sent
        self._accepted = 0

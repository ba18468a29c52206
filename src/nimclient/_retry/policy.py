"""When a failed attempt deserves another, and after how long: pure arithmetic, clock and randomness are passed in."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from nimclient._base.config import RetryPolicy
from nimclient.errors import (
    APIStatusError,
    BodyTooLargeError,
    ConnectError,
    ConnectionLostError,
    DecodeError,
    NimError,
    ProtocolError,
    RequestTimeoutError,
    StreamFaultError,
    StreamInterruptedError,
)

_UNKNOWN_STATUSES = frozenset({408, 409, 425, 500, 502, 504, *range(520, 529)})
_CAPACITY_STATUSES = frozenset({429, 503, 529})


class Replay(Enum):
    """How often a call may be repeated after an attempt whose outcome is unknown (sent, but no answer came)."""

    SAFE = "freely"  # pure functions: embeddings, ranking, everything that is a GET
    ONCE = "once"  # generation: a second bill is worth the answer, a third is not
    NEVER = "never"


class Outcome(Enum):
    """What a failure tells about the request."""

    FINAL = "final"  # another attempt would end the same way
    REFUSED = "refused"  # it was not carried out: a repeat is safe
    THROTTLED = "throttled"  # the server is busy: a repeat is safe, later
    AMBIGUOUS = "ambiguous"  # it may have been carried out
    MALFORMED = "malformed"  # an answer came, but not one that can be used: worth one more try


def outcome(error: NimError) -> Outcome:
    """Classify a failure of one attempt, before anything of the answer was handed out."""
    match error:
        case APIStatusError(status=status) | StreamFaultError(status=int() as status):
            return _outcome_of_status(status)
        case ConnectError(kind="refused"):
            return Outcome.THROTTLED
        case ConnectError(kind="dns" | "unreachable" | "resources" | "proxy"):
            return Outcome.REFUSED
        case RequestTimeoutError(phase="connect"):
            return Outcome.REFUSED
        case RequestTimeoutError(phase="headers" | "first_event" | "idle"):
            return Outcome.AMBIGUOUS
        case ConnectionLostError() | StreamInterruptedError() | StreamFaultError():
            return Outcome.AMBIGUOUS
        case BodyTooLargeError() | DecodeError(status=202):  # accepted: sending it again would start it twice
            return Outcome.FINAL
        case ProtocolError() | DecodeError():
            return Outcome.MALFORMED
        case _:
            return Outcome.FINAL


def _outcome_of_status(status: int) -> Outcome:
    if status in _CAPACITY_STATUSES:
        return Outcome.THROTTLED
    return Outcome.AMBIGUOUS if status in _UNKNOWN_STATUSES else Outcome.FINAL


class HealthSignal(Enum):
    """What the outcome of a request tells about the server it went to."""

    ANSWERED = "answered"  # it works, and this is how long it takes
    OBJECTED = "objected"  # it works, and does not like the request
    BUSY = "busy"  # it refuses for capacity
    FAILED = "failed"  # it broke off, timed out, or answered nonsense or 5xx
    UNREACHABLE = "unreachable"  # no connection to it could be made
    UNKNOWN = "unknown"  # the caller gave up, or the fault was on this side


def verdict(error: BaseException | None) -> HealthSignal:
    """Judge a server by the outcome of one request; None is a success."""
    match error:
        case None:
            return HealthSignal.ANSWERED
        case ConnectError(kind="resources") | RequestTimeoutError(phase="pool"):
            return HealthSignal.UNKNOWN
        case ConnectError() | RequestTimeoutError(phase="connect"):
            return HealthSignal.UNREACHABLE
        case ConnectionLostError(reused=True):  # an idle connection that it closed
            return HealthSignal.UNKNOWN
        case RequestTimeoutError():
            return HealthSignal.FAILED
        case APIStatusError(status=status) if status < 500 and status not in _CAPACITY_STATUSES:
            return HealthSignal.OBJECTED
        case NimError():
            return _VERDICTS.get(outcome(error), HealthSignal.UNKNOWN)
        case _:
            return HealthSignal.UNKNOWN


_VERDICTS = {
    Outcome.THROTTLED: HealthSignal.BUSY,
    Outcome.AMBIGUOUS: HealthSignal.FAILED,
    Outcome.MALFORMED: HealthSignal.FAILED,
}


class Attempts:
    """The attempts of one call: counts them and says how long to wait before the next, or that there is none."""

    __slots__ = ("_budget", "_paid", "_policy", "_random", "_replay", "_unknown", "made")

    def __init__(self, policy: RetryPolicy, replay: Replay, budget: RetryBudget, random: Callable[[], float]) -> None:
        self._policy = policy
        self._replay = replay
        self._budget = budget
        self._random = random
        self._unknown = 0
        self._paid = 0
        self.made = 1

    def delay_after(self, error: NimError, kind: Outcome) -> float | None:
        """Seconds to wait before the next attempt; None when this failure is the call's."""
        if kind is Outcome.FINAL or self.made >= self._policy.attempts or not self._may_replay(kind):
            return None
        delay = self.backoff(self.made, error)
        if delay is None or not self._spend(THROTTLE_COST if kind is Outcome.THROTTLED else RETRY_COST):
            return None
        self.made += 1
        return delay

    def may_move(self, error: NimError, kind: Outcome) -> bool:
        """Whether the call may go to another replica at once.

        That takes nothing from the budget, which spares servers that suffer; a refusal for capacity costs no attempt either.
        """
        if self._policy.attempts == 1:
            return False
        if kind is Outcome.THROTTLED:
            return True
        unsent = isinstance(error, ConnectError)  # also one of TLS, which the same server would answer the same way
        if self.made >= self._policy.attempts or not (unsent or (kind is not Outcome.FINAL and self._may_replay(kind))):
            return False
        self.made += 1
        return True

    def backoff(self, retry: int, error: NimError) -> float | None:
        """Full jitter under a doubling ceiling, at least what the server asks for; None where it asks for too much."""
        asked = getattr(error, "retry_after", None)
        if asked is not None and asked > self._policy.max_retry_after:
            return None
        ceiling = min(self._policy.max_delay, self._policy.first_delay * 2.0 ** min(retry - 1, 60))
        jitter = self._random() * ceiling
        return jitter if asked is None else asked + min(jitter, 1.0)

    def succeeded(self) -> None:
        """Give the budget back what the last retry took (1 where there was none)."""
        self._budget.give(self._paid or 1)

    def _may_replay(self, kind: Outcome) -> bool:
        if kind not in (Outcome.AMBIGUOUS, Outcome.MALFORMED):
            return True
        most = 1 if kind is Outcome.MALFORMED or self._replay is Replay.ONCE else self._policy.attempts
        self._unknown += 1
        return self._replay is not Replay.NEVER and self._unknown <= most

    def _spend(self, cost: int) -> bool:
        self._paid = cost
        return self._budget.take(cost)


BUDGET = 500
RETRY_COST = 14
THROTTLE_COST = 5


class RetryBudget:
    """Tokens shared by all calls of a client: retries spend them, successes earn them back, at zero nothing is retried.

    So an outage costs its callers a bounded number of extra requests (the figures are those of AWS SDKs).
    """

    __slots__ = ("tokens",)

    def __init__(self) -> None:
        self.tokens = BUDGET

    def take(self, cost: int) -> bool:
        """Spend, if there is enough."""
        if cost > self.tokens:
            return False
        self.tokens -= cost
        return True

    def give(self, amount: int) -> None:
        """Earn."""
        self.tokens = min(BUDGET, self.tokens + amount)

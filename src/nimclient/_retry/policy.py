"""Decides whether a failed attempt is retried, and after which delay. Pure; randomness is passed in."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from nimclient._base.config import RetryPolicy
from nimclient._retry.classify import FailureKind, HealthSignal, RequestState
from nimclient.errors import NimError


class Replay(Enum):
    """How often a call may be replayed after an attempt with an ambiguous outcome (sent, but no response)."""

    SAFE = "safe"  # pure functions: embeddings, ranking, everything that is a GET
    ONCE = "once"  # generation: each replay may be billed
    NEVER = "never"


class RetryState:
    """The retries of one call: decides the delay before the next attempt, or that there is none."""

    __slots__ = ("_budget", "_policy", "_random", "_replay", "_replayed", "_spent", "counted")

    def __init__(self, policy: RetryPolicy, replay: Replay, budget: RetryBudget, random: Callable[[], float]) -> None:
        self._policy = policy
        self._replay = replay
        self._budget = budget
        self._random = random
        self._replayed = 0  # replays after an ambiguous outcome
        self._spent = 1  # budget tokens that a success returns: those of the last retry
        self.counted = 1  # attempts that count against the policy, including the current one

    def delay_after(self, error: NimError, kind: FailureKind) -> float | None:
        """Seconds to wait before the next attempt; None if the failure is final."""
        if not kind.retryable or self.counted >= self._policy.attempts or not self._may_replay(kind):
            return None
        delay = self.backoff(self.counted, error)
        if delay is None or not self._spend(THROTTLE_COST if kind.is_throttled else RETRY_COST):
            return None
        self.counted += 1
        return delay

    def may_fail_over(self, kind: FailureKind) -> bool:
        """Whether the call may go to another replica at once.

        A failover costs no budget, which protects overloaded servers; after throttling it costs no attempt either.
        """
        if self._policy.attempts == 1:
            return False
        if kind.is_throttled:
            return True
        unreachable = kind.health is HealthSignal.UNREACHABLE  # even if not retryable: another one may be reachable
        if self.counted >= self._policy.attempts or not (unreachable or (kind.retryable and self._may_replay(kind))):
            return False
        self.counted += 1
        return True

    def backoff(self, retry: int, error: NimError) -> float | None:
        """Full jitter under a doubling ceiling, at least the server's Retry-After; None if that exceeds the policy."""
        asked = getattr(error, "retry_after", None)
        if asked is not None and asked > self._policy.max_retry_after:
            return None
        ceiling = min(self._policy.max_delay, self._policy.first_delay * 2.0 ** min(retry - 1, 60))
        jitter = self._random() * ceiling
        return jitter if asked is None else asked + min(jitter, 1.0)

    def succeeded(self) -> None:
        """Return to the budget what the last retry cost (1 without a retry)."""
        self._budget.earn(self._spent)

    def _may_replay(self, kind: FailureKind) -> bool:
        if kind.state is RequestState.NOT_SENT:
            return True
        once = kind.state is RequestState.ANSWERED or self._replay is Replay.ONCE
        self._replayed += 1
        return self._replay is not Replay.NEVER and self._replayed <= (1 if once else self._policy.attempts)

    def _spend(self, cost: int) -> bool:
        self._spent = cost
        return self._budget.spend(cost)


BUDGET = 500
RETRY_COST = 14
THROTTLE_COST = 5


class RetryBudget:
    """Tokens shared by all calls of a client: retries spend them, successes return them; without tokens nothing is retried.

    So an outage causes a bounded number of extra requests (the figures are those of the AWS SDKs).
    """

    __slots__ = ("tokens",)

    def __init__(self) -> None:
        self.tokens = BUDGET

    def spend(self, cost: int) -> bool:
        """Spend tokens if there are enough."""
        if cost > self.tokens:
            return False
        self.tokens -= cost
        return True

    def earn(self, amount: int) -> None:
        """Earn."""
        self.tokens = min(BUDGET, self.tokens + amount)

"""When an attempt is repeated and after how long: pure arithmetic with injected randomness."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nimclient import RetryPolicy, errors
from nimclient._retry.policy import BUDGET, RETRY_COST, THROTTLE_COST, Replay, RetryBudget, RetryState
from support.rejections import (
    CONNECTION_REFUSED,
    INTERRUPTED,
    MALFORMED,
    REJECTED,
    THROTTLED,
    UNREACHABLE,
    classify,
)


def status_error(status, retry_after=None):
    return errors.APIStatusError("x", status=status, retry_after=retry_after)


def attempts(policy=None, replay=Replay.SAFE, budget=None, random=lambda: 1.0):
    return RetryState(policy or RetryPolicy(), replay, budget or RetryBudget(), random)


LOST = errors.ConnectionLostError("x")


def test_failing_over_to_another_replica():
    """A failover spends an attempt and nothing of the budget; throttling spends neither; a final failure stays."""
    budget = RetryBudget()
    tries = attempts(RetryPolicy(attempts=3), Replay.SAFE, budget)
    tls = errors.ConnectError("x", kind="tls")
    for error, may, made in [
        (status_error(404), False, 1),
        (status_error(503), True, 1),
        (status_error(500), True, 2),
        (tls, True, 3),
        (tls, False, 3),
        (LOST, False, 3),
        (status_error(429), True, 3),
    ]:
        assert tries.may_fail_over(classify(error)) is may
        assert tries.counted == made
    assert budget.tokens == BUDGET


@pytest.mark.parametrize(("replay", "moves"), [(Replay.SAFE, 8), (Replay.ONCE, 1), (Replay.NEVER, 0)])
def test_how_often_an_ambiguous_outcome_fails_over(replay, moves):
    """What may have been carried out fails over as often as it may be repeated."""
    tries = attempts(RetryPolicy(attempts=9), replay)
    assert sum(tries.may_fail_over(classify(LOST)) for _ in range(20)) == moves


def test_a_single_attempt_does_not_fail_over():
    """RetryPolicy(attempts=1) goes to one replica."""
    refused = errors.ConnectError("x", kind="refused")
    assert attempts(RetryPolicy(attempts=1)).may_fail_over(classify(refused)) is False


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 100), st.floats(0, 100))
def test_the_delay_lies_under_a_doubling_ceiling(retry, random, first, most):
    """Full jitter: from 0 to min(max_delay, first_delay × 2^(n-1)), for any number of retries."""
    policy = RetryPolicy(first_delay=first, max_delay=most)
    delay = attempts(policy, random=lambda: random).backoff(retry, LOST)
    assert 0 <= delay <= min(most, first * 2.0 ** min(retry - 1, 60))
    assert delay == random * min(most, first * 2.0 ** min(retry - 1, 60))


@pytest.mark.parametrize(
    ("retry", "ceiling"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 8.0), (10**6, 8.0)]
)
def test_the_ceiling_doubles_up_to_max_delay(retry, ceiling):
    """With the defaults the ceilings are 0.5, 1, 2, 4 and then 8 seconds."""
    assert attempts().backoff(retry, LOST) == ceiling


@pytest.mark.parametrize(
    ("asked", "random", "delay"),
    [(0, 0.0, 0.0), (3, 0.0, 3.0), (3, 1.0, 3.5), (60, 0.0, 60.0), (60.1, 0.0, None), (10800, 0.5, None)],
)
def test_retry_after_is_waited_for_or_raised_at_once(asked, random, delay):
    """At least what the server asks for, and a little jitter; above max_retry_after there is no next attempt."""
    tries = attempts(random=lambda: random)
    assert tries.delay_after(status_error(503, asked), THROTTLED) == delay
    assert tries.counted == (1 if delay is None else 2)


def test_jitter_beside_retry_after_is_at_most_a_second():
    """A long back-off does not add more than a second to what the server asks for."""
    assert attempts().backoff(10, status_error(429, 5)) == 6.0


def count(tries, kind, error=LOST, most=20):
    """How many retries are granted for failures of one kind."""
    return next((n for n in range(most) if tries.delay_after(error, kind) is None), most)


@pytest.mark.parametrize(
    ("kind", "replay", "granted"),
    [
        (REJECTED, Replay.SAFE, 0),
        *[(kind, replay, 4) for kind in (UNREACHABLE, THROTTLED, CONNECTION_REFUSED) for replay in Replay],
        (INTERRUPTED, Replay.SAFE, 4),
        (INTERRUPTED, Replay.ONCE, 1),
        (INTERRUPTED, Replay.NEVER, 0),
        (MALFORMED, Replay.SAFE, 1),
        (MALFORMED, Replay.ONCE, 1),
        (MALFORMED, Replay.NEVER, 0),
    ],
)
def test_replay_classes_bound_the_retries(kind, replay, granted):
    """What was not sent is repeated up to `attempts`; ambiguous outcomes as the call allows; malformed answers once."""
    assert count(attempts(RetryPolicy(attempts=5), replay), kind) == granted


@pytest.mark.parametrize(("most", "granted"), [(1, 0), (2, 1), (3, 2)])
def test_attempts_counts_tries(most, granted):
    """attempts=1 never repeats; attempts=3 repeats twice."""
    tries = attempts(RetryPolicy(attempts=most))
    assert count(tries, UNREACHABLE) == granted
    assert tries.counted == most


def test_a_second_ambiguous_outcome_is_final_for_generation():
    """What was not sent does not use up the one replay that a generation has."""
    tries = attempts(RetryPolicy(attempts=9), Replay.ONCE)
    kinds = [UNREACHABLE, INTERRUPTED, THROTTLED, INTERRUPTED]
    assert [tries.delay_after(LOST, kind) is not None for kind in kinds] == [True, True, True, False]


@pytest.mark.parametrize(("kind", "cost"), [(INTERRUPTED, RETRY_COST), (THROTTLED, THROTTLE_COST)])
def test_an_outage_costs_a_bounded_number_of_retries(kind, cost):
    """The budget all calls share is spent by retries, and then nothing is retried."""
    budget = RetryBudget()
    granted = sum(count(attempts(RetryPolicy(attempts=2), budget=budget), kind) for _ in range(1000))
    assert granted == BUDGET // cost
    assert budget.tokens == BUDGET % cost


def test_a_retry_that_is_not_granted_costs_nothing():
    """A failure that ends the call takes nothing from the budget."""
    budget = RetryBudget()
    tries = attempts(RetryPolicy(attempts=1), budget=budget)
    tries.delay_after(LOST, INTERRUPTED)
    attempts(budget=budget).delay_after(status_error(503, 10800), THROTTLED)
    assert budget.tokens == BUDGET


def test_success_gives_the_budget_back():
    """A success after a retry returns its cost, one without a retry returns 1, never above the whole."""
    budget = RetryBudget()
    tries = attempts(budget=budget)
    tries.delay_after(LOST, INTERRUPTED)
    assert budget.tokens == BUDGET - RETRY_COST
    tries.succeeded()
    assert budget.tokens == BUDGET
    attempts(budget=budget).succeeded()
    assert budget.tokens == BUDGET
    assert budget.spend(10)
    attempts(budget=budget).succeeded()
    assert budget.tokens == BUDGET - 9


def test_the_budget_refuses_what_it_has_not():
    """Taking more than there is takes nothing."""
    budget = RetryBudget()
    assert budget.spend(BUDGET)
    assert budget.spend(1) is False
    assert budget.tokens == 0


# the budget, whatever calls do one beside the other --------------------------------------------------------------------


class Budget(RuleBasedStateMachine):
    """Calls that share a budget begin, fail, fail over and succeed in any order; `tokens` is the model of the budget."""

    def __init__(self):
        super().__init__()
        self.budget = RetryBudget()
        self.tokens = BUDGET
        self.calls = []  # its state, its policy and replay, what its last retry cost, retries, replays

    @initialize(spent=st.integers(0, BUDGET))
    def begin_somewhere(self, spent):
        assert self.budget.spend(spent)
        self.tokens -= spent

    @rule(most=st.integers(1, 5), replay=st.sampled_from(Replay))
    def begin(self, most, replay):
        state = attempts(RetryPolicy(attempts=most), replay, self.budget)
        self.calls.append({"state": state, "most": most, "replay": replay, "cost": 1, "retries": 0, "replays": 0})

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), kind=st.sampled_from([REJECTED, UNREACHABLE, THROTTLED, INTERRUPTED, MALFORMED]))
    def fail(self, data, kind):
        call = data.draw(st.sampled_from(self.calls))
        cost = THROTTLE_COST if kind is THROTTLED else RETRY_COST
        if call["state"].delay_after(LOST, kind) is None:
            self.calls.remove(call)
            return
        self.tokens -= cost
        call["cost"] = cost
        call["retries"] += 1
        call["replays"] += kind in (INTERRUPTED, MALFORMED)
        assert kind is not REJECTED
        assert call["retries"] < call["most"]
        assert call["replays"] <= {Replay.SAFE: 5, Replay.ONCE: 1, Replay.NEVER: 0}[call["replay"]]

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def succeed(self, data):
        call = data.draw(st.sampled_from(self.calls))
        call["state"].succeeded()
        self.calls.remove(call)
        self.tokens = min(BUDGET, self.tokens + call["cost"])

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), kind=st.sampled_from([REJECTED, UNREACHABLE, THROTTLED, INTERRUPTED]))
    def fail_over(self, data, kind):
        data.draw(st.sampled_from(self.calls))["state"].may_fail_over(kind)

    @invariant()
    def tokens_are_those_of_the_model(self):
        assert self.budget.tokens == self.tokens
        assert 0 <= self.tokens <= BUDGET


TestBudget = Budget.TestCase
TestBudget.settings = settings(stateful_step_count=20)

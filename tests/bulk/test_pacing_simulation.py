"""The pacer against servers of every kind of capacity, event by event on a virtual clock.

Each job is also simulated with fixed numbers of requests in flight around what the server has room for. The pacer, which
knows nothing of the server, must come close to the best of them after the first tenth of the job. The jobs are long enough
for that tenth to hold what a token bucket has saved up.
"""

from collections.abc import Callable
from math import exp, inf, log
from random import Random

import pytest
from attrs import define

from nimclient import RetryPolicy
from support.capacity import Bucket, Pacer, Queue, RateLimit, Run, Server, Service, Slots, TokenBucket, Users, simulate
from support.slow import seeds


@define
class Job:
    """A server to be made again for each run, how many requests it is sent, and what it may have in flight by itself."""

    make: Callable[[], Server]
    requests: int
    room: float

    def run(self, concurrency: int | None, seed: int, watch: bool = False) -> Run:
        return simulate(self.make(), Pacer(RetryPolicy(), concurrency), self.requests, Random(seed), watch=watch)

    def best(self, shares: tuple[float, ...], seed: int) -> float:
        """The throughput of the best fixed number in flight."""
        fixed = {max(1, round(self.room * share)) for share in shares}
        return max(self.run(concurrency, seed).throughput() for concurrency in fixed)


def spread(random: Random, low: float, high: float) -> float:
    """A number between, each order of magnitude as likely."""
    return exp(random.uniform(log(low), log(high)))


def service(seed: int) -> Service:
    """Answers in 50 ms to 3 s on average, all alike or very different."""
    random = Random(f"service {seed}")
    return Service(Random(seed), spread(random, 0.05, 3.0), random.uniform(0.1, 0.8))


def with_slots(seed: int, make: Callable[[int, float], Server]) -> Job:
    """2 to 256 at once; a job of 2,000 requests or more, of 20 windows or more, and of 10 seconds or more."""
    slots = round(spread(Random(f"slots {seed}"), 2, 256))
    mean = service(seed).mean
    requests = round(max(2000, 20 * slots, 10 * slots / mean))
    seconds = requests * mean / slots  # at full capacity
    return Job(lambda: make(slots, seconds), requests, slots)


def bucket(seed: int) -> Job:
    """40 to 6,000 requests a minute, for 25 minutes or more; every second server tells when to come back."""
    per_minute = round(spread(Random(f"bucket {seed}"), 40, 6000))
    room = per_minute / 60 * service(seed).mean
    return Job(lambda: Bucket(per_minute, service(seed), tells=seed % 2 == 1), max(2000, 25 * per_minute), room)


def refusing(seed: int) -> Job:
    """A hard limit on requests at once, beyond which they are throttled."""
    return with_slots(seed, lambda slots, seconds: Slots(lambda now: slots, service(seed)))


def queueing(seed: int) -> Job:
    """A limit on requests at once, beyond which they wait."""
    return with_slots(seed, lambda slots, seconds: Queue(slots, service(seed)))


def halved(seconds: float) -> Callable[[float], bool]:
    return lambda now: 0.35 * seconds <= now < 0.75 * seconds


def halving(seed: int) -> Job:
    """A hard limit that is half of itself for a good third of the job."""

    def make(slots: int, seconds: float) -> Server:
        half = halved(seconds)
        return Slots(lambda now: max(1, slots // 2) if half(now) else slots, service(seed))

    return with_slots(seed, make)


def slowing(seed: int) -> Job:
    """A queueing server that takes twice as long for a good third of the job."""

    def make(slots: int, seconds: float) -> Server:
        half = halved(seconds)
        return Queue(slots, service(seed), lambda now: 2.0 if half(now) else 1.0)

    return with_slots(seed, make)


AROUND = (0.9, 1.0, 1.1, 1.5)
RATED = (0.9, 1.0, 1.1, 1.3)


@pytest.mark.parametrize("seed", seeds(3, 4))
@pytest.mark.parametrize(
    ("kind", "shares", "most_refused"),
    [
        (bucket, RATED, 0.10),
        (refusing, AROUND, 0.05),
        (queueing, AROUND, 0.05),
        (halving, AROUND, 0.05),
        (slowing, AROUND, 0.05),
    ],
    ids=["bucket", "refusing", "queueing", "halving", "slowing"],
)
def test_close_to_the_best_fixed_limit(
    kind: Callable[[int], Job], shares: tuple[float, ...], most_refused: float, seed: int
) -> None:
    """95 % of its throughput, few requests throttled, and no slice that loses its patience."""
    job = kind(seed)
    assert job.requests >= 2000
    run = job.run(None, seed)
    assert len(run.finished) == job.requests
    assert run.failed == 0
    assert run.share_refused <= most_refused
    assert run.throughput() >= 0.95 * job.best(shares, seed)


@pytest.mark.parametrize("seed", seeds(3, 4))
def test_a_queue_is_not_filled_without_end(seed: int) -> None:
    """What is in flight on a server that queues comes down to a few times its slots in the course of a long job."""
    job = queueing(seed)
    job.requests *= 4
    limits = job.run(None, seed, watch=True).limits
    late = [limit for _, limit, _ in limits[len(limits) // 2 :]]
    assert sum(late) / len(late) <= 3 * job.room + 16


@pytest.mark.parametrize("seed", seeds(3, 4))
def test_an_outage_within_the_patience_is_survived(seed: int) -> None:
    """A server that takes nothing for a minute costs the job that minute, few throttles, and no slice."""

    def make(slots: int, seconds: float) -> Server:
        return Slots(lambda now: 0 if 0.5 * seconds <= now < 0.5 * seconds + 60 else slots, service(seed))

    job = with_slots(seed, make)
    run = job.run(None, seed)
    undisturbed = refusing(seed).run(None, seed)
    assert len(run.finished) == job.requests
    assert run.failed == 0
    assert run.refused <= undisturbed.refused + job.room + 100
    assert run.finished[-1] <= 1.3 * undisturbed.finished[-1] + 66


def test_an_outage_beyond_the_patience_fails() -> None:
    """A server that never comes back is given up after `patience` seconds, not after that for each slice."""
    job = Job(lambda: Slots(lambda now: 8 if now < 10 else 0, Service(Random(1), 0.5, 0.3)), 400, 8)
    run = job.run(None, 1, watch=True)
    assert len(run.finished) + run.failed == 400
    assert run.failed > 100
    assert 115 <= run.failures[0] - 10 <= 140


@pytest.mark.parametrize("seed", seeds(3, 4))
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_rate_set_by_hand_and_the_pacer_agree(seed: int, share: float) -> None:
    """Under `Limits.requests_per_minute` below what the server gives there is no throttling after the first ones."""
    slots, svc = 32, service(seed)
    per_second = share * slots / svc.mean
    pacer = Pacer(RetryPolicy(), rate=RateLimit(60 * per_second))
    run = simulate(Slots(lambda now: slots, svc), pacer, 2000, Random(seed))
    assert run.failed == 0
    assert run.share_refused <= 0.02
    assert run.throughput() == pytest.approx(per_second, rel=0.02 if share < 0.5 else 0.1)


@pytest.mark.parametrize("seed", seeds(3, 4))
def test_a_key_of_forty_a_minute(seed: int) -> None:
    """200 requests under the hosted catalog's limit: few in vain, though the first forty were taken at any speed."""
    svc = Service(Random(seed), spread(Random(f"forty {seed}"), 0.1, 3.0), 0.5)
    run = simulate(Bucket(40, svc, tells=seed % 2 == 1), Pacer(RetryPolicy()), 200, Random(seed))
    assert run.failed == 0
    assert run.refused <= 0.15 * 200
    assert run.finished[-1] <= 1.2 * 60 * (200 - 40) / 40 + 10


@pytest.mark.parametrize("trip", [0.001, 0.01])
@pytest.mark.parametrize("per_minute", [40, 600, 1800])
def test_answers_that_come_all_at_once_are_not_sent_on_all_at_once(per_minute: int, trip: float) -> None:
    """Where every request takes equally long, what was saved up must not end in one burst of throttles."""
    server = Bucket(per_minute, Service(Random(1), 0.2, 0.0), tells=False)
    run = simulate(server, Pacer(RetryPolicy()), 2000, Random(1), trip=trip)
    assert run.share_refused <= 0.10


@pytest.mark.parametrize("seed", seeds(3))
def test_beside_plain_calls_bulk_keeps_its_throughput(seed: int) -> None:
    """With room left for one plain call at all times, three quarters of the throughput, from the middle of a short job on."""
    job = queueing(seed)
    job.requests *= 2
    pacers = Pacer(RetryPolicy()), Pacer(RetryPolicy(), users=Users(last=inf))
    alone, beside = (simulate(job.make(), pacer, job.requests, Random(seed)) for pacer in pacers)
    assert len(beside.finished) == job.requests
    assert beside.throughput(0.5) >= 0.75 * alone.throughput(0.5)


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("seconds", [20.0, 60.0])
def test_tokens_a_minute_set_by_hand_are_used_and_not_exceeded(seed: int, seconds: float) -> None:
    """Whatever a byte and an answer are worth: nearly all of what the server gives, and hardly a throttle."""
    random = Random(f"tokens {seed}")
    per_minute = spread(random, 60_000, 2_000_000)
    rate = RateLimit(None, per_minute)
    per_byte, mean = random.choice([0.2, 0.5, 1.2]), random.choice([1.0, 60.0, 900.0])
    server = TokenBucket(per_minute, seconds, service(seed), Random(seed), per_byte, mean, rate)
    requests = round(20 * per_minute / (per_byte * 4200 + mean))
    run = simulate(server, Pacer(RetryPolicy(), 2000, rate=rate), requests, Random(seed), usages=server)
    assert run.failed == 0
    assert run.share_refused <= 0.02
    counted = round(0.98 * requests)  # not the wait for the slowest answers at the end
    used = server.taken * counted / requests / run.finished[counted - 1] * 60 / per_minute
    assert 0.97 <= used <= 1.02

"""Beside plain calls bulk has as much in flight as the server works on at once: nobody waits behind it."""

import heapq
from random import Random

import pytest
from attrs import define

from nimclient import RetryPolicy
from support.capacity import Pacer, Queue, Service, Ticket, Users
from support.slow import seeds

TRIP = 0.002
IDLE = 0.15  # seconds to a first token
CHAT = 0.3  # seconds of a whole chat


class Beside:
    """A bulk call that never ends beside a chat a second, on a virtual clock, from `first` on; without users for None."""

    def __init__(self, server: Queue, pacer: Pacer, users: Users, seconds: float, first: float | None) -> None:
        self.waits: list[tuple[float, float]] = []
        self.answers: list[float] = []
        events: list[tuple[float, int, str, Ticket]] = [(0.0, 0, "alarm", Ticket())]
        numbers = iter(range(1, 10**9))
        if first is not None:
            events.append((first, next(numbers), "user", Ticket()))
        while events[0][0] < seconds:
            now, number, kind, ticket = heapq.heappop(events)
            if kind == "user":
                users.last = now
                users.open.add(number)
                done = server.take(now + TRIP, CHAT)
                self.waits.append((now, done - CHAT - now - TRIP))
                heapq.heappush(events, (done, number, "left", ticket))
                heapq.heappush(events, (now + 1.0, next(numbers), "user", Ticket()))
            elif kind == "left":
                users.open.discard(number)
            elif kind == "answer":
                self.answers.append(now)
                pacer.succeeded(now, ticket, 1.0)
            fresh = Ticket()
            while not (pause := pacer.enter(now, fresh)):
                heapq.heappush(events, (server.take(now + TRIP, None), next(numbers), "answer", fresh))
                fresh = Ticket()
            if pause < 1e9:
                heapq.heappush(events, (now + pause, next(numbers), "alarm", fresh))

    def wait(self, since: float, share: float = 0.99) -> float:
        """The percentile of the users' waits for a slot, of those who came since."""
        waits = sorted(wait for came, wait in self.waits if came >= since)
        return waits[int(share * (len(waits) - 1))]

    def rate(self, since: float) -> float:
        """Answers of bulk since then."""
        return sum(moment >= since for moment in self.answers)


def beside(
    slots: int,
    seed: int,
    *,
    concurrency: int | None = None,
    first: float | None = 10.0,
    seconds: float = 200.0,
    sigma: float = 0.25,
) -> Beside:
    users = Users()
    pacer = Pacer(RetryPolicy(), concurrency, users=users)
    return Beside(Queue(slots, Service(Random(seed), 0.3, sigma)), pacer, users, seconds, first)


@pytest.mark.parametrize("seed", seeds(1))
def test_where_the_number_is_that_of_the_server_nobody_waits(seed: int) -> None:
    """With `concurrency=` the slots of the server, no user ever waits for bulk, from the first one on."""
    alone = beside(16, seed, concurrency=16, first=None, seconds=60.0)
    both = beside(16, seed, concurrency=16, seconds=60.0)
    assert both.wait(11.0, 1.0) <= 0.05 * IDLE
    assert both.rate(20.0) >= 0.84 * alone.rate(20.0), "fifteen sixteenths, less by chance"


@define
class Batch(Queue):
    """A server that puts all requests into one batch: each takes a little longer beside others, and none waits."""

    def take(self, now: float, seconds: float | None) -> float:
        while self.free and self.free[0] <= now:
            heapq.heappop(self.free)
        done = now + (self.service() if seconds is None else seconds) * (1.0 + 0.01 * len(self.free))
        heapq.heappush(self.free, done)
        return done


@pytest.mark.parametrize("seed", seeds(1))
@pytest.mark.parametrize("concurrency", [None, 256])
def test_a_server_that_batches_is_kept_busy(concurrency: int | None, seed: int) -> None:
    """Where nothing waits and each takes longer beside others, bulk keeps half of what it has alone."""
    rates = []
    for first in (None, 1.0):
        users = Users()
        pacer = Pacer(RetryPolicy(), concurrency, users=users)
        rates.append(Beside(Batch(0, Service(Random(seed), 0.3, 0.1)), pacer, users, 90.0, first).rate(60.0))
    assert rates[1] >= 0.5 * rates[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("concurrency", [None, 32])
def test_where_it_is_not_known_few_wait(concurrency: int | None, seed: int) -> None:
    """With more asked for at once than the server works on: half of the users wait at most a fifth of an idle server's time
    to a first token, 99 of 100 as long as that again, and bulk keeps four fifths.
    """
    alone = beside(16, seed, concurrency=concurrency, first=None)
    both = beside(16, seed, concurrency=concurrency)
    assert both.wait(40.0, 0.5) <= 0.2 * IDLE
    assert both.wait(40.0) <= IDLE
    assert both.rate(40.0) >= 0.8 * alone.rate(40.0)

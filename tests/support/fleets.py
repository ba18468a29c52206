"""Several processes on one server and one virtual clock, which share a Fleet as a file would hand it on."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from itertools import count
from math import inf
from random import Random

import orjson
from attrs import define, field

from nimclient import RetryPolicy
from nimclient.errors import RateLimitError
from support.capacity import Fleet, Pacer, RateLimit, Server, SharedRoute, Ticket, fleet_of

POLL = 0.1
TRIP = 0.01
SLACK = 0.1


@define
class Process:
    """One that has work from `begins` to `ends`, and is killed at `dies`. It is some milliseconds late whenever it waits."""

    begins: float = 0.0
    ends: float = inf
    dies: float = inf
    per_minute: float | None = None
    held: int = 0
    finished: list[float] = field(factory=list)
    refused: int = 0
    lost: int = 0
    again: deque[Ticket] = field(factory=deque)
    asks_at: float = inf  # the alarm that counts; earlier ones are void


@define
class FleetRun:
    """What became of the processes, and of the requests of all between two times."""

    processes: list[Process]
    fleet: Fleet

    def finished(self, begin: float, end: float) -> list[int]:
        """Answers of each process in that time."""
        return [sum(begin <= time < end for time in process.finished) for process in self.processes]

    @property
    def share_refused(self) -> float:
        refused = sum(process.refused for process in self.processes)
        return refused / (refused + sum(len(process.finished) for process in self.processes))


def simulate_fleet(
    server: Server,
    processes: list[Process],
    seconds: float,
    random: Random,
    late: float = 0.005,
    fleet: Fleet | None = None,
) -> FleetRun:
    """Run the processes for so long."""
    names = {f"{number:016x}": process for number, process in enumerate(processes)}
    run = FleetRun(processes, fleet or Fleet())
    numbers = count()
    events: list[tuple[float, int, str, bool | None, Ticket | None]] = []  # None: it asks; else whether it was answered
    for name, process in names.items():
        process.asks_at = process.begins
        heapq.heappush(events, (process.begins, next(numbers), name, None, None))
    while events and events[0][0] < seconds:
        now, _, name, answered, ticket = heapq.heappop(events)
        process = names[name]
        if now >= process.dies or (answered is None and now != process.asks_at):
            continue
        run.fleet = fleet_of(orjson.loads(orjson.dumps(run.fleet.to_dict())))
        if ticket is not None:
            answer(run.fleet, names, name, now, server, answered is True, ticket, random)
        delay = 0.0
        while not delay and now < process.ends:
            taken = process.again[0] if process.again else Ticket()
            delay = enter(run.fleet, names, name, now, taken)
            if not delay:
                if process.again:
                    process.again.popleft()
                done = server.arrive(now, taken)
                when = (now if done is None else done) + TRIP
                heapq.heappush(events, (when, next(numbers), name, done is not None, taken))
        if delay:
            process.asks_at = now + min(delay, POLL if delay == inf else delay) + random.expovariate(1.0 / late)
            heapq.heappush(events, (process.asks_at, next(numbers), name, None, None))
    return run


def enter(fleet: Fleet, names: Mapping[str, Process], name: str, now: float, ticket: Ticket) -> float:
    pacer, route = join(fleet, names, name, now)
    delay = route.enter(pacer, name, now, ticket)
    leave(fleet, names[name], pacer, route, name)
    return delay


def answer(
    fleet: Fleet,
    names: Mapping[str, Process],
    name: str,
    now: float,
    server: Server,
    answered: bool,
    ticket: Ticket,
    random: Random,
) -> None:
    process = names[name]
    pacer, route = join(fleet, names, name, now)
    if answered:
        pacer.succeeded(now, ticket, 1.0)
        process.finished.append(now)
    else:
        process.refused += 1
        error = RateLimitError("busy", status=429, retry_after=server.retry_after(now))
        if pacer.throttled(now, ticket, error, random.random) is None:
            process.lost += 1
        else:
            process.again.append(ticket)
    route.members[name].held -= 1
    leave(fleet, process, pacer, route, name)


def join(fleet: Fleet, names: Mapping[str, Process], name: str, now: float) -> tuple[Pacer, SharedRoute]:
    """As SharedPacer does."""
    fleet.now = max(fleet.now, now)
    for route in fleet.routes.values():
        for other in route.silent(now) if name in route.members else list(route.members):
            if names[other].dies <= now:
                del route.members[other]
            else:
                route.members[other].at = now
    per_minute = names[name].per_minute
    rate = None if per_minute is None else RateLimit(per_minute, slack=SLACK)
    if rate is not None and fleet.rate is not None:
        rate.restore(fleet.rate)
    pacer = Pacer(RetryPolicy(), rate=rate)
    route = fleet.join(pacer, "embedding", name, now)
    route.members[name].held = names[name].held
    pacer.in_flight = route.in_flight()
    return pacer, route


def leave(fleet: Fleet, process: Process, pacer: Pacer, route: SharedRoute, name: str) -> None:
    process.held = route.members[name].held
    route.pace = pacer.state()
    if pacer._rate is not None:
        fleet.rate = pacer._rate.state()

"""One pace for several processes: the state that they share of an endpoint, and which of them may send next. Pure: times
are passed in.

All processes run the same pacer, one after the other, on one state: its window counts what all of them have in flight, and
its rate what all of them send. A process takes a slot while it holds less than its fair share: max-min over the processes
that want more than they have. The remainder of the division rotates, a second each. Under a rate limit the process that
has waited longest comes first.

A process states how many slots it holds as an absolute number, never as an increment, so that a lost state, or a process
that was wrongly taken for dead, is corrected by the next request.
"""

from __future__ import annotations

from math import inf
from typing import Any

from attrs import astuple, define, field

from nimclient._base.config import RetryPolicy
from nimclient._base.types import Json, JsonDict, is_object
from nimclient._bulk.pacer import Pacer
from nimclient._bulk.ticket import Ticket

VERSION = 1
MAX_DELAY = 1.0  # seconds after which a waiting process asks again
KEEP_WAITING = 2.0  # seconds for which it counts as waiting
SILENT = 0.5  # seconds without a request after which a process may have died
ROTATION = 1.0  # seconds for which a process keeps a slot of the remainder


@define
class Member:
    """A process: slots that it holds, until when it counts as waiting, when it last sent, and when it was last seen alive."""

    held: int = 0
    waiting_until: float = 0.0
    last: float = 0.0
    at: float = 0.0


@define
class SharedRoute:
    """What the processes share of one route: the state of the pacer, None at the beginning, and the processes."""

    pace: JsonDict | None = None
    members: dict[str, Member] = field(factory=dict[str, Member])

    def in_flight(self) -> int:
        """Requests of all processes."""
        return sum(member.held for member in self.members.values())

    def enter(self, pacer: Pacer, name: str, now: float, ticket: Ticket, room: int = 0) -> float:
        """Pacer.enter for a process; `room`: slots of its share that it leaves to its plain calls."""
        me = self.members[name]
        me.at, me.waiting_until = now, now + KEEP_WAITING
        share = self.share(pacer.limit, name, now)
        if me.held >= (max(share - room, (share + 1) // 2) if room else share):
            return inf
        pacer.in_flight = self.in_flight()
        due, spacing = pacer.schedule(ticket)
        turn = due + spacing * self._before(me, now) - now if spacing else 0.0
        if now >= due and turn > 0.0:  # another one has waited longer
            return min(turn, MAX_DELAY)
        if delay := pacer.enter(now, ticket):
            return min(max(delay, turn), MAX_DELAY) if delay < inf else inf
        me.held += 1
        me.last = now
        return 0.0

    def share(self, limit: int, name: str, now: float) -> int:
        """The number of slots that a process may hold if it wants more than it has."""
        names = sorted(self.members)
        waiting = [other for other in names if other == name or self.members[other].waiting_until > now]
        satisfied = sorted(member.held for other, member in self.members.items() if other not in waiting)
        return fair_share(limit, satisfied, waiting.index(name), len(waiting), int(now / ROTATION))

    def _before(self, me: Member, now: float) -> int:
        """How many processes have waited longer."""
        return sum(1 for other in self.members.values() if other.waiting_until > now and other.last < me.last)

    def silent(self, now: float) -> list[str]:
        """The processes that have not been seen for a while."""
        return [name for name, member in self.members.items() if now - member.at > SILENT]


def fair_share(limit: int, satisfied: list[int], position: int, waiting: int, turn: int) -> int:
    """The max-min fair share of the process at `position` among the `waiting` ones, which want more.

    `satisfied`: what the others hold, ascending; those below an equal share keep it. `turn` rotates the remainder.
    """
    left, sharers = limit, waiting + len(satisfied)
    for held in satisfied:
        if held * sharers > left:
            break
        left, sharers = left - held, sharers - 1
    level, remainder = divmod(left, sharers)
    return level + ((position - turn) % sharers < remainder)


@define
class Fleet:
    """All that is shared: the routes, the rate limit set by hand, and the time, in seconds of a clock of its own.

    That clock never goes back: it is the fastest of the processes' monotonic clocks. `wall` is the time of day at which this
    was written, to age the state after a time without any process.
    """

    now: float = 0.0
    wall: float = 0.0
    routes: dict[str, SharedRoute] = field(factory=dict[str, SharedRoute])
    rate: JsonDict | None = None

    def join(self, pacer: Pacer, route: str, name: str, wall: float) -> SharedRoute:
        """Restore a pacer to the state of a route, and return the route, the process among its members.

        The first process of a run starts with what is left of what the last run had learned, and waits for as long as the
        last answer to it asked.
        """
        found = self.routes.setdefault(route, SharedRoute())
        if found.pace is not None:
            pacer.restore(found.pace)
            if not found.members:
                away = max(wall - self.wall, 0.0)
                learned, opens_at = pacer.learned(self.now - away), found.pace["_opens_at"] - away
                pacer.restore(Pacer(RetryPolicy()).state())
                if learned is not None and (left := learned.aged(self.now)) is not None:
                    pacer.resume(left)
                if opens_at > self.now:
                    pacer.close_until(opens_at)
        if name not in found.members:
            found.members[name] = Member(at=self.now, last=self.now)
        return found

    def to_dict(self) -> JsonDict:
        """As JSON; `fleet_of` reads it."""
        routes = {
            name: {"pace": route.pace, "members": {who: astuple(member) for who, member in route.members.items()}}
            for name, route in self.routes.items()
            if route.pace is not None
        }
        rate = {} if self.rate is None else {"rate": self.rate}
        return {"version": VERSION, "now": self.now, "wall": self.wall, "routes": routes, **rate}


def fleet_of(stored: Json) -> Fleet:
    """Read what `to_dict` has written; an empty one if another version has written it."""
    if not is_object(stored) or stored.get("version") != VERSION:
        return Fleet()
    routes: dict[str, Any] = stored["routes"]
    return Fleet(
        stored["now"],
        stored["wall"],
        {
            name: SharedRoute(route["pace"], {who: Member(*member) for who, member in route["members"].items()})
            for name, route in routes.items()
        },
        stored.get("rate"),
    )

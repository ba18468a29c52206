"""What is measured: the call, how many units one call yields, what the answer must be, and the target to reach."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from benchmarks import canned
from benchmarks.runners import Peer, Rows

CHAT_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One row of the report.

    `limit` is the target of nimclient against the baseline, `other_limits` those of other peers, `ahead` how many times
    as much as nimclient a peer is expected to use.
    """

    name: str
    title: str
    action: Literal["stream", "embed", "chat", "start"]
    unit: str
    units_per_call: int = 1
    limit: float
    model: str = canned.MODEL
    other_limits: Mapping[str, float] = field(default_factory=dict[str, float])
    ahead: Mapping[str, float] = field(default_factory=dict[str, float])
    stretch: float = 1.0
    """A run lasts this many times the asked seconds."""
    ours: str = "nimclient"
    """The peer that the targets are for."""
    over: str = ""
    """The baseline, where it is not the floor; the scenario is then for blocking peers."""
    difference: bool = False
    """Whether the target is what ours may add to the baseline."""

    @property
    def baseline(self) -> str:
        """The peer all others are compared with."""
        return self.over or ("bare" if self.action == "start" else "floor")

    @property
    def as_difference(self) -> bool:
        """Whether peers are compared by what they add to the baseline, not by a ratio."""
        return self.difference or self.action == "start"

    @property
    def symbol(self) -> str:
        """The unit of time this scenario is reported in."""
        return "ms" if self.action == "start" else "µs"

    @property
    def per_second(self) -> float:
        """How many of that unit of time make a second."""
        return 1e3 if self.action == "start" else 1e6


EMBED_AHEAD = {"baseten": 7.0, "openai": 14.0, "langchain-nvidia": 60.0}

ALL = (
    Scenario(
        name="stream",
        title="streaming, many tokens a read",
        action="stream",
        unit="token",
        units_per_call=2000,
        limit=3.0,
    ),
    Scenario(
        name="stream-paced",
        title="streaming, one token a read, 2 ms apart",
        action="stream",
        unit="token",
        units_per_call=250,
        limit=1.3,
        model=canned.PACED_MODEL,
        stretch=2.0,
    ),
    Scenario(
        name="embed-64",
        title="embedding 64 texts of 1024 dimensions a request",
        action="embed",
        unit="vector",
        units_per_call=64,
        limit=0.97,
        other_limits={"nimclient-stdlib": 2.0},
        ahead=EMBED_AHEAD,
    ),
    Scenario(
        name="embed-256",
        title="embedding 256 texts of 1024 dimensions a request",
        action="embed",
        unit="vector",
        units_per_call=256,
        limit=0.97,
        other_limits={"nimclient-stdlib": 2.0},
        ahead=EMBED_AHEAD,
    ),
    Scenario(name="chat", title="small chat requests", action="chat", unit="request", limit=1.5),
    Scenario(
        name="sync-stream",
        title="blocking: streaming, many tokens a read",
        action="stream",
        unit="token",
        units_per_call=2000,
        limit=1.3,
        ours="nimclient-sync",
        over="nimclient",
        ahead={"openai-sync": 5.0},
    ),
    Scenario(
        name="sync-chat",
        title="blocking: small chat requests",
        action="chat",
        unit="request",
        limit=110.0,
        ours="nimclient-sync",
        over="nimclient",
        difference=True,
        ahead={"openai-sync": 2.0},
    ),
    Scenario(name="import", title="import plus construction", action="start", unit="start", limit=50.0),
)
BY_NAME = {scenario.name: scenario for scenario in ALL}


def texts(count: int) -> list[str]:
    """Passages of about a hundred characters."""
    return [
        f"Passage {position}: the quick brown fox jumps over a lazy dog, then it rests." for position in range(count)
    ]


def bind(scenario: Scenario, peer: Peer) -> Callable[[], Awaitable[object]]:
    """The one call that this scenario repeats."""
    match scenario.action:
        case "stream":
            return lambda: peer.stream(scenario.units_per_call)
        case "embed":
            passages = texts(scenario.units_per_call)
            return lambda: peer.embed(passages)
        case "chat":
            return lambda: peer.chat(CHAT_TOKENS)
        case "start":
            raise ValueError("a start is measured from outside")


def check(scenario: Scenario, answer: object) -> None:
    """Raise ValueError unless the runner got the whole answer: a runner that loses data would look fast."""
    if scenario.action == "embed":
        correct = is_expected_matrix(answer, scenario.units_per_call)  # type: ignore[arg-type]  # bind() returns Rows here
    else:
        correct = answer == canned.answer_text(CHAT_TOKENS if scenario.action == "chat" else scenario.units_per_call)
    if not correct:
        raise ValueError(f"{scenario.name}: the answer is not what the server sent")


def is_expected_matrix(rows: Rows, count: int) -> bool:
    """Whether the rows are as many and as long as sent, with the right numbers at both ends."""
    if len(rows) != count or {len(row) for row in rows} != {canned.DIMENSIONS}:
        return False
    return rows[0][0] == canned.vector(0)[0] and rows[-1][-1] == canned.vector(count - 1)[-1]

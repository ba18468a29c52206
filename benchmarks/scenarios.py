"""What is measured: the call, how many units one call yields, what the answer must be, and the target to reach."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
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
    action: Literal["stream", "embed", "documents", "embed-stream", "chat", "start", "first-call"]
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
    in_flight: int = 1
    """How many calls run side by side; with `documents` and `embed-stream` how many requests of one call."""
    loop: Literal["asyncio", "uvloop"] = "asyncio"
    tls: bool = False

    @property
    def baseline(self) -> str:
        """The peer all others are compared with."""
        return self.over or ("bare" if self.action == "start" else "floor")

    @property
    def is_start(self) -> bool:
        """Whether whole interpreters are measured, from outside."""
        return self.action in ("start", "first-call")

    @property
    def is_embedding(self) -> bool:
        """Whether vectors are asked for."""
        return self.action in ("embed", "documents", "embed-stream")

    @property
    def as_difference(self) -> bool:
        """Whether peers are compared by what they add to the baseline, not by a ratio."""
        return self.difference or self.is_start

    @property
    def symbol(self) -> str:
        """The unit of time this scenario is reported in."""
        return "ms" if self.is_start else "µs"

    @property
    def per_second(self) -> float:
        """How many of that unit of time make a second."""
        return 1e3 if self.is_start else 1e6


EMBED_AHEAD = {"baseten": 7.0, "openai": 14.0, "langchain-nvidia": 70.0}
CHAT_AHEAD = {"openai": 20.0, "langchain-nvidia": 9.0, "pyreqwest": 1.0}
MANY = 32
"""Calls in flight: users who care for throughput send many side by side, and waking up costs both sides the less."""
FEW = 8
"""Paced streams in flight: more of them keep a slow client busy, and then it reads several tokens at once."""


def variants(scenario: Scenario, *, uvloop: float, tls: float) -> tuple[Scenario, ...]:
    """The same on uvloop and under TLS, each with its own limit against the floor there."""
    plain = {"ahead": {}, "other_limits": {}}
    return (
        scenario,
        replace(
            scenario,
            name=f"{scenario.name}-uvloop",
            title=f"{scenario.title}, uvloop",
            loop="uvloop",
            limit=uvloop,
            **plain,
        ),
        replace(scenario, name=f"{scenario.name}-tls", title=f"{scenario.title}, TLS", tls=True, limit=tls, **plain),
    )


def embedding(batch: int, action: Literal["documents", "embed-stream"], limit: float, ahead: float) -> Scenario:
    """One call that sends 64 requests of so many texts, 32 of them in flight."""
    call = {"documents": "embed_documents", "embed-stream": "embed_stream"}[action]
    return Scenario(
        name=f"{action}-{batch}",
        title=f"{call}, {batch} texts of 1024 dimensions a request, {MANY} in flight",
        action=action,
        unit="text",
        units_per_call=2 * MANY * batch,
        in_flight=MANY,
        limit=limit,
        ahead=EMBED_AHEAD | {"baseten": ahead},
        stretch=2.0,
    )


ALL = (
    Scenario(
        name="chat",
        title="small chat requests, one after another",
        action="chat",
        unit="request",
        limit=0.8,
    ),
    *variants(
        Scenario(
            name="chat-32",
            title=f"small chat requests, {MANY} in flight",
            action="chat",
            unit="request",
            limit=0.75,
            in_flight=MANY,
            ahead=CHAT_AHEAD,
        ),
        uvloop=0.7,
        tls=0.85,
    ),
    Scenario(
        name="stream",
        title="streaming, many tokens a read",
        action="stream",
        unit="token",
        units_per_call=2000,
        limit=2.0,
        ahead={"openai": 28.0},
    ),
    *variants(
        Scenario(
            name="stream-paced",
            title=f"streaming, one token a read, 2 ms apart, {FEW} in flight",
            action="stream",
            unit="token",
            units_per_call=250,
            limit=0.75,
            model=canned.PACED_MODEL,
            in_flight=FEW,
            stretch=2.0,
            ahead={"openai": 6.0},
        ),
        uvloop=1.2,
        tls=0.9,
    ),
    Scenario(
        name="embed-64",
        title="embeddings.create, 64 texts of 1024 dimensions, one request after another",
        action="embed",
        unit="text",
        units_per_call=64,
        limit=0.97,
        other_limits={"nimclient-stdlib": 2.0},
    ),
    *variants(embedding(64, "documents", 0.85, 7.0), uvloop=0.85, tls=0.85),
    embedding(256, "documents", 0.85, 8.0),
    embedding(64, "embed-stream", 1.0, 7.0),
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
        limit=60.0,
        ours="nimclient-sync",
        over="nimclient",
        difference=True,
        ahead={"openai-sync": 4.0},
    ),
    Scenario(name="import", title="import plus construction", action="start", unit="start", limit=50.0),
    Scenario(
        name="first-call",
        title="a process that asks once, imports included",
        action="first-call",
        unit="start",
        limit=60.0,
    ),
)
BY_NAME = {scenario.name: scenario for scenario in ALL}


def texts(count: int) -> list[str]:
    """Passages of about a hundred characters."""
    return [
        f"Passage {position}: the quick brown fox jumps over a lazy dog, then it rests." for position in range(count)
    ]


def bind(scenario: Scenario, peer: Peer) -> Callable[[], Awaitable[object]]:
    """The one call that this scenario repeats."""
    passages = texts(scenario.units_per_call) if scenario.is_embedding else []
    batch = len(passages) // (2 * scenario.in_flight)
    match scenario.action:
        case "stream":
            return lambda: peer.stream(scenario.units_per_call)
        case "embed":
            return lambda: peer.embed(passages)
        case "documents":
            return lambda: peer.documents(passages, batch, scenario.in_flight)
        case "embed-stream":
            return lambda: peer.embed_stream(passages, batch, scenario.in_flight)
        case "chat":
            return lambda: peer.chat(CHAT_TOKENS)
        case "start" | "first-call":
            raise ValueError("a start is measured from outside")


def side_by_side(scenario: Scenario) -> int:
    """How many callers repeat the call at once."""
    return 1 if scenario.is_embedding else scenario.in_flight


def check(scenario: Scenario, answer: object) -> None:
    """Raise ValueError unless the runner got the whole answer: a runner that loses data would look fast."""
    match scenario.action:
        case "embed":
            correct = is_expected_matrix(answer, scenario.units_per_call, scenario.units_per_call)  # type: ignore[arg-type]  # bind() returns Rows here
        case "documents":
            batch = scenario.units_per_call // (2 * scenario.in_flight)
            correct = is_expected_matrix(answer, scenario.units_per_call, batch)  # type: ignore[arg-type]  # bind() returns Rows here
        case "embed-stream":
            correct = answer == scenario.units_per_call
        case _:
            tokens = CHAT_TOKENS if scenario.action == "chat" else scenario.units_per_call
            correct = answer == canned.answer_text(tokens)
    if not correct:
        raise ValueError(f"{scenario.name}: the answer is not what the server sent")


def is_expected_matrix(rows: Rows, count: int, batch: int) -> bool:
    """Whether the rows are as many and as long as sent, with the right numbers at both ends; each request has `batch`."""
    if len(rows) != count or {len(row) for row in rows} != {canned.DIMENSIONS}:
        return False
    return rows[0][0] == canned.vector(0)[0] and rows[-1][-1] == canned.vector(batch - 1)[-1]

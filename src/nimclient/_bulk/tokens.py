"""How many tokens a request will take, before it is answered: learned from those that were. Pure."""

from __future__ import annotations

from attrs import define

PER_BYTE = 0.25  # tokens of a body, before the first answer
ANSWER = 256.0  # tokens of an answer, before the first one, where the request sets no maximum
MAX_GUESS = 8192.0  # tokens of a body, before the first answer: it may hold an image
REMEMBERED = 32  # answers: older ones fade


@define
class Cost:
    """What a request takes of a limit of tokens.

    `kind`: the kind of its model; `size`: bytes of the body; `max_answer`: the maximum of tokens that it sets, 0 where there
    is no answer in tokens, None if it is not limited. `expected`: the tokens that were reserved for it.
    """

    kind: str
    size: int
    max_answer: int | None = None
    expected: float = 0.0


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

    def of(self, cost: Cost) -> float:
        """The expected tokens."""
        seen = self._seen.get(cost.kind)
        most = cost.max_answer
        if seen is None:
            answer = ANSWER if most is None else float(most)
            return min(PER_BYTE * cost.size, MAX_GUESS) + answer
        answer = seen.completion / seen.answers
        return seen.prompt / seen.bytes * cost.size + (answer if most is None else min(answer, most))

    def learn(self, cost: Cost, prompt: int, completion: int) -> None:
        """Record what a request took."""
        seen = self._seen.setdefault(cost.kind, _Seen())
        fade = 1.0 - 1.0 / REMEMBERED if seen.answers >= REMEMBERED else 1.0
        seen.answers = fade * seen.answers + 1.0
        seen.bytes = fade * seen.bytes + max(cost.size, 1)
        seen.prompt = fade * seen.prompt + prompt
        seen.completion = fade * seen.completion + completion

"""The chat template: a conversation as the tokens of a prompt, and back; and how an answer continues after its beginning."""

from collections.abc import Sequence
from typing import Final

from .extract import PlainMessage
from .text import pieces

_START: Final = "<|start|>"
_TEXT: Final = "<|text|>"
_END: Final = "<|end|>"


def rendered(messages: Sequence[PlainMessage], begun: str = "") -> list[str]:
    """The tokens of a prompt: four a message beside those of its text; behind them the beginning of the answer."""
    tokens: list[str] = []
    for message in messages:
        tokens += [_START, message.role, _TEXT, *pieces(message.text), _END]
    return [*tokens, *pieces(begun)]


def read_prompt(tokens: Sequence[str]) -> tuple[tuple[PlainMessage, ...], str] | None:
    """The messages of a rendered prompt and the beginning of the answer; None for tokens of another text."""
    messages: list[PlainMessage] = []
    at = 0
    while tokens[at : at + 1] == [_START] and _END in tokens[at:]:
        end = tokens.index(_END, at)
        messages.append(PlainMessage(tokens[at + 1], "".join(tokens[at + 3 : end])))
        at = end + 1
    return (tuple(messages), "".join(tokens[at:])) if messages else None


def rest_of(answer: str, begun: str) -> str:
    """How an answer continues after its beginning, which the template trims.

    As with a small model, it continues with the next token: the rest of one that the beginning has torn is lost.
    """
    begun, known = begun.rstrip(), ""
    tokens = pieces(answer)
    for at, token in enumerate(tokens):
        if len(known) >= len(begun):
            return "".join(tokens[at:]) if known.startswith(begun) else f" {answer}"
        known += token
    return "" if known.startswith(begun) else f" {answer}"

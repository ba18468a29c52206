"""Chat answers quoted from the messages.

There is no model: the sentences that share the most (rare) words with the question are quoted. If the
messages contain no answer, there is one to some questions of the guides (`facts`); else the simulator says so.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from .facts import known
from .text import content_stems, sentences

OPENINGS: Final = ("Based on the text given: ", "The text given says: ", "According to the text given: ")
WELCOME: Final = "! This is a simulator, not a model: it answers with sentences from the messages."
IGNORANCE: Final = "This is a simulator, not a model, and nothing in the messages answers: "
BUILT_IN: Final = "This is a simulator with a built-in answer: "

_MAX_QUOTED: Final = 3
_NEARLY_AS_GOOD: Final = 0.7
_PAIR_BONUS: Final = 0.5
_LABEL: Final = re.compile(r"^\s*(?:question|q|context|text|passages?|documents?|input)\s*:\s*", re.IGNORECASE)
_SWITCH: Final = re.compile(r"detailed thinking (?:on|off)|/(?:no_)?think\b", re.IGNORECASE)
_NUMBERED: Final = re.compile(r"^(\[\d+\]) ", re.MULTILINE)
_GREETING: Final = re.compile(
    r"(?:please )?(?:say )?(hello|hi|hey|good (?:morning|day|evening))(?: there)?[.!]*", re.IGNORECASE
)
_OWN_WORDS: Final = (*OPENINGS, IGNORANCE, BUILT_IN)


@dataclass(frozen=True, slots=True)
class PlainMessage:
    """One message: its role, its text parts joined, and the names of the tools it calls."""

    role: str
    text: str
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Material:
    """A parsed conversation: the question, the sentences to answer from, and fallback sentences.

    `request` is the whole last user message, of which `question` is one sentence.
    """

    question: str
    sources: tuple[str, ...]
    fallback: tuple[str, ...] = ()
    request: str = ""

    @property
    def everything(self) -> str:
        """The whole last user message, and after it the other material."""
        return "\n".join([self.request, *(source for source in self.sources if source not in self.request)])


def take_apart(messages: Sequence[PlainMessage]) -> Material:
    """The question is in the last user message; everything else is material for the answer.

    After tool results they are the material, and the fallback if no word is shared.
    """
    last_user = next((at for at in range(len(messages) - 1, -1, -1) if messages[at].role == "user"), None)
    if last_user is None:
        return Material("", _statements(message.text for message in messages if message.role != "assistant"))
    request = _SWITCH.sub("", messages[last_user].text)
    question, rest = split_question(request)
    results = _statements(message.text for message in messages[last_user + 1 :] if message.role == "tool")
    if results:
        return Material(question, results, results, request)
    earlier = (message.text for message in messages[:last_user] if not _is_own(message.text))
    own = _statements([rest])
    return Material(question, tuple(dict.fromkeys((*_statements(earlier), *own))), own, request)


def _is_own(text: str) -> bool:
    """Whether a text was written by the simulator, and so is not material for an answer."""
    return text.startswith(_OWN_WORDS) or WELCOME in text


def split_question(text: str) -> tuple[str, str]:
    """A user message as (question, rest): the question is the last sentence with a question mark, else the last one."""
    found = sentences(text)
    if not found:
        return "", ""
    at = next((at for at in range(len(found) - 1, -1, -1) if found[at].endswith("?")), len(found) - 1)
    return _LABEL.sub("", found[at]), "\n\n".join(found[:at] + found[at + 1 :])


def _statements(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(statement for text in texts for statement in _cited(_SWITCH.sub("", text))))


def _cited(text: str) -> Iterator[str]:
    """The sentences of a text that state something; behind those of an excerpt that begins with its number, that number."""
    before, *excerpts = _NUMBERED.split(text)
    for number, part in [("", before), *zip(excerpts[::2], excerpts[1::2], strict=True)]:
        for sentence in sentences(part):
            statement = _LABEL.sub("", sentence)
            if statement and not statement.endswith("?"):
                yield f"{statement} {number}".rstrip()


def closest(question: str, sources: Sequence[str]) -> list[str]:
    """The one to three sources that share the most with the question, in their own order; none if nothing is shared.

    Shared words are weighted by their rarity among the sources, shared word pairs by half of that in addition; long sentences
    are penalized.
    """
    asked = content_stems(question)
    asked_words, asked_pairs = set(asked), set(pairwise(asked))
    stems = [content_stems(source) for source in sources]
    spread = Counter(word for found in stems for word in set(found) & asked_words)
    rarity = {word: math.log(1.0 + len(sources) / count) for word, count in spread.items()}
    scores = [_score(found, asked_words, asked_pairs, rarity) for found in stems]
    best = max(scores, default=0.0)
    if best <= 0.0:
        return []
    ranked = sorted(range(len(sources)), key=lambda at: (-scores[at], at))[:_MAX_QUOTED]
    return [sources[at] for at in sorted(ranked) if scores[at] >= _NEARLY_AS_GOOD * best]


def _score(
    found: list[str], asked_words: set[str], asked_pairs: set[tuple[str, str]], rarity: dict[str, float]
) -> float:
    shared = sum(rarity[word] for word in set(found) & asked_words)
    if not shared:
        return 0.0
    pairs = sum(rarity[first] for first, _ in set(pairwise(found)) & asked_pairs)
    return (shared + _PAIR_BONUS * pairs) / math.sqrt(1.0 + len(found))


def answer(material: Material, variant: int) -> str:
    """The answer to a conversation; `variant` picks the opening words. A greeting gets a greeting."""
    if greeting := _GREETING.fullmatch(material.request.strip()):
        return f"{greeting[1].capitalize()}{WELCOME}"
    quoted = closest(material.question, material.sources) or list(material.fallback[:_MAX_QUOTED])
    if not quoted and (fact := known(material.question)) is not None:
        return f"{BUILT_IN}{fact}"
    if not quoted:
        return f"{IGNORANCE}{material.question}" if material.question else f"{IGNORANCE}(no question)"
    return OPENINGS[variant % len(OPENINGS)] + " ".join(quoted)


def thought(material: Material) -> str:
    """The reasoning: the question, and how the answer is found."""
    return (
        f"The question is: {material.question} Sentences to answer from: {len(material.sources)}. "
        "Those that share the most words with the question are quoted."
    )


def wants_thinking(messages: Iterable[PlainMessage], *, default: bool = False) -> bool:
    """Whether a message switches reasoning on or off in its text, as for Llama-Nemotron and Nemotron Nano v2."""
    wanted = default
    for message in messages:
        if message.role in ("system", "user"):
            for switch in _SWITCH.findall(message.text):
                wanted = switch.lower() in ("detailed thinking on", "/think")
    return wanted

"""Text completions: a prompt is continued by a Markov chain over its own words, in vLLM's JSON.

Each next word is one that followed the last word somewhere in the prompt, chosen by a generator seeded with the
prompt and the seeds: grammatical by luck only, and the same every time. It only ends at the token limit or a stop string.
"""

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, cast

from .dialects import CREATED
from .extract import answer, take_apart, thought
from .fields import Fields
from .logprobs import completion_logprobs
from .rejections import Rejection, bad_field
from .sampling import Cut, Sampling, check_context, cut_text, read_sampling
from .structured import Constraint, constrained_text, read_constraint
from .template import read_prompt, rest_of
from .text import pieces
from .vocabulary import Vocabulary
from .wire import DONE, Frame, TokenCounts, event

DEFAULT_TOKENS: Final = 16
MAX_PROMPTS: Final = 1024
MAX_LOGPROBS: Final = 20

_FALLBACK: Final = "the simulator repeats itself because the prompt has no words"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: its tokens, joined its text."""

    tokens: tuple[str, ...]

    @property
    def text(self) -> str:
        """Its text."""
        return "".join(self.tokens)


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A checked request; `logprobs` None is none at all."""

    prompts: tuple[Prompt, ...]
    sampling: Sampling
    echo: bool = False
    logprobs: int | None = None
    constraint: Constraint | None = None
    returns_ids: bool = False


@dataclass(frozen=True, slots=True)
class Continuation:
    """One continuation: the tokens of the prompt when they are echoed, and those of the text after it."""

    echoed: tuple[str, ...]
    cut: Cut


def read_completion(fields: Fields, vocabulary: Vocabulary) -> CompletionRequest:
    """Validate a request; Rejection (400) names what is wrong."""
    if fields.given("suffix") is not None:
        raise Rejection(400, "suffix is not currently supported", param="suffix")  # as in vLLM up to 0.25
    echo = fields.flag("echo")
    logprobs = fields.integer("logprobs", min=-1, max=MAX_LOGPROBS)
    return CompletionRequest(
        prompts=_prompts(fields, vocabulary),
        sampling=read_sampling(fields, default_max=DEFAULT_TOKENS, min_max_tokens=0 if echo else 1),
        echo=echo,
        logprobs=MAX_LOGPROBS if logprobs == -1 else logprobs,
        constraint=read_constraint(fields),
        returns_ids=fields.flag("return_token_ids"),
    )


def _prompts(fields: Fields, vocabulary: Vocabulary) -> tuple[Prompt, ...]:
    """A prompt is a text or a list of token ids; a list may hold several of either."""
    given = fields.given("prompt")
    if given is None:
        raise fields.missing("prompt")
    if isinstance(given, str):
        return (_prompt(given, vocabulary),)
    prompts = fields.array("prompt") or []
    if prompts and all(isinstance(item, int) for item in prompts):
        prompts = [prompts]
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise bad_field("prompt", f"must hold between 1 and {MAX_PROMPTS} prompts, got {len(prompts)}.")
    return tuple(_prompt(prompt, vocabulary) for prompt in prompts)


def _prompt(prompt: Any, vocabulary: Vocabulary) -> Prompt:
    if isinstance(prompt, str):
        return Prompt(tuple(pieces(prompt)))
    ids = cast("list[Any]", prompt) if isinstance(prompt, list) else []
    if not ids or not all(isinstance(token, int) for token in ids):
        raise bad_field("prompt", "must be a string, a list of token ids, or a list of either.")
    return Prompt(tuple(vocabulary.pieces_of(ids)))


def complete(request: CompletionRequest, seed: int, max_model_len: int) -> list[Continuation]:
    """All continuations, those of the first prompt first; equal requests under equal seeds have equal answers."""
    sampling = request.sampling
    for prompt in request.prompts:
        check_context(len(prompt.tokens), sampling.room_needed, max_model_len)
    return [
        _complete(request, prompt, seed + sampling.seed + sample)
        for prompt in request.prompts
        for sample in range(sampling.n)
    ]


def _complete(request: CompletionRequest, prompt: Prompt, seed: int) -> Continuation:
    limit = DEFAULT_TOKENS if request.sampling.max_tokens is None else request.sampling.max_tokens
    echoed = prompt.tokens if request.echo else ()
    if request.constraint is None:
        chat = read_prompt(list(prompt.tokens))
        if chat is None:
            text = continuation(prompt.text, limit, seed)
        else:  # the prompt of a chat, and the beginning of its answer
            material = take_apart(chat[0])
            text = rest_of(answer(material, seed), chat[1].removeprefix(thought(material)))
        return Continuation(echoed, cut_text(text, request.sampling, limit))
    text = constrained_text(request.constraint, prompt.text, lambda: continuation(prompt.text, limit, seed))
    return Continuation(echoed, cut_text(text, Sampling(), limit))


def continuation(prompt: str, tokens: int, seed: int) -> str:
    """The continuation of a prompt: at least `tokens` + 1 tokens, or nothing if none are requested."""
    spelled = prompt.split()
    if len(spelled) < 2:
        spelled += _FALLBACK.split()
    followers: dict[str, list[str]] = {}
    for first, second in pairwise(spelled):
        followers.setdefault(first, []).append(second)
    chance = random.Random(zlib.crc32(prompt.encode(), seed & 0xFFFFFFFF))
    word = spelled[-1]
    written: list[str] = []
    for _ in range(tokens + 1 if tokens else 0):  # a word is at least one token
        word = chance.choice(followers.get(word) or spelled)
        written.append(word)
    return " " + " ".join(written) if written else ""


@dataclass(frozen=True, slots=True)
class CompletionWriter:
    """Writes the answer to one request; `request_id` becomes part of its id.

    `vocabulary`: where the ids of tokens are from, if the answer has them.
    """

    request: CompletionRequest
    completions: Sequence[Continuation]
    model: str
    request_id: str
    vocabulary: Vocabulary | None = None

    def tokens(self) -> TokenCounts:
        """The tokens of the whole answer; echoed tokens are the prompt's."""
        prompt = sum(len(prompt.tokens) for prompt in self.request.prompts)
        complete = sum(len(completion.cut.tokens) for completion in self.completions)
        return TokenCounts(prompt, complete, tuple(completion.cut.finish_reason for completion in self.completions))

    def usage(self) -> dict[str, Any]:
        """The usage record of the whole answer."""
        tokens = self.tokens()
        prompt, complete = tokens.prompt_tokens, tokens.completion_tokens
        return {"prompt_tokens": prompt, "total_tokens": prompt + complete, "completion_tokens": complete}

    def body(self) -> dict[str, Any]:
        """The body of a plain answer."""
        return {
            **self._head(),
            "choices": [self._choice(at, completion) for at, completion in enumerate(self.completions)],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {**self.usage(), "prompt_tokens_details": None},
            "kv_transfer_params": None,
        }

    def _choice(self, at: int, completion: Continuation) -> dict[str, Any]:
        tokens = (*completion.echoed, *completion.cut.tokens)
        return {
            "index": at,
            "text": "".join(tokens),
            "logprobs": self._logprobs(tokens, 0, 0),
            "finish_reason": completion.cut.finish_reason,
            "stop_reason": completion.cut.stop_reason,
            "prompt_logprobs": None,
            **self._ids(completion.cut.tokens, at),
        }

    def _ids(self, tokens: Sequence[str], at: int | None = None) -> dict[str, Any]:
        """The ids of tokens, and of the prompt of the choice at this place, if they are asked for."""
        if self.vocabulary is None:
            return {}
        ids = {"token_ids": self.vocabulary.ids_of(tokens)}
        if at is None:
            return ids
        prompt = self.request.prompts[at // self.request.sampling.n]
        return {**ids, "prompt_token_ids": self.vocabulary.ids_of(prompt.tokens)}

    def _logprobs(self, tokens: Sequence[str], start: int, offset: int) -> dict[str, Any] | None:
        if self.request.logprobs is None:
            return None
        echoed = self.request.echo and start == 0
        return completion_logprobs(tokens, start, offset, self.request.logprobs, echoed=echoed)

    def _head(self) -> dict[str, Any]:
        return {
            "id": f"cmpl-{self.request_id}",
            "object": "text_completion",
            "created": CREATED,
            "model": self.model,
        }

    def frames(self) -> Iterator[Frame]:
        """The stream: pieces of text (an echo first, in one piece), a finish chunk, usage if requested, `[DONE]`."""
        streams = [list(self._texts(completion)) for completion in self.completions]
        last = max(0, *(len(texts) - 1 for texts in streams))
        for step in range(last + 1):
            for at, texts in enumerate(streams):
                if step < len(texts):
                    text, logprobs = texts[step]
                    choice = {"index": at, "text": text, "logprobs": logprobs, "finish_reason": None}
                    echoed = self.request.echo and not step
                    ids = self._ids([] if echoed else [text], None if step else at)
                    yield self._chunk(step, {**choice, **ids})._replace(tokens=1)
                if step == max(len(texts) - 1, 0):
                    yield self._chunk(step, self._finish(at))
        if self.request.sampling.include_usage:
            yield Frame(last, event({**self._head(), "choices": [], "usage": self.usage()}))
        yield Frame(last, DONE)

    def _texts(self, completion: Continuation) -> Iterator[tuple[str, dict[str, Any] | None]]:
        start = len(completion.echoed)
        offset = len("".join(completion.echoed))
        if completion.echoed:
            yield "".join(completion.echoed), self._logprobs(completion.echoed, 0, 0)
        for at, token in enumerate(completion.cut.tokens):
            yield token, self._logprobs([token], start + at, offset)
            offset += len(token)

    def _finish(self, at: int) -> dict[str, Any]:
        cut = self.completions[at].cut
        return {
            "index": at,
            "text": "",
            "logprobs": None,
            "finish_reason": cut.finish_reason,
            "stop_reason": cut.stop_reason,
        }

    def _chunk(self, step: int, choice: dict[str, Any]) -> Frame:
        chunk = {**self._head(), "choices": [choice]}
        if self.request.sampling.continuous_usage:
            chunk["usage"] = self.usage()
        return Frame(step, event(chunk))

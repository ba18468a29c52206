"""The load of a benchmark: concurrent requests of one kind, and how long each took by the client's own clock."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import anyio
from attrs import define, field, frozen

from nimclient import AsyncClient, NimError, Usage
from nimclient._base.values import ResponseMeta
from nimclient.cli.bench_figures import Sample
from nimclient.cli.failures import explain

_TEXT = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they "
    "which one you were her all she there would their we him been has when who will more no if out so said what up "
    "its about into than them can only other new some could time these two may then do first any my now such like "
    "our over man me even most made after also did many before must through back years where much your way well "
    "down should because each just those people how too little state good very make world still own see men work "
    "long get here between both life being under never day same another know while last might us great old year "
    "off come since against go came right used take three"
)
WORDS = _TEXT.split()
"""Common English words: about one token each, in any vocabulary."""
_QUERY_WORDS = 8


def random_text(words: int) -> str:
    """A text that no server has in its cache."""
    return " ".join(WORDS[byte % len(WORDS)] for byte in os.urandom(words))


class Load(Protocol):
    """Sends one request."""

    async def send(self) -> Sample:
        """Send it, and read the answer to its end. Raises NimError."""
        ...


@frozen
class ChatLoad:
    """A streamed chat of one message."""

    client: AsyncClient
    input_tokens: int
    options: Mapping[str, Any]

    async def send(self) -> Sample:
        """See Load."""
        question = f"Write a long story with these words: {random_text(self.input_tokens)}"
        async with self.client.chat.stream(question, **self.options) as stream:
            reply = await stream.final()
        waited, timings = _until_sent(reply.meta), reply.meta.timings if reply.meta else None
        ttft = waited + (timings.ttft or 0.0) if timings else 0.0
        written = sum(timings.inter_token) if timings else 0.0
        usage = reply.usage or Usage(completion_tokens=1 + len(timings.inter_token) if timings else 0)
        return Sample(ttft + written, ttft, usage.prompt_tokens, usage.completion_tokens, reply.model)


@frozen
class EmbedLoad:
    """A batch of texts in one request."""

    client: AsyncClient
    input_tokens: int
    batch_size: int
    options: Mapping[str, Any]

    async def send(self) -> Sample:
        """See Load."""
        texts = [random_text(self.input_tokens) for _ in range(self.batch_size)]
        answer = await self.client.embeddings.create(texts, input_type="passage", **self.options)
        return _whole(answer.meta, answer.usage, answer.model)


@frozen
class RerankLoad:
    """A query and a number of documents."""

    client: AsyncClient
    input_tokens: int
    batch_size: int
    options: Mapping[str, Any]

    async def send(self) -> Sample:
        """See Load."""
        documents = [random_text(self.input_tokens) for _ in range(self.batch_size)]
        ranking = await self.client.rerank(random_text(_QUERY_WORDS), documents, **self.options)
        model = ranking.model or self.client._engine.core.default_models.get("ranking")  # NIM does not say
        return _whole(ranking.meta, ranking.usage, model)


def load_for(args: argparse.Namespace, client: AsyncClient, options: Mapping[str, Any]) -> Load:
    """The load that the arguments describe."""
    if args.kind == "chat":
        return ChatLoad(client, args.input_tokens, {"max_tokens": args.output_tokens, **options})
    if args.kind == "embed":
        return EmbedLoad(client, args.input_tokens, args.batch_size or 1, options)
    return RerankLoad(client, args.input_tokens, args.batch_size or 10, options)


def _until_sent(meta: ResponseMeta | None) -> float:
    return (meta.timings.queue or 0.0) + (meta.timings.connect or 0.0) if meta else 0.0


def _whole(meta: ResponseMeta | None, usage: Usage | None, model: str | None) -> Sample:
    seconds = meta.timings.total if meta is not None else None
    return Sample(seconds or 0.0, tokens_in=usage.prompt_tokens if usage else 0, model=model)


@define
class Level:
    """The results of one level of concurrency."""

    samples: list[Sample] = field(factory=list[Sample])
    errors: Counter[str] = field(factory=Counter[str])
    """How many of each kind, by the text of the first."""
    seconds: float = 0.0
    _texts: dict[tuple[str, int | None], str] = field(factory=dict[tuple[str, "int | None"], str])

    def fail(self, error: NimError) -> None:
        """Count it."""
        kind = (type(error).__name__, getattr(error, "status", None))
        self.errors[self._texts.setdefault(kind, explain(error))] += 1

    @property
    def done(self) -> int:
        """Requests that have succeeded or failed."""
        return len(self.samples) + self.errors.total()


async def measure(load: Load, concurrency: int, requests: int, on_done: Callable[[int, int], object]) -> Level:
    """Keep `concurrency` requests in flight until so many are done; `on_done(done, requests)` is called after each."""
    level = Level()
    numbers = iter(range(requests))
    started = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(min(concurrency, requests)):
            group.start_soon(_work, load, numbers, level, requests, on_done)
    level.seconds = max(anyio.current_time() - started, 1e-9)
    return level


async def _work(
    load: Load, numbers: Iterator[int], level: Level, requests: int, on_done: Callable[[int, int], object]
) -> None:
    for _ in numbers:
        try:
            level.samples.append(await load.send())
        except NimError as error:
            level.fail(error)
        on_done(level.done, requests)

"""`long="mean"`: texts longer than the model takes are cut, their pieces embedded, and the vectors of the pieces pooled.

A server with a tokenizer (vLLM, SGLang, NIM 2.x) says how many tokens a text has and the model takes; the pieces are sent as
the ids of its tokens. Texts of so few bytes that they probably fit are sent as they are, and tokenized if they are rejected.
Without a tokenizer the server's rejections say what is too long: such a text is halved until its parts are accepted, and
each part is weighted by the tokens in the usage of its response. A warning says so.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, cast

from attrs import evolve

from nimclient._api.tokens import tokenize_call
from nimclient._bulk.pooling import parts_of, pieces_of, pooled
from nimclient._bulk.workers import run_all
from nimclient._resources.base import Resource
from nimclient._resources.reuse import ReusingRun
from nimclient._retry.classify import is_no_route, is_status
from nimclient.errors import (
    APIStatusError,
    BadRequestError,
    ConfigurationError,
    ContextLengthError,
    DecodeError,
    RequestTooLargeError,
    UnprocessableEntityError,
)
from nimclient.records._numbers import rounded_to_float16
from nimclient.records.embeddings import Embeddings, Vector, Vectors, joined_embeddings
from nimclient.records.server import Tokenization

_LIKELY = 3
"""Bytes per token above which a text is tokenized before it is sent. Prose has 3 to 5; with fewer it is rejected first."""
_REQUEST_TOKENS = 65_536  # ids in a request, some 400 kB of JSON; at least one piece
_TRUNCATES_SILENTLY = ("infinity",)
_COUNT_BYTES = 4  # of the number of pieces, behind a vector in a cache


class LongRun(ReusingRun):
    """A call over many texts that cuts those which are longer than the model takes.

    A cache holds the number of pieces behind each vector.
    """

    _variant = ("long=mean",)

    def __init__(self, resource: Resource, method: str, **settings: Any) -> None:
        super().__init__(resource, method, **settings)
        self._limit: int | None = None  # tokens that the model takes, where the server has a tokenizer
        self._fits = 0  # characters of the longest part of a text that was accepted, where the server has none
        self._tokenizing = self._engine.gate("tokenize", self._concurrency, work=len)
        _check_whole_texts(self._truncate, self._options)

    async def _prepare(self) -> None:
        await super()._prepare()
        if self.tally.total != 0:
            self._limit = await self._limit_of_model()

    async def _limit_of_model(self) -> int | None:
        """The tokens that the model takes; None if the server does not tokenize, or does not let us."""
        try:
            return (await self._tokenized("x")).max_model_len
        except DecodeError:
            return None
        except APIStatusError as error:
            if is_no_route(error) or is_status(error, 400, 401, 403, 422):
                return None
            raise

    async def _tokenized(self, text: str) -> Tokenization:
        call = tokenize_call(
            (self._options.get("prefix") or "") + text, self._resource._known_model("embedding", self._model), {}
        )
        options = {name: self._options.get(name) for name in ("timeout", "extra_headers")}
        found = await self._resource._send(call, options, self._tokenizing)
        self.tally.sent(1 if found.meta is None else found.meta.attempts)
        return found

    async def _send(self, texts: Sequence[str | list[int]]) -> Embeddings:
        whole = cast("list[str]", texts)
        if self._limit is None:
            return await self._send_parts(whole)
        try:
            long = await self._long_of(whole, _LIKELY * self._limit)
        except RequestTooLargeError:  # a limit of the server's tokenizer, or of a gateway, in bytes
            return await self._send_parts(whole)
        try:
            return await self._send_pieces(whole, long)
        except ContextLengthError:
            found = await self._long_of(whole, self._limit // 2)
            if found.keys() == long.keys():  # its tokenizer counts otherwise than its embeddings do
                return await self._send_parts(whole)
            return await self._send_pieces(whole, found)

    # with a tokenizer -----------------------------------------------------------------------------------------------

    async def _long_of(self, texts: list[str], size: int) -> dict[int, list[list[int]]]:
        """The pieces of the texts that are too long, by position. Only those of more than `size` bytes are looked at."""
        assert self._limit is not None
        limit = self._limit
        suspects = [at for at, text in enumerate(texts) if 4 * len(text) > size and len(text.encode()) > size]
        tokens: dict[int, Tokenization] = {}
        if suspects:
            some = [texts[at] for at in suspects]
            await run_all(some, self._tokenized, self._tokenizing.width, tokens.__setitem__)
        counted = {at: tokens[place].tokens for place, at in enumerate(suspects)}
        return {at: pieces_of(ids, limit) for at, ids in counted.items() if len(ids) > limit}

    async def _send_pieces(self, texts: list[str], long: Mapping[int, list[list[int]]]) -> Embeddings:
        """The vectors of all texts: of the short ones in one request, then of the pieces of the others."""
        short = [text for at, text in enumerate(texts) if at not in long]
        answers = [await super()._send(short)] if short else []
        if not long:
            return answers[0]
        pieces = list(chain.from_iterable(long.values()))
        assert self._limit is not None
        each = max(1, min(self._batch_size or len(pieces), _REQUEST_TOKENS // self._limit))
        groups = [pieces[start : start + each] for start in range(0, len(pieces), each)]
        sent: dict[int, Embeddings] = {}
        try:
            await run_all(groups, super()._send, self._gate.width, sent.__setitem__)
        except (BadRequestError, UnprocessableEntityError):  # it takes no ids: what it says to the texts decides
            self._limit = None
            return await self._send_parts(texts)
        answers += [sent[place] for place in range(len(groups))]
        vectors = list(chain.from_iterable(answer.vectors for answer in answers))
        rows: list[bytes | memoryview] = []
        next_short, next_piece = 0, len(short)
        for at in range(len(texts)):
            if (own := long.get(at)) is None:
                rows.append(vectors[next_short].buffer)
                next_short += 1
            else:
                some = vectors[next_piece : next_piece + len(own)]
                rows.append(_pooled_row(some, [len(piece) for piece in own]))
                next_piece += len(own)
        return _with_rows(answers, rows, {at: len(own) for at, own in long.items()})

    # without one ----------------------------------------------------------------------------------------------------

    async def _send_parts(self, texts: list[str]) -> Embeddings:
        """The vectors of texts of a server that tells by a rejection that one is too long."""
        try:
            answer = await super()._send(texts)
        except (ContextLengthError, RequestTooLargeError) as error:
            if len(texts) == 1:
                return await self._mean_of_parts(texts[0])
            if not isinstance(error, ContextLengthError):
                raise  # the slice is too large, not a text
        else:
            self._check_server()
            return answer
        middle = len(texts) // 2
        return joined_embeddings([await self._send_parts(texts[:middle]), await self._send_parts(texts[middle:])])

    async def _mean_of_parts(self, text: str) -> Embeddings:
        problem = (
            "the server has no /tokenize, or accepts no token ids: texts that are too long are cut at white space into parts "
            "that it accepts, not by its tokens, and the parts are weighted by the tokens of its usage"
        )
        if self._engine.config.strict:
            raise ConfigurationError(problem)
        self._engine.core.warn_once(problem)
        answers: list[Embeddings] = []
        left = deque(self._parts(text))
        while left:
            part = left.popleft()
            try:
                answers.append(await super()._send([part]))
            except (ContextLengthError, RequestTooLargeError):
                if len(part) < 2:
                    raise
                left.extendleft(reversed(self._parts(part)))
            else:
                self._fits = max(self._fits, len(part))
        tokens = [0 if answer.usage is None else answer.usage.prompt_tokens for answer in answers]
        if 0 in tokens:
            raise ConfigurationError(
                'long="mean" weighs the parts of a text by their tokens, and the server does not report them: it has '
                'no /tokenize, and its responses have no usage; encoding_format="base64" may help'
            )
        row = _pooled_row([answer.vectors[0] for answer in answers], tokens)
        return _with_rows(answers, [row], {0: len(answers)})

    def _parts(self, text: str) -> list[str]:
        """A text that is too long in two, or in as many as parts of the accepted length make."""
        count = -(-len(text) // self._fits) if self._fits else 2
        return parts_of(text, min(max(count, 2), len(text)))

    def _check_server(self) -> None:
        found = self._engine.server_type_for(self._resource._known_model("embedding", self._model))
        if found in _TRUNCATES_SILENTLY:
            raise ConfigurationError(
                f'{found} silently cuts off texts that are too long: long="mean" cannot tell which. Split them first'
            )

    # the cache ------------------------------------------------------------------------------------------------------

    async def _cached(self, texts: list[str], pieces: dict[str, int]) -> dict[str, bytes | memoryview]:
        rows = await super()._cached(texts, pieces)
        for text, row in rows.items():
            count = int.from_bytes(row[-_COUNT_BYTES:], "little")
            if count > 1:
                pieces[text] = count
        return {text: row[:-_COUNT_BYTES] for text, row in rows.items()}

    async def _keep(self, rows: Mapping[str, bytes | memoryview], pieces: Mapping[str, int]) -> None:
        counted = {
            text: bytes(row) + pieces.get(text, 1).to_bytes(_COUNT_BYTES, "little")
            for text, row in rows.items()
            if any(row)
        }
        await super()._keep(counted, pieces)


def _check_whole_texts(truncate: str | None, options: Mapping[str, Any]) -> None:
    """ConfigurationError for options that cut texts off, or give vectors without a mean."""
    if truncate not in (None, "NONE"):
        raise ConfigurationError(f'truncate={truncate!r} and long="mean" exclude each other')
    if "truncate_prompt_tokens" in (options.get("extra_body") or ()):
        raise ConfigurationError('truncate_prompt_tokens and long="mean" exclude each other')
    if options.get("embedding_type") not in (None, "float"):
        raise ConfigurationError('long="mean" takes the mean of float vectors: embedding_type must be float')


def _pooled_row(vectors: Sequence[Vector], tokens: Sequence[int]) -> bytes:
    row = array("f", pooled(vectors, tokens)).tobytes()
    return rounded_to_float16(row) if vectors[0].dtype == "float16" else row


def _with_rows(
    answers: Sequence[Embeddings], rows: Sequence[bytes | memoryview], pieces: Mapping[int, int]
) -> Embeddings:
    """The answers as one with these vectors, of which those at the positions in `pieces` are of texts that were cut."""
    whole = joined_embeddings(answers)
    like, usage, meta = whole.vectors, whole.usage, whole.meta
    buffer = b"".join(rows)
    vectors = Vectors(buffer, like.dimensions, like.dtype, usage=usage, model=like.model, meta=meta, pieces=pieces)
    return evolve(whole, vectors=vectors)

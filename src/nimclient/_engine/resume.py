"""Reads a chat stream that is resumed where it was interrupted: another request brings the rest, the caller sees one stream.

`_api/resume.py` builds that request, `_streams/seam.py` fits its events to the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from anyio import CancelScope
from attrs import evolve

from nimclient._api.models import list_call
from nimclient._api.resume import CONTINUING, Received, Resumption, by_ids, by_text, is_all_ids, is_open, never_resumed
from nimclient._api.tokens import detokenize_call
from nimclient._base.log import log
from nimclient._base.types import JsonDict
from nimclient._base.values import ResponseMeta
from nimclient._engine.call_state import CallState
from nimclient._engine.engine import Engine
from nimclient._retry.classify import classify
from nimclient._streams.accumulate import ChatAccumulator
from nimclient._streams.events import chunks_of, plain_answer
from nimclient._streams.reader import AnswerReader
from nimclient._streams.response import Response, attempt_of, with_history
from nimclient._streams.seam import Seam
from nimclient._streams.surrogates import SurrogateJoiner
from nimclient.errors import (
    APIStatusError,
    DecodeError,
    NimError,
    RequestTimeoutError,
    StreamFaultError,
    StreamInterruptedError,
)
from nimclient.records._decode import object_or_empty, objects, whole_number
from nimclient.records.chat import ChatChunk, ChatCompletion, as_parts

_HEAD = ("id", "object", "created", "model")
_TORN = 4
"""Maximum number of tokens of one character."""


class ResumableReader(AnswerReader[ChatChunk, ChatCompletion]):
    """Reads a chat stream; one that is interrupted after content is continued up to `resumes` times.

    Where that is not possible, the error is raised as without it, and its message says why. All complete events of a stream
    are kept, so text ends where a token does.
    """

    __slots__ = (
        "_call",
        "_engine",
        "_first",
        "_gaps_of_breaks",
        "_ids",
        "_is_torn",
        "_latest",
        "_left",
        "_plan",
        "_prompt_ids",
        "_resuming",
        "_seam",
        "_solid",
        "_state",
        "_whole_ids",
    )

    def __init__(self, engine: Engine, state: CallState[Any], response: Response, resumes: int) -> None:
        super().__init__(response, ChatAccumulator(), ChatChunk)
        self._engine = engine
        self._state = state
        self._call = state.call
        self._latest = response
        self._left = resumes
        self._first: JsonDict = {}  # the fields that are the same in all events
        self._prompt_ids: list[int] = []
        self._ids = 0  # how many token ids came, …
        self._whole_ids = 0  # … up to the last text, …
        self._solid = 0  # … and up to the last text that is more than white space
        self._is_torn = False  # half a character followed the last text
        self._plan: Resumption | None = None
        self._seam: Seam | None = None
        self._resuming: CancelScope | None = None
        self._gaps_of_breaks: list[float] = []

    # reading -------------------------------------------------------------------------------------------------------

    async def read_first(self) -> None:
        """See Reader. A stream that is interrupted in the read of its first content is resumed, if it can be."""
        await super().refill()
        failure = self._failure
        if failure is None or (self._is_break(failure) and self._why_not() is None):
            return
        if self._is_break(failure):
            self._left = 0
            self._fail(failure)
        raise failure

    async def refill(self) -> None:
        """See Reader."""
        while True:
            try:
                await super().refill()
                return
            except NimError as error:
                if not self._is_break(error):
                    if self._seam is not None and error.partial is None:  # it came in the read that resumed the answer
                        self._annotate(error)
                    raise
                broken = error
            await self._resume(broken)

    def _is_break(self, error: NimError) -> bool:
        """Whether this error is the end of a stream that may be resumed."""
        if not self._left or not self.has_content or self._closed or self._resuming is not None:
            return False
        if isinstance(error, StreamFaultError):
            return classify(error).retryable
        is_idle = isinstance(error, RequestTimeoutError) and error.phase == "idle"
        return is_idle or isinstance(error, (StreamInterruptedError, DecodeError))

    def _fail(self, error: BaseException) -> None:
        """See Reader; a stream that is resumed has not failed."""
        if self._resuming is not None or (isinstance(error, NimError) and self._is_break(error)):
            self._body.abort()
        else:
            super()._fail(error)

    def _annotate(self, error: NimError) -> None:
        error.partial = self.partial()
        self._latest.annotate(error)

    def _add(self, events: Iterable[JsonDict | None], block: bytes = b"") -> bool:
        return super()._add(self._followed(events), block if self._seam is None else b"")

    def _take_whole(self, data: bytes) -> None:
        if self._seam is None:
            super()._take_whole(data)
        else:
            self._add(chunks_of(plain_answer(data, self._head)))

    def _followed(self, events: Iterable[JsonDict | None]) -> Iterator[JsonDict | None]:
        """The events as those of one answer; notes what a continuation needs."""
        for given in events:
            for event in [given] if given is None or self._seam is None else self._seam.fit(given):
                if event is not None:
                    self._note_event(event)
                yield event

    def _note_event(self, event: JsonDict) -> None:
        if not self._first:
            self._first = {name: event[name] for name in _HEAD if name in event}
            self._prompt_ids = as_parts(event.get("prompt_token_ids"))
        for choice in objects(event.get("choices")):
            self._ids += len(as_parts(choice.get("token_ids")))
            if piece := object_or_empty(choice.get("delta")).get("content"):
                self._whole_ids = self._ids
                self._solid = self._ids if str(piece).strip() else self._solid
                self._is_torn = bool(self._joiner.halves)
        if self._seam is not None and (too_much := self._seam.too_much):
            text = self._accumulator.choices[0].text
            text[:] = ["".join(text)[:-too_much]]

    # resuming ------------------------------------------------------------------------------------------------------

    async def _resume(self, error: NimError) -> None:
        """Have another request bring the rest of the answer. Raises the error, with the reason, if none does."""
        broke, attempts = self.clock(), len(self._state.history)
        self._left -= 1
        failure: NimError | None = None
        try:
            with CancelScope() as self._resuming:
                await self._continue(error)
            if self._resuming.cancelled_caught:
                failure = StreamInterruptedError("the stream was closed while it was being read")
        except NimError as problem:
            why = problem.message
            if isinstance(problem, APIStatusError):  # whose message may be the whole prompt
                why = f"the server rejected it with {problem.status}"
            error.args = (f"{error.message}; not resumed: {why}",)
            failure = error
        except BaseException as other:
            self._resuming = None
            self._fail(other)
            raise
        self._resuming = None
        if failure is None:
            self._gaps_of_breaks.append(self.clock() - broke)
            log.info("a stream was resumed after %s", error)
            return
        self._left, self._failure = 0, failure
        self._fail(failure)
        if len(self._state.history) > attempts:
            with_history(failure, tuple(self._state.history))
        raise failure

    def _why_not(self) -> str | None:
        """Why this answer cannot be continued, or None."""
        if list(self._accumulator.choices) != [0]:
            return "the answer has several choices"
        kind = self._engine.server_type_for(self._call.model)
        if kind is not None and kind not in CONTINUING:
            return f"a server of type {kind} does not continue an answer"
        partial = self.partial()
        if partial is not None and partial.reasoning is not None and not partial.text:
            return "the model is still reasoning"
        message = object_or_empty(objects((self._accumulator.answer() or {}).get("choices"))[0].get("message"))
        return never_resumed(self._call.fields or {}) or is_open(message)

    async def _continue(self, error: NimError) -> None:
        """Send the most exact request that the server takes. Raises NimError if there is none."""
        if (reason := self._why_not()) is not None:
            raise NimError(reason)
        latest, got = self._latest, self._received()
        self._state.history.append(attempt_of(latest.base_url, error, self.clock() - latest.sent))
        exact = await self._exact(got)
        if exact is not None:
            try:
                await self._send(exact)
                return
            except APIStatusError as rejected:
                if rejected.status not in (400, 404, 405, 422):
                    raise
        if self._engine.server_type_for(self._call.model) is None:
            raise NimError("the server's type is not known; set it with dialect=")
        found = by_text(self._call, got)
        if isinstance(found, str):
            raise NimError(found)
        await self._send(found)

    def _received(self) -> Received:
        """What is kept of the answer."""
        state, partial = self._accumulator.choices[0], self.partial()
        reasons = partial is not None and partial.reasoning is not None
        pieces = [piece for piece in state.text if piece]
        spaces = next((number for number, piece in enumerate(reversed(pieces)) if piece.strip()), len(pieces))
        if self._ids:
            ids = state.lists["token_ids"][: self._whole_ids]
            prompt = len(self._prompt_ids) or None
            return Received("".join(pieces), len(ids), self._solid, ids, self._prompt_ids, prompt, reasons)
        usage = object_or_empty((self._accumulator.answer() or {}).get("usage"))
        tokens = whole_number(usage.get("completion_tokens")) or len(pieces)
        prompt = whole_number(usage.get("prompt_tokens"))
        return Received("".join(pieces), tokens, tokens - spaces, prompt_tokens=prompt, has_reasoning=reasons)

    async def _exact(self, got: Received) -> Resumption | None:
        """The continuation by token ids, if the server sends them and supports everything else that is needed."""
        call, engine = self._call, self._engine
        if (
            self._is_torn
            or not is_all_ids(call, got)
            or call.model is None
            or engine.endpoint_of(call.model) is not None
        ):
            return None
        try:
            context = await self._context()
            if not (call.fields or {}).get("stop"):
                return by_ids(call, got, context)
            ids = list(self._accumulator.choices[0].lists["token_ids"])
            for count in range(len(ids), max(0, len(ids) - _TORN), -1):
                whole = (await engine.send(detokenize_call(ids[:count], call.model, {}), self._options())).text
                if not whole.endswith("\ufffd"):  # a character that is not complete
                    if not whole.startswith(got.text):
                        raise NimError("its token ids decode to a different text")
                    kept = evolve(got, tokens=count, ids=ids[:count])
                    return by_ids(call, kept, context, held=whole[len(got.text) :])
        except (APIStatusError, DecodeError) as error:
            log.info("a stream is not continued by token ids: %s", type(error).__name__)
        return None

    async def _context(self) -> int | None:
        """The model's context length, if the call has no limit of tokens of its own."""
        fields = self._call.fields or {}
        if "max_tokens" in fields or "max_completion_tokens" in fields:
            return None
        models = await self._engine.send(list_call(), self._options())
        return next((model.max_model_len for model in models if model.id == self._call.model), None)

    def _options(self) -> JsonDict:
        """The options of a request beside the continuation: the headers and the time of the call."""
        deadline, timeouts = self._state.deadline, self._state.timeouts
        left = None if deadline is None else max(0.0, deadline - self.clock())
        return {"timeout": evolve(timeouts, total=left), "extra_headers": self._state.headers}

    async def _send(self, plan: Resumption) -> None:
        """Read on from the response to this plan."""
        self._plan = plan
        if plan.call is not None:
            await self._engine.again(self._state, plan.call, self._read_on)
            return
        self._begin_seam(plan)
        assert self._seam is not None
        seam, self._seam = self._seam, None
        self._add(seam.end())
        self._failure, self.ended = None, True

    def _begin_seam(self, plan: Resumption) -> None:
        """Cut the answer back to what the plan keeps: an earlier attempt may have added to it."""
        got, state = self._received(), self._accumulator.choices[0]
        self._seam = Seam(
            self._first,
            got.text,
            plan.tokens,
            got.prompt_tokens,
            space=plan.space,
            held=plan.held,
            full=plan.full,
            fields=self._call.fields or {},
        )
        self._joiner = SurrogateJoiner()
        self._accumulator.forget()
        self.ready.clear()
        if self._ids:
            del state.lists["token_ids"][plan.tokens :]
            self._ids = self._whole_ids = self._solid = plan.tokens

    async def _read_on(self, response: Response) -> None:
        """Read the first content of a continuation. Errors raised here may be retried."""
        if self._closed:
            raise StreamInterruptedError("the stream was closed while it was being read")
        assert self._plan is not None
        self._begin_seam(self._plan)
        self._latest, self._body = response, response.body
        self._buffer = self._whole = self._failure = None
        self._sample = b""
        self._broken = self.ended = self.is_complete = self.has_content = False
        waiting, self._observations = self._observations, ()  # the attempt is reported before the end
        try:
            await super().refill()
            if self._failure is not None and not self.has_content:
                raise self._failure
        finally:
            self.has_content, self._observations = True, waiting

    async def close(self) -> None:
        """See Reader."""
        if self._resuming is not None:
            self._resuming.cancel()
        await super().close()

    # results -----------------------------------------------------------------------------------------------------

    def meta(self) -> ResponseMeta:
        """See Reader."""
        meta = super().meta()
        if not self._gaps_of_breaks:
            return meta
        timings = evolve(meta.timings, gaps=tuple(self._gaps_of_breaks))
        return evolve(meta, attempts=self._latest.number, timings=timings, resumed=len(self._gaps_of_breaks))


async def read_resumable(engine: Engine, resumes: int, state: CallState[Any], response: Response) -> ResumableReader:
    """The reader of a chat stream, after its first event with content."""
    reader = ResumableReader(engine, state, response, resumes)
    await reader.read_first()
    return reader

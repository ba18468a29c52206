"""Fits the events of a continuation to the answer that it continues, so that together they are one stream.

Ids and usage become those of the whole answer. At the seam white space that comes twice is taken out, and a stop string that
begins before it and ends behind it is found: the server looks for stop strings in new text only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nimclient._base.types import JsonDict
from nimclient.errors import NimError
from nimclient.records._decode import object_or_empty, objects, whole_number
from nimclient.records.chat import as_parts, reasoning_of

_NOT_OF_CHAT = ("text", "delta", "prompt_token_ids", "prompt_logprobs", "logprobs")


class Seam:
    """The seam between an interrupted answer and its continuation. Feed the events of the continuation in order.

    Args:
        head: The fields that are alike in all events of the answer: its id, model, time and kind.
        text: The answer so far.
        tokens: How many tokens of it are kept.
        prompt_tokens: Those of the prompt; None if they are not known.
        space: White space at the end of the text that the continuation brings again.
        held: What follows the text for certain.
        full: Whether nothing of the continuation belongs to the answer, whose limit of tokens is reached.
        fields: The request of the answer: its stop strings, and which events have the usage.
    """

    def __init__(
        self,
        head: JsonDict,
        text: str,
        tokens: int,
        prompt_tokens: int | None,
        *,
        space: str = "",
        held: str = "",
        full: bool = False,
        fields: Mapping[str, Any],
    ) -> None:
        self._head = head
        self._sent = text[: len(text) - len(space)]
        self._kept = tokens
        self._prompt = prompt_tokens
        self._space = space
        self._held = held
        self._full = full
        stop: str | list[str] = fields.get("stop") or []
        self._stops = [stop] if isinstance(stop, str) else list(stop)
        self._keep_stop = bool(fields.get("include_stop_str_in_output"))
        options = object_or_empty(fields.get("stream_options"))
        self._has_usage, self._continuous = (
            bool(options.get("include_usage")),
            bool(options.get("continuous_usage_stats")),
        )
        reach = max(map(len, self._stops), default=1) - 1
        self._before = text[-reach:] if reach else ""
        self._needed = max(reach, len(space))  # characters of new text until the seam can be judged
        self._new: str | None = ""  # those that came; None behind the seam
        self._counted = 0
        self._usage: JsonDict = {}
        self.too_much = 0
        """How many characters at the end of the answer's text belong to a stop string."""

    def fit(self, event: JsonDict) -> list[JsonDict | None]:
        """The events of the answer that an event of the continuation becomes; None is the end.

        Raises NimError for an event that does not continue the answer.
        """
        usage = object_or_empty(event.get("usage"))
        if usage:
            self._usage = usage
            if self._is_new_turn(whole_number(usage.get("prompt_tokens"))):
                raise NimError("the server began a new turn")
        choice = next(iter(objects(event.get("choices"))), None)
        if choice is None:
            return [*self._last_usage()] if usage else [event]
        if self._full:
            return [self._at_limit()] if choice.get("finish_reason") else []
        delta = choice.get("delta")
        delta = {"content": choice.get("text")} if delta is None else object_or_empty(delta)
        if self._new == "" and usage.get("completion_tokens") == 0 and delta.get("content") == self._sent:
            return []  # vLLM 0.6.3 repeats the message that it continues
        if self._new is not None and reasoning_of(delta):
            raise NimError("the server takes the rest of the answer for reasoning")
        ids = as_parts(choice.get("token_ids"))
        self._counted += len(ids)
        fitted = {name: value for name, value in choice.items() if name not in _NOT_OF_CHAT}
        text, stop = self._joined(delta.get("content") or "", ended=bool(choice.get("finish_reason")))
        fitted["delta"] = {**{name: value for name, value in delta.items() if name != "role"}, "content": text}
        if stop is not None:
            fitted |= {"finish_reason": "stop", "stop_reason": stop}
        whole: JsonDict = {**self._head, "choices": [fitted]}
        if usage and (self._continuous or (self._has_usage and choice.get("finish_reason"))):
            whole["usage"] = self._whole_usage()
        if stop is not None:
            return [whole, *self._last_usage(), None]
        has_more = any(value for name, value in fitted["delta"].items() if name != "content")
        return [whole] if text or ids or has_more or choice.get("finish_reason") else []

    def _is_new_turn(self, prompt_tokens: int | None) -> bool:
        """Whether a prompt, before anything of its answer was seen, is longer than the one that the answer continues."""
        if self._prompt is None or self._new is None or prompt_tokens is None:
            return False
        return prompt_tokens > self._prompt + self._kept

    def _joined(self, piece: str, *, ended: bool) -> tuple[str, str | None]:
        """What a piece of new text adds to the answer, and the stop string that was found over the seam."""
        if self._new is None:
            return piece, None
        self._new += piece
        if len(self._new) < self._needed and not ended:
            return "", None
        new, self._new = self._new, None
        if not new.startswith(self._space):
            raise NimError("the server continues the answer in another place")
        return self._up_to_stop(self._held + new[len(self._space) :])

    def _up_to_stop(self, text: str) -> tuple[str, str | None]:
        """The text behind the seam, up to the first stop string that the server could not see."""
        whole, seam = self._before + text, len(self._before) + len(self._held)
        first = len(self._before) + 1
        found = [(at, stop) for stop in self._stops if 0 <= (at := whole.find(stop, max(0, first - len(stop)))) < seam]
        if not found:
            return text, None
        at, stop = min(found)
        end = at + len(stop) * self._keep_stop - len(self._before)
        self.too_much = max(0, -end)
        return text[: max(0, end)], stop

    def end(self) -> list[JsonDict | None]:
        """The end of an answer of which only that was missing."""
        return [self._at_limit(), *self._last_usage(), None]

    def _at_limit(self) -> JsonDict:
        last = {"index": 0, "delta": {"content": self._held}, "finish_reason": "length", "stop_reason": None}
        return {**self._head, "choices": [last]}

    def _last_usage(self) -> list[JsonDict]:
        """The last event of an answer, if it is asked for."""
        usage = self._whole_usage() if self._has_usage else None
        return [] if usage is None else [{**self._head, "choices": [], "usage": usage}]

    def _whole_usage(self) -> JsonDict | None:
        """The usage of the whole answer; None if it is not known."""
        new = 0 if self._full else whole_number(self._usage.get("completion_tokens")) or self._counted
        prompt = self._prompt
        if prompt is None and (told := whole_number(self._usage.get("prompt_tokens"))) is not None:
            prompt = told - self._kept
        if prompt is None:
            return None
        tokens = self._kept + new
        known = {name: value for name, value in self._usage.items() if not name.endswith("_details")}
        return {**known, "prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}

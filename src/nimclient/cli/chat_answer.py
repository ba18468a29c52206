"""Displays an answer: the streamed text, reasoning separate from it, and a note on how it ended."""

from __future__ import annotations

from nimclient import ChatCompletion, ChatStream
from nimclient.cli.text import Writer

CUT_OFF = "nimclient: the answer was cut off by the token limit; allow more with --max-tokens"


def note_on(completion: ChatCompletion) -> str:
    """A note on how the answer ended; empty for an ordinary answer."""
    if completion.finish_reason == "length":
        return CUT_OFF
    if not completion.text:
        return f"nimclient: the model answered without text (finish_reason {completion.finish_reason})"
    return ""


def described(completion: ChatCompletion) -> str:
    """Model, timings and usage in one line."""
    parts = [completion.model or "a model without a name"]
    if completion.meta is not None:
        timings = completion.meta.timings
        if timings.ttft is not None:
            parts.append(f"first token after {timings.ttft * 1000:,.0f} ms")
        if timings.total is not None:
            parts.append(f"{timings.total:,.2f} s")
    if completion.usage is not None:
        parts.append(
            f"{completion.usage.prompt_tokens:,} prompt + {completion.usage.completion_tokens:,} answer tokens"
        )
    if completion.meta is not None and completion.meta.request_id:
        parts.append(f"request id {completion.meta.request_id}")
    return ", ".join(parts)


async def print_stream(stream: ChatStream, data: Writer, words: Writer) -> ChatCompletion:
    """Write the text of a stream piece by piece, always ending with a line break; reasoning is announced on `words`."""
    shown = Shown(data, words)
    try:
        async for chunk in stream:
            shown.add(chunk.text, chunk.reasoning)
    finally:
        shown.end()
    return await stream.final()


class Shown:
    """Displays an answer: reasoning dimmed on a screen, else only announced; then the text."""

    def __init__(self, data: Writer, words: Writer) -> None:
        self._data = data
        self._words = words
        self._thinking = False
        self._reasoning = False
        self._written = False

    def add(self, text: str, reasoning: str | None) -> None:
        """Show a piece of reasoning and text."""
        if text:
            self._end_reasoning()
            self._data.piece(text)
            self._written = True
        elif reasoning:
            if self._data.can_dim:
                self._data.aside(reasoning)
                self._reasoning = True
            elif not self._thinking:
                self._words.line("thinking …")
            self._thinking = True

    def _end_reasoning(self) -> None:
        if self._reasoning:
            self._data.aside("\n\n")
            self._reasoning = False

    def end(self) -> None:
        """Print a line break after the last piece."""
        self._end_reasoning()
        if self._written:
            self._data.line()

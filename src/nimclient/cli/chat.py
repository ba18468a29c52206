"""`nimclient chat`: one question, the answer on standard output as it is written; without one a conversation."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import anyio

from nimclient import AsyncClient, ChatCompletion, ChatStream
from nimclient.cli.chat_store import Saved, load_last
from nimclient.cli.connection import make_client
from nimclient.cli.failures import UsageError, in_options
from nimclient.cli.show import Writer, answer_writer, writer_for
from nimclient.cli.text_input import file_lines, is_terminal, piped_lines
from nimclient.errors import ConfigurationError
from nimclient.records import Image

CUT_OFF = "nimclient: the answer was cut off by the token limit; allow more with --max-tokens"


def run(args: argparse.Namespace) -> int:
    """Ask, print, and say in words what the text alone does not tell; 1 for an answer that was cut off."""
    if args.question is None and not args.json and is_terminal() and sys.stdout.isatty():
        from nimclient.cli.conversation import converse

        return converse(args)
    question = question_of(args)
    saved = load_last() if args.continued else Saved()
    messages = [*saved.messages_under(args.system), ("user", content_of(question, args.image))]
    try:
        completion = anyio.run(_ask, args, messages)
    except TypeError as error:  # an option that there is not
        raise UsageError(str(error)) from error
    if args.json:
        print(json.dumps(completion.to_dict()))
    if note := note_on(completion):
        writer_for(sys.stderr).line(note)
    return 1 if completion.finish_reason == "length" else 0


def question_of(args: argparse.Namespace) -> str:
    """The question of the arguments and what is piped in, a blank line between them. UsageError where there is neither."""
    asked: str = "" if args.question in (None, "-") else args.question.strip()
    piped = "" if is_terminal() and args.question != "-" else "\n".join(piped_lines()).strip()
    if not asked and not piped:
        raise UsageError('there is no question; ask one: nimclient chat "Why is the sky blue?"')
    return f"{asked}\n\n{piped}" if asked and piped else asked or piped


def content_of(text: str, images: Sequence[str]) -> str | list[Any]:
    """What a user's message holds: the text, and the images by URL or from files. UsageError for one that is not there."""
    if not images:
        return text
    try:
        return [text, *(Image(name if "://" in name else Path(name)) for name in images)]
    except (ConfigurationError, OSError) as error:
        raise UsageError(f"--image: {in_options(str(error))}") from error


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the request: those that have a name of their own, and -o NAME=VALUE, a value being JSON or a text."""
    options: dict[str, Any] = {
        "max_tokens": args.max_tokens,
        "temperature": args.temperature,
        "thinking": args.thinking,
    }
    for pair in args.option:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"-o takes NAME=VALUE, such as -o top_p=0.9, not {pair!r}")
        try:
            options[name] = json.loads(text)
        except ValueError:
            options[name] = text
    return options


def schema_of(args: argparse.Namespace) -> Mapping[str, Any] | None:
    """The JSON Schema in the file of --schema."""
    if args.schema is None:
        return None
    try:
        schema: Any = json.loads("\n".join(file_lines(args.schema, "--schema")))
    except ValueError as error:
        raise UsageError(f"--schema {args.schema} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise UsageError(f"--schema {args.schema} is no JSON Schema, which is an object")
    return cast(dict[str, Any], schema)


def note_on(completion: ChatCompletion) -> str:
    """What a reader of the text should know of how it ended; empty for an ordinary answer."""
    if completion.finish_reason == "length":
        return CUT_OFF
    if not completion.text:
        return f"nimclient: the model answered without text (finish_reason {completion.finish_reason})"
    return ""


async def _ask(args: argparse.Namespace, messages: list[Any]) -> ChatCompletion:
    options, schema = options_of(args), schema_of(args)
    data, words = answer_writer(sys.stdout), writer_for(sys.stderr)
    async with make_client(args, model=args.model) as client:
        if schema is not None:
            completion = await _parsed(client, messages, schema, options, None if args.json else data)
        elif args.no_stream or args.json:
            completion = await client.chat.create(messages, **options)
            if not args.json:
                data.line(completion.text)
        else:
            async with client.chat.stream(messages, **options) as stream:
                completion = await print_stream(stream, data, words)
        if args.verbose:
            words.line(f"{client.base_url}: {described(completion)}")
        elif sys.stdout.isatty() and not args.json:
            words.aside(f"{completion.model}\n")
    return completion


async def _parsed(
    client: AsyncClient, messages: list[Any], schema: Mapping[str, Any], options: dict[str, Any], data: Writer | None
) -> ChatCompletion:
    """The answer in the form of a schema; its value is printed as JSON."""
    parsed = await client.chat.parse(messages, dict(schema), **options)
    if data is not None:
        data.line(json.dumps(parsed.value, ensure_ascii=False, indent=2))
    return parsed.completion


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
    """Write the text of a stream piece by piece, ending with a line break whatever happens; `words` hears of thinking."""
    shown = Shown(data, words)
    try:
        async for chunk in stream:
            shown.add(chunk.text, chunk.reasoning)
    finally:
        shown.end()
    return await stream.final()


class Shown:
    """An answer on its way to the eye: reasoning dimmed where a person reads it, announced otherwise; then the text."""

    def __init__(self, data: Writer, words: Writer) -> None:
        self._data = data
        self._words = words
        self._thinking = False
        self._reasoning = False
        self._written = False

    def add(self, text: str, reasoning: str | None) -> None:
        """A piece of either."""
        if text:
            self._end_reasoning()
            self._data.piece(text)
            self._written = True
        elif reasoning:
            if self._data.is_terminal:
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
        """A line break behind the last piece."""
        self._end_reasoning()
        if self._written:
            self._data.line()

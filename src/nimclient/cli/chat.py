"""`nimclient chat`: one question, the answer on standard output as it is written."""

from __future__ import annotations

import argparse
import json
import sys

import anyio

from nimclient import ChatCompletion, ChatStream
from nimclient.cli.connection import make_client
from nimclient.cli.failures import UsageError
from nimclient.cli.show import Writer, writer_for
from nimclient.records.params import ChatOptions


def run(args: argparse.Namespace) -> int:
    """Ask, print, and say in words what the text alone does not tell."""
    messages = messages_of(question_of(args), args.system)
    completion = anyio.run(_ask, args, messages)
    if args.json:
        print(json.dumps(completion.to_dict()))
    if note := note_on(completion):
        writer_for(sys.stderr).line(note)
    return 0


def question_of(args: argparse.Namespace) -> str:
    """The question of the arguments, or of standard input. UsageError when there is none."""
    question: str | None = args.question
    if question == "-" or (question is None and not sys.stdin.isatty()):
        try:
            question = sys.stdin.read()
        except UnicodeDecodeError:
            raise UsageError("standard input is not UTF-8 text") from None
    if question is None or not question.strip():
        raise UsageError('there is no question; ask one: nimclient chat "Why is the sky blue?"')
    return question.strip()


def messages_of(question: str, system: str | None) -> list[tuple[str, str]]:
    """The conversation to send."""
    return [*([("system", system)] if system else []), ("user", question)]


def note_on(completion: ChatCompletion) -> str:
    """What a reader of the text should know of how it ended; empty for an ordinary answer."""
    if completion.finish_reason == "length":
        return "nimclient: the answer was cut off by the token limit; allow more with --max-tokens"
    if not completion.text:
        return f"nimclient: the model answered without text (finish_reason {completion.finish_reason})"
    return ""


async def _ask(args: argparse.Namespace, messages: list[tuple[str, str]]) -> ChatCompletion:
    options: ChatOptions = {"max_tokens": args.max_tokens, "temperature": args.temperature}
    data = writer_for(sys.stdout)
    async with make_client(args, model=args.model) as client:
        if args.no_stream or args.json:
            completion = await client.chat.create(messages, **options)
            if not args.json:
                data.line(completion.text)
            return completion
        async with client.chat.stream(messages, **options) as stream:
            return await print_stream(stream, data, writer_for(sys.stderr))


async def print_stream(stream: ChatStream, data: Writer, words: Writer) -> ChatCompletion:
    """Write the text of a stream piece by piece, ending with a line break whatever happens; `words` hears of thinking."""
    thinking = written = False
    try:
        async for chunk in stream:
            if chunk.text:
                data.piece(chunk.text)
                written = True
            elif chunk.reasoning and not thinking:
                words.line("thinking …")
                thinking = True
    finally:
        if written:
            data.line()
    return await stream.final()

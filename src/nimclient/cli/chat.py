"""`nimclient chat`: one question, with the answer streamed to standard output; without one a conversation."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

import anyio

from nimclient import AsyncClient, ChatCompletion
from nimclient.cli.chat_answer import described, note_on, print_stream
from nimclient.cli.chat_question import content_of, options_of, question_of, schema_of
from nimclient.cli.chat_store import Saved, load_last
from nimclient.cli.connection import make_client
from nimclient.cli.failures import UsageError, in_options
from nimclient.cli.show import answer_writer, writer_for
from nimclient.cli.text import Writer
from nimclient.cli.text_input import is_terminal


def run(args: argparse.Namespace) -> int:
    """Ask, print the answer, and note how it ended; returns 1 for a truncated answer."""
    if args.question is None and not args.json and is_terminal() and sys.stdout.isatty():
        from nimclient.cli.conversation import converse

        return converse(args)
    question = question_of(args)
    saved = load_last() if args.continued else Saved()
    messages = [*saved.messages_under(args.system), ("user", content_of(question, args.image))]
    try:
        completion = anyio.run(_ask, args, messages)
    except TypeError as error:  # an unknown option
        raise UsageError(in_options(str(error))) from error
    if args.json:
        print(json.dumps(completion.to_dict()))
    if note := note_on(completion):
        writer_for(sys.stderr).line(note)
    return 1 if completion.finish_reason == "length" else 0


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

"""`nimclient rerank`: sorts documents by relevance to a query; one line per document, or JSON."""

from __future__ import annotations

import argparse
import json
import sys

import anyio

from nimclient.cli.connection import make_client
from nimclient.cli.failures import UsageError
from nimclient.cli.show import writer_for
from nimclient.cli.text_input import file_lines, is_terminal, piped_lines
from nimclient.records import Ranking


def run(args: argparse.Namespace) -> int:
    """Print the ranking."""
    documents = documents_of(args)
    ranking = anyio.run(_rank, args, documents)
    if args.json:
        print(json.dumps(ranking.to_dict()))
        return 0
    data = writer_for(sys.stdout)
    for ranked in ranking.results:
        data.line(f"{ranked.score:.6g}\t{ranked.index}\t{ranked.document}")
    return 0


def documents_of(args: argparse.Namespace) -> list[str]:
    """The documents of the arguments, of the file, or of standard input. UsageError without any."""
    given: list[str] = args.documents
    if args.file is not None:
        if given:
            raise UsageError("pass documents as arguments or with --file, not both")
        lines = file_lines(args.file, "--file")
    elif given == ["-"] or (not given and not is_terminal()):
        lines = piped_lines()
    else:
        lines = given
    documents = [line for line in lines if line.strip()]
    if not documents:
        raise UsageError('there is no document; pass some: nimclient rerank "a query" "one document" "another one"')
    return documents


async def _rank(args: argparse.Namespace, documents: list[str]) -> Ranking:
    async with make_client(args, model=args.model) as client:
        return await client.rerank(
            args.query, documents, top_n=args.top, truncate=args.truncate, batch_size=args.batch_size
        )

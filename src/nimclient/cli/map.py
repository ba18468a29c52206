"""`nimclient map`: asks a model about every row of a file; run again, it resumes."""

from __future__ import annotations

import argparse

from nimclient.cli.chat_question import options_of, schema_of
from nimclient.cli.jobs import Wording, run_job, shard_of
from nimclient.jobs import MapJob


def run(args: argparse.Namespace) -> int:
    """Ask about all rows, show progress, report the result."""
    options, schema, shard = options_of(args), schema_of(args), shard_of(args)

    def make() -> MapJob:
        return MapJob(
            args.template,
            args.rows,
            args.out,
            model=args.model,
            system=args.system,
            id=args.id,
            schema=schema,
            retries=args.retries,
            shard=shard,
            concurrency=args.concurrency,
            **{name: value for name, value in options.items() if value is not None},
        )

    is_stdin = args.rows == "-"
    label = f"asking about {'standard input' if is_stdin else args.rows}"
    return run_job(args, make, Wording(label, "rows", args.out, "chat", is_stdin))

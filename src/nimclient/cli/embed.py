"""`nimclient embed`: the texts of a file become a folder of vectors; run again, it goes on where it was."""

from __future__ import annotations

import argparse

from nimclient.cli.jobs import Wording, run_job
from nimclient.jobs import EmbedJob


def run(args: argparse.Namespace) -> int:
    """Embed, show it, say how it went."""

    def make() -> EmbedJob:
        return EmbedJob(
            source=args.source,
            output=args.out,
            model=args.model,
            text=args.text,
            id=args.id,
            format=args.format,
            input_type=args.input_type,
            truncate=args.truncate,
            dimensions=args.dimensions,
            batch_size=args.batch_size,
            concurrency=args.concurrency,
        )

    is_stdin = args.source == "-"
    label = f"embedding {'standard input' if is_stdin else args.source}"
    return run_job(args, make, Wording(label, "texts", args.out, is_stdin))

"""`nimclient embed`: embeds the texts of a file into a folder of vectors, or a store; run again, it resumes."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import Literal

from nimclient.cli.jobs import Wording, run_job, shard_of
from nimclient.cli.show import writer_for
from nimclient.jobs import EmbedJob


def run(args: argparse.Namespace) -> int:
    """Embed, show progress, report the result."""
    format = args.format or ("parquet" if "://" in args.out else default_format())
    shard = shard_of(args)

    def make() -> EmbedJob:
        return EmbedJob(
            source=args.source,
            output=args.out,
            model=args.model,
            text=args.text,
            id=args.id,
            format=format,
            input_type=args.input_type,
            truncate=args.truncate,
            dimensions=args.dimensions,
            encoding_format=args.encoding_format,
            embed_dtype=args.dtype,
            long=args.long,
            cache=args.cache,
            shard=shard,
            batch_size=args.batch_size,
            concurrency=args.concurrency,
            prefix=args.prefix,
        )

    is_stdin = args.source == "-"
    label = f"embedding {'standard input' if is_stdin else args.source}"
    return run_job(args, make, Wording(label, "texts", args.out, "embedding", is_stdin))


def default_format() -> Literal["parquet", "npy"]:
    """Parquet; npy with a message if pyarrow is not installed."""
    if find_spec("pyarrow") is not None:
        return "parquet"
    words = "pyarrow is not installed: writing npy (nimclient[arrow] brings Parquet, --format npy is silent)"
    writer_for(sys.stderr).line(f"nimclient: {words}")
    return "npy"

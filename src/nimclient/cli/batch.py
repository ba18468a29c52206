"""`nimclient batch`: sends a file of requests in OpenAI's batch format to a live server; run again, it resumes."""

from __future__ import annotations

import argparse

from nimclient.cli.jobs import Wording, run_job
from nimclient.jobs import BatchJob


def run(args: argparse.Namespace) -> int:
    """Send all requests, show progress, report the result."""

    def make() -> BatchJob:
        return BatchJob(source=args.source, output=args.out, model=args.model, concurrency=args.concurrency)

    return run_job(args, make, Wording(f"sending {args.source}", "requests", args.out))

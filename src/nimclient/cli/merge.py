"""`nimclient merge`: one manifest for the shards of a job."""

from __future__ import annotations

import argparse
import json
import sys

from nimclient.cli.failures import UsageError
from nimclient.cli.jobs import STATUS_CODES
from nimclient.cli.show import writer_for
from nimclient.errors import ConfigurationError
from nimclient.jobs import merge_shards


def run(args: argparse.Namespace) -> int:
    """Check and merge; report the whole."""
    if "://" in args.folder:
        raise UsageError(f"{args.folder}: shards in a store need no merging; merge takes the folder of a job")
    try:
        report = merge_shards(args.folder)
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
    text = f"{report.status}: {report.succeeded:,} of {report.total:,} texts in {args.folder}"
    if report.failed:
        text += f"; {report.failed:,} failed, see {report.failures_path}"
    if args.json:
        print(json.dumps({"event": "report", "text": text, **report.to_dict()}))
    else:
        writer_for(sys.stderr).line(text)
    return STATUS_CODES[report.status]

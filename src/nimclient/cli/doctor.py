"""`nimclient doctor`: checks the server at the base URL, and says how to fix what does not work."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import anyio

from nimclient import RetryPolicy
from nimclient.cli.connection import key_for, make_client, named_by
from nimclient.cli.diagnosis import Diagnosis
from nimclient.cli.findings import Finding, summary
from nimclient.cli.show import writer_for

SECONDS = 10.0
ONCE = RetryPolicy(attempts=1, patience=0)
REQUESTS = ("chat", "embeddings", "reranking")


def run(args: argparse.Namespace) -> int:
    """Check every named server, and show each finding at once; returns 1 if there is a problem."""
    if args.timeout is None:
        args.timeout = SECONDS
    make_client(args)  # invalid settings
    given: str | list[str | None] | None = args.base_url
    urls = given if isinstance(given, list) else [given]
    return max(_examine(args, url) for url in urls)


def _examine(args: argparse.Namespace, url: str | None) -> int:
    args.base_url = url
    diagnosis = Diagnosis(
        lambda record: make_client(args, retry=ONCE, on_attempt=record), key_for(args), args.model, args.timeout
    )
    base_url = diagnosis.client.base_url
    if args.json:
        findings = anyio.run(_collect, diagnosis)
        head = {"base_url": base_url, "named_by": named_by(args), "works": diagnosis.worked}
        print(json.dumps({**head, **summary(findings)}))
    else:
        writer_for(sys.stdout).line(f"{base_url} (from {named_by(args)})")
        findings = anyio.run(_show, diagnosis)
    return int(any(one.state == "failed" for one in findings))


async def _collect(diagnosis: Diagnosis) -> list[Finding]:
    return [one async for one in diagnosis.findings()]


async def _show(diagnosis: Diagnosis) -> list[Finding]:
    data = writer_for(sys.stdout)
    found: list[Finding] = []
    async for one in diagnosis.findings():
        found.append(one)
        data.finding(one.state, one.name, one.text, one.remedy)
    data.line(conclusion(found, diagnosis.worked))
    return found


def conclusion(findings: Sequence[Finding], worked: Sequence[str]) -> str:
    """The last line: the number of problems, or what works and what this server does not serve."""
    wrong = sum(one.state == "failed" for one in findings)
    if wrong:
        return "one problem found" if wrong == 1 else f"{wrong} problems found"
    missing = [name for name in REQUESTS if name not in worked]
    if not missing:
        return "everything works"
    return f"{' and '.join(worked)} {'works' if len(worked) == 1 else 'work'}; not served, or not tried: {', '.join(missing)}"

"""`nimclient simulate`: runs the embedded simulator as a server."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys

import anyio

from nimclient.cli.failures import CommandError, UsageError
from nimclient.simulator import Simulator


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    try:
        simulator = Simulator(
            host=args.host,
            port=args.port,
            dialect=args.dialect,
            models=args.model,
            ttft=args.ttft,
            itl=args.itl,
            prefill_rate=args.prefill_rate,
            prefix_cache=args.prefix_cache,
            slots=args.slots,
            foreign=args.foreign,
            rpm=args.rpm,
            seed=args.seed,
            faults=args.fault,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    anyio.run(_serve, simulator, args)
    return 0


async def _serve(simulator: Simulator, args: argparse.Namespace) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        try:
            await simulator.start()
        except OSError as error:
            not_here = os.strerror(errno.EADDRNOTAVAIL).lower()  # Python 3.13 has no words for it
            reason = (error.strerror or not_here).rpartition(": ")[2]  # asyncio repeats the address in front of it
            is_taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
            step = "--port (0 takes a free one)" if is_taken else "--host"
            raise CommandError(
                f"cannot listen on {args.host} port {args.port} ({reason}); choose another with {step}"
            ) from error
        try:
            _announce(simulator.base_url, as_json=args.json)
            async for _ in signals:
                break
        finally:
            await simulator.aclose()


def _announce(base_url: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"base_url": base_url}), flush=True)
    else:
        print(f'{base_url}  try: nimclient chat "What is this?" --base-url {base_url}', flush=True)
    print("a simulator, not a model; Ctrl-C ends it", file=sys.stderr)

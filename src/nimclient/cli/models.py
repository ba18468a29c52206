"""`nimclient models`: the server's models, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys

import anyio
from attrs import evolve

from nimclient import Model
from nimclient.cli.connection import make_client
from nimclient.cli.show import writer_for
from nimclient.records import ModelList

HEADER = ("id", "kind", "tokens", "can")


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    models = anyio.run(_list, args)
    if args.json:
        print(json.dumps(models.to_dict()))
        return 0
    if models:
        writer_for(sys.stdout).columns(HEADER, [row_of(model) for model in models])
    else:
        kind = f" of kind {args.kind}" if args.kind else ""
        problem = f"the server lists no model{kind}" if args.model is None else f"{args.model} is not{kind}"
        writer_for(sys.stderr).line(f"nimclient: {problem}")
    return 0


def row_of(model: Model) -> tuple[str, str, str, str]:
    """A model in four columns; a dash for unknown values."""
    abilities = {
        "tools": model.supports_tools,
        "structured output": model.supports_structured_output,
        "thinking": model.supports_thinking,
        "images": model.supports_images,
        f"adapter of {model.parent}": model.parent is not None,
        "deprecated": model.deprecated,
    }
    length = "–" if model.max_model_len is None else f"{model.max_model_len:,}"
    return model.id, model.kind, length, ", ".join(name for name, has in abilities.items() if has) or "–"


async def _list(args: argparse.Namespace) -> ModelList:
    async with make_client(args) as client:
        if args.model is None:
            return await client.models.list(args.kind)
        model = await client.models.get(args.model)
        fits = args.kind in (None, model.kind)
        return ModelList([evolve(model, meta=None)] if fits else [], model.meta)

"""For people at a prompt: `help(client.chat.create)` lists the options with their meaning, and IPython completes them.

Type checkers and editors read `**options: Unpack[ChatOptions]`. A prompt asks `inspect.signature` and `__doc__`, which know
nothing of ChatOptions: there the methods of both clients get a signature and a docstring that name each option.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from itertools import chain, pairwise
from types import FunctionType

from nimclient.records import params

MODULES = (
    "_client",
    "_resources.assets",
    "_resources.chat",
    "_resources.completions",
    "_resources.conversation",
    "_resources.embeddings",
    "_resources.history",
    "_sync.client",
    "_sync.conversation",
)
UNPACKED = re.compile(r"Unpack\[(?:\w+\.)*(\w+)\]")


@cache
def name_options() -> None:
    """Name the options in the signature and the docstring of every method of both clients, once."""
    modules = [import_module(f"nimclient.{name}") for name in MODULES]
    members = chain.from_iterable(vars(kind).values() for module in modules for kind in classes_of(module.__name__))
    for member in members:
        if isinstance(member, FunctionType):
            with_options(member)


def classes_of(module: str) -> list[type]:
    """The classes that a module defines."""
    found = vars(sys.modules[module]).values()
    return [value for value in found if isinstance(value, type) and value.__module__ == module]


def with_options(function: FunctionType) -> None:
    """Name in the signature and the docstring of a method what its `**options` take."""
    signature = inspect.signature(function)
    parameters = [*signature.parameters.values()]
    unpacked = UNPACKED.search(str(parameters[-1].annotation)) if parameters else None
    if unpacked is None:
        return
    texts = option_texts()[unpacked[1]]
    function.__dict__["__signature__"] = signature.replace(parameters=[*parameters[:-1], *parameters_of(unpacked[1])])
    lines = [f"    {name}: {text}" for name, text in texts.items()]
    function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Options:", *lines])


def parameters_of(options: str) -> Iterator[inspect.Parameter]:
    """The options of a TypedDict as parameters that need not be given."""
    for name, hint in getattr(params, options).__annotations__.items():
        annotation = getattr(hint, "__forward_arg__", hint)
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


@cache
def option_texts() -> dict[str, dict[str, str]]:
    """Class of options → option → the string below it in the source; a class has also those of its bases."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(params)).body:
        if isinstance(node, ast.ClassDef):
            inherited = chain.from_iterable(found.get(ast.unparse(base), {}).items() for base in node.bases)
            found[node.name] = dict(inherited) | texts_below(node.body)
    return found


def texts_below(body: list[ast.stmt]) -> dict[str, str]:
    """Annotated name → the string below it."""
    return {
        ast.unparse(line.target): " ".join(str(below.value.value).split())
        for line, below in pairwise(body)
        if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    }

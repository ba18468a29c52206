"""What an editor shows of a call with many parameters: one line for each."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

import nimclient
from nimclient import plot
from nimclient.jobs import BatchJob, EmbedJob, MapJob
from nimclient.records import params
from nimclient.simulator import Simulator

MAX_UNDESCRIBED = 4
NOT_COUNTED = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions and methods, by name; classes are looked into once."""
    client = nimclient.AsyncClient(base_url="http://localhost")
    namespaces = (client.chat, client.completions, client.embeddings, client.models, client.health, client.assets)
    built = (nimclient.AsyncClient, EmbedJob, BatchJob, MapJob, Simulator)
    for kind in built:
        yield kind.__name__, kind
    for kind in (*built, nimclient.Conversation, nimclient.ChatPrompt, *map(type, namespaces)):
        where = kind.__name__
        for name, member in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                yield f"{where}.{name}", member
    for name in plot.__all__:
        yield f"plot.{name}", getattr(plot, name)


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """The names of its parameters besides self and **options."""
    found = inspect.signature(function).parameters.values()
    return [p.name for p in found if p.name != "self" and p.kind not in NOT_COUNTED]


LONG = {name: function for name, function in public_callables() if len(parameters_of(function)) > MAX_UNDESCRIBED}


def test_there_are_long_signatures() -> None:
    """The search below finds what it is about."""
    assert {"AsyncClient", "AsyncClient.rerank", "AsyncEmbeddings.embed_stream"} <= set(LONG)


@pytest.mark.parametrize("name", LONG)
def test_every_parameter_of_a_long_signature_is_described(name: str) -> None:
    """More than four parameters need an `Args:` section with one entry for each of them."""
    text = inspect.getdoc(LONG[name]) or ""
    _, _, section = text.partition("\nArgs:\n")
    described = set(re.findall(r"^    \*{0,2}(\w+):", section, re.M))
    assert [parameter for parameter in parameters_of(LONG[name]) if parameter not in described] == []


def test_every_option_is_described() -> None:
    """Editors show, and the reference prints, the string below an option; each has one."""
    classes = [node for node in ast.parse(inspect.getsource(params)).body if isinstance(node, ast.ClassDef)]
    pairs = [(kind.name, *pair) for kind in classes for pair in pairwise([*kind.body, ast.Pass()])]
    fields = [(name, ast.unparse(line.target), below) for name, line, below in pairs if isinstance(line, ast.AnnAssign)]
    assert len(fields) > 80
    assert [field for *field, below in fields if not isinstance(getattr(below, "value", None), ast.Constant)] == []

"""A corpus of several thousand texts without a download: the docstrings of Python's standard library.

Source files are read with `ast`, never imported; a few modules written in C are imported for the docstrings of
their members. Private names, tests and bundled programs are left out. The order is deterministic.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import BuiltinFunctionType, MethodDescriptorType, ModuleType

from attrs import frozen

MAX_CHARACTERS = 1200
"""Characters of a text: about 300 tokens, so that it fits an embedding model with a limit of 512."""

_SHORTEST = 20
_SKIPPED = frozenset(
    {"test", "tests", "idlelib", "site-packages", "dist-packages", "lib2to3", "distutils", "turtledemo", "ensurepip"}
    | {"pydoc_data", "tkinter", "encodings"}
)
_WRITTEN_IN_C = (
    "builtins",
    "collections",
    "csv",
    "datetime",
    "itertools",
    "math",
    "os",
    "struct",
    "sys",
    "time",
)
_SIGNATURE = re.compile(r"[\w.]+\(.*\)(\s*->.*)?[:.]?$")
_Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@frozen
class Document:
    """One text: the dotted name of what it documents, and its docstring without a signature."""

    name: str
    docstring: str

    @property
    def text(self) -> str:
        """The text to embed: the dotted name, and the docstring."""
        parts = self.name.split(".")
        path = " > ".join(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        return f"{path}: {self.docstring}"[:MAX_CHARACTERS]

    @property
    def excerpt(self) -> str:
        """The text for a chat model: the name and the docstring."""
        return f"{self.name}: {self.docstring}"[:MAX_CHARACTERS]

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.docstring.partition("\n")[0]

    def to_json(self) -> str:
        """Name and text as one line of JSON."""
        return json.dumps({"name": self.name, "text": self.text}, ensure_ascii=False)


def read_corpus(on_file: Callable[[int, int], object] | None = None) -> list[Document]:
    """All documents, each name and each docstring once; `on_file(done, total)` is called after every file."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = list(source_files(root))
    found: list[tuple[str, str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the library's source
        for done, path in enumerate(files, 1):
            found.extend(docstrings_of_source(path.read_bytes(), module_name(path.relative_to(root))))
            if on_file is not None:
                on_file(done, len(files))
        for name in _WRITTEN_IN_C:
            found.extend(docstrings_of_module(import_module(name), name))
    return distinct(found)


def source_files(folder: Path) -> Iterator[Path]:
    """The public source files below a folder, in order."""
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(".py")
        if name in _SKIPPED or (name.startswith("_") and path.name != "__init__.py"):
            continue
        if path.is_dir():
            yield from source_files(path)
        elif path.suffix == ".py" and name.isidentifier():
            yield path


def module_name(path: Path) -> str:
    """The dotted name of a module by its path below the library's root."""
    return ".".join(part for part in path.with_suffix("").parts if part != "__init__")


def docstrings_of_source(source: bytes, module: str) -> Iterator[tuple[str, str]]:
    """(dotted name, docstring) of a module and of its public classes, functions and methods; empty if it cannot be parsed."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    yield from _docstrings_of_node(tree, module)


def _docstrings_of_node(node: ast.Module | _Named, name: str) -> Iterator[tuple[str, str]]:
    docstring = ast.get_docstring(node)
    if docstring:
        yield name, docstring
    if isinstance(node, (ast.Module, ast.ClassDef)):
        for child in node.body:
            if isinstance(child, _Named) and not child.name.startswith("_"):
                yield from _docstrings_of_node(child, f"{name}.{child.name}")


def docstrings_of_module(module: ModuleType, name: str) -> Iterator[tuple[str, str]]:
    """(dotted name, docstring) of a module written in C, of its public functions and classes, and of their methods."""
    if module.__doc__:
        yield name, module.__doc__
    for member_name, member in _public(module):
        if isinstance(member, BuiltinFunctionType) or (isinstance(member, type) and member.__module__ == name):
            yield f"{name}.{member_name}", member.__doc__ or ""
            for method_name, method in _public(member) if isinstance(member, type) else ():
                if isinstance(method, MethodDescriptorType):
                    yield f"{name}.{member_name}.{method_name}", method.__doc__ or ""


def _public(owner: object) -> Iterable[tuple[str, object]]:
    return ((name, value) for name, value in sorted(vars(owner).items()) if not name.startswith("_"))


def distinct(found: Iterable[tuple[str, str]]) -> list[Document]:
    """Documents from docstrings. Of equal names or docstrings the first is kept; very short ones are dropped."""
    names: set[str] = set()
    kept: dict[str, Document] = {}
    for name, raw in found:
        docstring = without_signature(inspect.cleandoc(raw))
        if len(docstring) >= _SHORTEST and name not in names and docstring not in kept:
            names.add(name)
            kept[docstring] = Document(name, docstring)
    return list(kept.values())


def without_signature(docstring: str) -> str:
    """A docstring without the signatures that C functions begin with, unless it has nothing else."""
    first, _, rest = docstring.partition("\n")
    while rest.strip() and _SIGNATURE.match(first.strip()):
        docstring = rest.strip()
        first, _, rest = docstring.partition("\n")
    return docstring


def choose(documents: Sequence[Document], count: int | None) -> list[Document]:
    """At most `count` documents, evenly spread, in their order: modules before their members before methods."""
    if count is None or count >= len(documents):
        return list(documents)
    levels: dict[int, list[int]] = defaultdict(list)
    for position, document in enumerate(documents):
        levels[document.name.count(".")].append(position)
    chosen: list[int] = []
    for _, positions in sorted(levels.items()):
        room = min(count - len(chosen), len(positions))
        chosen.extend(positions[step * len(positions) // room] for step in range(room))
    return [documents[position] for position in sorted(chosen)]

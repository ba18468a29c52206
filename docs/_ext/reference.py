"""The reference of the site: pages made of the public names, their signatures, docstrings and the strings below their fields.

Every name gets an anchor (`#nimclient.AsyncClient.chat.create`), every method a table of its parameters, every option a row.
Code in prose that is a public name (`ChatCompletion`, `chat.stream`) becomes a link to it.
"""

import ast
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

import nimclient
from nimclient._sync.options import option_texts, texts_below

NAMESPACES = ("chat", "completions", "embeddings", "models", "health", "assets")
MODULES = {
    "errors": "Errors",
    "records": "More records and the options",
    "jobs": "Jobs",
    "jobs.sinks": "Sinks",
    "simulator": "Simulator",
    "testing": "Testing",
    "plot": "Pictures",
    "integrations.langchain": "LangChain",
    "integrations.opentelemetry": "OpenTelemetry",
    "integrations.httpx": "httpx",
    "integrations.ray": "Ray, Spark, Dask, Daft",
}
SECTION = re.compile(r"^(Args|Raises|Returns|Yields|Attributes):\n", re.M)
ENTRY = re.compile(r"^    \*{0,2}([\w., ]+):\s*(.*(?:\n(?:      .*|\s*$))*)", re.M)
FENCE = "`" * 10


def write_pages(app: Sphinx) -> None:
    """Write the pages below docs/api, which is nobody's to edit."""
    folder = Path(app.srcdir, "api")
    folder.mkdir(exist_ok=True)
    pages = dict(all_pages())
    for old in folder.glob("*.md"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def all_pages() -> Iterator[tuple[str, str]]:
    """(name, text) of each page. A class that has several public names is told of under the shortest."""
    told: set[int] = set()
    top = {name: getattr(nimclient, name) for name in nimclient.__all__ if not name.startswith("__")}
    clients = [nimclient.AsyncClient, nimclient.Client]
    records = [value for value in top.values() if getattr(value, "__module__", "").startswith("nimclient.records")]
    streams = [value for value in top.values() if re.search(r"_streams|_sync|_resources|_bulk", value.__module__)]
    streams = [value for value in streams if value not in clients]
    others = [value for value in top.values() if value not in [*clients, *records, *streams]]
    for page, title, values in (
        ("clients", "Clients and their settings", [*clients, *others]),
        ("streams", "Streams, iterators, conversations", streams),
        ("nimclient-records", "Records", records),
    ):
        yield page, f"# {title}\n\n" + "\n".join(described("nimclient", value, told) for value in values)
    for space in NAMESPACES:
        yield f"client-{space}", namespace_page(space)
    for name, title in MODULES.items():
        module = import_module(f"nimclient.{name}")
        values = [getattr(module, public) for public in names_of(module)]
        fresh = [value for value in values if id(value) not in told and hasattr(value, "__module__")]
        body = "\n".join(described(module.__name__, value, told) for value in fresh)
        intro = markdown(inspect.getdoc(module) or "")
        yield (
            name.replace(".", "-"),
            f"# {title}: `{module.__name__}`\n\n```{{py:module}} {module.__name__}\n```\n\n{intro}\n\n{body}",
        )


def names_of(module: ModuleType) -> list[str]:
    """The public names of a module."""
    if hasattr(module, "__all__"):
        return sorted(name for name in module.__all__ if not name.startswith("__"))
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return sorted(name for name in own if not name.startswith("_"))


def namespace_page(space: str) -> str:
    """`client.chat` and the like: every method of AsyncClient, and its blocking twin, which takes and returns the same."""
    lines = [f"# `client.{space}`\n"]
    for client in (nimclient.AsyncClient, nimclient.Client):
        kind = type(getattr(client(base_url="http://127.0.0.1:9"), space))
        blocking = client is nimclient.Client
        lines.append("## Blocking\n" if blocking else markdown(inspect.getdoc(kind) or ""))
        for name, function in methods_of(kind):
            path = f"{client.__name__}.{space}.{name}"
            note = f"The blocking form of [](#nimclient.AsyncClient.{space}.{name}).\n" if blocking else None
            lines.append(callable_text("method", "nimclient", path, function, note))
    return "\n".join(lines)


def described(module: str, value: Any, told: set[int]) -> str:
    """A class with its fields and methods, or a function."""
    told.add(id(value))
    name = value.__name__
    if not inspect.isclass(value):
        return callable_text("function", module, name, value)
    before, sections = taken_apart(inspect.getdoc(value) or "")
    if before.startswith(f"{name}("):  # attrs makes one up where there is none
        before = ""
    parts = [before, parameters(value, sections.get("Args", "")) if "__init__" in vars(value) else ""]
    parts += [raised(sections), fields_of(value)]
    for method, function in methods_of(value):
        parts.append(callable_text("method", module, f"{name}.{method}", function))
    for attribute, found in inspect.getmembers(value, lambda member: isinstance(member, property)):
        if not attribute.startswith("_"):
            parts.append(block("property", module, f"{name}.{attribute}", markdown(inspect.getdoc(found) or "")))
    kind = "exception" if issubclass(value, BaseException) else "class"
    return block(kind, module, f"{name}{signature(value)}", "\n\n".join(filter(None, parts)))


def methods_of(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods of a class that are written in nimclient."""
    for name, member in inspect.getmembers(kind, inspect.isroutine):
        if not name.startswith("_") and (getattr(member, "__module__", None) or "").startswith("nimclient"):
            yield name, member


def callable_text(kind: str, module: str, name: str, function: Any, note: str | None = None) -> str:
    """A method or function: its docstring, its parameters as a table, its options by a link."""
    before, sections = taken_apart(inspect.getdoc(function) or "")
    parts = [note] if note else [before, parameters(function, sections.get("Args", "")), raised(sections)]
    return block(kind, module, f"{name}{signature(function)}", "\n\n".join(filter(None, parts)))


def block(kind: str, module: str, head: str, body: str) -> str:
    """One directive of the Python domain; a class may hold others."""
    fence = FENCE if kind in ("class", "exception") else FENCE[:8]
    return f"{fence}{{py:{kind}}} {head}\n:module: {module}\n\n{body}\n{fence}\n"


def taken_apart(docstring: str) -> tuple[str, dict[str, str]]:
    """A docstring as (what stands before its sections, the sections)."""
    before, *rest = SECTION.split(docstring)
    return markdown(before), dict(zip(rest[::2], rest[1::2], strict=True))


def markdown(text: str) -> str:
    """Prose of a docstring: what would be taken for HTML or for emphasis is escaped outside code."""
    pieces = re.split(r"(``.+?``|`[^`]*`)", text, flags=re.S)
    return "".join(piece if at % 2 else re.sub(r"([<*_])", r"\\\1", piece) for at, piece in enumerate(pieces)).strip()


def entries(section: str) -> dict[str, str]:
    """Name and text of each entry of a section."""
    return {name: " ".join(text.split()) for name, text in ENTRY.findall(section)}


def raised(sections: dict[str, str]) -> str:
    """What it raises, as a list; what it returns or yields, as a sentence."""
    lines = [f"- `{name}`: {markdown(text)}" for name, text in entries(sections.get("Raises", "")).items()]
    parts = ["Raises:\n\n" + "\n".join(lines)] if lines else []
    for name in ("Returns", "Yields"):
        if name in sections:
            parts.insert(0, f"{name}: {markdown(' '.join(sections[name].split()))}")
    return "\n\n".join(parts)


def parameters(function: Any, section: str) -> str:
    """The parameters as a table; `**options` is a link to the table of its options."""
    texts = entries(section)
    rows: list[tuple[str, str, str, str]] = []
    options = ""
    for parameter in parameters_of(function):
        kind = plain(parameter.annotation)
        unpacked = re.search(r"Unpack\[(\w+)\]", kind)
        if unpacked:
            options = f"And every option of {option_link(unpacked[1])}.\n"
        elif parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            default = "" if parameter.default is parameter.empty else f"`{plain(repr(parameter.default))}`"
            rows.append((f"`{parameter.name}`", f"`{kind}`" if kind else "", default, texts.get(parameter.name, "")))
    return table(("parameter", "type", "default", "meaning"), rows) + f"\n{options}"


def option_link(name: str) -> str:
    """A link to the table of the options."""
    return f"[`{name}`](#nimclient.records.{name})"


def parameters_of(function: Any) -> list[inspect.Parameter]:
    """The parameters a caller can give."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    return [parameter for parameter in found if parameter.name not in ("self", "cls", "unknown")]


def signature(function: Any) -> str:
    """Names and defaults; the types are in the table."""
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return "()"
    bare = [
        parameter.replace(annotation=parameter.empty, default=Shown(parameter.default))
        if parameter.default is not parameter.empty
        else parameter.replace(annotation=parameter.empty)
        for parameter in parameters_of(function)
    ]
    returns = plain(found.return_annotation) if not inspect.isclass(function) else ""
    returns = re.sub(r"\w+", lambda name: f"~nimclient.{name[0]}" if name[0] in nimclient.__all__ else name[0], returns)
    text = str(found.replace(parameters=bare, return_annotation=found.empty))
    return f"{text} -> {returns}" if returns not in ("", "None") else text


class Shown:
    """A default as it is written in a signature."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        text = plain(repr(self._value))
        return text if re.fullmatch(r"[\w.\"' \-()\[\],=/:]*", text) else "..."


def plain(annotation: Any) -> str:
    """A type without the modules that its names live in."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else typing._type_repr(annotation)  # type: ignore[attr-defined]
    return re.sub(r"\b(?:\w+\.)+(?=[A-Z_]\w*)", "", re.sub(r" at 0x[0-9a-f]+", "", text)).replace("'", '"')


def fields_of(kind: type) -> str:
    """The annotated attributes of a class and its bases, each with the string below it and an anchor."""
    found: dict[str, tuple[str, str]] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("nimclient"):
            texts = field_texts(base)
            for name, annotation in vars(base).get("__annotations__", {}).items():
                if not name.startswith("_") and not isinstance(inspect.getattr_static(kind, name, None), property):
                    text = texts.get(name) or found.get(name, ("", ""))[1]
                    found[name] = (plain(getattr(annotation, "__forward_arg__", annotation)), text)
    typed_dict = typing.is_typeddict(kind)
    if typed_dict:  # its bases are gone, its annotations are all there
        texts = option_texts()[kind.__name__]
        names = {name: found[name][0] for name in kind.__annotations__}
        found = {name: (typ, texts[name]) for name, typ in names.items()}
    if not found:
        return ""
    rows = [
        (
            f'<a class="anchor" id="nimclient.{"records." if typed_dict else ""}{kind.__name__}.{name}"></a>`{name}`',
            f"`{typ}`",
            text,
        )
        for name, (typ, text) in found.items()
    ]
    return table(("option" if typed_dict else "field", "type", "meaning"), rows)


@cache
def field_texts(kind: type) -> dict[str, str]:
    """The strings below the annotated attributes in a class's source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return {}
    return texts_below(typing.cast(ast.ClassDef, tree.body[0]).body)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table without the columns that are empty."""
    if not rows:
        return ""
    used = [at for at in range(len(head)) if any(row[at] for row in rows)]
    lines = [
        [head[at] for at in used],
        ["---"] * len(used),
        *([row[at].replace("|", r"\|") for at in used] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


class LinkNames(SphinxPostTransform):
    """Code in prose that is a public name becomes a link to it."""

    default_priority = 20

    def run(self, **_: Any) -> None:
        """Replace the literals of a page."""
        names = public_names(self.env.domains.python_domain.objects)
        for literal in list(self.document.findall(nodes.literal)):
            if isinstance(literal.parent, (nodes.reference, nodes.title)) or self.app.builder is None:
                continue
            name = re.sub(r"\(.*\)$|^client\.", "", literal.astext().strip(), flags=re.S)
            full = names.get(name)
            if full is None:
                continue
            entry = self.env.domains.python_domain.objects[full]
            reference = make_refnode(
                self.app.builder, self.env.docname, entry.docname, entry.node_id, literal.deepcopy(), full
            )
            literal.replace_self(reference)


@cache
def _short(full: str) -> tuple[str, ...]:
    """The names that a text calls something by: its last parts."""
    parts = full.split(".")
    if parts[:2] == ["nimclient", "AsyncClient"] and len(parts) > 2:
        return (".".join(parts[2:]), full)
    return (full, parts[-1]) if parts[-1][0].isupper() else (full,)


def public_names(objects: dict[str, Any]) -> dict[str, str]:
    """Name in prose → full name."""
    found: dict[str, str] = {}
    for full in objects:
        for short in _short(full):
            found.setdefault(short, full)
    return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx when to do what."""
    sys.modules.setdefault("nimclient", nimclient)
    app.connect("builder-inited", write_pages)
    app.add_post_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

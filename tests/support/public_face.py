"""The public face of the package as text: `python tests/support/public_face.py > tests/public_face.txt` writes it again."""

import inspect
import re
import typing
from collections.abc import Iterator
from importlib import import_module
from typing import Any

MODULES = (
    "nimclient",
    "nimclient.errors",
    "nimclient.records",
    "nimclient.jobs",
    "nimclient.jobs.sinks",
    "nimclient.simulator",
    "nimclient.testing",
    "nimclient.plot",
    "nimclient.integrations.opentelemetry",
    "nimclient.integrations.ray",
)
NAMESPACES = ("chat", "completions", "embeddings", "models", "health", "assets")


def public_face() -> str:
    """Every public name: signature, first line of its docstring, fields, attributes and methods."""
    shown: dict[int, str] = {}
    lines: list[str] = []
    for name in MODULES:
        module = import_module(name)
        lines += ["", f"# {name}", ""]
        for public in names_of(module):
            value = getattr(module, public)
            where = f"{name}.{public}"
            if inspect.isclass(value) and id(value) in shown:
                lines.append(f"{where} = {shown[id(value)]}")
            elif inspect.isclass(value):
                shown[id(value)] = where
                lines += describe_class(where, value)
            elif callable(value):
                lines += [f"{where}{signature(value)}", f"    {summary(value)}"]
            else:
                lines.append(f"{where}: {type(value).__name__}")
    for client in ("AsyncClient", "Client"):
        lines += ["", f"# nimclient.{client}'s namespaces", ""]
        for space in NAMESPACES:
            lines += describe_class(f"{client}.{space}", namespace(client, space))
    return "\n".join(lines[1:]) + "\n"


def names_of(module: Any) -> list[str]:
    """Its public names, in order."""
    if hasattr(module, "__all__"):
        return sorted(name for name in module.__all__ if not name.startswith("__"))
    own = (n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__)
    return sorted(name for name in own if not name.startswith("_"))


def namespace(client: str, name: str) -> type:
    """The class behind `client.chat` and the like."""
    import nimclient

    made = getattr(nimclient, client)(base_url="http://127.0.0.1:9/v1")
    return type(getattr(made, name))


def describe_class(where: str, cls: type) -> list[str]:
    """Its bases, fields, annotated attributes, properties and methods."""
    bases = ", ".join(
        base.__name__ for base in cls.__bases__ if not base.__name__.startswith("_") and base is not object
    )
    lines = [f"class {where}({bases}){signature(cls)}", f"    {summary(cls)}"]
    for name in sorted(set(dir(cls)) | set(annotations(cls))):
        if name.startswith("_") or hasattr(object, name) or hasattr(Exception, name):
            continue
        lines += [f"    {line}" for line in describe_member(cls, name)]
    return lines


def describe_member(cls: type, name: str) -> Iterator[str]:
    """A method with its signature; an attribute with its type."""
    value = inspect.getattr_static(cls, name, None)
    if isinstance(value, property):
        yield f".{name} (property): {summary(value)}"
    elif isinstance(value, (staticmethod, classmethod)) or inspect.isfunction(value):
        function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        yield f".{name}{signature(function)}"
        yield f"    {summary(function)}"
    elif name in annotations(cls):
        yield f".{name}: {annotations(cls)[name]}"
    else:
        yield f".{name}"


def annotations(cls: type) -> dict[str, str]:
    """The annotated attributes of a class and of its bases, as they are written."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for name, kind in vars(base).get("__annotations__", {}).items():
            if not name.startswith("_"):
                found[name] = kind if isinstance(kind, str) else plain(typing._type_repr(kind))  # type: ignore[attr-defined]
    return found


def signature(value: Any) -> str:
    """Its signature without module paths, which are nobody's business."""
    try:
        return plain(str(inspect.signature(value)))
    except (ValueError, TypeError):
        return "(…)"


def plain(text: str) -> str:
    """Names without the modules they live in, and without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", re.sub(r"\b(?:\w+\.)+(?=[A-Z]\w*)", "", text))


def summary(value: Any) -> str:
    """The first line of the docstring."""
    return (inspect.getdoc(value) or "").partition("\n")[0]


if __name__ == "__main__":
    print(public_face(), end="")

"""What tests know of the inside: the fewer places touch private names, the freer is the inside to change.

A test comes in through a public door (the client over `FakeTransport` or a server, `nimclient.testing`, the records). A pure
function that no door leads to is imported by its own test file; where several files need it, a module of tests/support names
it once. What has to look inside a client does so through support/leaks.py.
"""

import ast
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
MAX_ATTRIBUTES = 80
MAX_IMPORTS = 60
OWN = ("self", "cls", "mcs")


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Every attribute, call and import of the tests, and where it is."""
    kinds = (ast.Attribute, ast.Call, ast.Import, ast.ImportFrom)
    return [
        (f"{path.relative_to(TESTS)}:{node.lineno}", node)
        for path in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kinds)
    ]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_attribute(node: ast.AST) -> bool:
    """`x._name` on anything but self, read or written, or spelled as a str in getattr and setattr."""
    if isinstance(node, ast.Attribute):
        return is_private(node.attr) and not (isinstance(node.value, ast.Name) and node.value.id in OWN)
    if not isinstance(node, ast.Call) or len(node.args) < 2:
        return False
    function = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    name = node.args[1]
    named = isinstance(name, ast.Constant) and isinstance(name.value, str) and is_private(name.value)
    return named and function in ("getattr", "setattr", "delattr", "object")


def private_modules(node: ast.AST) -> list[str]:
    """The private modules of nimclient that a statement imports from; each module of a package counts by itself."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
        folder = TESTS.parent.joinpath("src", *node.module.split("."))
        inner = [alias.name for alias in node.names if folder.is_dir() and _is_module(folder / alias.name)]
        names = [f"{node.module}.{name}" for name in inner] or [node.module]
    else:
        names = []
    return [name for name in names if name.startswith("nimclient.") and any(map(is_private, name.split(".")))]


def _is_module(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").exists()


def test_few_places_touch_private_names() -> None:
    """Places that read, write or patch a private attribute of something."""
    places = [where for where, node in nodes() if private_attribute(node)]
    assert len(places) <= MAX_ATTRIBUTES, places


def test_few_statements_import_private_modules() -> None:
    """Imports of private modules of nimclient, wherever in a file they are."""
    places = [f"{where} {name}" for where, node in nodes() for name in private_modules(node)]
    assert len(places) <= MAX_IMPORTS, places


def test_both_counts_see_what_they_are_about() -> None:
    """Neither falls because something is written in another way."""
    statements = ast.parse(
        "import nimclient._base.json\nfrom nimclient._api import chat, urls\nfrom nimclient.records import _numbers, Usage\n"
        "from nimclient.records import Usage\nfrom nimclient import AsyncClient\n"
    ).body
    assert [name for node in statements for name in private_modules(node)] == [
        "nimclient._base.json",
        "nimclient._api.chat",
        "nimclient._api.urls",
        "nimclient.records._numbers",
    ]
    for text in ("x._a", "x()._a", "x._a = 1", "getattr(x, '_a')", "patch.setattr(x, '_a', 1)"):
        assert any(map(private_attribute, ast.walk(ast.parse(text)))), text
    for text in ("self._a", "x.a", "x.__class__", "getattr(x, 'a')"):
        assert not any(map(private_attribute, ast.walk(ast.parse(text)))), text

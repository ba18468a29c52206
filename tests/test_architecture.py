"""The house stands as docs/design.md draws it: imports go down only, and each library has its one room."""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

SPEC = find_spec("nimclient")
assert SPEC is not None
assert SPEC.origin is not None
PACKAGE = Path(SPEC.origin).parent

LAYERS = [
    {"errors"},
    {"_base"},
    {"records"},
    {"_schema", "_retry", "_http"},
    {"_streams", "_nvcf", "_bulk"},
    {"_api"},
    {"_engine"},
    {"_resources", "prompts"},
    {"_client"},
    {"_sync"},
]
EXTRAS = {"simulator", "cli", "integrations", "jobs", "plot", "testing", "__main__"}
LIBRARIES = {
    "aiohttp": ("_http/", "simulator/"),
    "asyncio": ("_http/", "simulator/", "cli/"),
    "orjson": ("_base/json.py", "simulator/"),
    "random": ("_engine/shared_state.py", "_engine/engine.py", "simulator/"),
    "numpy": ("records/embeddings.py", "integrations/", "cli/"),
    "pyarrow": ("jobs/parquet.py",),
    "matplotlib": ("plot.py",),
    "sqlite3": ("jobs/checkpoint.py",),
    "rich": ("cli/",),
    "requests": (),
    "httpx": (),
    "langchain": (),
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def layer_of(part: str) -> int | None:
    return next((number for number, layer in enumerate(LAYERS) if part in layer), None)


def part_of(path: Path) -> str:
    """The package or module directly below nimclient."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module, and whether it is imported for type checkers only."""
    tree = ast.parse(path.read_text())
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in typing_only
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node in typing_only
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node in typing_only


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    """A module imports from its own package or from a lower layer; type-only imports may look up."""
    part = part_of(path)
    here = layer_of(part)
    for name, typing_only in imports(path):
        if not name.startswith("nimclient.") or typing_only or part == "__init__":
            continue
        target = name.split(".")[1]
        if target == part or target not in {*EXTRAS, *(p for layer in LAYERS for p in layer)}:
            continue
        there = layer_of(target)
        if here is None:
            assert part in EXTRAS, f"{part} stands on no layer: add it to the plan"
        else:
            assert target not in EXTRAS, f"{part} imports the extra {target}"
            assert there is not None
            assert there < here, f"{part} (layer {here}) imports {target} (layer {there})"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_library_has_its_room(path: Path) -> None:
    """aiohttp, orjson and the others are imported only where the plan says."""
    place = str(path.relative_to(PACKAGE))
    for name, _ in imports(path):
        rooms = LIBRARIES.get(name.split(".")[0])
        assert rooms is None or place.startswith(tuple(rooms)), f"{place} imports {name}"


def test_only_the_settings_read_the_environment() -> None:
    """os.environ and os.getenv appear in _base/config.py and nowhere else in the core."""
    for path in MODULES:
        if part_of(path) in EXTRAS or path.name == "_base/config.py":
            continue
        text = path.read_text()
        assert "os.environ" not in text, path
        assert "os.getenv" not in text, path


def test_every_file_fits_its_room() -> None:
    """No module of the package is longer than 500 lines."""
    assert [p.name for p in MODULES if len(p.read_text().splitlines()) > 500] == []


def test_listeners_are_called_where_they_may_block() -> None:
    """The core calls no listener of the caller's (a parameter on_…) itself: in Client it would run on the loop."""
    listeners: set[str] = set()
    calls: list[tuple[str, str]] = []
    for path in MODULES:
        if part_of(path) in {*EXTRAS, "_http"}:  # the transport knows nobody's listeners but its own
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arg) and node.arg.startswith("on_") and node.annotation is not None:
                if "Callable" in ast.unparse(node.annotation):
                    listeners.add(node.arg)
            elif isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                calls.append((path.name, name.lstrip("_")))
    assert {"on_progress", "on_attempt"} <= listeners
    assert [call for call in calls if call[1] in listeners] == []

"""The house stands as docs/design.md draws it: imports go down only, and each library has its place."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
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
PRIVATE_DOORS = 12
LOOKING_UP = {("errors.py", "records")}
"""The one arrow that may point up, for type checkers only: an error says which record it carries."""

LIBRARIES = {
    "aiohttp": ("_http/", "simulator/"),
    "asyncio": ("_http/", "simulator/", "cli/"),
    "orjson": ("_base/json.py", "simulator/"),
    "random": ("_engine/", "simulator/"),
    "time": (
        *("_bulk/vector_cache.py", "_engine/", "_http/", "_resources/embed_stream.py"),
        *("simulator/", "cli/", "jobs/", "integrations/"),
    ),
    "numpy": ("records/embeddings.py", "integrations/", "cli/"),
    "pyarrow": ("jobs/parquet.py",),
    "matplotlib": ("plot/",),
    "sqlite3": ("_bulk/vector_cache.py", "jobs/checkpoint.py", "jobs/sinks/sqlite.py", "jobs/tables.py"),
    "lancedb": ("jobs/sinks/lance.py",),
    "obstore": ("jobs/objects.py",),
    "psycopg": ("jobs/sinks/postgres.py",),
    "qdrant_client": ("jobs/sinks/qdrant.py",),
    "rich": ("cli/",),
    "requests": (),
    "httpx": ("integrations/httpx.py",),
    "langchain_core": ("integrations/langchain",),
    "opentelemetry": ("integrations/opentelemetry",),
}
PURE = (
    "errors.py",
    "_api/",
    "_bulk/fleet.py",
    "_bulk/pacer.py",
    "_bulk/pooling.py",
    "_bulk/progress.py",
    "_bulk/rate.py",
    "_bulk/slicing.py",
    "_bulk/ticket.py",
    "_bulk/window.py",
    "_engine/affinity.py",
    "_engine/load.py",
    "_nvcf/media.py",
    "_nvcf/platform.py",
    "_retry/",
    "_schema/",
    "_streams/accumulate.py",
    "_streams/surrogates.py",
    "_streams/tool_calls.py",
    "_streams/events.py",
    "_streams/reasoning.py",
    "_streams/seam.py",
    "_streams/sse.py",
)
"""What does no I/O, reads no clock and waits for nobody."""

IMPURE = {
    "aiohttp",
    "anyio",
    "asyncio",
    "io",
    "logging",
    "os",
    "pathlib",
    "random",
    "socket",
    "ssl",
    "sys",
    "threading",
    "time",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def place_of(path: Path) -> str:
    """The file, as the plan writes it."""
    return str(path.relative_to(PACKAGE))


def part_of(path: Path) -> str:
    """The package or module directly below nimclient."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def layer_of(part: str) -> int | None:
    return next((number for number, layer in enumerate(LAYERS) if part in layer), None)


def typing_only(tree: ast.AST) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING:`."""
    blocks = (b for b in ast.walk(tree) if isinstance(b, ast.If) and ast.unparse(b.test) == "TYPE_CHECKING")
    return {node for block in blocks for node in ast.walk(block)}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Every imported name, and whether it is imported for type checkers only."""
    for_checkers = typing_only(tree_of(path))
    return [
        (name, node in for_checkers)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in names_of(node)
    ]


def names_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The names that a statement imports from elsewhere, with their modules."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names if node.level == 0 and node.module]


@cache
def module_of(name: str) -> str | None:
    """The module of the package in which an imported name lives, as a place."""
    parts = name.split(".")[1:]
    for end in range(len(parts), 0, -1):
        stem = PACKAGE.joinpath(*parts[:end])
        for found in (stem.with_suffix(".py"), stem / "__init__.py"):
            if found.exists():
                return place_of(found)
    return None


def test_there_are_twelve_private_doors() -> None:
    """A newcomer chooses among twelve underscored names at the top level."""
    doors = {part for path in MODULES if (part := part_of(path)).startswith("_") and not part.startswith("__")}
    assert len(doors) <= PRIVATE_DOORS
    assert doors <= {part for layer in LAYERS for part in layer}


def looks_up(path: Path) -> list[str]:
    """The imports of a module that do not lead to its own room or to a lower layer."""
    part = part_of(path)
    here = layer_of(part)
    if here is None:
        return [] if part in {*EXTRAS, "__init__"} else [f"{part} stands on no layer: add it to the plan"]
    found = []
    for name, for_checkers in imports(path):
        target = name.split(".")[1] if name.startswith("nimclient.") else part
        there = layer_of(target)
        if target == part or (for_checkers and (place_of(path), target) in LOOKING_UP):
            continue
        if target in EXTRAS or (there is not None and there >= here):
            found.append(f"{place_of(path)} (layer {here}) imports {target} (layer {there})")
    return found


def test_imports_go_down_only() -> None:
    """A module imports from its own room or from a lower layer, type-only imports included."""
    assert [found for path in MODULES for found in looks_up(path)] == []


def test_no_module_is_part_of_a_cycle() -> None:
    """Modules can be put in an order in which each comes after all that it imports, type-only imports included."""
    graph = {
        place_of(path): {
            found
            for name, for_checkers in imports(path)
            if name.startswith("nimclient.") and (found := module_of(name)) not in (None, place_of(path))
            if not (for_checkers and (place_of(path), part_of(PACKAGE / str(found))) in LOOKING_UP)
        }
        for path in MODULES
        if part_of(path) != "__init__"  # its names are loaded when they are used
    }
    for targets in graph.values():
        targets.discard("__init__.py")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_each_library_has_its_place() -> None:
    """aiohttp, orjson and the others are imported only where the plan says."""
    misplaced = [
        f"{place_of(path)} imports {name}"
        for path in MODULES
        for name, _ in imports(path)
        if not place_of(path).startswith(LIBRARIES.get(name.split(".")[0], ""))
    ]
    assert misplaced == []


def test_pure_modules_do_no_io() -> None:
    """What the plan calls pure imports nothing that does I/O, waits, tells the time or throws dice."""
    pure = [path for path in MODULES if place_of(path).startswith(PURE)]
    assert [
        f"{place_of(path)} imports {name}" for path in pure for name, _ in imports(path) if name.split(".")[0] in IMPURE
    ] == []
    assert {place for place in PURE if not any(place_of(path).startswith(place) for path in pure)} == set()


def test_only_the_settings_read_the_environment() -> None:
    """os.environ and os.getenv appear in _base/config.py and nowhere else in the core."""
    for path in MODULES:
        if part_of(path) in EXTRAS or place_of(path) == "_base/config.py":
            continue
        text = path.read_text()
        assert "os.environ" not in text, path
        assert "os.getenv" not in text, path


def test_every_file_fits_its_room() -> None:
    """No module of the package is longer than 500 lines."""
    assert [p.name for p in MODULES if len(p.read_text().splitlines()) > 500] == []


def test_every_room_has_a_charter() -> None:
    """A private package opens with what it knows, in its `__init__`."""
    for door in PACKAGE.glob("_*/__init__.py"):
        assert ast.get_docstring(ast.parse(door.read_text())), door


def test_no_docstring_holds_half_a_character() -> None:
    """Python 3.13 does not compile a docstring with a lone surrogate, which an escape makes where the string is not raw."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, documented):
                assert not re.search("[\ud800-\udfff]", ast.get_docstring(node) or ""), path


def test_callbacks_are_called_where_they_may_block() -> None:
    """The core calls no callback of the caller's (a parameter on_…) itself: in Client it would run on the loop."""
    callbacks: set[str] = set()
    calls: list[tuple[str, str]] = []
    for path in MODULES:
        if part_of(path) in {*EXTRAS, "_http"}:  # the transport knows nobody's callbacks but its own
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.arg) and node.arg.startswith("on_") and node.annotation is not None:
                if "Callable" in ast.unparse(node.annotation):
                    callbacks.add(node.arg)
            elif isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                calls.append((path.name, name.lstrip("_")))
    assert {"on_progress", "on_attempt"} <= callbacks
    assert [call for call in calls if call[1] in callbacks] == []


def test_jobs_stand_on_the_public_client_and_one_internal_face() -> None:
    """Of the package's inside they import one module, which names all that they use of it."""
    inside = {
        name.rpartition(".")[0]
        for path in (PACKAGE / "jobs").glob("*.py")
        for name, _ in imports(path)
        if name.startswith(("nimclient._", "nimclient.records._"))
    }
    assert inside == {"nimclient._resources.bulk"}


SYNC_TWINS = {"Embeddings"}
"""A blocking resource goes without the `Async` of its twin, and meets the record of that name."""

MIRRORS = {"integrations/langchain/errors.py": "errors.py", "integrations/langchain/models.py": "records/models.py"}
"""Classes under the names that a framework's users know, each standing for the one of ours."""


def test_a_class_name_means_one_thing() -> None:
    """A grep for a class finds one class: only sync twins and named mirrors share a name."""
    places: dict[str, set[str]] = {}
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and node.name not in SYNC_TWINS:
                places.setdefault(node.name, set()).add(place_of(path))
    shared = {name: found for name, found in places.items() if len(found) > 1}
    mirrored = [{mirror, original} for mirror, original in MIRRORS.items()]
    assert {name: found for name, found in shared.items() if found not in mirrored} == {}


MAX_NESTED = 20
MAX_NESTED_IN_RESOURCES = 3


def nested_functions(tree: ast.AST, inside: bool = False) -> Iterator[str]:
    """The names of functions that are defined inside functions."""
    for node in ast.iter_child_nodes(tree):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and inside:
            yield node.name
        yield from nested_functions(node, is_function or (inside and not isinstance(node, ast.ClassDef)))


def test_nested_functions_are_rare() -> None:
    """Functions inside functions are decorators and callbacks that a library asks for: 20 in the package at most."""
    found = {place_of(path): list(nested_functions(tree_of(path))) for path in MODULES}
    assert sum(map(len, found.values())) <= MAX_NESTED, {place: names for place, names in found.items() if names}
    assert (
        sum(len(names) for place, names in found.items() if place.startswith("_resources/")) <= MAX_NESTED_IN_RESOURCES
    )

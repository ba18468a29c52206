"""Mutation testing of the pure core: one small change at a time, and the tests that should notice it.

    python tests/mutation/run.py sse policy --sample 40

The tests are collected once and run once without a change, which shows the lines that each of them executes. Each mutant
lives in a forked child, which puts the changed code into the functions that are already imported, and runs the tests of the
changed line, the quickest first, until one fails. What no test notices is printed with its place.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import inspect
import itertools
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import IO, Any, NamedTuple, NoReturn

import pytest

ROOT = Path(__file__).parent.parent.parent


class Core(NamedTuple):
    """Modules of one name, and the files of their tests."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


CORES = {
    "sse": Core(("_streams.sse",), ("streams/test_sse.py",)),
    "accumulate": Core(
        ("_streams.accumulate", "_streams.tool_calls"),
        ("streams/test_accumulate.py", "streams/test_as_sent.py", "streams/test_reasoning.py", "streams/test_cost.py"),
    ),
    "classify": Core(("_retry.classify",), ("retry/test_classify.py",)),
    "policy": Core(("_retry.policy",), ("retry/test_policy.py",)),
    "window": Core(("_bulk.window",), ("bulk/test_window.py",)),
    "rate": Core(("_bulk.rate",), ("bulk/test_rate.py",)),
    "bisection": Core(("_bulk.slicing",), ("bulk/test_slicing.py",)),
    "store": Core(("jobs.store", "jobs.checkpoint", "jobs.spool"), ("jobs/test_store.py", "jobs/test_store_states.py")),
}
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add,
}  # fmt: skip
OTHER_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


class Mutant(NamedTuple):
    """A module, and which node takes the place of another one in its tree."""

    module: str
    tree: ast.Module
    line: int
    lines: range | None
    """Of the changed statement, up to its body; None outside functions."""
    change: str
    parent: ast.AST
    field: str
    index: int | None
    other: ast.AST


Lines = set[tuple[str, int]]


class Ran(NamedTuple):
    """What a test took without any change: seconds of work, and the lines that it executed."""

    seconds: float
    lines: Lines


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The mutants of one node, each with its description."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in SWAPS:
            other = copy.deepcopy(node)
            other.ops = [SWAPS[type(operator)]()]  # type: ignore[list-item]
            yield f"{type(operator).__name__} → {type(other.ops[0]).__name__}", other
        case ast.BoolOp(op=operator) | ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in SWAPS:
            other = copy.deepcopy(node)
            other.op = SWAPS[type(operator)]()
            yield f"{type(operator).__name__} → {type(other.op).__name__}", other
        case ast.UnaryOp(op=ast.Not()):
            yield "not x → x", node.operand
        case ast.If() | ast.While() | ast.IfExp():
            other = copy.deepcopy(node)
            other.test = ast.UnaryOp(ast.Not(), other.test)
            yield "if x → if not x", other
        case ast.Constant(value=bool() as value):
            yield f"{value} → {not value}", ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield f"{value} → {value + 1}", ast.Constant(value + 1)
        case ast.Name(id=name, ctx=ast.Load()) if name in OTHER_NAMES:
            yield f"{name} → {OTHER_NAMES[name]}", ast.Name(OTHER_NAMES[name], ast.Load())
        case ast.Return(value=ast.AST() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "return x → return None", ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
            yield "statement left out", ast.Pass()
        case ast.Continue():
            yield "continue → break", ast.Break()
        case ast.Break():
            yield "break → continue", ast.Continue()
        case _:
            pass


def mutants(name: str) -> list[Mutant]:
    """All mutants of a module: of its functions and its numbers, not of tables, annotations and messages."""
    tree = ast.parse(source_of(name).read_text())
    return [
        Mutant(name, tree, child.lineno, lines, change, parent, field, index, ast.copy_location(other, child))
        for parent, field, index, child, lines in places(tree, None)
        for change, other in changes(child)
    ]


def source_of(name: str) -> Path:
    return Path(str(importlib.import_module(f"nimclient.{name}").__file__))


def places(node: ast.AST, lines: range | None) -> Iterator[tuple[ast.AST, str, int | None, Any, range | None]]:
    """Every node that may be changed: its parent, where it is in there, and the lines of its statement or pattern."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "bases") or isinstance(node, ast.JoinedStr):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not (isinstance(node, ast.Module | ast.ClassDef) and is_table(child)):
                within = lines
                if isinstance(child, ast.FunctionDef) or (lines and isinstance(child, ast.stmt | ast.pattern)):
                    body = getattr(child, "body", None) or getattr(child, "cases", None)
                    within = range(child.lineno, child.lineno + 1 if body else child.end_lineno + 1)
                yield node, field, index, child, within
                yield from places(child, within)


def is_table(statement: ast.AST) -> bool:
    """Whether a statement of a module or class makes anything but a function, a class or a number.

    Such values are objects that others have imported, and the default of a field is in a constructor that attrs has made:
    they cannot be changed in place.
    """
    value = None if isinstance(statement, ast.AnnAssign) else getattr(statement, "value", None)
    number = isinstance(value, ast.Constant) and isinstance(value.value, int | float)
    return not (number or isinstance(statement, ast.FunctionDef | ast.ClassDef))


def install(mutant: Mutant) -> None:
    """Give the functions and constants of the imported module what the changed source gives them."""
    module = importlib.import_module(f"nimclient.{mutant.module}")
    other = ModuleType(module.__name__)
    other.__file__ = module.__file__
    sys.modules["changed"] = other
    if mutant.index is None:
        setattr(mutant.parent, mutant.field, mutant.other)
    else:
        getattr(mutant.parent, mutant.field)[mutant.index] = mutant.other
    code = compile(ast.fix_missing_locations(mutant.tree), str(module.__file__), "exec")
    exec(code, other.__dict__)
    transplant(module, other, module.__name__)


def transplant(old: Any, new: Any, module: str) -> None:
    """Change the members of a module or class in place: whoever has imported them sees it."""
    for name, value in [*vars(new).items()]:
        mine, theirs = inner(vars(old).get(name)), inner(value)
        if isinstance(mine, FunctionType) and isinstance(theirs, FunctionType):
            if mine.__module__ == module and mine.__code__.co_freevars == theirs.__code__.co_freevars:
                mine.__code__, mine.__defaults__ = theirs.__code__, theirs.__defaults__
                mine.__kwdefaults__ = theirs.__kwdefaults__
        elif isinstance(mine, type) and isinstance(theirs, type):
            if mine.__module__ == module:
                transplant(mine, theirs, module)
        elif isinstance(mine, int | float | tuple) and type(mine) is type(theirs) and mine != theirs:
            with contextlib.suppress(AttributeError, TypeError):
                setattr(old, name, theirs)


def inner(value: Any) -> Any:
    """The function in a property, a method of a class or a decorator."""
    if isinstance(value, property):
        return value.fget
    return inspect.unwrap(value) if callable(value) else getattr(value, "__func__", value)


class Tracer:
    """Collects the lines of some files that are executed."""

    def __init__(self, files: set[str]) -> None:
        self._files = files
        self.lines: Lines = set()

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        """Called by Python for each function, and then for each of its lines."""
        if frame.f_code.co_filename not in self._files:
            return None
        self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self


class Mutation:
    """A plugin of pytest that runs the collected tests once for each mutant."""

    def __init__(self, core: Core, sample: int | None, seed: int) -> None:
        self._core = core
        self._sample = sample
        self._seed = seed
        self.total = self.killed = 0
        self.survivors: list[Mutant] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        with tempfile.TemporaryFile() as file:
            if not (child := fork()):
                self._measure(session, file)
            if os.waitpid(child, 0)[1]:
                raise pytest.UsageError("the tests fail without any change")
            file.seek(0)
            ran: list[Ran] = pickle.load(file)
        everything = [mutant for module in self._core.modules for mutant in mutants(module)]
        self.total = len(everything)
        chosen = random.Random(self._seed).sample(everything, min(self._sample or self.total, self.total))
        for number, mutant in enumerate(chosen):
            if number % 10 == 0:
                print(f"    {number} of {len(chosen)} made, {self.killed} killed", flush=True)
            if not (child := fork()):
                self._try(session, mutant, ran)
            if os.waitpid(child, 0)[1]:
                self.killed += 1
            else:
                self.survivors.append(mutant)
                print(f"    survived: {mutant.module}:{mutant.line}: {mutant.change}", flush=True)
        return True

    def _measure(self, session: pytest.Session, file: IO[bytes]) -> NoReturn:
        """In a child: what each test takes without any change."""
        try:
            tracer = Tracer({str(source_of(module)) for module in self._core.modules})
            threading.settrace(tracer)
            ran: list[Ran] = []
            for item in session.items:
                tracer.lines, began = set(), time.process_time()
                sys.settrace(tracer)  # for each test, since some set their own
                run(session, [item])
                ran.append(Ran(time.process_time() - began, tracer.lines))
            pickle.dump(ran, file)
            file.flush()
            end(0)
        finally:
            end(1)

    def _try(self, session: pytest.Session, mutant: Mutant, ran: list[Ran]) -> NoReturn:
        """In a child: the tests that execute what is changed."""
        try:
            changed = {(str(source_of(mutant.module)), line) for line in mutant.lines or ()}
            tests = [place for place, test in enumerate(ran) if mutant.lines is None or changed & test.lines]
            tests.sort(key=[test.seconds for test in ran].__getitem__)
            resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # a loop without end may collect something
            install(mutant)
            run(session, [session.items[place] for place in tests], [ran[place].seconds for place in tests])
            end(0)
        finally:
            end(1)


def fork() -> int:
    sys.stdout.flush()
    return os.fork()


def end(status: int) -> NoReturn:
    """End a child, which has nothing to clean up."""
    os._exit(status)


def run(session: pytest.Session, tests: Sequence[pytest.Item], seconds: Sequence[float] = ()) -> None:
    """Run tests; the first that fails ends the process, or that takes much longer than these seconds of work."""
    session.config.pluginmanager.unregister(name="terminalreporter")
    for test, following, usual in itertools.zip_longest(tests, tests[1:], seconds):
        if usual is not None:
            limit = int(time.process_time() + 3 + 5 * usual)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
            signal.alarm(60 + 10 * limit)  # it may wait forever without working
        test.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
        if session.testsfailed:
            end(1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/mutation/run.py", description=__doc__)
    parser.add_argument("cores", nargs="*", metavar="core", help=f"of {', '.join(CORES)}; all of them")
    parser.add_argument("--sample", type=int, help="so many mutants of each, chosen by chance; all of them")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.chdir(ROOT)
    os.environ.setdefault(
        "NIMCLIENT_TEST_EXAMPLES", "few"
    )  # a change in every run of a function is seen in the first examples
    for name in given.cores or CORES:
        if not (child := fork()):  # a process has one session of these tests
            end(0 if score(name, given.sample, given.seed) else 1)
        assert os.waitpid(child, 0)[1] == 0


def score(name: str, sample: int | None, seed: int) -> bool:
    """Run one core and print its score; whether there is one."""
    core = CORES[name]
    plugin = Mutation(core, sample, seed)
    tests = [f"tests/{path}" for path in core.tests]
    pytest.main(["-q", "-q", "--no-summary", "-p", "no:xdist", "--timeout=0", *tests], plugins=[plugin])
    tried = plugin.killed + len(plugin.survivors)
    share = plugin.killed / max(tried, 1)
    print(f"{name}: {plugin.killed} of {tried} killed ({share:.1%}), of {plugin.total} mutants", flush=True)
    return tried > 0


if __name__ == "__main__":
    main()

"""The project's chores. `nox` lints, checks the types and runs the tests; `nox -l` lists the rest."""

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.11", "3.12", "3.13"]


def install(session: nox.Session, group: str) -> None:
    """Install the built package (not the source tree: what is tested is what is shipped) and one dependency group."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), group))
    session.install("--no-deps", "--force-reinstall", ".")
    session.install(".")


def run_tests(session: nox.Session) -> None:
    install(session, "test")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", *(["--fail-under=0"] if session.posargs else []))


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: style, order of imports, bans between floors."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy strict and pyright strict over the package and a sample app."""
    install(session, "types")
    session.run("mypy")
    session.run("pyright")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite with coverage, on the Python that runs nox."""
    run_tests(session)


@nox.session(python=PYTHONS)
def matrix(session: nox.Session) -> None:
    """The whole suite on every supported Python that is installed."""
    run_tests(session)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks side by side with the raw floor and with peers; writes JSON."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)

"""The project's chores. `nox` lints, checks the types and runs the tests; `nox -l` lists the rest."""

import os
import shutil

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.11", "3.12", "3.13"]
PROJECT = nox.project.load_toml("pyproject.toml")


def install_group(session: nox.Session, group: str) -> None:
    session.install("--quiet", *nox.project.dependency_groups(PROJECT, group))


def install_package(session: nox.Session) -> None:
    """The built wheel, not the source tree: what is tested is what is shipped."""
    session.install("--quiet", ".")
    session.install("--quiet", "--no-deps", "--force-reinstall", ".")  # a venv that is reused may hold an older build


def run_tests(session: nox.Session) -> None:
    install_group(session, "test")
    install_package(session)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", *(["--fail-under=0"] if session.posargs else []))


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: style, order of imports, bans between floors."""
    install_group(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy strict and pyright strict over the package and a sample app; what an editor shows over Client."""
    install_group(session, "types")
    install_package(session)
    session.run("mypy")
    session.run("pyright")
    session.run("python", "tests/typing/hover.py")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite with coverage, on the Python that runs nox."""
    run_tests(session)


@nox.session(python=PYTHONS)
def matrix(session: nox.Session) -> None:
    """The whole suite on every supported Python that is installed."""
    run_tests(session)


@nox.session(python="3.11")
def vllm(session: nox.Session) -> None:
    """Chat, embeddings and reranking against a real vLLM on the CPU: 2.5 GB to install, some minutes the first time."""
    install_group(session, "test")
    install_package(session)
    files = ("tests/servers/test_vllm.py", "tests/servers/test_vllm_pooling.py")
    session.run("pytest", *files, *session.posargs, env={"NIMCLIENT_TEST_VLLM": "1"})


@nox.session
def kill(session: nox.Session) -> None:
    """Jobs that are killed with SIGKILL at 200 random moments; the ordinary tests do it 20 times."""
    install_group(session, "test")
    install_package(session)
    session.run("pytest", "tests/jobs/test_kill.py", "-s", *session.posargs, env={"NIMCLIENT_TEST_KILLS": "200"})


@nox.session(python="3.11")
def engines(session: nox.Session) -> None:
    """EmbedBatch in Ray Data with two actors, in Spark (wants Java 17), Dask and Daft: some 2 GB to install."""
    install_group(session, "test")
    install_package(session)
    session.install("--quiet", "ray[data]>=2.40", "pyspark>=4", "dask[dataframe]>=2025.1", "daft>=0.7")
    session.run("pytest", "tests/integrations", "-v", *session.posargs, env={"NIMCLIENT_TEST_ENGINES": "1"})


@nox.session
def langchain(session: nox.Session) -> None:
    """LangChain's own standard tests of chat models and embeddings, and the examples with agents, graphs and stores."""
    install_group(session, "test")
    install_group(session, "langchain")
    install_package(session)
    session.run("pytest", "tests/integrations/langchain", "-p", "no:pytest_socket", *session.posargs)


@nox.session
def frameworks(session: nox.Session) -> None:
    """The examples under real frameworks and in a real browser, which it installs where it may."""
    if shutil.which("chromedriver") is None and shutil.which("apt-get") and os.geteuid() == 0:
        for command in (["update", "-q"], ["install", "-yq", "chromium", "chromium-driver"]):
            session.run("apt-get", *command, external=True, silent=True, success_codes=[0, 100])
    install_group(session, "test")
    install_group(session, "frameworks")
    install_package(session)
    session.run("pytest", "tests/frameworks", *session.posargs, env={"NIMCLIENT_TEST_FRAMEWORKS": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks side by side with the raw floor and with peers; writes JSON."""
    install_group(session, "bench")
    install_package(session)
    session.run("python", "-m", "benchmarks", *session.posargs)

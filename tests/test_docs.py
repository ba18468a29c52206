"""The documentation runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def blocks(language: str) -> list[tuple[str, str]]:
    """(page and number, code) of every block in this language."""
    return [
        (f"{page.name}:{number}", code)
        for page in PAGES
        for number, (tag, code) in enumerate(BLOCK.findall(page.read_text()))
        if tag == language
    ]


PYTEST = ["-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
PYTHON = [
    pytest.param(place, code, id=place, marks=() if place.startswith("README") else pytest.mark.slow)
    for place, code in blocks("python")
]


@pytest.mark.parametrize(("place", "code"), PYTHON)
def test_every_python_block_runs(place: str, code: str, nim_simulator_url: str, tmp_path: Path) -> None:
    """A block of Python is a program (or a test module) that succeeds against a NIM without printing to standard error."""
    file = tmp_path / "test_block.py"
    file.write_text(code)
    keys = {"NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"}
    environment = {k: v for k, v in os.environ.items() if k not in keys} | {"NVIDIA_BASE_URL": nim_simulator_url}
    runner = PYTEST if "def test_" in code else ["-W", "error"]
    command = [sys.executable, *runner, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout


def test_the_readme_has_exactly_two_commands_on_its_first_screen() -> None:
    """One command runs the demo, one passes the tests, and CI calls the second as it stands."""
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:25])
    commands = [line for tag, code in BLOCK.findall(first_screen) if tag == "sh" for line in code.splitlines()]
    assert len(commands) == 2
    assert "nimclient demo" in commands[0]
    assert commands[1].endswith("/nox")
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_every_test_that_the_page_from_the_field_names_exists() -> None:
    """Each of its fifty rows names a test at least, and every `file::test` is a function of that file."""
    page = (ROOT / "docs" / "from_the_field.md").read_text()
    rows = [line for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert "::test_" in row, row
    for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", page):
        assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / file).read_text(), re.M), f"{file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that exists."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_modules_that_the_design_names_exist() -> None:
    """Every `folder/file.py` in docs/design.md is a file of the package or of the repository."""
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", (ROOT / "docs" / "design.md").read_text()))
    assert named
    roots = (ROOT, ROOT / "src" / "nimclient")
    assert [name for name in sorted(named) if not any((root / name).exists() for root in roots)] == []

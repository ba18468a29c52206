"""What a release says of itself: addresses, and the README on the package index."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import nimclient

ROOT = Path(__file__).parent.parent
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
TEXTS = [
    path for form in ("*.md", "docs/*.md", "docs/*.py", ".github/**/*.*", "src/**/*.py") for path in ROOT.glob(form)
]
ADDRESS = re.compile(r"https?://(?:[\w.-]+/[\w.-]+/nimclient|nimclient\.[\w.-]+)(?![\w.-]*:)[^\s)\"'`<>\]]*")
LINK = re.compile(r"\]\(([^)]+)\)")


def test_every_address_of_the_project_is_one_of_its_urls() -> None:
    """Addresses of the repository and of the site are those of `[project.urls]`, or lie below them, wherever they stand."""
    found = {(str(path.relative_to(ROOT)), link) for path in TEXTS for link in ADDRESS.findall(path.read_text())}
    assert {"CONTRIBUTING.md", "docs/versioning.md"} <= {path for path, _ in found}
    home, site = URLS["Homepage"], URLS["Documentation"]
    below = re.compile(rf"(?:{re.escape(home)}|{re.escape(site)})(?:/.*)?")
    assert {(path, link) for path, link in found if not below.fullmatch(link.rstrip(".,;:"))} == set()
    assert all(below.fullmatch(link) for link in URLS.values())


def test_the_guide_names_every_session_of_nox() -> None:
    """The table of CONTRIBUTING.md has each session of the noxfile, and no other."""
    sessions = set(re.findall(r"@nox\.session(?:\(.*\))?\n(?:@.*\n)*def (\w+)", (ROOT / "noxfile.py").read_text()))
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == sessions


def test_the_readme_on_the_package_index_links_into_the_repository() -> None:
    """In the metadata of the built package each link of the README is absolute, and what it leads to is in the repository."""
    try:
        built = distribution("nimclient")
    except PackageNotFoundError:
        pytest.skip("nimclient is not installed, only on the path")
    if Path(nimclient.__file__).resolve() != Path(str(built.locate_file("nimclient/__init__.py"))).resolve():
        pytest.skip("what is imported is not what is installed")
    shown = built.metadata["Description"] or str(built.metadata.get_payload())
    links = LINK.findall(shown)
    assert len(links) == len(LINK.findall((ROOT / "README.md").read_text()))
    home = URLS["Homepage"]
    for link in links:
        assert link.startswith((f"{home}/blob/main/", f"{home}/raw/main/")), link
        assert (ROOT / link.split("/main/", 1)[1]).exists(), link
    assert f"![CPU time of nimclient beside a hand-written loop and other clients]({home}/raw/main/" in shown

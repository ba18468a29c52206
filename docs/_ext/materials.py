"""The bill of materials that the wheel carries (CycloneDX 1.6, PEP 770): the package and what pyproject.toml asks for.

`python docs/_ext/materials.py` writes nimclient.cdx.json; with `--check` it fails where the file is not what it would write.
"""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILE = ROOT / "nimclient.cdx.json"


def component(requirement: str, scope: str) -> dict[str, Any]:
    """One dependency: which one of its versions is installed is decided by whoever installs it."""
    name, extras, versions = re.fullmatch(r"([\w.-]+)(\[[\w,-]+\])?(.*)", requirement).groups()  # type: ignore[union-attr]
    return {
        "bom-ref": f"pkg:pypi/{name}",
        "type": "library",
        "name": name,
        "purl": f"pkg:pypi/{name}",
        "scope": scope,
        "properties": [{"name": "python:requirement", "value": f"{name}{extras or ''}{versions}"}],
    }


def materials() -> dict[str, Any]:
    """The whole bill; equal input gives equal bytes, so no time and no serial number is in it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    source = (ROOT / "src" / "nimclient" / "__init__.py").read_text()
    version = re.search(r'__version__ = "(.+)"', source)[1]  # type: ignore[index]
    extras = dict.fromkeys(line for lines in project["optional-dependencies"].values() for line in lines)
    parts = [component(line, "required") for line in project["dependencies"]]
    parts += [component(line, "optional") for line in extras]
    own = {
        "bom-ref": f"pkg:pypi/nimclient@{version}",
        "type": "library",
        "name": "nimclient",
        "version": version,
        "description": project["description"],
        "licenses": [{"license": {"id": project["license"]}}],
        "purl": f"pkg:pypi/nimclient@{version}",
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": parts,
        "dependencies": [{"ref": own["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]}],
    }


if __name__ == "__main__":
    text = json.dumps(materials(), indent=2) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit("nimclient.cdx.json is not up to date: python docs/_ext/materials.py")

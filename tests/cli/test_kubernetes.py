"""The Kubernetes Job in the docs is a valid manifest, and its command does as pods what the page says."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nimclient.cli.arguments import parse

PAGE = Path(__file__).resolve().parents[2] / "docs" / "many_machines.md"
SIGTERM_SECONDS = 25
"""Within which test_jobs.py sees a shard end after SIGTERM."""


@pytest.fixture
def manifest() -> Any:
    """The only manifest of the page."""
    [block] = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    return yaml.safe_load(block)


def test_the_fields(manifest: Any) -> None:
    """It is an indexed Job whose pods know their number, are started again, and have time to end."""
    spec = manifest["spec"]
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    assert (manifest["apiVersion"], manifest["kind"], spec["completionMode"]) == ("batch/v1", "Job", "Indexed")
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["JOB_COMPLETIONS"] == str(spec["completions"]) == str(spec["parallelism"])
    assert all(isinstance(value, str) for value in environment.values())
    assert pod["restartPolicy"] == "Never"  # what backoffLimitPerIndex and podFailurePolicy want
    assert spec["backoffLimitPerIndex"] >= 1
    assert pod["terminationGracePeriodSeconds"] >= SIGTERM_SECONDS
    args = parse([*container["command"][1:], *container["args"]])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert all(any(path.startswith(f"{mount}/") for mount in mounts) for path in (args.source, args.out))
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_its_pods(run: Any, url: str, manifest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of the manifest, once for each index, embeds every row once; `nimclient merge` makes one manifest."""
    (tmp_path / "docs.jsonl").write_text("".join(f'{{"id": "d{n}", "text": "text {n}"}}\n' for n in range(30)))
    spec = manifest["spec"]
    [container] = spec["template"]["spec"]["containers"]
    command = [word.replace("/data/", f"{tmp_path}/") for word in (*container["command"][1:], *container["args"])]
    for entry in container["env"]:
        monkeypatch.setenv(entry["name"], url if entry["name"] == "NVIDIA_BASE_URL" else entry["value"])
    for index in range(spec["completions"]):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        assert run(*command, "--model", "nvidia/nv-embedqa-e5-v5").code == 0
    merged = run("merge", str(tmp_path / "vectors"), "--json")
    assert merged.code == 0
    assert '"succeeded":30' in merged.out.replace(" ", "")

"""Servers that are neither NIM nor vLLM, each in a virtual environment of its own: LiteLLM's proxy and `transformers serve`.

They are installed from the package registry, which takes minutes the first time; that is done only where
NIMCLIENT_TEST_SERVERS is set, as the nox session `servers` does.
"""

import json
import os
import sys
from pathlib import Path

from servers.environment import Unavailable, made, model_folder, python_of, run, venv_with
from servers.process import ServerProcess, free_port, says

SWITCH = "NIMCLIENT_TEST_SERVERS"
KEY = "sk-0123456789-for-tests"
_WEIGHTS = """
import shutil, sys
from transformers import AutoConfig, AutoModelForCausalLM
source, folder = sys.argv[1:]
shutil.copytree(source, folder, dirs_exist_ok=True)
AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source)).save_pretrained(folder)
"""


def environment(name: str, *installs: tuple[str, ...]) -> Path:
    """The virtual environment with a server in it. Unavailable where it does not install, or is not wanted."""
    if not os.environ.get(SWITCH):
        raise Unavailable(f"{SWITCH} is not set (nox -s servers)")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return made(f"{name}-python{version}", lambda folder: venv_with(folder, *installs, seconds=1200))


def litellm(state: Path, upstream: str, model: str) -> tuple[ServerProcess, str]:
    """LiteLLM's proxy in front of an OpenAI-compatible server at `upstream`, behind KEY; the process and its base URL."""
    venv = environment("litellm", ("litellm[proxy]",))
    served = {"model": f"openai/{model}", "api_base": f"{upstream.removesuffix('/v1')}/v1", "api_key": "unused"}
    settings = {
        "model_list": [{"model_name": model, "litellm_params": served}],
        "general_settings": {"master_key": KEY},
    }
    config = state / "litellm.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = (venv / "bin" / "litellm", "--config", config, "--host", "127.0.0.1", "--port", str(port))
    process = ServerProcess(command, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}, state / "litellm.log")
    return _started(process, f"{url}/health/readiness"), url


def transformers_serve(state: Path) -> tuple[ServerProcess, str, str]:
    """`transformers serve` with a small model of random weights; the process, its base URL and the model's id."""
    venv = environment("transformers-serve", ("torch",), ("transformers[serving]",))
    folder = state / "model"
    run(python_of(venv), "-c", _WEIGHTS, model_folder(venv), folder, seconds=120)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = (venv / "bin" / "transformers", "serve", folder, "--host", "127.0.0.1", "--port", str(port))
    process = ServerProcess(command, {"HF_HUB_OFFLINE": "1"}, state / "transformers-serve.log")
    return _started(process, f"{url}/health"), url, str(folder)


def _started(process: ServerProcess, health: str) -> ServerProcess:
    try:
        process.wait_until(lambda: says(health), 120)
    except Unavailable:
        process.stop()
        raise
    return process

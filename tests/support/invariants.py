"""What holds after every call, however it ended. One checker for the whole list:

I1  no connection of the pool is handed out or waited for; at the end no descriptor is left
I2  the next calls work, as many at once as the pool has slots
I3  no task is left, nothing was "never retrieved", no ResourceWarning
I4  the server saw as many requests as it should have
I5  the call ended in time
I6  the key and the prompt are in no log and no traceback
I7  an error pickles, and comes back with all it had
I8  what had arrived is on the error
I9  memory has not grown
I10 items that were finished are kept, and the counts add up
I11 CancelledError comes out unchanged
I12 nothing of ours holds the loop for more than 50 ms, time and again

I5, I8 and I10 are the call's own: they are checked where its result is known. I11 is in `support.cancelling`: a task that is
cancelled and does not end as cancelled has failed or survived, which it tells.
"""

import asyncio
import gc
import logging
import pickle
import resource
import time
import traceback
from types import TracebackType
from typing import Any, Self

from nimclient import AsyncClient
from support.leaks import assert_idle, open_files, replicas, set_heap_aside, stray_tasks
from support.server import FaultServer
from support.wire import MODEL, answer

CANARY = "nvapi-canary-0123456789abcdef"
PROMPT = "canary-prompt-9876543210"
MODELS = "/v1/models"


class _Words(logging.Handler):
    """Everything that anybody logs, with the tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []
        self.bad: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage()
        if record.exc_info:
            words += "".join(traceback.format_exception(*record.exc_info))
        self.text.append(words)
        if record.name == "asyncio" and record.levelno > logging.DEBUG:
            self.bad.append(words)


class _Heart:
    """Beats with the loop, and counts how often the thread worked for more than 50 ms between two beats.

    A busy machine stretches one of a sweep's hundreds of beats now and then; what holds the loop does it every time.
    Collecting malformed data does not count: how long that takes depends on all that the tests before have left in memory.
    """

    def __init__(self) -> None:
        self.held: list[float] = []
        self._busy = self._collecting = time.thread_time()
        self._handle = asyncio.get_running_loop().call_soon(self._beat)
        gc.callbacks.append(self._collects)

    def _collects(self, phase: str, info: Any) -> None:
        now = time.thread_time()
        if phase == "stop":
            self._busy += now - self._collecting
        self._collecting = now

    def _beat(self) -> None:
        busy = time.thread_time()
        if busy - self._busy > 0.05:
            self.held.append(busy - self._busy)
        self._busy = busy
        self._handle = asyncio.get_running_loop().call_later(0.001, self._beat)

    def skip(self) -> None:
        """What was done since the last beat was not the client's."""
        self._busy = time.thread_time()

    def stop(self) -> None:
        gc.callbacks.remove(self._collects)
        self._handle.cancel()


class Invariants:
    """Watches what calls leave behind: `async with Invariants(server) as all_holds: ...; await all_holds(client)`."""

    def __init__(self, server: FaultServer, *, slots: int = 1, memory: int = 16 * 2**20) -> None:
        self._server = server
        self._slots = slots
        self._memory = memory
        self._words = _Words()

    async def __aenter__(self) -> Self:
        self._server.script(self._together, path=MODELS)
        logging.getLogger().addHandler(self._words)
        self._level = logging.getLogger("nimclient").level
        logging.getLogger("nimclient").setLevel(logging.DEBUG)
        set_heap_aside()
        self._files = open_files()
        self._peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self._heart = _Heart()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._heart.stop()
        logging.getLogger().removeHandler(self._words)
        logging.getLogger("nimclient").setLevel(self._level)
        if error is None:
            await self._server.until(lambda: self._server.open == 0)
            await self._server.until(lambda: open_files() <= self._files)  # I1
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - self._peak
            assert grown <= self._memory, f"I9: {grown / 2**20:.1f} MiB more"

    async def __call__(
        self,
        client: AsyncClient,
        error: BaseException | None = None,
        *,
        requests: tuple[int, int] | None = None,
    ) -> None:
        """All of them, for this client. `error`: what the call raised; `requests`: least and most that the server may have
        seen since the last check.
        """
        assert len(self._heart.held) < 3, f"I12: {self._heart.held} seconds"
        if requests is not None:
            assert requests[0] <= len(self._server.requests) <= requests[1], f"I4: {len(self._server.requests)}"
        assert_idle(client)  # I1
        assert not any(replica.open for replica in replicas(client)), "I1: a lease is left"
        self._check_error(error)
        await self._check_capacity(client)
        await self._check_remains()
        self._server.requests.clear()

    def _check_error(self, error: BaseException | None) -> None:
        if error is None:
            return
        shown = repr(error) + "".join(traceback.format_exception(error))
        assert CANARY not in shown, "I6"
        if not isinstance(error, asyncio.CancelledError):
            twin = pickle.loads(pickle.dumps(error))  # I7
            assert (type(twin), str(twin), twin.__dict__) == (type(error), str(error), error.__dict__)

    async def _check_capacity(self, client: AsyncClient) -> None:
        """I2: as many calls at once as there are slots, none of which is answered before all have arrived."""
        self._arrived = asyncio.Barrier(self._slots)
        async with asyncio.timeout(60):
            replies = await asyncio.gather(*(client.models.list() for _ in range(self._slots)))
        assert all(MODEL in {model.id for model in reply} for reply in replies), f"I2: {replies}"
        assert_idle(client)

    async def _check_remains(self) -> None:
        """I3 and I6. Garbage is collected, so that what is dropped has its say; a ResourceWarning fails the test."""
        for _ in range(100):
            if not stray_tasks():
                break
            await asyncio.sleep(0.001)
        assert stray_tasks() == [], "I3"
        gc.collect()
        await asyncio.sleep(0)
        assert self._words.bad == [], f"I3: {self._words.bad}"
        words = "".join(self._words.text)
        assert CANARY not in words, "I6"
        assert PROMPT not in words, "I6"
        self._words.text.clear()
        self._heart.skip()

    def _together(self, request: Any) -> Any:
        return [self._arrived.wait, answer({"object": "list", "data": [{"id": MODEL, "object": "model"}]})]

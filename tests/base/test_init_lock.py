"""A fork in the middle of what threads make once leaves the child nothing that is locked for ever."""

import os
import subprocess
import sys

import pytest

from support.server import ServerThread
from support.wire import chat

# What is imported in the middle of calls. The thread that imports is held until the fork has begun.
PROGRAM = """
import importlib, os, signal, sys, threading, warnings

begun, go_on, wanted = threading.Event(), threading.Event(), ""

class Hold:
    def find_spec(self, name, path=None, target=None):
        if name == wanted and threading.current_thread() is not threading.main_thread():
            begun.set()
            go_on.wait()

import nimclient.records, nimclient._base.log
from nimclient._base.init_lock import init_lock
os.register_at_fork(before=go_on.set)  # the last one runs first
warnings.simplefilter("ignore")
sys.meta_path.insert(0, Hold())
late = [name for name in sys.argv[1:] if name not in sys.modules]  # coverage imports some
assert len(late) > 8, late
for wanted in late:
    begun.clear()
    go_on.clear()
    importer = threading.Thread(target=importlib.import_module, args=(wanted,))
    importer.start()
    begun.wait()
    with init_lock():
        child = os.fork()
    if child == 0:
        signal.alarm(60)
        importlib.import_module(wanted)
        with init_lock():
            os._exit(0)
    importer.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, wanted
"""
IMPORTED_LATE = (
    *("anyio", "asyncio", "html", "difflib", "nimclient.records.files", "nimclient._api.priority"),
    *("nimclient._engine.rejection", "nimclient._bulk.gate", "nimclient._nvcf.polling", "nimclient._engine.load"),
    *("nimclient._streams.unasked", "nimclient._http.aiohttp", "numpy"),
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_an_import() -> None:
    """A process forked while another thread imports what calls import late gets the whole module, and a lock that is open."""
    command = [sys.executable, "-c", PROGRAM, *IMPORTED_LATE]
    done = subprocess.run(command, timeout=200, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


FIRST_CALL = """
import os, signal, sys, threading, warnings
from queue import SimpleQueue
from nimclient import Client

imported = SimpleQueue()
signal.alarm(150)

class Watch:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            imported.put(name)

def call():
    inherited.chat.create("hi")
    imported.put(None)

inherited = Client(base_url=sys.argv[1], model="m")
warnings.simplefilter("ignore")
sys.meta_path.insert(0, Watch())
thread = threading.Thread(target=call)
thread.start()
count, children = 0, []
while imported.get() is not None:
    count += 1
    if count % 10 != 1:
        continue
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        own = Client(base_url=sys.argv[1], model="m")
        texts = {own.chat.create("hi").text, inherited.chat.create("hi").text}
        os._exit(0 if texts == {"Hello"} else 1)
    children.append(child)
thread.join()
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
sys.exit(not children or any(codes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_during_the_very_first_call() -> None:
    """Children forked after every tenth module that the first call of a process imports: their calls are answered."""
    with ServerThread() as server:
        server.script(chat())
        command = [sys.executable, "-c", FIRST_CALL, server.url]
        done = subprocess.run(command, timeout=200, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

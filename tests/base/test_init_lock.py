"""A fork in the middle of what threads make once leaves the child nothing that is locked for ever."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.server import ServerThread
from support.wire import chat

PROGRAM = """
import os, sys, threading, warnings
from nimclient._base.init_lock import init_lock, load

begun, go_on = threading.Event(), threading.Event()
sys.modules["__main__"].begun, sys.modules["__main__"].go_on = begun, go_on
importer = threading.Thread(target=load, args=("slow_module",))
importer.start()
begun.wait()
threading.Timer(0.2, go_on.set).start()
warnings.simplefilter("ignore")
with init_lock():
    child = os.fork()
if child == 0:
    load("slow_module")
    import slow_module
    with init_lock():
        os._exit(0 if slow_module.COMPLETE else 1)
importer.join()
load("slow_module")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
SLOW = """
import __main__
__main__.begun.set()
__main__.go_on.wait()
COMPLETE = True
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_an_import(tmp_path: Path) -> None:
    """A process forked while another thread imports gets the whole module, and locks that are open."""
    (tmp_path / "slow_module.py").write_text(SLOW)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, timeout=200, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


FIRST_CALL = """
import os, signal, sys, threading, warnings
from queue import SimpleQueue
from nimclient import Client

imported = SimpleQueue()

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
    assert (done.returncode, done.stderr) == (0, "")

"""A fork in the middle of what threads make once leaves the child nothing that is locked for ever."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

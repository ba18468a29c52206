"""Run a command for as long as standard input is open: `python leash.py COMMAND …`.

Whoever starts it holds the other end of the pipe. However that process dies, the pipe closes, and the command and its
children are killed: a test run that is shot leaves no server behind.
"""

import os
import signal
import subprocess
import sys
import threading


def kill_at_the_end_of_input() -> None:
    """Kill the whole process group when nobody holds the pipe any more."""
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


def main(command: list[str]) -> int:
    """Run the command and return its exit code. SIGTERM is the command's to obey."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    threading.Thread(target=kill_at_the_end_of_input, daemon=True).start()
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]) & 0xFF)  # at once: the thread may be reading

"""Keeps a Python process on this machine: whatever looks up another host, or sends to one, fails and is written down.

Python imports this by itself in the programs that tests start (PYTHONPATH has this folder); it does nothing where
NIMCLIENT_TEST_CONTACTS names no file. Programs in other languages, and those of tests with a PYTHONPATH of their own, are
not watched.
"""

import os
import sys

VARIABLE = "NIMCLIENT_TEST_CONTACTS"
LOOK_UPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
SENDS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
HERE = frozenset({"", "localhost", "::1", "::", "0.0.0.0", "<broadcast>", os.uname().nodename})


class Elsewhere(ConnectionRefusedError):
    """A test contacts another host."""


def is_here(host: object) -> bool:
    """Whether a host, as it is given to a socket, is this machine. What is no name is an address of another family."""
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("latin-1")
    if not isinstance(host, str):
        return True
    return host.lower() in HERE or host.startswith(("127.", "::ffff:127."))


def hook(event: str, arguments: tuple[object, ...]) -> None:
    if event in LOOK_UPS:
        host = arguments[0]
    elif event in SENDS and isinstance(arguments[1], tuple):  # a path is a socket of this machine
        host = arguments[1][0]
    else:
        return
    if not is_here(host):
        line = f"{event} {host!r} by process {os.getpid()}: {' '.join(sys.argv)[:200]}\n"
        descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)
        raise Elsewhere(f"a test contacts another host: {host!r}")


if os.environ.get(VARIABLE):
    sys.addaudithook(hook)

"""Faults of the network between two machines: a network namespace for each, and a link that is cut or narrow. As root."""

import os
import shutil
import subprocess
import sys

import pytest

ALLOWED = (
    hasattr(os, "geteuid")
    and os.geteuid() == 0
    and all(shutil.which(tool) for tool in ("ip", "tc", "unshare"))
    and subprocess.run(["unshare", "--net", "--mount", "true"], check=False, capture_output=True).returncode == 0
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ALLOWED, reason="needs root, and iproute2 for network namespaces"),
]

TWO_MACHINES = """
import asyncio, json, subprocess, sys
from nimclient import AsyncClient, RetryPolicy, Timeouts, errors

def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)

ip("link", "set", "lo", "up")
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
ip("netns", "add", "peer")
ip("link", "add", "here", "type", "veth", "peer", "name", "there", "netns", "peer")
ip("address", "add", "10.99.0.1/24", "dev", "here")
ip("-n", "peer", "address", "add", "10.99.0.2/24", "dev", "there")
ip("link", "set", "here", "up")
ip("-n", "peer", "link", "set", "there", "up")

SERVER = '''
import asyncio, sys
from support.server import FaultServer, Stall
from support.wire import ROLE, chat, chunk, head, token
async def main():
    server = FaultServer()
    server.script({script})
    listener = await server.listen(8000, "10.99.0.2")
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
'''

def serve(script):
    program = subprocess.Popen(["ip", "netns", "exec", "peer", sys.executable, "-c", SERVER.replace("{script}", script)],
                               stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "ready\\n"
    return program

def client(**limits):
    once = RetryPolicy(attempts=1)
    return AsyncClient(base_url="http://10.99.0.2:8000", model="m", timeouts=Timeouts(**limits), retry=once)
"""


def run(program: str) -> str:
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, "-c", TWO_MACHINES + program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, "tests"])},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_syn_dropped() -> None:
    """F007: a machine that does not answer at all is RequestTimeoutError of phase connect."""
    assert run(SYN_DROPPED) == "connect"


SYN_DROPPED = """
ip("neigh", "add", "10.99.0.2", "lladdr", "02:00:00:00:00:99", "dev", "here")  # nobody has this address
async def main():
    async with client(connect=0.5) as silent:
        try:
            await silent.chat.create("hi")
        except errors.RequestTimeoutError as error:
            print(error.phase)
asyncio.run(main())
"""


def test_link_down_in_a_stream() -> None:
    """F133: when the link goes down in mid-stream the idle limit ends it, with what had arrived; afterwards all is well."""
    assert run(LINK_DOWN).split() == ["idle", "Hel", "Hello"]


LINK_DOWN = """
server = serve('[head() + chunk(ROLE) + chunk(token("Hel")), Stall()], chat()')
async def main():
    async with client(idle=1) as cut:
        async with cut.chat.stream("hi") as stream:
            try:
                async for piece in stream:
                    ip("-n", "peer", "link", "set", "there", "down")
            except errors.RequestTimeoutError as error:
                print(error.phase, error.partial.text)
        ip("-n", "peer", "link", "set", "there", "up")
        print((await cut.chat.create("hi")).text)
asyncio.run(main())
server.kill()
"""


def test_a_narrow_line_is_no_idle_one() -> None:
    """F134: an answer of 2 MB over 8 Mbit/s takes two seconds, which an idle limit of half a second does not end."""
    assert run(NARROW) == "2000000"


NARROW = """
server = serve('chat("x" * 2_000_000)')
subprocess.run(["ip", "netns", "exec", "peer", "tc", "qdisc", "add", "dev", "there", "root", "tbf",
                "rate", "8mbit", "burst", "32kbit", "latency", "400ms"], check=True)
async def main():
    async with client(idle=0.5) as patient:
        print(len((await patient.chat.create("hi")).text))
asyncio.run(main())
server.kill()
"""
